"""A policy of single positions: an even look at everything, then closer looks where the predicted error is largest."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import qmc

from adaptive_core import static_path
from adaptive_core.nearest_pixels import nearest_pixels
from adaptive_core.partial_scan.error_policy import require_predicted_error, squared_error
from adaptive_core.partial_scan.generator import Generator
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.plan import ScanPlan
from adaptive_core.partial_scan.policy import Observation, PolicyRun
from adaptive_core.scan_path import FloatArray, Positions

FIRST_LOOK = 0.8
"""Fraction of the budget that is spent before the first look at a completion."""
GROWTH = 0.25
"""A completion of some number of probes decides on at most this fraction of that number of further ones."""
SMOOTHING = 0.25
"""SD of the Gaussian that the error map is smoothed with, in units of the mean distance between probes."""
REACH = 0.6
"""How far a probe removes the error around it (SD of a Gaussian), in the same unit."""


class RefinementPolicy:
    """Blue noise with holes, then batches of positions where the generator predicts the largest squared error.

    The first look is an even pattern for the whole budget with a part of its positions left out. Where nothing can be
    gained, the predicted error is largest in the holes that this leaves, and the pattern becomes the even one; else the
    positions go to where they are needed. A completion serves a batch that grows with the number of probes, so that the
    time grows with the area.
    """

    name = "refinement"

    def start(self, plan: ScanPlan, generator: Generator) -> RefinementRun:
        require_predicted_error(self.name, generator)
        return RefinementRun(plan)


class RefinementRun(PolicyRun):
    """Hands out the first look, then one refinement after another, in batches of a segment's number of probes."""

    def __init__(self, plan: ScanPlan) -> None:
        self._plan = plan
        self._left = _first_look(plan)
        self.needs_estimate = len(self._left) == 0

    def decide(self, observation: Observation) -> Positions | None:
        if len(self._left) == 0 and observation.estimate is not None:
            remaining = round(observation.remaining * self._plan.probes)
            probes = min(remaining, _whole_batches(GROWTH * observation.scan.probes, self._plan))
            error = squared_error(observation.estimate, observation.scan)
            spacing_px = math.sqrt(error.size / observation.scan.probes)
            found = largest_errors(error, probes, spacing_px)
            self._left = found[static_path.strip_order(found, self._plan.setup.size_px)]
        batch, self._left = np.split(self._left, [self._plan.probes_per_segment])
        self.needs_estimate = len(self._left) == 0
        return Positions(batch) if len(batch) else None

    def resume(self, scan: PartialImage, plan: ScanPlan) -> None:
        """Refine what was measured from the first decision on."""
        self._left = self._left[:0]
        self.needs_estimate = True


def _first_look(plan: ScanPlan) -> FloatArray:
    """The positions that are measured before the first completion, shape (n, 2), px.

    The van der Corput order makes any first part of the pattern an even one. If a predicted error may end the scan,
    the positions are also visited in it, at the price of longer ways.
    """
    pattern = static_path.blue_noise(plan.setup.size_px, plan.probes, plan.seed)
    spread = np.argsort(np.argsort(qmc.Halton(d=1, scramble=False).random(len(pattern))[:, 0]))
    first = spread[: _whole_batches(FIRST_LOOK * len(pattern), plan)]
    return pattern[np.sort(first) if plan.budget.predicted_error is None else first]


def _whole_batches(probes: float, plan: ScanPlan) -> int:
    """At least so many probes; a budget of segments counts an incomplete batch as a whole one."""
    return math.ceil(probes / plan.probes_per_segment) * plan.probes_per_segment


def largest_errors(squared_error: npt.NDArray[np.float32], probes: int, spacing_px: float) -> FloatArray:
    """Where further probes remove most of the predicted squared error (height, width).

    The highest peaks are taken, half of what is left at a time, but at least a 32nd of all, so that the time grows no
    faster than the area; around each peak the error falls as far as a probe reaches.

    Returns:
        At most ``probes`` centres of unmeasured pixels, shape (n, 2), px; fewer only if there are no more of them.
    """
    error = squared_error.astype(np.float64)
    error /= max(float(error.max()), 1e-30)
    chosen: list[npt.NDArray[np.intp]] = []
    free = error > 0
    left = min(probes, int(np.count_nonzero(free)))
    least = -(-left // 32)
    while left > 0:
        # Beyond the edge there is no error to remove: a probe on the edge serves half as much.
        smooth = np.where(free, ndimage.gaussian_filter(error, SMOOTHING * spacing_px, mode="constant"), -1.0)
        peaks = np.argwhere(free & (smooth == ndimage.maximum_filter(smooth, 2 * round(0.7 * spacing_px) + 1)))
        height = smooth[tuple(peaks.T)]
        peaks = peaks[np.argsort(-height, kind="stable")[: min(left, max(-(-left // 2), least))]]
        chosen.append(peaks)
        left -= len(peaks)
        taken = np.zeros(error.shape, dtype=np.bool_)
        taken[tuple(peaks.T)] = True
        free &= ~taken
        error *= 1 - np.exp(-0.5 * np.square(nearest_pixels(taken).distance / (REACH * spacing_px)))
    return np.concatenate([np.empty((0, 2)), *chosen]) + 0.5
