"""The alignment episode: it centres the disk, and every fault ends with the shift where it was."""

from __future__ import annotations

import contextlib
import itertools
import json

import numpy as np
import pytest
from instruments import LinearInstrument

from adaptive_core.alignment import menu
from adaptive_core.alignment.classical import CLASSICAL_POLICIES, Newton
from adaptive_core.alignment.episode import (
    AlignmentEpisode,
    AlignmentError,
    AlignmentSettings,
    FinishReason,
    nominal_move,
)
from adaptive_core.alignment.memory import ResponseMemory
from adaptive_core.alignment.policy import Decision
from adaptive_core.errors import DeviceTimeoutError, InvalidInputError

SETTINGS = AlignmentSettings(largest_move=5.0, move_per_half_screen=1.2, radius_px=20.0)


def episode(instrument, policy=None, settings=SETTINGS, **options) -> AlignmentEpisode:
    return AlignmentEpisode(instrument, instrument, policy or Newton(), settings, **options)


@pytest.mark.parametrize("policy", [*CLASSICAL_POLICIES, None], ids=lambda p: "hybrid" if p is None else p.name)
def test_the_disk_is_centred(policy) -> None:
    instrument = LinearInstrument()
    run = episode(instrument, policy or menu.find_policy())
    steps = list(run)
    assert run.result is not None
    assert run.result.reason is FinishReason.ALIGNED
    assert np.hypot(*instrument.position) < 1.0
    assert run.result.end == instrument.get()
    assert run.result.frames == len(steps) <= 15
    assert steps[0].distance_px == pytest.approx(np.hypot(60, 70), abs=1)
    np.testing.assert_allclose(run.result.applied, instrument.control - instrument.home)


@pytest.mark.parametrize("target", [(128.0, 128.0), (100.0, 150.0), (60.0, 200.0)])
def test_any_target_on_the_frame(target) -> None:
    instrument = LinearInstrument()
    list(episode(instrument, menu.find_policy(), AlignmentSettings(5.0, 1.2, target_px=target, radius_px=20.0)))
    np.testing.assert_allclose(128 + instrument.position, target, atol=1.0)


def test_the_radius_need_not_be_known() -> None:
    instrument = LinearInstrument()
    list(episode(instrument, settings=AlignmentSettings(5.0, 1.2)))
    assert np.hypot(*instrument.position) < 1.0


def test_only_frames_that_started_after_the_move_are_used() -> None:
    instrument = LinearInstrument()
    moved_at = []
    original = instrument.set
    instrument.set = lambda value: moved_at.append(original(value)) or moved_at[-1]
    list(episode(instrument))
    assert instrument.grabbed_after[0] is None
    for after, valid in zip(instrument.grabbed_after[1:], moved_at, strict=False):
        assert after >= valid


def test_the_response_is_learnt_and_makes_the_next_alignment_shorter(tmp_path) -> None:
    first = LinearInstrument()
    run = episode(first, menu.find_policy())
    frames = len(list(run))
    np.testing.assert_allclose(run.result.jacobian, first.jacobian, atol=15)
    path = tmp_path / "responses.json"
    key = ResponseMemory.key("camera", "CAperture", 100.0)
    ResponseMemory(path).remember(key, run.result.jacobian)
    memory = ResponseMemory(path)
    assert memory.mirrored(key) is True
    second = LinearInstrument(offset=(-40.0, 30.0))
    assert len(list(episode(second, menu.find_policy(), jacobian=memory.recall(key)))) < frames
    assert np.hypot(*second.position) < 1.0
    memory.forget(key)
    assert ResponseMemory(path).recall(key) is None


@pytest.mark.parametrize("name", ["hybrid", "newton"])
def test_a_response_that_does_not_hold_any_more_is_measured_again(name: str) -> None:
    instrument = LinearInstrument(offset=(30.0, -40.0))
    turned = np.array([[0.0, -1.0], [1.0, 0.0]]) @ instrument.jacobian
    policy = menu.find_policy() if name == "hybrid" else Newton()
    list(episode(instrument, policy, jacobian=turned))
    assert np.hypot(*instrument.position) < 1.0


def test_a_remembered_response_is_not_trusted_where_it_could_lose_the_disk() -> None:
    instrument = LinearInstrument(offset=(90.0, -80.0))
    turned = np.array([[0.0, -1.0], [1.0, 0.0]]) @ instrument.jacobian
    for _ in episode(instrument, menu.find_policy(), jacobian=turned):
        assert np.abs(instrument.position).max() < 128
    assert np.hypot(*instrument.position) < 1.0


@pytest.mark.parametrize("content", ["", "[]", '{"version": 7}', '{"version": 1, "jacobians": {"a": [1, 2]}}'])
def test_a_damaged_memory_is_refused(tmp_path, content: str) -> None:
    path = tmp_path / "responses.json"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=r"responses\.json"):
        ResponseMemory(path)


def test_a_jacobian_that_cannot_be_inverted_is_not_remembered(tmp_path) -> None:
    memory = ResponseMemory(tmp_path / "responses.json")
    with pytest.raises(InvalidInputError, match="invertible"):
        memory.remember("key", np.ones((2, 2)))
    assert memory.recall("key") is None
    memory.remember("key", np.eye(2))
    assert json.loads((tmp_path / "responses.json").read_text())["jacobians"]["key"] == [[1.0, 0.0], [0.0, 1.0]]


def test_undo_puts_the_shift_back() -> None:
    instrument = LinearInstrument()
    run = episode(instrument)
    with pytest.raises(InvalidInputError):
        run.undo()
    list(run)
    assert not instrument.is_home
    run.undo()
    assert instrument.is_home


def test_cancelling_puts_the_shift_back() -> None:
    instrument = LinearInstrument()
    run = episode(instrument)
    with contextlib.closing(run):
        for step in run:
            if step.index == 2:
                break
    assert not np.array_equal(instrument.history[-2], instrument.home)
    assert instrument.is_home
    assert run.result.reason is FinishReason.CANCELLED
    assert list(run) == []


def test_an_interrupt_puts_the_shift_back() -> None:
    instrument = LinearInstrument()
    run = episode(instrument)
    next(run)

    def interrupted(_after=None):
        raise KeyboardInterrupt

    instrument.grab = interrupted
    with pytest.raises(KeyboardInterrupt):
        next(run)
    assert instrument.is_home
    assert run.result.reason is FinishReason.CANCELLED


class FaultyFrames(LinearInstrument):
    """From the fourth frame on, something is wrong with the frames."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def grab(self, after=None):
        late = len(self.grabbed_after) >= 3
        if late and self.fault == "time-out":
            raise DeviceTimeoutError("The camera gave no frame within 2 s.")
        frame, started = super().grab(after)
        if late and self.fault == "lost":
            frame = self.dark()
        if late and self.fault == "saturated":
            frame = np.minimum(frame, 10.0)
        if late and self.fault == "not finite":
            frame[5, 5] = np.nan
        return frame, started


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("time-out", DeviceTimeoutError, "no frame"),
        ("lost", AlignmentError, "lost"),
        ("saturated", AlignmentError, "saturated"),
        ("not finite", InvalidInputError, "finite"),
    ],
)
def test_faults_of_the_camera_put_the_shift_back(fault: str, error, message: str) -> None:
    instrument = FaultyFrames(fault)
    run = episode(instrument)
    with pytest.raises(error, match=message):
        list(run)
    assert len(instrument.history) > 2
    assert instrument.is_home
    assert run.result.reason is FinishReason.FAILED
    assert message in run.result.message
    assert run.result.applied == (0.0, 0.0)


def test_no_beam_means_no_move() -> None:
    instrument = LinearInstrument()
    instrument.frame = instrument.dark
    run = episode(instrument)
    with pytest.raises(AlignmentError, match="No beam"):
        list(run)
    assert set(instrument.history) == {tuple(instrument.home)}


def test_one_dark_frame_is_forgiven() -> None:
    instrument = LinearInstrument()
    original, dark = instrument.frame, instrument.dark

    def blinking():
        return dark() if len(instrument.grabbed_after) == 3 else original()

    instrument.frame = blinking
    list(episode(instrument))
    assert np.hypot(*instrument.position) < 1.0


class Fixed:
    """A policy that always makes the same move."""

    name = "fixed"

    def __init__(self, move, jacobian=None) -> None:
        self.move = np.array(move, dtype=float)

    def start(self, tolerance_px=1.0, jacobian=None):
        return self

    def decide(self, sight) -> Decision:
        return Decision(self.move, False, sight.error_px)


def test_two_growing_errors_put_the_shift_back() -> None:
    instrument = LinearInstrument(jacobian=((10.0, 0.0), (0.0, 10.0)), offset=(2.0, 0.0))
    run = episode(instrument, Fixed((0.5, 0.0)))
    with pytest.raises(AlignmentError, match="away from the target twice in a row"):
        list(run)
    assert instrument.is_home


@pytest.mark.parametrize("limit", ["largest move", "limit"])
def test_no_move_beyond_the_limits(limit: str) -> None:
    instrument = LinearInstrument(jacobian=((10.0, 0.0), (0.0, 10.0)))
    if limit == "limit":
        instrument.limit = 1.0
    settings = AlignmentSettings(0.5 if limit == "largest move" else 100.0, 1.2, radius_px=20.0)
    run = episode(instrument, Fixed((0.2, 0.2)), settings)
    with pytest.raises(AlignmentError, match=limit):
        list(run)
    assert instrument.is_home
    bound = 0.5 if limit == "largest move" else 1.0
    reference = instrument.home if limit == "largest move" else np.zeros(2)
    assert max(np.abs(np.array(c) - reference).max() for c in instrument.history) <= bound


@pytest.mark.parametrize("move", [(np.nan, 0.0), (np.inf, 0.0)])
def test_a_move_that_is_not_finite_is_never_made(move) -> None:
    instrument = LinearInstrument()
    with pytest.raises(AlignmentError, match="not finite"):
        list(episode(instrument, Fixed(move)))
    assert set(instrument.history) == {tuple(instrument.home)}


@pytest.mark.parametrize("angle", np.linspace(0, 2 * np.pi, 8, endpoint=False))
@pytest.mark.parametrize("name", ["hybrid", "newton"])
def test_the_first_move_stays_on_the_screen_at_the_largest_plausible_gain(angle: float, name: str) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # Twice the nominal gain, near a corner: half of the 256 px frame for 1.2 units is nominal.
    instrument = LinearInstrument(jacobian=2 * 128 / 1.2 * turn, offset=(95.0, 95.0))
    policy = menu.find_policy() if name == "hybrid" else Newton()
    run = episode(instrument, policy)
    next(run)
    assert np.abs(instrument.position).max() < 128
    run.close()
    assert instrument.is_home


def test_a_disk_that_does_not_move_fails_in_the_end() -> None:
    instrument = LinearInstrument(jacobian=((0.0, 0.0), (0.0, 0.0)))
    run = episode(instrument, settings=AlignmentSettings(50.0, 1.2, radius_px=20.0, most_frames=12))
    with pytest.raises(AlignmentError):
        list(run)
    assert instrument.is_home


@pytest.mark.parametrize(("drift_px", "centred", "largest_px"), [(0.1, 1.0, 0.5), (0.2, 0.9, 1.5), (0.36, 0.6, 10.0)])
@pytest.mark.parametrize("angle", np.linspace(0, 2 * np.pi, 8, endpoint=False))
def test_continuous_alignment_follows_a_drift(angle: float, drift_px: float, centred: float, largest_px: float) -> None:
    """Of 0.4, 0.8 and 1.4 px a frame on the policies' screen: two, four and seven times the largest drift of the
    training."""
    instrument = LinearInstrument()
    original = instrument.grab

    def drifting(after=None):
        instrument.offset = instrument.offset + drift_px * np.array([np.cos(angle), np.sin(angle)])
        return original(after)

    instrument.grab = drifting
    settings = AlignmentSettings(5.0, 1.2, radius_px=20.0, continuous=True)
    run = episode(instrument, menu.find_policy(), settings)
    distances = np.array([next(run).distance_px for _ in range(40)])
    assert np.mean(distances[15:] < 1.0) >= centred
    assert distances[15:].max() < largest_px
    run.close()
    assert run.result.reason is FinishReason.ALIGNED
    assert not instrument.is_home


def test_continuous_alignment_stops_when_the_disk_runs_away() -> None:
    instrument = LinearInstrument()
    original = instrument.grab

    def turning(after=None):
        # The optics change so that every move goes the wrong way.
        if len(instrument.grabbed_after) == 20:
            instrument.offset = 2 * instrument.jacobian @ (instrument.control - instrument.home) + instrument.offset
            instrument.jacobian = -instrument.jacobian
        instrument.offset = instrument.offset + np.array([1.0, 1.0])
        return original(after)

    instrument.grab = turning
    settings = AlignmentSettings(5.0, 1.2, radius_px=20.0, continuous=True)
    run = episode(instrument, Newton(), settings)
    with pytest.raises(AlignmentError, match=r"twice in a row|largest move|lost"):
        list(itertools.islice(run, 100))
    assert instrument.is_home


@pytest.mark.parametrize(
    "changes", [{"largest_move": 0.0}, {"move_per_half_screen": -1.0}, {"tolerance_px": np.nan}, {"most_frames": 1}]
)
def test_settings_are_validated(changes) -> None:
    with pytest.raises(InvalidInputError):
        AlignmentSettings(**({"largest_move": 1.0, "move_per_half_screen": 1.0} | changes))


def test_a_target_outside_of_the_frame_is_refused() -> None:
    instrument = LinearInstrument()
    with pytest.raises(InvalidInputError, match="target"):
        list(episode(instrument, settings=AlignmentSettings(5.0, 1.2, target_px=(300.0, 10.0), radius_px=20.0)))
    assert set(instrument.history) == {tuple(instrument.home)}


def test_the_nominal_move_follows_from_the_calibration() -> None:
    assert nominal_move(mrad_per_px=0.4, frame_px=512) == pytest.approx(102.4)
