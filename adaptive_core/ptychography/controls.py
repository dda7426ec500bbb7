"""What looking is worth: the scans of an adaptive policy, repeated without its eyes, and what is known beforehand.

Every control has as many positions as the policy, in the same sub-sequences.
"""

from __future__ import annotations

import functools

import numpy as np

from adaptive_core.ptychography import positions, protocols
from adaptive_core.ptychography.experiments import Experiment, SimulatedRegion
from adaptive_core.ptychography.policy import (
    Move,
    Observation,
    OnnxPolicy,
    Policy,
    PolicyRun,
    PtychographyPlan,
    StaticPolicy,
)
from adaptive_core.simulation.ptychography_probe import FloatArray

MEAN, ELSEWHERE, NARROW = "mean positions", "another region's positions", "narrow_sparse_grid"
NARROW_WIDTH_A = {"dwcnt": 17.0}
"""Width, in the middle of the region, that holds the specimen; the best of 15, 17 and 23 A on one tuning region."""
_MEAN_REGIONS = 8


class FixedPolicy:
    """Moves that are known before the scan.

    Args:
        name: shown in menus.
        positions_A: shape (n, 2).
        defocus_A: of each position (n,); one value a sub-sequence.
    """

    def __init__(self, name: str, positions_A: FloatArray, defocus_A: FloatArray) -> None:
        self.name = name
        self._positions_A, self._defocus_A = positions_A, defocus_A

    def start(self, plan: PtychographyPlan) -> PolicyRun:
        parts = zip(
            np.split(self._positions_A, plan.subsequences), np.split(self._defocus_A, plan.subsequences), strict=True
        )
        return _FixedRun([Move(places, float(defocus[0])) for places, defocus in parts])


class _FixedRun:
    def __init__(self, moves: list[Move]) -> None:
        self._moves = iter(moves)

    def decide(self, observation: Observation) -> Move | None:
        return next(self._moves, None)


def control_name(policy: str, control: str) -> str:
    """Name of a policy's control in a benchmark."""
    return f"{policy}, {control}"


def without_looking(policy: OnnxPolicy, region: SimulatedRegion, dose: float, seed: int) -> dict[str, Policy]:
    """An adaptive policy's controls for a region: the mean of its positions on regions kept for tuning, and those that
    it chose for the next region of the benchmark.
    """
    elsewhere = SimulatedRegion(region.settings, region.seed + 1)
    return {
        MEAN: _mean_of(policy, region.settings, dose),
        ELSEWHERE: _as_chosen(policy, elsewhere, dose, seed),
    }


def narrow_grid(settings: Experiment, defocus_A: float | None) -> Policy | None:
    """The sparse grid drawn together to where the specimen is known to lie; None where it fills the region."""
    width = NARROW_WIDTH_A.get(settings.specimen)
    if width is None:
        return None

    def grid(count: int, fov_A: positions.Region) -> FloatArray:
        places: FloatArray = positions.sparse_grid(count, (fov_A[0], width)) + [0.0, (fov_A[1] - width) / 2]
        return places

    return StaticPolicy("Narrow sparse grid", grid, defocus_A)


def _as_chosen(policy: OnnxPolicy, region: SimulatedRegion, dose: float, seed: int) -> FixedPolicy:
    data = protocols.scan(region, policy, dose, seed)
    return FixedPolicy(control_name(policy.name, ELSEWHERE), data.positions_A, data.defocus_of_each())


@functools.lru_cache(maxsize=8)
def _mean_of(policy: OnnxPolicy, settings: Experiment, dose: float) -> FixedPolicy:
    """The k-th position is the mean of the k-th positions, over regions kept for tuning."""
    seeds = range(protocols.TUNING_SEED, protocols.TUNING_SEED + _MEAN_REGIONS)
    scans = [protocols.scan(SimulatedRegion(settings, seed), policy, dose, seed) for seed in seeds]
    return FixedPolicy(
        control_name(policy.name, MEAN),
        np.mean([data.positions_A for data in scans], axis=0),
        np.mean([data.defocus_of_each() for data in scans], axis=0),
    )
