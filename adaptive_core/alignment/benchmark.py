"""Compares alignment policies in simulated worlds, on rendered camera images and found disks.

A trial is a whole :class:`~adaptive_core.alignment.episode.AlignmentEpisode` with all of its guards, judged by the
true position of the disk when the controller itself stops (after its last small move): it is a success if the
controller stops within 20 frames, the disk's centre has never left the screen and is less than 1 camera px (of 1024)
from the target. Every other trial counts as 20 frames. Trials depend on nothing but the world, the seed and their
number.
"""

from __future__ import annotations

import collections.abc
import concurrent.futures
import dataclasses
import multiprocessing
import time
import typing

import numpy as np

from adaptive_core.alignment import menu
from adaptive_core.alignment.classical import TrueJacobian
from adaptive_core.alignment.episode import AlignmentEpisode, AlignmentError, AlignmentSettings
from adaptive_core.alignment.policy import AlignmentPolicy, AlignmentRun, Decision, FloatArray, Sight
from adaptive_core.alignment.simulated_instrument import (
    BINNING,
    CONTROL_PER_UNIT,
    RADIUS_PX,
    SimulatedInstrument,
    nominal_unit,
)
from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.shift_world import WORLD_FAMILIES

MOST_FRAMES = 20
SUCCESS_PX = 1.0
"""Largest true distance of a success, camera px."""
TRUE_JACOBIAN = "Newton with the true Jacobian"
_CHUNK = 25


@dataclasses.dataclass(frozen=True)
class Trial:
    """What happened in one trial; distances in camera px.

    Attributes:
        frames: taken until the controller stopped.
        stopped: whether the controller stopped by itself, believing that the disk is centred.
        distance_px: true distance at the end.
        on_screen: whether the disk's centre never left the screen.
        decide_ms: mean CPU time of a decision, when all decisions of the trial are repeated in a row.
        decide_in_loop_ms: mean CPU time of a decision as it was made, after the frame has been simulated and the disk
            found in it: these leave nothing of the policy in the processor's caches.
    """

    frames: int
    stopped: bool
    distance_px: float
    on_screen: bool
    decide_ms: float
    decide_in_loop_ms: float

    @property
    def success(self) -> bool:
        """Whether the controller did what it should."""
        return self.stopped and self.on_screen and self.distance_px < SUCCESS_PX


def run_trial(policy: AlignmentPolicy | None, world: str, seed: int, trial: int) -> Trial:
    """One alignment in the world with this number; None for Newton's method that is told the true Jacobian."""
    instrument = SimulatedInstrument(world, seed, trial)
    jacobian = instrument.worlds.jacobian[0]
    timed = _Timed(TrueJacobian(jacobian) if policy is None else policy)
    settings = AlignmentSettings(
        largest_move=6 * CONTROL_PER_UNIT,
        move_per_half_screen=nominal_unit(),
        tolerance_px=SUCCESS_PX / BINNING,
        radius_px=RADIUS_PX,
        most_frames=MOST_FRAMES,
    )
    # The guards too are told what this controller is told, and believe it as they believe a memory.
    remembered = jacobian / (BINNING * CONTROL_PER_UNIT) if policy is None else None
    episode = AlignmentEpisode(instrument, instrument, timed, settings, remembered)
    stopped = True
    try:
        for _ in episode:
            pass
    except AlignmentError:
        stopped = False
    frames = min(instrument.frames, MOST_FRAMES)
    if stopped:
        instrument.advance()
    distance_px, on_screen = instrument.true_distance_px, instrument.on_screen
    return Trial(frames, stopped, distance_px, on_screen, timed.repeated_ms(), timed.in_loop_ms())


def summarise(policy: str, trials: collections.abc.Sequence[Trial]) -> dict[str, typing.Any]:
    """The figures of one policy; ``rms_px`` is over every trial in which the controller stopped by itself."""
    frames = np.array([trial.frames if trial.success else MOST_FRAMES for trial in trials], dtype=np.float64)
    stops = np.array([trial.distance_px for trial in trials if trial.stopped])
    return {
        "policy": policy,
        "frames_mean": round(float(frames.mean()), 3),
        "frames_p95": float(np.percentile(frames, 95, method="inverted_cdf")),
        "success": float(np.mean([trial.success for trial in trials])),
        "off_screen": float(np.mean([not trial.on_screen for trial in trials])),
        "rms_px": round(float(np.sqrt(np.mean(stops**2))), 4) if len(stops) else None,
        "ms_per_step": round(float(np.median([trial.decide_ms for trial in trials])), 4),
        "ms_per_step_in_loop": round(float(np.median([trial.decide_in_loop_ms for trial in trials])), 4),
    }


def run_benchmark(
    world: str,
    trials: int = 1000,
    policies: collections.abc.Sequence[str] | None = None,
    seed: int = 0,
    jobs: int = 1,
) -> dict[str, typing.Any]:
    """Run the benchmark.

    Args:
        world: "A", "B" or "C".
        trials: number of trials a policy.
        policies: names of the menu (:mod:`adaptive_core.alignment.menu`) or files of models; None for all of the menu
            and Newton's method with the true Jacobian, which no real controller knows.
        seed: of the worlds and of all noise.
        jobs: processes to use; the figures do not depend on it.

    Returns:
        ``world, trials, seed, success_px, most_frames`` and ``policies``, a list of dictionaries (:func:`summarise`).

    Raises:
        InvalidInputError: an unknown world or policy, or no trials.
    """
    if world not in WORLD_FAMILIES:
        raise InvalidInputError(f"The world must be one of {', '.join(WORLD_FAMILIES)}, not {world!r}.")
    if trials < 1 or jobs < 1:
        raise InvalidInputError(f"A benchmark needs at least 1 trial and 1 job, not {trials} and {jobs}.")
    names = [*menu.policy_names(), TRUE_JACOBIAN] if policies is None else list(policies)
    chosen = {name: _policy(name) for name in names}
    found = {name: TRUE_JACOBIAN if policy is None else policy.name for name, policy in chosen.items()}
    chunks = [range(start, min(start + _CHUNK, trials)) for start in range(0, trials, _CHUNK)]
    tasks = [(name, world, seed, chunk) for name in names for chunk in chunks]
    results: dict[str, list[Trial]] = {name: [] for name in names}
    if jobs == 1:
        for task in tasks:
            results[task[0]] += _run_chunk(task)
    else:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
            for task, part in zip(tasks, pool.map(_run_chunk, tasks), strict=True):
                results[task[0]] += part
    return {
        "world": world,
        "trials": trials,
        "seed": seed,
        "success_px": SUCCESS_PX,
        "most_frames": MOST_FRAMES,
        "policies": [summarise(found[name], results[name]) for name in names],
    }


def _policy(name: str) -> AlignmentPolicy | None:
    return None if name == TRUE_JACOBIAN else menu.find_policy(name)


def _run_chunk(task: tuple[str, str, int, range]) -> list[Trial]:
    name, world, seed, numbers = task
    policy = _policy(name)
    return [run_trial(policy, world, seed, number) for number in numbers]


class _Timed:
    """A policy that measures the CPU time of its decisions, which other programs on the computer do not change."""

    def __init__(self, policy: AlignmentPolicy) -> None:
        self._policy = policy
        self.name = policy.name
        self._seconds: list[float] = []
        self._calls: list[tuple[float, FloatArray | None, list[Sight]]] = []

    def start(self, tolerance_px: float = 1.0, jacobian: FloatArray | None = None) -> AlignmentRun:
        self._run = self._policy.start(tolerance_px=tolerance_px, jacobian=jacobian)
        self._calls.append((tolerance_px, jacobian, []))
        return self

    def decide(self, sight: Sight) -> Decision:
        self._calls[-1][2].append(sight)
        began = time.thread_time()
        decision = self._run.decide(sight)
        self._seconds.append(time.thread_time() - began)
        return decision

    def in_loop_ms(self) -> float:
        """Mean CPU time of a decision in ms."""
        return 1e3 * float(np.mean(self._seconds)) if self._seconds else 0.0

    def repeated_ms(self) -> float:
        """The same, of all decisions that were made, repeated twice without anything between them; of the second time,
        when the processor's caches hold what they need."""
        for _ in range(2):
            spent = sum(self._repeat(*call) for call in self._calls)
        return 1e3 * spent / len(self._seconds) if self._seconds else 0.0

    def _repeat(self, tolerance_px: float, jacobian: FloatArray | None, sights: list[Sight]) -> float:
        run = self._policy.start(tolerance_px=tolerance_px, jacobian=jacobian)
        began = time.thread_time()
        for sight in sights:
            run.decide(sight)
        return time.thread_time() - began
