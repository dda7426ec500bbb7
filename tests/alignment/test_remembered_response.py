"""A remembered response is used as far as it holds, and forgotten as soon as it does not."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive_core.alignment import menu
from adaptive_core.alignment.episode import AlignmentEpisode, AlignmentSettings
from adaptive_core.alignment.guards import MemoryGuard
from adaptive_core.alignment.simulated_instrument import (
    BINNING,
    CONTROL_PER_UNIT,
    RADIUS_PX,
    SimulatedInstrument,
    nominal_unit,
)

SETTINGS = AlignmentSettings(6 * CONTROL_PER_UNIT, nominal_unit(), tolerance_px=0.5, radius_px=RADIUS_PX)


def world_b(trial: int, seed: int = 77) -> tuple[SimulatedInstrument, np.ndarray]:
    """An instrument with its Jacobian, px of the frame a unit of the control."""
    instrument = SimulatedInstrument("B", seed, trial)
    return instrument, instrument.worlds.jacobian[0] / (BINNING * CONTROL_PER_UNIT)


def align(instrument: SimulatedInstrument, jacobian: np.ndarray | None) -> int:
    run = AlignmentEpisode(instrument, instrument, menu.find_policy(), SETTINGS, jacobian)
    frames = len(list(run))
    instrument.advance()
    return frames


@pytest.mark.parametrize("kind", ["mirrored", "another instrument's"])
def test_a_wrong_one_does_not_lose_the_disk(kind: str) -> None:
    for trial in range(12):
        instrument, jacobian = world_b(trial)
        wrong = jacobian @ np.diag([1.0, -1.0]) if kind == "mirrored" else world_b(trial, 78)[1]
        align(instrument, wrong)
        assert instrument.on_screen
        assert instrument.true_distance_px < 2.0


def test_a_right_one_saves_frames() -> None:
    frames = []
    for trial in range(12):
        cold, _ = world_b(trial)
        warm, jacobian = world_b(trial)
        frames.append((align(cold, None), align(warm, jacobian)))
        assert warm.on_screen
    without, with_memory = np.mean(frames, axis=0)
    assert with_memory < without


def test_two_growing_errors_are_enough_to_forget_it() -> None:
    guard = MemoryGuard(np.eye(2), tolerance_px=0.5)
    # Each error fits the response, as far as that can be told.
    forgotten = [guard.check(np.array([error, 0.0]), np.array([error - 10.0, 0.0])) for error in (10.0, 13.0, 17.0)]
    assert forgotten == [False, False, True]
    assert guard.jacobian is None


def test_a_frame_from_before_the_move_does_not_contradict_it() -> None:
    guard = MemoryGuard(np.eye(2), tolerance_px=0.5)
    moves, shown = (0.0, -20.0, -60.0, -90.0), (100.0, 80.0, 80.0, 10.0)
    assert not any(guard.check(np.array([e, 0.0]), np.array([c, 0.0])) for e, c in zip(shown, moves, strict=True))
    assert guard.is_confirmed
    assert guard.check(np.array([10.0, 80.0]), np.array([-95.0, 0.0]))
    assert not guard.is_confirmed
