"""Alignments from the panel that are stopped, or in which something goes wrong."""

from __future__ import annotations

import collections.abc
import re
import threading
import time
import typing

import pytest
from alignment_tools import CONTROL, Aligning
from nion.swift.model import Notification
from nion.utils import Geometry
from quiet_clock import QuietClock

from adaptive_core.alignment.episode import FinishReason
from nionswift_plugin.adaptive_scan import alignment_devices

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
    aligning.model.start_or_abort()
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
