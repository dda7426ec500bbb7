"""Ptychographic scans from the panel: what an operator gets, and what happens when something goes wrong."""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib
import threading
import time
import typing

import numpy as np
import pytest
import tiny_models
from nion.utils import Geometry
from panel_tools import Opened, open_panel
from quiet_clock import QuietClock
from swift_context import Swift

from adaptive_core.finish_reason import FinishReason
from adaptive_core.ptychography import scan_file
from nionswift_plugin.adaptive_scan import alignment_devices, console, ptychography_preparation
from nionswift_plugin.adaptive_scan.ptychography_model import PtychographyModel
from nionswift_plugin.adaptive_scan.ptychography_run import PtychographyOutcome
from nionswift_plugin.adaptive_scan.ptychography_settings import PtychographyStore
from nionswift_plugin.adaptive_scan.settings import RegionKind

PHASE, AMPLITUDE, POSITIONS, FRC = (f"Adaptive Scan ({role})" for role in ("phase", "amplitude", "positions", "FRC"))
FOV_A = 12.0


@dataclasses.dataclass
class Ptychography:
    """A panel in a window of Swift."""

    swift: Swift
    opened: Opened

    @property
    def model(self) -> PtychographyModel:
        return self.opened.panel.ptychography

    @property
    def status(self) -> str:
        return self.model.session.status

    @property
    def outcome(self) -> PtychographyOutcome:
        outcome = self.model.session.outcome
        assert outcome is not None, self.status
        return outcome

    def scan(self, **changes: typing.Any) -> None:
        self.model.start(**changes)
        self.finish()

    def finish(self) -> None:
        self.swift.pump(lambda: not self.model.session.is_busy, 60.0)

    def state(self) -> tuple[typing.Any, ...]:
        """What a scan must leave as it was; the beam waits, blanked."""
        names = ("C_Blank", "C10", "EHT", "ConvergenceAngle")
        return (*(self.swift.controller.GetVal(name) for name in names), self.swift.scan.probe_position)


def set_up(swift: Swift, fov_nm: float = FOV_A / 10, exposure_ms: float = 1.0) -> None:
    """Swift's own settings."""
    scan = swift.scan.get_current_frame_parameters()
    scan.fov_nm, scan.pixel_size = fov_nm, (64, 64)
    swift.scan.set_current_frame_parameters(scan)
    camera = swift.camera.get_current_frame_parameters()
    camera.exposure_ms = exposure_ms
    swift.camera.set_current_frame_parameters(camera)


@pytest.fixture
def ptychography(swift_simulator: Swift, tmp_path: pathlib.Path) -> collections.abc.Iterator[Ptychography]:
    assert swift_simulator.simulator is not None
    swift_simulator.simulator.load("mos2")
    set_up(swift_simulator)
    opened = open_panel(swift_simulator, tmp_path)
    ptychography = Ptychography(swift_simulator, opened)
    model = ptychography.model
    model.change(positions=20, subsequences=4)
    swift_simulator.pump(lambda: model.models.menu.policies and model.prediction.startswith("20 "))
    yield ptychography
    opened.panel.close()


def at_frame(
    ptychography: Ptychography,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    action: collections.abc.Callable[[], object],
) -> None:
    """Have something happen in the middle of a frame of the camera; those without a beam do not count."""
    simulator, controller = ptychography.swift.simulator, ptychography.swift.controller
    assert simulator is not None
    frames, taken = simulator.camera.frames, []
    get = frames.get_frame_data

    def act(*arguments: typing.Any) -> typing.Any:
        if controller.GetVal("C_Blank") == 0.0:
            taken.append(None)
            if len(taken) == number:
                action()
        return get(*arguments)

    monkeypatch.setattr(frames, "get_frame_data", act)


# what an operator gets


def test_a_scan_is_shown_live_and_kept(ptychography: Ptychography) -> None:
    model, swift = ptychography.model, ptychography.swift
    assert model.prediction.startswith("20 patterns of 1 ms on 1.2 \N{MULTIPLICATION SIGN} 1.2 nm: ")
    assert "at least 4.33e+04 e-/" in model.prediction
    swift.scan.probe_position = Geometry.FloatPoint(0.3, 0.7)
    _, *before = ptychography.state()
    model.start(defocus_nm=6.0, policy="halton")
    swift.pump(lambda: PHASE in ptychography.opened.titles())
    assert ptychography.opened.item(PHASE).is_live
    assert model.button_text == "Abort"
    ptychography.finish()
    blanked, *after = ptychography.state()
    assert (blanked, after) == (1.0, before)

    outcome = ptychography.outcome
    assert outcome.reason is FinishReason.COMPLETED
    assert outcome.is_final
    assert ptychography.opened.titles() == [FRC, AMPLITUDE, PHASE, POSITIONS]
    phase, amplitude, positions, frc = (ptychography.opened.item(t) for t in (PHASE, AMPLITUDE, POSITIONS, FRC))
    assert not any(item.is_live for item in (phase, amplitude, positions, frc))
    assert outcome.data is not None
    assert outcome.image is not None
    assert phase.data.shape == amplitude.data.shape
    assert positions.data.shape == (*(4 * n for n in phase.data.shape), 3) or positions.data.ndim == 3
    np.testing.assert_allclose(phase.data, outcome.image.phase(outcome.prepared.image_pixel_A))  # type: ignore[union-attr]
    for item in (phase, amplitude, positions):
        assert [c.units for c in item.dimensional_calibrations] == ["nm", "nm"]
        sides = [c.scale * n for c, n in zip(item.dimensional_calibrations, item.data.shape[:2], strict=True)]
        assert sides == pytest.approx([FOV_A / 10] * 2)
    assert phase.intensity_calibration.units == "rad"
    assert frc.dimensional_calibrations[0].units == "1/nm"
    assert frc.data[0] == 1.0
    # Dots are the whole scan, crosses its last sub-sequence.
    graphics = swift.document_model.get_display_item_for_data_item(positions).graphics
    places = np.array([graphic.position for graphic in graphics if graphic.type == "point-graphic"])
    np.testing.assert_allclose(places * FOV_A, outcome.data.positions_A[-5:])

    how = ptychography.opened.how(PHASE)
    assert how["policy"] == "halton"
    assert how["positions"] == 20
    assert how["finish_reason"] == "COMPLETED"
    assert how["dose_e_per_A2"] == pytest.approx(20 * 50e-12 * 1e-3 / 1.602e-19 / FOV_A**2, rel=0.01)
    assert how["ssim_truth"] == pytest.approx(outcome.similarity)
    kept = scan_file.read_scan(pathlib.Path(how["file"]))
    np.testing.assert_array_equal(kept.patterns, outcome.data.patterns)
    np.testing.assert_array_equal(kept.positions_A, outcome.data.positions_A)
    assert kept.defocus_of_each() == pytest.approx(60.0)
    assert ptychography.status.startswith("Completed: 20 positions, 4.33e+04 e-/")
    assert outcome.file is not None
    assert outcome.file.name in ptychography.status


def test_the_image_is_that_of_the_specimen(ptychography: Ptychography) -> None:
    ptychography.scan(positions=60, subsequences=2, defocus_nm=8.0)
    # Against the known phase of the simulated specimen, where the instrument put it.
    assert ptychography.outcome.similarity == pytest.approx(0.9, abs=0.1), ptychography.status
    resolution_A = ptychography.outcome.resolution_A
    assert resolution_A is not None
    assert resolution_A < 1.0
    frc = ptychography.opened.item(FRC).data
    assert frc[3:12].min() > 0.9


def test_a_second_scan_is_predicted_by_the_first_and_shown_beside_it(ptychography: Ptychography) -> None:
    ptychography.scan()
    ptychography.swift.pump(lambda: "about 4.33e+04 e-/" in ptychography.model.prediction)
    ptychography.scan(stop_similarity=0.05)
    assert f"{PHASE} 2" in ptychography.opened.titles()
    assert ptychography.status.startswith("Stopped early, the image has settled: ")
    assert ptychography.outcome.data is not None
    assert 10 <= ptychography.outcome.data.count < 20


def test_a_rectangle_is_scanned_where_it_is(ptychography: Ptychography) -> None:
    model, swift = ptychography.model, ptychography.swift
    model.region_index = list(RegionKind).index(RegionKind.SUBSCAN)
    swift.pump(lambda: "subscan is off" in model.prediction)
    swift.scan.subscan_enabled = True
    swift.scan.subscan_region = Geometry.FloatRect.from_tlhw(0.25, 0.5, 0.5, 0.25)
    swift.pump(lambda: "on 0.6 \N{MULTIPLICATION SIGN} 0.3 nm" in model.prediction)
    ptychography.scan(positions=12, subsequences=2)
    assert ptychography.outcome.data is not None
    assert ptychography.outcome.data.calibration.fov_A == pytest.approx((6.0, 3.0))
    top, left = ptychography.opened.item(PHASE).dimensional_calibrations
    assert (top.offset, left.offset) == pytest.approx((-0.3, 0.0), abs=0.01)


def test_a_model_of_ones_own_with_its_encoder(ptychography: Ptychography, tmp_path: pathlib.Path) -> None:
    model, swift = ptychography.model, ptychography.swift
    encoder = tiny_models.save(tmp_path / "mine", "code.onnx", tiny_models.ptychography_encoder())
    policy = tiny_models.save(
        tmp_path / "mine", "walk.onnx", tiny_models.ptychography_policy(5, 70.0, encoder="Tiny encoder")
    )
    model.models.add(encoder)
    swift.pump(lambda: ptychography.status == "Added code.onnx.")
    model.models.add(policy)
    swift.pump(lambda: ptychography.status == "Added walk.onnx.")
    assert model.models.policy_titles[model.models.policy_index] == "Tiny ptychography"
    ptychography.scan()
    data = ptychography.outcome.data
    assert data is not None, ptychography.status
    assert data.defocus_of_each() == pytest.approx(70.0)
    diagonal = (np.linspace(-0.8, 0.8, 5) / 2 + 1) / 2 * FOV_A
    np.testing.assert_allclose(data.positions_A[:5], np.stack([diagonal, diagonal], axis=1), atol=1e-3)
    model.change(positions=21, subsequences=3)
    swift.pump(lambda: "was trained for 5 positions a sub-sequence, not 7" in model.prediction)


def test_choices_survive_a_restart(ptychography: Ptychography, tmp_path: pathlib.Path) -> None:
    model, swift = ptychography.model, ptychography.swift
    model.defocus_text, model.exposure_text, model.stop_text = "12", "2.5", "0.9"
    model.models.policy_index = model.models.policy_titles.index("Two pass")
    store = PtychographyStore(tmp_path / "configuration")
    swift.pump(lambda: store.load() == model.settings)
    again = PtychographyModel(swift.document_controller, tmp_path / "configuration", tmp_path, tmp_path, model._beam)
    assert again.settings == model.settings
    assert (again.settings.defocus_nm, again.settings.policy) == (12.0, "two-pass")
    again.close()


def test_the_console(ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    window = ptychography.swift.document_controller
    monkeypatch.setattr(window, "find_dock_panel", lambda _: ptychography.opened.panel)
    assert "sparse-grid" in console.ptychography_policies(window=window)
    console.ptychography(window=window, policy="random", seed=5)
    ptychography.swift.pump(lambda: ptychography.model.session.progress_percent > 0)
    console.abort_ptychography(window=window)
    ptychography.finish()
    figures = console.ptychography_result(window=window)
    assert figures["finish_reason"] == "CANCELLED"
    assert 5 <= figures["positions"] < 20
    with pytest.raises(ValueError, match="There is no choice 'speed'"):
        console.ptychography(window=window, speed=3)


# how it ends


def test_abort_in_the_middle_of_a_sub_sequence(ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    model, swift, reached = ptychography.model, ptychography.swift, threading.Event()
    swift.camera.start_playing()
    swift.pump(lambda: swift.camera.is_playing)
    _, *before = ptychography.state()
    model.start(positions=400, subsequences=2, exposure_ms=100.0)
    swift.pump(lambda: swift.controller.GetVal("C_Blank") == 1.0)
    at_frame(ptychography, monkeypatch, 5, reached.set)
    swift.pump(reached.is_set)
    clock = QuietClock()
    model.start_or_abort()
    # The camera's view goes on as soon as the scan has let go of the devices.
    swift.pump(lambda: swift.camera.is_playing)
    assert clock.elapsed_s < 0.5
    ptychography.finish()
    blanked, *after = ptychography.state()
    assert (blanked, after) == (1.0, before)
    outcome = ptychography.outcome
    assert outcome.reason is FinishReason.CANCELLED
    assert outcome.data is not None
    # Less than a sub-sequence: what was taken of it is reconstructed and kept.
    assert 0 < outcome.data.count < 200
    assert outcome.is_final
    assert ptychography.status.startswith(f"Aborted: {outcome.data.count} positions")
    assert outcome.file is not None
    assert scan_file.read_scan(outcome.file).count == outcome.data.count
    assert ptychography.opened.how(PHASE)["finish_reason"] == "CANCELLED"
    swift.camera.abort_playing(sync_timeout=5.0)


def test_a_final_reconstruction_can_be_left(ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptychography_preparation.reconstruction, "final", lambda *_, **__: time.sleep(3.0))
    ptychography.model.start()
    ptychography.swift.pump(lambda: ptychography.status.startswith("Reconstructing"))
    ptychography.model.start_or_abort()
    clock = QuietClock()
    ptychography.finish()
    assert clock.elapsed_s < 1.0
    assert ptychography.outcome.reason is FinishReason.COMPLETED
    assert not ptychography.outcome.is_final
    assert PHASE in ptychography.opened.titles()


def test_closing_the_window_keeps_the_patterns(ptychography: Ptychography) -> None:
    _, *before = ptychography.state()
    ptychography.model.start(positions=400, subsequences=40)
    ptychography.swift.pump(lambda: ptychography.model.session.progress_percent > 0)
    ptychography.model.session.close()
    assert ptychography.state() == (1.0, *before)
    (file,) = ptychography.opened.folders.journals.glob("Adaptive Ptychography *.h5")
    assert 10 <= scan_file.read_scan(file).count < 400
    assert not ptychography.opened.item(PHASE).is_live


# faults


def _hanging_camera(ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment_devices, "_LONGER_S", 0.5)
    ptychography.model.change(exposure_ms=1.5)
    at_frame(ptychography, monkeypatch, 8, lambda: time.sleep(2.0))


def _beam_lost(ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = ptychography.swift.controller
    at_frame(ptychography, monkeypatch, 8, lambda: controller.SetVal("BeamCurrent", 1e-30))


def _full_disk(_: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: typing.Any) -> typing.NoReturn:
        raise OSError("No space left on device")

    monkeypatch.setattr(scan_file.h5py, "File", fail)


@pytest.mark.parametrize(
    ("break_it", "message", "count"),
    [
        (_hanging_camera, "gave no frame within", 7),
        (_beam_lost, "is the beam still on the camera?", 7),
        (_full_disk, "No space left on device", 20),
    ],
)
def test_a_fault_is_told_and_what_was_taken_is_kept(
    ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch, break_it: typing.Any, message: str, count: int
) -> None:
    _, *before = ptychography.state()
    break_it(ptychography, monkeypatch)
    ptychography.scan()
    blanked, *after = ptychography.state()
    assert (blanked, after) == (1.0, before)
    outcome = ptychography.outcome
    assert message in ptychography.status
    assert outcome.data is not None
    assert outcome.data.count == count
    assert outcome.is_final
    if break_it is not _full_disk:
        assert outcome.reason is FinishReason.FAILED
        assert outcome.file is not None
        assert scan_file.read_scan(outcome.file).count == count
    assert np.isfinite(ptychography.opened.item(PHASE).data).all()
    assert not any(ptychography.opened.item(title).is_live for title in ptychography.opened.titles())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": 21}, "must be a multiple of the number of sub-sequences, not 21 in 4"),
        ({"policy": "a policy that is not there"}, "There is no model named 'a policy that is not there'"),
        ({"policy": "two-pass", "subsequences": 1}, "Two passes need 2 sub-sequences or more, not 1"),
        ({"convergence_mrad": 120.0}, "must show the bright-field disk of 120 mrad; shorten the camera length"),
        ({"region": RegionKind.RECTANGLE}, "Draw a rectangle on a scan of the whole field of view, and select it."),
        ({"positions": 800_000}, "GB of memory, 4 GB is the limit; take fewer positions."),
        ({"device": "nothing"}, "There is no scan device nothing."),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_beam_moves(
    ptychography: Ptychography, changes: dict[str, typing.Any], message: str
) -> None:
    before = ptychography.state()
    ptychography.scan(**changes)
    assert message in ptychography.status
    assert "\n" not in ptychography.status
    assert ptychography.state() == before
    assert not ptychography.opened.titles()
    assert not ptychography.opened.folders.journals.exists()


def test_a_wrong_convergence_angle_is_told_after_the_first_sub_sequence(ptychography: Ptychography) -> None:
    ptychography.scan(convergence_mrad=22.0)
    assert "The bright-field disk has a radius of 3" in ptychography.status
    assert "does not fit the convergence semi-angle of 22 mrad" in ptychography.status
    assert ptychography.outcome.data is not None
    assert ptychography.outcome.data.count == 5


def test_a_field_of_view_that_is_too_large_is_refused(ptychography: Ptychography) -> None:
    set_up(ptychography.swift, fov_nm=400.0)
    ptychography.swift.pump(lambda: "Choose a smaller field of view or a rectangle." in ptychography.model.prediction)
    ptychography.scan()
    assert "at most 4096 px a side are possible" in ptychography.status


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("positions_text", "many", "The number of positions must be a positive whole number, not 'many'."),
        ("exposure_text", "0", "The exposure must be a positive number, not '0'."),
        ("stop_text", "1.5", "The similarity must lie between 0 and 1, not '1.5'."),
    ],
)
def test_what_is_typed_is_checked(ptychography: Ptychography, name: str, text: str, message: str) -> None:
    setattr(ptychography.model, name, text)
    ptychography.swift.pump(lambda: ptychography.model.prediction == message)
    ptychography.scan()
    assert ptychography.status == message


# other instruments


def test_usim(swift_usim: Swift, tmp_path: pathlib.Path) -> None:
    swift = swift_usim
    swift.controller.SetVal("S_VOA", 1.0)
    set_up(swift, fov_nm=4.0, exposure_ms=10.0)
    opened = open_panel(swift, tmp_path)
    ptychography = Ptychography(swift, opened)
    swift.pump(lambda: ptychography.model.models.menu.policies)
    try:
        assert abs(swift.controller.GetVal("C10")) > 1e-7
        ptychography.scan(positions=6, subsequences=2)
        assert "go nearer to focus" in ptychography.status
        ptychography.scan(positions=6, subsequences=2, defocus_nm=0.0)
        assert ptychography.outcome.reason is FinishReason.COMPLETED, ptychography.status
        assert ptychography.outcome.file is not None
        assert opened.titles() == [AMPLITUDE, PHASE, POSITIONS]
    finally:
        opened.panel.close()
