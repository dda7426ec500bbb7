"""What goes wrong while patterns are taken: a clear error, the patterns before it kept, and the instrument put back."""

from __future__ import annotations

import threading
import typing

import numpy as np
import pytest
from nion.utils import Geometry
from swift_context import Swift
from test_diffraction_scanner import PLACES, make_scanner, put_in

from adaptive_core.errors import (
    DeviceDataError,
    DeviceError,
    DeviceTimeoutError,
    InvalidInputError,
    ScanCancelledError,
)
from adaptive_core.ptychography import episode, positions
from adaptive_core.ptychography.policy import Move, Observation, StaticPolicy
from nionswift_plugin.adaptive_scan.diffraction_scanner import _DARK_FRAMES, SwiftDiffractionScanner

GRID = StaticPolicy("Grid", positions.sparse_grid)
GOOD = 5
"""Patterns that are taken before the fault, in the middle of a sub-sequence."""
Change = typing.Callable[[Swift, typing.Any], typing.Any]


def _hang(swift: Swift, frame: typing.Any) -> typing.Any:  # noqa: ARG001
    threading.Event().wait(1.0)
    return frame


def _dark(swift: Swift, frame: typing.Any) -> typing.Any:  # noqa: ARG001
    return frame * 0.0


def _saturated(swift: Swift, frame: typing.Any) -> typing.Any:  # noqa: ARG001
    return frame + 1e6


def _view_starts(swift: Swift, frame: typing.Any) -> typing.Any:
    swift.scan.start_playing()
    return frame


FAULTS: dict[str, tuple[Change, type[DeviceError], str]] = {
    "time-out": (_hang, DeviceTimeoutError, "no frame within"),
    "all zero": (_dark, DeviceDataError, "no counts"),
    "saturated": (_saturated, DeviceDataError, "reach the limit"),
    "live view": (_view_starts, DeviceError, "live view .* was started"),
}


def _inject(swift: Swift, monkeypatch: pytest.MonkeyPatch, change: Change, after: int = GOOD + _DARK_FRAMES) -> None:
    """Change the camera's frames after some good ones."""
    assert swift.simulator is not None
    frames = swift.simulator.camera.frames
    get, taken = frames.get_frame_data, []

    def changed(*arguments: typing.Any) -> typing.Any:
        taken.append(1)
        frame = get(*arguments)
        return change(swift, frame) if len(taken) > after else frame

    monkeypatch.setattr(frames, "get_frame_data", changed)


def _state(swift: Swift) -> dict[str, object]:
    """What a run must put back."""
    context = swift.controller.scan_context
    return {
        "camera": swift.camera.get_current_frame_parameters().as_dict(),
        "record": swift.camera.get_record_frame_parameters().as_dict(),
        "scan": swift.scan.get_current_frame_parameters().as_dict(),
        "context": (context.size, context.center_nm, context.fov_nm, context.rotation_rad),
        "probe": swift.scan.probe_position,
        "defocus": swift.controller.GetVal("C10"),
        "gate": swift.simulator is not None and swift.simulator.scan_device.microscope.gated,
    }


def _prepared(swift: Swift, **settings: object) -> SwiftDiffractionScanner:
    put_in(swift)
    swift.scan.probe_position = Geometry.FloatPoint(0.3, 0.7)
    swift.controller.SetVal("C10", -2e-9)
    return make_scanner(swift, 0.5, **settings)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_devices(fault: str, swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch) -> None:
    swift = swift_simulator
    change, error, message = FAULTS[fault]
    scanner = _prepared(swift, saturation=1e5)
    scanner._camera.timeout_s = 0.5 if fault == "time-out" else 20.0
    before = _state(swift)
    _inject(swift, monkeypatch, change)
    run = episode.Episode(scanner, GRID, episode.make_plan(scanner, 8, 1))
    with pytest.raises(error, match=message):
        list(run.run())
    assert run.data is not None
    assert run.data.count == GOOD
    np.testing.assert_allclose(run.data.positions_A, positions.sparse_grid(8, run.data.calibration.fov_A)[:GOOD])
    if fault == "live view":
        swift.scan.abort_playing(sync_timeout=5.0)
    assert _state(swift) == before
    assert swift.controller.GetVal("C_Blank") == 1.0
    swift.pump(lambda: not swift.camera.is_recording)


def test_a_device_that_raises_what_it_likes(swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch) -> None:
    swift = swift_simulator
    scanner = _prepared(swift)
    assert swift.simulator is not None
    device, parked = swift.simulator.scan_device, []
    park = device.set_scan_context_probe_position

    def failing(*arguments: typing.Any) -> None:
        parked.append(1)
        if len(parked) > 2:
            raise RuntimeError("the amplifier is off")
        park(*arguments)

    with scanner.session():
        monkeypatch.setattr(device, "set_scan_context_probe_position", failing)
        with pytest.raises(DeviceError, match="amplifier is off"):
            scanner.measure(PLACES)
    assert scanner.unfinished is not None
    assert len(scanner.unfinished.patterns) == 1


def test_frames_of_another_shape(swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch) -> None:
    scanner = _prepared(swift_simulator)
    with scanner.session():
        monkeypatch.setattr(scanner._camera, "grab", lambda: (np.ones((64, 64), np.float32), 0.0))
        with pytest.raises(DeviceDataError, match=r"a frame of \(64, 64\) px, not \(128, 128\) px"):
            scanner.measure(PLACES)


def test_a_position_that_swift_has_already_in_another_context(swift_simulator: Swift) -> None:
    swift = swift_simulator
    scanner = _prepared(swift)
    assert swift.simulator is not None
    middle = np.array([scanner.setup.size_px]) / 2
    swift.controller._update_scan_context(Geometry.IntSize(64, 64), Geometry.FloatPoint(5.0, 5.0), 2.0, 0.0)
    swift.scan.probe_position = Geometry.FloatPoint(0.5, 0.5)
    assert swift.simulator.scan_device.probe_nm == pytest.approx((5.0, 5.0))
    with scanner.session():
        scanner.measure(middle)
        assert swift.simulator.scan_device.probe_nm == pytest.approx((0.0, 0.0))


def test_cancelling_keeps_what_was_measured(swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch) -> None:
    swift = swift_simulator
    scanner = _prepared(swift)
    before = _state(swift)

    def cancel(_: Swift, frame: typing.Any) -> typing.Any:
        scanner.cancel()
        return frame

    _inject(swift, monkeypatch, cancel)
    run = episode.Episode(scanner, GRID, episode.make_plan(scanner, 16, 2))
    with pytest.raises(ScanCancelledError, match="was cancelled"):
        list(run.run())
    assert run.data is not None
    assert GOOD <= run.data.count <= GOOD + 1
    assert _state(swift) == before


def test_a_wrong_convergence_angle_shows_before_anything_is_reconstructed(swift_simulator: Swift) -> None:
    scanner = _prepared(swift_simulator, convergence_mrad=22.0)
    run = episode.Episode(scanner, GRID, episode.make_plan(scanner, 8, 1))
    with pytest.raises(InvalidInputError, match=r"radius of 3.* mrad, which does not fit .* 22 mrad"):
        list(run.run())
    assert run.data is not None
    assert run.data.count == 8


def test_a_disk_that_is_not_on_the_middle_of_the_camera(swift_simulator: Swift) -> None:
    swift = swift_simulator
    scanner = _prepared(swift)
    swift.controller.SetVal2D("DiffractionShift", Geometry.FloatPoint(0.06, 0.0))
    with scanner.session(), pytest.raises(DeviceDataError, match="align it first"):
        scanner.measure(PLACES)
    assert scanner.unfinished is None


def test_positions_outside_the_region_never_move_the_beam(swift_simulator: Swift) -> None:
    swift = swift_simulator
    scanner = _prepared(swift)

    class Astray:
        name = "Astray"

        def start(self, plan: object) -> Astray:
            return self

        def decide(self, observation: Observation) -> Move | None:
            return Move(np.full((4, 2), 99.0))

    swift.controller.SetVal("C_Blank", 1.0)
    assert swift.simulator is not None
    delivered = swift.simulator.delivered.total
    with pytest.raises(InvalidInputError, match=r"4 of 4 probe positions lie outside the region"):
        list(episode.run(scanner, Astray(), episode.make_plan(scanner, 4, 1)))
    assert swift.simulator.delivered.total == delivered


def test_what_is_unknown_or_does_not_fit_is_refused(swift_simulator: Swift) -> None:
    swift = swift_simulator
    put_in(swift)
    for settings, message in (
        ({"convergence_mrad": 190.0}, "must show the bright-field disk"),
        ({"defocus_nm": 900.0}, "go nearer to focus"),
        ({"mrad_per_px": 60.0}, "shorten the camera length|go nearer"),
        ({"exposure_ms": 0.0}, "exposure_ms must be positive"),
        ({"settle_ms": -1.0}, "settling time"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            make_scanner(swift, **settings)
    for name in ("EHT", "ConvergenceAngle"):
        swift.controller.SetVal(name, 0.0)
        with pytest.raises(InvalidInputError, match=f"no control {name}"):
            make_scanner(swift)
        put_in(swift)


def test_two_scans_do_not_share_devices(swift_simulator: Swift) -> None:
    first, second = _prepared(swift_simulator), make_scanner(swift_simulator)
    with first.session(), pytest.raises(DeviceError, match="Another adaptive scan"), second.session():
        pass
    with pytest.raises(DeviceError, match="only inside its session"):
        first.measure(PLACES)


def test_usims_state_is_put_back(swift_usim: Swift) -> None:
    swift = swift_usim
    swift.controller.SetVal("S_VOA", 1.0)
    swift.controller.SetVal("C10", 0.0)
    scanner = make_scanner(swift, 0.25, exposure_ms=5.0)
    before = _state(swift)
    with scanner.session():
        scanner.measure(PLACES[:1], 2.0)
    assert _state(swift) == before
