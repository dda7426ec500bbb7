"""Alignments from the panel: what an operator gets, and what happens when something goes wrong."""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib
import re
import threading
import time
import typing

import numpy as np
import pytest
from nion.swift.model import DataItem, Graphics, Notification
from nion.utils import Geometry
from panel_tools import Opened, open_panel
from quiet_clock import QuietClock
from swift_context import Swift

from adaptive_core.alignment.classical import Newton
from adaptive_core.alignment.episode import FinishReason
from adaptive_core.alignment.memory import ResponseMemory
from adaptive_core.simulation.settings import CameraSettings
from nionswift_plugin.adaptive_scan import alignment_devices, console
from nionswift_plugin.adaptive_scan.alignment_data_items import TITLE
from nionswift_plugin.adaptive_scan.alignment_model import AlignmentModel
from nionswift_plugin.adaptive_scan.alignment_settings import AlignmentStore, TargetKind, ToleranceUnit

CONTROL = "DiffractionShift"
NEWTON = Newton(guarded=True).name


@dataclasses.dataclass
class Aligning:
    """A panel in a window of Swift, on the simulated instrument."""

    swift: Swift
    opened: Opened

    @property
    def model(self) -> AlignmentModel:
        return self.opened.panel.alignment

    @property
    def shift(self) -> tuple[float, float]:
        value = self.swift.controller.GetVal2D(CONTROL, axis=("x", "y"))
        return float(value.y), float(value.x)

    def world(self, world: str | None, seed: int = 1, **camera: typing.Any) -> None:
        """How the shift behaves, and what the camera sees."""
        simulator = self.swift.simulator
        assert simulator is not None
        settings = dataclasses.replace(simulator.settings, seed=seed, camera=CameraSettings(world=world, **camera))
        simulator.settings = settings
        self.model._memory = ResponseMemory()

    def align(self, **changes: typing.Any) -> float:
        """Align as the settings say; the time in s until the operator reads the result."""
        begun = time.perf_counter()
        self.model.start(**changes)
        self.finish()
        return time.perf_counter() - begun

    def finish(self) -> None:
        self.swift.pump(lambda: not self.model.session.is_busy)

    @property
    def outcome(self) -> typing.Any:
        outcome = self.model.session.outcome
        assert outcome is not None, self.model.session.status
        return outcome

    def trace(self) -> DataItem.DataItem | None:
        """The data item of the trace as it is in the end; None if no frame was to be taken."""
        self.swift.pump(
            lambda: not any(item.is_live for item in self._traces()) and not self.model.session._steps._waiting
        )
        return next(iter(self._traces()), None)

    def _traces(self) -> list[DataItem.DataItem]:
        return [item for item in self.swift.document_model.data_items if item.title == TITLE]

    @property
    def true_px(self) -> float:
        """True distance of the disk from the middle of the camera, px of the sensor."""
        simulator = self.swift.simulator
        assert simulator is not None
        world = simulator.camera.frames._position._world
        assert world is not None
        return float(np.hypot(*world.true_px[0])) / 2


@pytest.fixture
def aligning(swift_simulator: Swift, tmp_path: pathlib.Path) -> collections.abc.Iterator[Aligning]:
    parameters = swift_simulator.camera.get_current_frame_parameters()
    parameters.exposure_ms, parameters.binning = 20.0, 1
    swift_simulator.camera.set_current_frame_parameters(parameters)
    opened = open_panel(swift_simulator, tmp_path)
    aligning = Aligning(swift_simulator, opened)
    swift_simulator.pump(lambda: aligning.model.policy_titles and aligning.model.state)
    yield aligning
    opened.panel.close()


def test_world_b_is_centred_within_the_tolerance_and_traced(aligning: Aligning) -> None:
    aligning.world("B", 3)
    before = aligning.shift
    aligning.align()
    assert aligning.outcome.reason is FinishReason.ALIGNED
    result = aligning.outcome.result
    assert result.frames < 15
    assert aligning.true_px < 1.0
    assert aligning.model.session.status.startswith(f"Centred: {result.frames} frames in ")

    swift = aligning.swift
    item = aligning.trace()
    how = item.metadata["adaptive_scan"]
    assert how["finish_reason"] == "aligned"
    assert len(how["trace"]) == result.frames
    assert item.data_shape == (512, 512)
    assert not item.is_live
    display_item = swift.document_model.get_display_item_for_data_item(item)
    assert display_item is not None
    kinds = [type(graphic) for graphic in display_item.graphics]
    assert kinds.count(Graphics.LineGraphic) == result.frames - 1
    disk = next(g for g in display_item.graphics if isinstance(g, Graphics.EllipseGraphic))
    np.testing.assert_allclose(disk._bounds.center, how["trace"][-1]["disk_px"] / np.array(512), atol=1e-6)

    aligning.model.session.undo()
    aligning.finish()
    assert aligning.shift == pytest.approx(before)
    assert not aligning.model.can_undo


def test_the_settling_time_makes_the_frames_wait_for_the_shift(aligning: Aligning) -> None:
    aligning.world("A", 3, shift_latency_s=0.02, shift_settle_s=0.02)
    begun, moved = [], []
    frames = aligning.swift.simulator.camera.frames  # type: ignore[union-attr]
    get = frames.get_frame_data

    def timed(*arguments: typing.Any) -> typing.Any:
        begun.append(time.monotonic())
        return get(*arguments)

    def changed(name: str) -> None:
        if name == CONTROL:
            moved.append(time.monotonic())

    frames.get_frame_data = timed  # type: ignore[method-assign]
    listener = aligning.swift.controller.property_changed_event.listen(changed)
    aligning.align(settle_ms=150.0)
    listener.close()
    assert aligning.outcome.reason is FinishReason.ALIGNED
    assert aligning.true_px < 1.0
    assert len(moved) > 1
    assert all(not move < frame < move + 0.15 for move in moved for frame in begun)


def test_the_next_alignment_remembers_the_response_and_uses_the_same_item(aligning: Aligning) -> None:
    aligning.world("A", 3)
    aligning.align()
    first = aligning.outcome.result
    aligning.trace()
    y, x = aligning.shift
    aligning.swift.controller.SetVal2D(CONTROL, Geometry.FloatPoint(y + 0.02, x - 0.01))
    aligning.opened.slowest_call_s = 0.0
    aligning.model.start()
    while aligning.model.session.is_busy:
        aligning.opened.round()
    # Nothing blocks Swift; the first time it makes an inspector of its own.
    assert aligning.opened.slowest_call_s < 0.05
    assert aligning.outcome.reason is FinishReason.ALIGNED
    assert aligning.outcome.result.frames < first.frames
    aligning.trace()
    assert aligning.opened.titles() == [TITLE]


def test_choices_and_responses_survive_a_restart(aligning: Aligning, tmp_path: pathlib.Path) -> None:
    memory = aligning.model._memory
    aligning.world("A", 3)
    aligning.model._memory = memory
    aligning.align()
    aligning.model.tolerance_text = "0.7"
    aligning.model.unit_index = 1
    aligning.model.largest_shift_text = "0.3"
    aligning.model.policy_index = aligning.model.policy_titles.index(NEWTON)
    choices = aligning.model.settings
    store = AlignmentStore(tmp_path / "configuration")
    aligning.swift.pump(lambda: store.load() == choices)

    again = AlignmentModel(aligning.swift.document_controller, tmp_path / "configuration", tmp_path / "models")
    assert again.settings == choices
    assert choices.tolerance_unit is ToleranceUnit.MRAD
    assert choices.policy == NEWTON
    key = ResponseMemory.key("adaptive_simulator_camera", f"{CONTROL} (tv)", 100.0)
    assert again._memory.recall(key) is not None
    again.close()


def test_targets(aligning: Aligning) -> None:
    aligning.world(None)
    swift = aligning.swift
    swift.controller.SetVal2D("DetectorCentre", Geometry.FloatPoint(y=20e-3, x=-8e-3))
    aligning.align(target=TargetKind.DETECTOR)
    assert aligning.shift == pytest.approx((20e-3, -8e-3), abs=0.5e-3)

    aligning.align(target=TargetKind.POINT)
    assert aligning.model.session.status.startswith("Draw a point, an ellipse or a rectangle on an image of the camera")
    item = aligning.trace()
    display_item = swift.document_model.get_display_item_for_data_item(item)
    assert display_item is not None
    point = Graphics.PointGraphic()
    point.position = typing.cast(typing.Any, (0.4, 0.55))
    display_item.add_graphic(point)
    panel = swift.document_controller.workspace_controller.display_panels[0]  # type: ignore[union-attr]
    panel.set_display_panel_display_item(display_item)
    swift.document_controller.selected_display_panel = panel
    display_item.graphic_selection.set(list(display_item.graphics).index(point))
    aligning.align(target=TargetKind.POINT, tolerance=0.3, tolerance_unit=ToleranceUnit.MRAD)
    # 512 px of 0.4 mrad.
    assert aligning.shift == pytest.approx((-0.1 * 0.2048, 0.05 * 0.2048), abs=0.5e-3)

    shadow = Graphics.EllipseGraphic()
    shadow.bounds = Geometry.FloatRect.from_center_and_size((0.6, 0.5), (0.3, 0.3))
    display_item.add_graphic(shadow)
    display_item.graphic_selection.set(list(display_item.graphics).index(shadow))
    aligning.align(target=TargetKind.POINT)
    assert aligning.shift == pytest.approx((0.1 * 0.2048, 0.0), abs=0.5e-3)


def test_continuous_follows_drift_until_it_is_stopped(aligning: Aligning) -> None:
    aligning.world("A", 3)
    session = aligning.model.session
    aligning.model.start(continuous=True)
    aligning.swift.pump(lambda: session.status.startswith("On target"))
    world = aligning.swift.simulator.camera.frames._position._world  # type: ignore[union-attr]
    world.true_px += 20.0
    aligning.swift.pump(lambda: aligning.true_px < 1.0 and session.status.startswith("On target"))
    kept = aligning.shift
    session.abort()
    aligning.finish()
    assert aligning.outcome.reason is FinishReason.ALIGNED
    assert aligning.shift == pytest.approx(kept, abs=1e-3)


# faults


def test_a_disk_that_runs_away_ends_the_alignment(aligning: Aligning, monkeypatch: pytest.MonkeyPatch) -> None:
    aligning.world("A", 3)
    session = aligning.model.session
    aligning.model.start(continuous=True)
    aligning.swift.pump(lambda: re.match(r"On target: \d\d+ frames", session.status))
    frames = aligning.swift.simulator.camera.frames  # type: ignore[union-attr]
    get, jump_px = frames.get_frame_data, 10.0

    def run_away(*arguments: typing.Any) -> typing.Any:
        nonlocal jump_px
        frames._position._world.true_px += jump_px
        jump_px *= 1.6
        return get(*arguments)

    monkeypatch.setattr(frames, "get_frame_data", run_away)
    aligning.finish()
    assert aligning.outcome.reason is FinishReason.FAILED
    assert "moved away from the target twice in a row" in session.status
    assert aligning.shift == (0.0, 0.0)


def test_what_is_refused_is_told_beside_the_button_alone(aligning: Aligning, monkeypatch: pytest.MonkeyPatch) -> None:
    notified: list[typing.Any] = []
    monkeypatch.setattr(Notification, "notify", notified.append)
    aligning.align(control="Nothing")
    assert "no 2D control 'Nothing'" in aligning.model.session.status
    assert not notified
    aligning.swift.controller.SetVal("C_Blank", 1.0)
    aligning.align()
    assert [n.text for n in notified] == [aligning.model.session.status]


def _no_beam(aligning: Aligning, _: pytest.MonkeyPatch) -> None:
    aligning.swift.controller.SetVal("C_Blank", 1.0)


def _saturated(aligning: Aligning, _: pytest.MonkeyPatch) -> None:
    aligning.world("A", 3, saturation=200.0)


def _at_first_move(
    aligning: Aligning, monkeypatch: pytest.MonkeyPatch, action: collections.abc.Callable[[], object]
) -> None:
    set_value, moves = aligning.swift.controller.SetVal2DAndConfirm, []

    def set_and_act(*arguments: typing.Any, **axis: typing.Any) -> bool:
        moves.append(None)
        if len(moves) == 1:
            action()
        return set_value(*arguments, **axis)

    monkeypatch.setattr(aligning.swift.controller, "SetVal2DAndConfirm", set_and_act)


def _beam_lost(aligning: Aligning, monkeypatch: pytest.MonkeyPatch) -> None:
    _at_first_move(aligning, monkeypatch, lambda: aligning.swift.controller.SetVal("C_Blank", 1.0))


def _hanging(aligning: Aligning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment_devices, "_LONGER_S", 0.5)
    simulator = aligning.swift.simulator
    assert simulator is not None
    frames = simulator.camera.frames
    get, slow = frames.get_frame_data, []

    def slowly(*arguments: typing.Any) -> typing.Any:
        if slow:
            time.sleep(slow.pop())
        return get(*arguments)

    monkeypatch.setattr(frames, "get_frame_data", slowly)
    _at_first_move(aligning, monkeypatch, lambda: slow.append(2.0))


def _limited(aligning: Aligning, _: pytest.MonkeyPatch) -> None:
    aligning.model.limit_text = "0.02"


def _narrow(aligning: Aligning, _: pytest.MonkeyPatch) -> None:
    aligning.model.largest_shift_text = "0.02"


def _stuck(aligning: Aligning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aligning.swift.controller, "SetVal2DAndConfirm", lambda *_, **__: True)


def _broken_policy(aligning: Aligning, _: pytest.MonkeyPatch) -> None:
    aligning.model.change(policy="a policy that is not there")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_no_beam, "No beam on the camera"),
        (_saturated, "The camera is saturated"),
        (_beam_lost, "The disk was lost after 1 frame"),
        (_hanging, "gave no frame within 0.56 s"),
        (_limited, "within the control's limit of 0.02"),
        (_narrow, "within the largest move of 0.02"),
        (_stuck, "did not take the value"),
        (_broken_policy, "There is no alignment policy 'a policy that is not there'"),
    ],
)
def test_a_fault_is_told_and_the_shift_goes_back(
    aligning: Aligning, monkeypatch: pytest.MonkeyPatch, break_it: typing.Any, message: str
) -> None:
    aligning.world("A", 3)
    aligning.swift.controller.SetVal2D(CONTROL, Geometry.FloatPoint(1e-3, -2e-3))
    aligning.swift.camera.start_playing()
    break_it(aligning, monkeypatch)
    aligning.align()
    aligning.swift.pump(lambda: aligning.swift.camera.is_playing or message.startswith("There is no"))
    assert aligning.outcome.reason is FinishReason.FAILED
    assert message in aligning.model.session.status
    assert aligning.shift == pytest.approx((1e-3, -2e-3))
    assert not aligning.model.can_undo
    aligning.trace()


@pytest.fixture
def held(aligning: Aligning, monkeypatch: pytest.MonkeyPatch) -> collections.abc.Iterator[None]:
    """The frame after the first move does not end before the test does."""
    frames = aligning.swift.simulator.camera.frames  # type: ignore[union-attr]
    get, go_on = frames.get_frame_data, threading.Event()

    def hold(*arguments: typing.Any) -> typing.Any:
        if aligning.shift != (0.0, 0.0):
            go_on.wait(60.0)
        return get(*arguments)

    monkeypatch.setattr(frames, "get_frame_data", hold)
    yield
    go_on.set()
    aligning.swift.pump(lambda: aligning.swift.camera not in alignment_devices._exposing)


@pytest.mark.usefixtures("held")
def test_abort_puts_the_shift_back(aligning: Aligning) -> None:
    aligning.world("B", 3)
    aligning.model.start()
    aligning.swift.pump(lambda: aligning.shift != (0.0, 0.0))
    clock = QuietClock()
    aligning.model.align_or_abort()
    aligning.finish()
    assert clock.elapsed_s < 0.5
    assert aligning.outcome.reason is FinishReason.CANCELLED
    assert aligning.shift == (0.0, 0.0)
    assert "Aborted after" in aligning.model.session.status


@pytest.mark.usefixtures("held")
def test_closing_the_window_puts_the_shift_back(aligning: Aligning) -> None:
    aligning.world("B", 3)
    aligning.model.start()
    aligning.swift.pump(lambda: aligning.shift != (0.0, 0.0))
    aligning.model.session.close()
    assert aligning.shift == (0.0, 0.0)
    assert not aligning.swift.camera.is_recording


# other ways in


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tolerance_text", "0", "The tolerance must be a positive number, not '0'."),
        ("largest_shift_text", "far", "The largest shift must be a positive number, not 'far'."),
        ("control_text", "Nothing", "The instrument has no 2D control 'Nothing': Nothing.x does not exist."),
        ("axis_text", "sideways", "The instrument has no axis 'sideways'"),
    ],
)
def test_what_is_typed_is_checked(aligning: Aligning, name: str, text: str, message: str) -> None:
    setattr(aligning.model, name, text)
    aligning.swift.pump(lambda: message in aligning.model.state)
    aligning.align()
    assert message in aligning.model.session.status
    assert aligning.shift == (0.0, 0.0)


def test_the_console(aligning: Aligning, monkeypatch: pytest.MonkeyPatch) -> None:
    aligning.world("A", 3)
    window = aligning.swift.document_controller
    monkeypatch.setattr(window, "find_dock_panel", lambda _: aligning.opened.panel)
    console.align(window=window, policy=NEWTON)
    aligning.finish()
    figures = console.alignment(window=window)
    assert figures["finish_reason"] == "aligned"
    assert figures["residual_px"] < 1.0
    console.undo_alignment(window=window)
    aligning.finish()
    assert aligning.shift == (0.0, 0.0)
    # Plain text will do for a choice.
    aligning.world(None)
    aligning.swift.controller.SetVal2D("DetectorCentre", Geometry.FloatPoint(y=20e-3, x=-8e-3))
    console.align(window=window, target="detector", tolerance_unit="px")
    aligning.finish()
    assert aligning.shift == pytest.approx((20e-3, -8e-3), abs=0.5e-3)
    with pytest.raises(ValueError, match="There is no choice 'speed'"):
        console.align(window=window, speed=3)
    with pytest.raises(ValueError, match="target must be one of centre, detector, point, not 'middle'"):
        console.align(window=window, target="middle")


# other instruments


def test_usim(swift_usim: Swift, tmp_path: pathlib.Path) -> None:
    swift = swift_usim
    parameters = swift.camera.get_current_frame_parameters()
    parameters.exposure_ms, parameters.binning = 20.0, 4
    swift.camera.set_current_frame_parameters(parameters)
    # Less than the camera's field, so that the rim is seen.
    swift.controller.SetVal("ConvergenceAngle", 0.02)
    swift.controller.SetVal("S_VOA", 1.0)
    start = Geometry.FloatPoint(y=0.03, x=-0.04)
    swift.controller.SetVal2D("CAperture", start)
    opened = open_panel(swift, tmp_path)
    aligning = Aligning(swift, opened)
    swift.pump(lambda: aligning.model.policy_titles and aligning.model.state)
    try:
        aligning.align()
        status = aligning.model.session.status
        assert aligning.outcome.reason is FinishReason.ALIGNED, status
        value = swift.controller.GetVal2D("CAperture", axis=("x", "y"))
        # 2543 px/rad at this binning.
        assert np.hypot(value.y, value.x) < 1.5 / 2543, status
        # usim answers for any part of a control of one dimension.
        aligning.model.control_text = "BeamCurrent"
        swift.pump(lambda: aligning.model.state == "The instrument has no 2D control 'BeamCurrent' that can be read.")
    finally:
        opened.panel.close()
