"""The tables of the benchmark: runs their lines and sums them up.

A mean is the mean over the specimen groups of the mean over a group's crops, so that a specimen with many images counts
no more than one with few.
"""

from __future__ import annotations

import collections.abc
import math
import typing

import numpy as np

from adaptive_core.partial_scan.benchmark.bench import Result, Settings, Task
from adaptive_core.partial_scan.benchmark.classical import BIHARMONIC
from adaptive_core.partial_scan.benchmark.rivals import Rival, is_static, static_positions
from adaptive_core.partial_scan.benchmark.scan import jumps, mean_of, plan_for
from adaptive_core.partial_scan.static_policy import FULL_RASTER
from adaptive_core.partial_scan.truths import Crop
from adaptive_core.scan_path import FloatArray
from adaptive_core.static_path import DEFAULT_SPACING_PX

Figures = dict[str, typing.Any]
Carry = collections.abc.Callable[[collections.abc.Sequence[Task]], list[Result]]
Progress = collections.abc.Callable[[str], None]

SETTLING_US = 5.0
"""Time for which the beam settles after a jump; it is blanked meanwhile."""
SHORTEST_DWELLS_US = (1.0, 1000.0)
"""Of a fast detector, and of one that records a diffraction pattern at each position."""
SHUFFLED_CROPS = 20
_CHUNK = 25


class Comparison:
    """Runs the lines of the tables and sums them up."""

    def __init__(
        self, settings: Settings, crops: collections.abc.Sequence[Crop], carry: Carry, progress: Progress | None = None
    ) -> None:
        self._settings, self._carry, self._progress = settings, carry, progress
        self._truths = [crop.truth for crop in crops]
        self.groups = [crop.group for crop in crops]

    def row(
        self,
        rival: Rival,
        probes: int,
        electrons: float | None,
        walks: collections.abc.Sequence[FloatArray] | None = None,
        note: str = "",
    ) -> list[Result]:
        """The results of one line, crop by crop; at the positions ``walks``, one (n, 2) px for each crop, if given."""
        count = len(self.groups)
        # A spline through the same pixels is solved once for all crops.
        chunk = count if rival.generator == BIHARMONIC else _CHUNK
        slices = [slice(start, min(start + chunk, count)) for start in range(0, count, chunk)]
        results = self._carry(
            [
                Task(
                    rival,
                    tuple(range(part.start, part.stop)),
                    probes,
                    electrons,
                    positions=None if walks is None else tuple(walks[part]),
                )
                for part in slices
            ]
        )
        if self._progress is not None:
            taken, error = (self.mean([getattr(one.score, name) for one in results]) for name in ("probes", "mse"))
            self._progress(
                f"{rival.policy}{note} by {rival.generator}: {taken:.0f} probes, mean squared error {error:.5f}"
            )
        return results

    def mean(self, values: collections.abc.Iterable[float | None]) -> float | None:
        """Mean over the specimen groups of the mean of a group's known values; None if none is known."""
        by_group: dict[str, list[float | None]] = {}
        for group, value in zip(self.groups, values, strict=True):
            by_group.setdefault(group, []).append(value)
        return mean_of(mean_of(group) for group in by_group.values())

    def table(self, rows: collections.abc.Mapping[Rival, list[Result]]) -> list[Figures]:
        """One line for each rival."""
        errors = {rival: self.mean([one.score.mse for one in results]) for rival, results in rows.items()}
        # Against the better one where the spiral has several generators: a poor rival would flatter.
        spiral = min(error for rival, error in errors.items() if rival.policy == "spiral" and error is not None)
        return [self._line(rival, results, spiral) for rival, results in rows.items()]

    def _line(self, rival: Rival, results: list[Result], spiral: float) -> Figures:
        scores = [result.score for result in results]
        mse = np.array([score.mse for score in scores])
        probes = self.mean([score.probes for score in scores]) or 0.0
        mean = self.mean([score.mse for score in scores]) or 0.0
        return {
            "policy": rival.policy,
            "generator": rival.generator,
            "adaptive": self._settings.models.adaptive(rival.policy),
            "connected": all(score.jumps == 0 for score in scores),
            "mse_mean": mean,
            "mse_sd": float(mse.std()),
            "mse_median": float(np.median(mse)),
            "psnr_db": self.mean([score.psnr_db for score in scores]),
            "ssim": self.mean([score.ssim for score in scores]),
            "probes": probes,
            "coverage": probes / self._settings.pixels,
            "dose_e_per_A2": self.mean([score.dose_e_per_A2 for score in scores]),
            "ratio_to_spiral": mean / spiral,
            "jumps": self.mean([score.jumps for score in scores]),
            "decide_s": self.mean([score.decide_s for score in scores]),
        }

    def by_group(self, rival: Rival, results: list[Result]) -> list[Figures]:
        """For each specimen group the error, and how far the predicted error can be trusted."""
        rows = []
        for name in dict.fromkeys(self.groups):
            scores = [result.score for result, group in zip(results, self.groups, strict=True) if group == name]
            rows.append(
                {
                    "policy": rival.policy,
                    "generator": rival.generator,
                    "group": name,
                    "crops": len(scores),
                    "mse_mean": mean_of(score.mse for score in scores),
                    "coverage_of_90_interval": mean_of(score.inside_90 for score in scores),
                    "mean_width": mean_of(score.width_90 for score in scores),
                    "negative_log_likelihood": mean_of(score.nll for score in scores),
                }
            )
        return rows

    def of_another(self, rival: Rival, results: list[Result]) -> Figures:
        """The same generator with the positions that the policy chose for a crop of another specimen."""
        walks = [results[self._another(i)].positions for i in range(len(results))]
        settings = self._settings
        other = self.row(rival, settings.probes_per_scan, settings.electrons, walks, " of another")
        own, foreign = (self.mean([one.score.mse for one in rows]) or 0.0 for rows in (results, other))
        worse = float(np.mean([a.score.mse < b.score.mse for a, b in zip(results, other, strict=True)]))
        return {
            "policy": rival.policy,
            "generator": rival.generator,
            "mse_mean": own,
            "mse_of_another": foreign,
            "ratio": foreign / own,
            "crops_worse": worse,
        }

    def _another(self, index: int) -> int:
        """The next crop, of another specimen if there is one."""
        order = [(index + step) % len(self.groups) for step in range(1, len(self.groups))]
        return next((i for i in order if self.groups[i] != self.groups[index]), order[0])

    def shuffled(self, rival: Rival, results: list[Result]) -> Figures:
        """The error over the truth's variance, as it is and with its pixels in random order, which nothing can fill in.

        A ratio below 1 - coverage for the shuffled truth would mean that the truth leaks.
        """
        few = min(SHUFFLED_CROPS, len(results))
        variance = [float(truth.var(dtype=np.float64)) for truth in self._truths[:few]]
        task = Task(rival, tuple(range(few)), self._settings.probes_per_scan, self._settings.electrons, shuffled=True)
        ratios = [
            [one.score.mse / spread for one, spread in zip(rows, variance, strict=True)]
            for rows in (results[:few], self._carry([task]))
        ]
        plain, shuffled = (float(np.mean(ratio)) for ratio in ratios)
        return {
            "policy": rival.policy,
            "generator": rival.generator,
            "crops": few,
            "error_over_variance": plain,
            "error_over_variance_shuffled": shuffled,
        }

    def equal_time(self, main: collections.abc.Mapping[Rival, list[Result]]) -> list[Figures]:
        """Everybody gets the same time, in which the beam delivers the dose of the main table if it never settles.

        The time is that of ``probes`` free positions at the shortest dwell, in which each policy takes as many probes
        as fit; and, for the fast detector, that of the fastest full raster, in which each takes its ``probes`` with a
        longer dwell. Where the full raster does not fit, its figures are None.
        """
        settings = self._settings
        fast, slow = SHORTEST_DWELLS_US
        free_us = settings.probes_per_scan * (np.array([fast, slow]) + SETTLING_US)
        cases = (
            (fast, float(free_us[0]), settings.pixels),
            (fast, settings.pixels * fast, settings.probes_per_scan),
            (slow, float(free_us[1]), settings.pixels),
        )
        return [row for case in cases for row in self._at_time(main, *case)]

    def _at_time(
        self, main: collections.abc.Mapping[Rival, list[Result]], dwell_us: float, time_us: float, most: int
    ) -> list[Figures]:
        settings = self._settings
        rows: dict[Rival, list[Result]] = {}
        for rival, results in main.items():
            scores = [result.score for result in results]
            settling_us = SETTLING_US * sum(score.jumps for score in scores) / sum(score.probes for score in scores)
            if rival.policy == FULL_RASTER and settings.pixels * dwell_us > time_us:
                continue
            wished = settings.pixels if rival.policy == FULL_RASTER else most
            probes, settling_us = self._fitting(rival, dwell_us, time_us, wished, settling_us)
            lit = 1 - settling_us * probes / time_us
            electrons = None if settings.electrons is None else settings.electrons * lit
            rows[rival] = self.row(rival, probes, electrons, note=f" in {time_us / 1e3:g} ms at {dwell_us:g} us")
        lines = dict(zip(rows, self.table(rows), strict=True))
        columns = dict.fromkeys(next(iter(lines.values())))
        case = {"shortest_dwell_us": dwell_us, "settling_us": SETTLING_US, "time_us": time_us}
        return [
            {**case, **columns, "policy": rival.policy, "generator": rival.generator, **lines.get(rival, {})}
            for rival in main
        ]

    def _fitting(
        self, rival: Rival, dwell_us: float, time_us: float, most: int, settling_us: float
    ) -> tuple[int, float]:
        """How many probes fit into a time, and the time (us a probe) for which the beam settles between them.

        It is known for a static path; an adaptive one is taken to settle as often a probe as before, ``settling_us``.
        """
        probes = min(most, math.floor(time_us / (dwell_us + settling_us) + 1e-9))
        if not is_static(rival.policy):
            return probes, settling_us
        fitting = (1, 0.0)
        for _ in range(4):
            walk = static_positions(
                rival.policy, plan_for(None, self._settings.region, self._settings.spending(probes), 0)
            )
            settling_us = SETTLING_US * jumps(walk, DEFAULT_SPACING_PX) / len(walk)
            if len(walk) * (dwell_us + settling_us) <= time_us:
                fitting = max(fitting, (probes, settling_us))
            probes = min(most, math.floor(time_us / (dwell_us + settling_us) + 1e-9))
        return fitting
