"""Policies that do not adapt: the static paths, handed out batch by batch."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from adaptive_core import static_path
from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan.generator import Generator
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.plan import ScanPlan
from adaptive_core.partial_scan.policy import Observation, PolicyRun
from adaptive_core.scan_path import Action, FloatArray, Positions, Segment, as_segments

FULL_RASTER = "full-raster"
STATIC_POLICIES = ("spiral", "serpentine", "uniform-grid", "blue-noise", "halton", "random-segments")


class StaticPolicy:
    """One of STATIC_POLICIES for the number of probes that the budget allows, or the FULL_RASTER, which needs them all.

    Raises:
        InvalidInputError: an unknown name; and from ``positions`` and ``start``, a budget below the full raster's.
    """

    def __init__(self, name: str) -> None:
        names = (*STATIC_POLICIES, FULL_RASTER)
        if name not in names:
            raise InvalidInputError(f"There is no static path named {name!r}; there are {', '.join(names)}.")
        self.name = name

    def positions(self, plan: ScanPlan) -> FloatArray:
        """All probe positions of the path, shape (probes, 2), px."""
        size_px, probes = plan.setup.size_px, plan.probes
        if self.name == FULL_RASTER:
            pixels = size_px[0] * size_px[1]
            if probes < pixels:
                raise InvalidInputError(
                    f"A full raster of {size_px[0]} x {size_px[1]} px takes {pixels} probes, but the budget allows "
                    f"{probes}; set a coverage of 100 %."
                )
            return static_path.uniform_grid(size_px, pixels)
        if self.name == "spiral":
            return static_path.spiral(size_px, probes, plan.probe_spacing_px)
        if self.name == "serpentine":
            return static_path.serpentine(size_px, probes, plan.probe_spacing_px)
        if self.name == "uniform-grid":
            return static_path.uniform_grid(size_px, probes)
        if self.name == "blue-noise":
            return static_path.blue_noise(size_px, probes, plan.seed)
        if self.name == "halton":
            return static_path.halton(size_px, probes)
        return static_path.random_segments(size_px, probes, plan.seed, plan.probes_per_segment, plan.probe_spacing_px)

    def start(self, plan: ScanPlan, generator: Generator) -> StaticPolicyRun:
        return StaticPolicyRun(self.positions(plan), plan.probes_per_segment)


class StaticPolicyRun(PolicyRun):
    """Hands out a fixed path."""

    def __init__(self, positions: FloatArray, batch: int) -> None:
        self._positions = positions
        self._batch = batch
        self._next = 0

    def decide(self, observation: Observation) -> Action | None:
        batch = self._positions[self._next : self._next + self._batch]
        if len(batch) == 0:
            return None
        self._next += len(batch)
        segments = list(as_segments(batch))
        return segments[0] if len(segments) == 1 and isinstance(segments[0], Segment) else Positions(batch)

    def resume(self, scan: PartialImage, plan: ScanPlan) -> None:
        """Go on with those positions of the longer path that are farthest from what was measured, in their order.

        A longer spiral or finer grid covers the whole region anew, so that its second half alone would leave the rest
        as it was. A path that the earlier one is a part of goes on where that ended.
        """
        measured = KDTree(scan.positions)
        distance, _ = measured.query(self._positions)
        left = plan.probes_left(len(scan.actions), scan.probes, scan.beam_on_us)
        farthest = np.argsort(-distance, kind="stable")[:left]
        self._positions = self._positions[np.sort(farthest)]
