"""A policy that follows the predicted error: the next segment goes where the generator trusts itself least."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan.generator import Generator
from adaptive_core.partial_scan.plan import ScanPlan
from adaptive_core.partial_scan.policy import Observation, PolicyRun
from adaptive_core.scan_path import FloatArray, Segment

CANDIDATES = 256


class PredictedErrorPolicy:
    """Of many random free segments, the one along which the predicted squared error is largest.

    It needs a generator that predicts its error, and looks at a fresh completion before each decision.
    """

    name = "predicted-error"
    observes_estimate = True

    def start(self, plan: ScanPlan, generator: Generator) -> PredictedErrorRun:
        if not generator.predicts_error:
            raise InvalidInputError(
                f"The policy {self.name} needs a generator that predicts its error; {generator.name} does not."
            )
        length = plan.probe_spacing_px * (plan.probes_per_segment - 1)
        if length > min(plan.setup.size_px):
            raise InvalidInputError(
                f"A segment of {length:.1f} px does not fit into a region of {plan.setup.size_px} px."
            )
        return PredictedErrorRun(plan)


class PredictedErrorRun(PolicyRun):
    """Scores random candidates on the map of predicted squared error."""

    def __init__(self, plan: ScanPlan) -> None:
        self._size = np.asarray(plan.setup.size_px, dtype=np.float64)
        self._probes = plan.probes_per_segment
        self._along = (np.arange(self._probes) - (self._probes - 1) / 2) * plan.probe_spacing_px
        self._rng = np.random.default_rng(plan.seed)

    def decide(self, observation: Observation) -> Segment:
        candidates = self._candidates()
        if observation.estimate is None:
            return self._segment(candidates[0])
        squared_error = np.exp(observation.estimate.standardised[0, 1], dtype=np.float64)
        # What was probed is known; the model alone may not have learned to say so exactly.
        squared_error[observation.scan.measured] = 0.0
        coordinates = np.moveaxis(candidates - 0.5, -1, 0)
        score = ndimage.map_coordinates(squared_error, coordinates, order=1, mode="nearest").sum(axis=1)
        return self._segment(candidates[int(np.argmax(score))])

    def _candidates(self) -> FloatArray:
        """Segments inside the region, shape (candidates, probes, 2), px."""
        angle = self._rng.uniform(0, math.pi, CANDIDATES)
        direction = np.stack([np.sin(angle), np.cos(angle)], axis=1)
        reach = np.abs(direction) * self._along[-1]
        centre = reach + self._rng.uniform(size=(CANDIDATES, 2)) * (self._size - 2 * reach)
        return np.asarray(centre[:, None] + self._along[None, :, None] * direction[:, None], dtype=np.float64)

    def _segment(self, positions: FloatArray) -> Segment:
        first, last = positions[0], positions[-1]
        return Segment((float(first[0]), float(first[1])), (float(last[0]), float(last[1])), self._probes)
