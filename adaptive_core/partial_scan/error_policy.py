"""A policy that follows the predicted error: the next segment goes where the generator trusts itself least."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan.generator import Estimate, Generator
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.plan import ScanPlan
from adaptive_core.partial_scan.policy import Observation, PolicyRun
from adaptive_core.scan_path import FloatArray, Segment, rasterize

CANDIDATES = 256
SEGMENTS = 4
"""As good as one at a time, in half of the time."""
PIXELS = 96 * 96
"""So many segments are decided on by a completion of so many pixels, and in proportion by one of more: time grows with
the area."""
REACH_PX = 4
"""How far the predicted error is taken to fall to nothing around a segment that was chosen since the completion."""


class PredictedErrorPolicy:
    """Of many random free segments, the one along which the predicted squared error is largest.

    It needs a generator that predicts its error. A completion decides on several segments at once.

    Args:
        segments: that one completion of 96 x 96 px decides on; around each the predicted error is taken to vanish.
    """

    name = "predicted-error"

    def __init__(self, segments: int = SEGMENTS) -> None:
        self._segments = segments

    def start(self, plan: ScanPlan, generator: Generator) -> PredictedErrorRun:
        require_predicted_error(self.name, generator)
        length = plan.probe_spacing_px * (plan.probes_per_segment - 1)
        if length > min(plan.setup.size_px):
            raise InvalidInputError(
                f"A segment of {length:.1f} px does not fit into a region of {plan.setup.size_px} px."
            )
        return PredictedErrorRun(plan, self._segments)


class PredictedErrorRun(PolicyRun):
    """Scores random candidates on the map of predicted squared error."""

    def __init__(self, plan: ScanPlan, segments: int) -> None:
        self._size_px = plan.setup.size_px
        self._probes = plan.probes_per_segment
        self._along = (np.arange(self._probes) - (self._probes - 1) / 2) * plan.probe_spacing_px
        self._rng = np.random.default_rng(plan.seed)
        self._decisions = max(1, round(segments * math.prod(self._size_px) / PIXELS))
        self._decisions_left = 0
        self.needs_estimate = True
        self._squared_error: npt.NDArray[np.float32] | None = None

    def decide(self, observation: Observation) -> Segment:
        if self.needs_estimate and observation.estimate is not None:
            self._squared_error = squared_error(observation.estimate, observation.scan)
            self._decisions_left = self._decisions
        candidates = self._candidates()
        if self._squared_error is None:
            return self._segment(candidates[0])
        coordinates = np.moveaxis(candidates - 0.5, -1, 0)
        score = ndimage.map_coordinates(self._squared_error, coordinates, order=1, mode="nearest").sum(axis=1)
        chosen = candidates[int(np.argmax(score))]
        self._decisions_left -= 1
        self.needs_estimate = self._decisions_left == 0
        for row, column in zip(*rasterize(chosen, self._size_px), strict=True):
            self._squared_error[
                max(row - REACH_PX, 0) : row + REACH_PX + 1, max(column - REACH_PX, 0) : column + REACH_PX + 1
            ] = 0.0
        return self._segment(chosen)

    def _candidates(self) -> FloatArray:
        """Segments inside the region, shape (candidates, probes, 2), px."""
        angle = self._rng.uniform(0, math.pi, CANDIDATES)
        direction = np.stack([np.sin(angle), np.cos(angle)], axis=1)
        reach = np.abs(direction) * self._along[-1]
        centre = reach + self._rng.uniform(size=(CANDIDATES, 2)) * (np.asarray(self._size_px) - 2 * reach)
        return np.asarray(centre[:, None] + self._along[None, :, None] * direction[:, None], dtype=np.float64)

    def _segment(self, positions: FloatArray) -> Segment:
        first, last = positions[0], positions[-1]
        return Segment((float(first[0]), float(first[1])), (float(last[0]), float(last[1])), self._probes)


def require_predicted_error(policy: str, generator: Generator) -> None:
    """Raise InvalidInputError if the policy of this name would find no predicted error to follow."""
    if not generator.predicts_error:
        raise InvalidInputError(
            f"The policy {policy} needs a generator that predicts its error; {generator.name} does not."
        )


def squared_error(estimate: Estimate, scan: PartialImage) -> npt.NDArray[np.float32]:
    """Predicted squared error of each pixel (height, width), on the models' scale; 0 where measured."""
    squared = np.exp(estimate.standardised[0, 1])
    # What was probed is known; the model alone may not have learned to say so exactly.
    squared[scan.measured] = 0.0
    return np.asarray(squared, dtype=np.float32)
