"""Alignments from the panel: what an operator gets."""

from __future__ import annotations

import pathlib
import time
import typing

import numpy as np
import pytest
from alignment_tools import CONTROL, NEWTON, Aligning
from nion.swift.model import Graphics
from nion.utils import Geometry
from panel_tools import open_panel
from swift_context import Swift

from adaptive_core.alignment.episode import FinishReason
from adaptive_core.alignment.memory import ResponseMemory
from nionswift_plugin.adaptive_scan import console
from nionswift_plugin.adaptive_scan.alignment_data_items import TITLE
from nionswift_plugin.adaptive_scan.alignment_model import AlignmentModel
from nionswift_plugin.adaptive_scan.alignment_settings import AlignmentStore, TargetKind, ToleranceUnit


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
