"""Swift's cameras and controls behind the ports of the alignment."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
import typing

import numpy as np
import pytest
from nion.utils import Geometry
from quiet_clock import QuietClock
from swift_context import Swift

from adaptive_core.errors import DeviceDataError, DeviceError, DeviceTimeoutError, InvalidInputError, ScanCancelledError
from nionswift_plugin.adaptive_scan import alignment_devices
from nionswift_plugin.adaptive_scan.alignment_devices import SwiftDiskCamera, SwiftShift, cameras, default_control

CONTROL = "DiffractionShift"


def disk_camera(swift: Swift, exposure_ms: float = 20.0, binning: int = 2) -> SwiftDiskCamera:
    parameters = swift.camera.get_current_frame_parameters()
    parameters.exposure_ms, parameters.binning = exposure_ms, binning
    swift.camera.set_current_frame_parameters(parameters)
    return SwiftDiskCamera(swift.camera)


def middle_px(frame: typing.Any) -> np.ndarray:
    lit = np.argwhere(frame > (frame.max() + frame.min()) / 2)
    return np.asarray(lit.mean(axis=0) + 0.5)


def test_each_frame_begins_after_the_move_also_beside_a_live_view(swift_simulator: Swift) -> None:
    swift = swift_simulator
    camera = disk_camera(swift)
    shift = SwiftShift(swift.controller, CONTROL)
    swift.camera.start_playing()
    swift.pump(lambda: swift.document_model.data_items)
    with camera.session():
        assert not swift.camera.is_playing
        for angle in (0.0, 20e-3, -20e-3, 10e-3):
            after = shift.set((angle, -angle))
            frame, begun = camera.grab(after)
            assert begun >= after
            expected = np.array(camera.position_px((angle, -angle)))
            np.testing.assert_allclose(middle_px(frame), expected, atol=0.5)
    assert swift.camera.is_playing
    swift.camera.abort_playing(sync_timeout=5.0)
    assert frame.shape == camera.shape == (256, 256)
    assert camera.mrad_per_px == pytest.approx(0.8)


def test_the_frame_waits_until_the_control_has_settled(swift_simulator: Swift) -> None:
    camera = disk_camera(swift_simulator)
    after = time.monotonic() + 0.2
    _, begun = camera.grab(after)
    assert begun >= after


def test_a_frame_before_the_shift_has_settled_shows_the_disk_on_its_way(swift_simulator: Swift) -> None:
    simulator = swift_simulator.simulator
    assert simulator is not None
    now_s = [100.0]
    simulator.camera.frames.clock = lambda: now_s[0]
    settling = dataclasses.replace(simulator.settings.camera, shift_latency_s=5e-3, shift_settle_s=10e-3)
    simulator.settings = dataclasses.replace(simulator.settings, camera=settling)
    camera = disk_camera(swift_simulator)
    SwiftShift(swift_simulator.controller, CONTROL).set((20e-3, -20e-3))
    # Before it arrives, one time constant after that, and settled.
    for moment_s, arrived in ((100.0, 0.0), (100.015, 1 - math.exp(-1)), (101.0, 1.0)):
        now_s[0] = moment_s
        frame, _ = camera.grab()
        np.testing.assert_allclose(middle_px(frame), camera.position_px((20e-3 * arrived, -20e-3 * arrived)), atol=0.5)


def test_usim_moves_the_disk_by_its_aperture(swift_usim: Swift) -> None:
    swift = swift_usim
    swift.controller.SetVal("S_VOA", 1.0)
    camera = disk_camera(swift, binning=4)
    assert swift.camera in cameras()
    assert default_control(swift.controller, "tv") == "CAperture"
    shift = SwiftShift(swift.controller, "CAperture")
    dark, _ = camera.grab()
    moved, _ = camera.grab(shift.set((10e-3, -20e-3)))
    assert shift.get() == pytest.approx((10e-3, -20e-3))
    assert np.abs(dark - moved).max() > 0


@pytest.mark.parametrize("name", ["", "Nothing", "BeamCurrent"])
def test_a_control_that_is_not_there_is_refused(swift_simulator: Swift, name: str) -> None:
    with pytest.raises(InvalidInputError, match="no 2D control"):
        SwiftShift(swift_simulator.controller, name)


def test_an_axis_that_is_not_there_is_refused(swift_simulator: Swift) -> None:
    with pytest.raises(InvalidInputError, match="no axis 'sideways'"):
        SwiftShift(swift_simulator.controller, CONTROL, "sideways")


def test_a_control_that_stops_at_its_range_is_noticed(swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = swift_simulator.controller
    set_value = controller.SetVal2DAndConfirm

    def clipped(name: str, value: Geometry.FloatPoint, *rest: typing.Any, **axis: typing.Any) -> bool:
        return set_value(name, Geometry.FloatPoint(min(value.y, 0.01), min(value.x, 0.01)), *rest, **axis)

    monkeypatch.setattr(controller, "SetVal2DAndConfirm", clipped)
    shift = SwiftShift(controller, CONTROL)
    shift.set((0.005, 0.0))
    with pytest.raises(DeviceError, match="did not take the value"):
        shift.set((0.02, 0.0))


def test_a_camera_that_hangs_is_left_after_the_time_out(
    swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = disk_camera(swift_simulator)
    camera.timeout_s = 0.3
    go_on = threading.Event()
    frames = swift_simulator.simulator.camera.frames  # type: ignore[union-attr]
    get = frames.get_frame_data

    def slow(*arguments: typing.Any) -> typing.Any:
        go_on.wait(20)
        return get(*arguments)

    monkeypatch.setattr(frames, "get_frame_data", slow)
    with pytest.raises(DeviceTimeoutError, match=r"no frame within 0\.3 s"):
        camera.grab()
    # The next alignment gets no frame before the late one has ended, and then one of its own.
    after = SwiftShift(swift_simulator.controller, CONTROL).set((20e-3, -20e-3))
    following = disk_camera(swift_simulator)
    with pytest.raises(DeviceError, match="is in use"):
        following.grab(after)
    go_on.set()
    swift_simulator.pump(lambda: camera.source not in alignment_devices._exposing)
    frame, begun = following.grab(after)
    assert begun >= after
    np.testing.assert_allclose(middle_px(frame), following.position_px((20e-3, -20e-3)), atol=0.5)


def test_a_camera_that_fails_and_one_that_gives_nonsense(
    swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = disk_camera(swift_simulator)
    frames = swift_simulator.simulator.camera.frames  # type: ignore[union-attr]
    get = frames.get_frame_data

    def nonsense(*arguments: typing.Any) -> typing.Any:
        return get(*arguments) * float("nan")

    def failing(*_: typing.Any) -> typing.Any:
        raise RuntimeError("no camera")

    monkeypatch.setattr(frames, "get_frame_data", nonsense)
    with pytest.raises(DeviceDataError, match="no finite image"):
        camera.grab()
    swift_simulator.camera._test_acquire_exception = lambda _: None  # type: ignore[attr-defined]
    monkeypatch.setattr(frames, "get_frame_data", failing)
    with pytest.raises(DeviceError, match="failed to take a frame"):
        camera.grab()


def test_cancelling_ends_a_long_exposure(swift_simulator: Swift) -> None:
    camera = disk_camera(swift_simulator, exposure_ms=3000.0)
    cancelled: list[QuietClock] = []

    def cancel() -> None:
        cancelled.append(QuietClock())
        camera.cancel()

    threading.Timer(0.2, cancel).start()
    with pytest.raises(ScanCancelledError):
        camera.grab()
    assert cancelled[0].elapsed_s < 0.5
    swift_simulator.pump(lambda: camera.source not in alignment_devices._exposing)
    assert not swift_simulator.document_model.data_items
