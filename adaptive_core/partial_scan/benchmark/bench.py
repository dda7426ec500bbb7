"""What is compared, and what carries it out: scans of crops, in this process or in several."""

from __future__ import annotations

import collections.abc
import concurrent.futures
import contextlib
import dataclasses
import math
import multiprocessing
import pathlib

import numpy as np

from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan.benchmark import classical, rivals, scan
from adaptive_core.partial_scan.benchmark.rivals import Models, Rival
from adaptive_core.partial_scan.benchmark.scan import Scanned, Score, Spending
from adaptive_core.partial_scan.finishing import finished
from adaptive_core.partial_scan.generator import Estimate
from adaptive_core.partial_scan.truths import Crop, FloatImage
from adaptive_core.scan_path import FloatArray, Size
from adaptive_core.simulation.specimens import DEFAULT_PIXEL_SIZE_NM
from adaptive_core.static_path import DEFAULT_SPACING_PX

PAPER_COVERAGE = 400 / 96**2  # Ede 2021: 20 segments of 20 probes on 96 x 96 px


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is compared, and on what.

    Attributes:
        images: folder of images, see :func:`adaptive_core.partial_scan.truths.load_images`.
        size_px: side of the square regions.
        probes: of a scan; None for the paper's coverage in whole segments.
        electrons_per_pixel: of the full raster, at a pixel as bright as the brightest; None for no noise.
        crops: number of regions; fewer where the images do not give more.
        seed: of crops, noise and policies.
        policies: names or files of policies; None for every one of the menu.
        models: where the generators come from; its policies are those above.
        pixel_size_nm: of the regions, by which electrons become a dose.
        times: whether to compare at equal time too; None for where there is noise.
        jobs: processes; the figures do not depend on it.
    """

    images: pathlib.Path
    size_px: int = 96
    probes: int | None = None
    electrons_per_pixel: float | None = None
    crops: int = 300
    seed: int = 0
    policies: tuple[str, ...] | None = None
    models: Models = dataclasses.field(default_factory=Models)
    pixel_size_nm: float = DEFAULT_PIXEL_SIZE_NM
    times: bool | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        for name, value in (("size", self.size_px), ("number of crops", self.crops), ("number of jobs", self.jobs)):
            least = 32 if name == "size" else 1
            if value < least:
                raise InvalidInputError(f"The {name} must be at least {least}, not {value}.")
        pixels = self.size_px**2
        if self.probes is not None and not 20 <= self.probes <= pixels:
            raise InvalidInputError(f"The number of probes must be between 20 and {pixels}, not {self.probes}.")
        for name, number in (("dose", self.electrons_per_pixel), ("pixel size", self.pixel_size_nm)):
            if number is not None and not (math.isfinite(number) and number > 0):
                raise InvalidInputError(f"The {name} must be positive, not {number}.")
        if self.seed < 0:
            raise InvalidInputError(f"The seed must not be negative, but is {self.seed}.")

    @property
    def pixels(self) -> int:
        """Pixels of a region."""
        return self.size_px**2

    @property
    def region(self) -> Size:
        """Height and width of a region in px."""
        return self.size_px, self.size_px

    @property
    def probes_per_scan(self) -> int:
        """Probes of one scan."""
        return round(self.pixels * PAPER_COVERAGE / 20) * 20 if self.probes is None else self.probes

    @property
    def electrons(self) -> float | None:
        """Electrons of one scan; None without noise."""
        return None if self.electrons_per_pixel is None else self.electrons_per_pixel * self.pixels

    @property
    def compares_times(self) -> bool:
        """Whether there is a table at equal time."""
        return self.electrons is not None if self.times is None else self.times

    def spending(self, probes: int, electrons: float | None = None) -> Spending:
        """What a scan of so many probes may spend with so many electrons in all; None for no noise."""
        return Spending(probes, None if electrons is None else electrons / probes, self.pixel_size_nm)


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Scans of some crops for one line of a table.

    Attributes:
        rival: the line.
        crops: numbers of the crops.
        probes: of one scan.
        electrons: of one scan; None without noise.
        positions: where to go, for each crop; None for where the policy decides.
        shuffled: whether the pixels of the truths are put into random order.
    """

    rival: Rival
    crops: tuple[int, ...]
    probes: int
    electrons: float | None
    positions: tuple[FloatArray, ...] | None = None
    shuffled: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """Score of one scan and where it went, shape (n, 2) px."""

    score: Score
    positions: FloatArray


class Bench:
    """Carries out tasks on a set of crops; there is one in each process."""

    def __init__(self, settings: Settings, crops: collections.abc.Sequence[Crop]) -> None:
        self._settings, self.crops = settings, crops

    def run(self, task: Task) -> list[Result]:
        """Score every scan of a task."""
        return [
            Result(scan.score(scanned, estimate, truth, DEFAULT_SPACING_PX), scanned.positions)
            for scanned, estimate, truth in self.scans(task)
        ]

    def scans(self, task: Task) -> list[tuple[Scanned, Estimate, FloatImage]]:
        """Every scan of a task with its completion and its truth."""
        models, name = self._settings.models, task.rival.policy
        generator = models.load_generator(task.rival.generator)
        truths = [self._truth(i, task.shuffled) for i in task.crops]
        if task.positions is None and not rivals.is_static(name):
            policy, spending = models.load_policy(name), self._settings.spending(task.probes, task.electrons)
            scanned = [
                scan.adapt(policy, generator, truth, spending, self._seed(i))
                for i, truth in zip(task.crops, truths, strict=True)
            ]
        else:
            walks = [self._static(task, i) for i in task.crops] if task.positions is None else task.positions
            scanned = [
                scan.follow(walk, truth, self._settings.spending(len(walk), task.electrons), self._seed(i))
                for i, truth, walk in zip(task.crops, truths, walks, strict=True)
            ]
        missing = [one.scan for one in scanned if one.estimate is None]
        completed = classical.complete_all(generator, missing) if missing else []
        made = (finished(whole, one, generator) for whole, one in zip(completed, missing, strict=True))
        estimates = [one.estimate if one.estimate is not None else next(made) for one in scanned]
        return list(zip(scanned, estimates, truths, strict=True))

    def check(self, rival: Rival) -> None:
        """Raise InvalidInputError if a rival cannot scan these regions, and ModelError if there is no such model."""
        generator = self._settings.models.load_generator(rival.generator)
        spending = self._settings.spending(self._settings.probes_per_scan)
        if rivals.is_static(rival.policy):
            rivals.static_positions(rival.policy, scan.plan_for(None, self._settings.region, spending, self._seed(0)))
            return
        policy = self._settings.models.load_policy(rival.policy)
        plan = scan.plan_for(policy, self._settings.region, spending, self._seed(0))
        policy.start(plan, generator)

    def _truth(self, index: int, shuffled: bool) -> FloatImage:
        truth = self.crops[index].truth
        if not shuffled:
            return truth
        return np.random.default_rng([2, self._seed(index)]).permutation(truth.ravel()).reshape(truth.shape)

    def _static(self, task: Task, index: int) -> FloatArray:
        spending = self._settings.spending(task.probes)
        plan = scan.plan_for(None, self._settings.region, spending, self._seed(index))
        return rivals.static_positions(task.rival.policy, plan)

    def _seed(self, index: int) -> int:
        return self._settings.seed * 1_000_003 + index


@contextlib.contextmanager
def carrier(
    settings: Settings, crops: collections.abc.Sequence[Crop]
) -> collections.abc.Iterator[collections.abc.Callable[[collections.abc.Sequence[Task]], list[Result]]]:
    """What carries out tasks, here or in several processes, and gives the results in order."""
    if settings.jobs == 1:
        bench = Bench(settings, crops)
        yield lambda tasks: [result for task in tasks for result in bench.run(task)]
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        settings.jobs, mp_context=context, initializer=_begin, initargs=(settings, list(crops))
    ) as pool:
        yield lambda tasks: [result for results in pool.map(_run, tasks) for result in results]


_benches: list[Bench] = []
"""The bench of a worker process."""


def _begin(settings: Settings, crops: list[Crop]) -> None:
    _benches.append(Bench(settings, crops))


def _run(task: Task) -> list[Result]:
    return _benches[-1].run(task)
