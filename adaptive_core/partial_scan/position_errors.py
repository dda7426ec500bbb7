"""Position errors of a scan: where the probe really was when it was asked for positions."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.signal import lfilter

from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.scan_path import FloatArray, Point, Positions, inside


@dataclasses.dataclass(frozen=True)
class PositionErrors:
    """How the true probe positions differ from those that were asked for.

    Attributes:
        drift_px: how far the specimen moved steadily from the first probe to the last (y, x), positive down and right.
        lag: part of the way to each position that was still before the beam when it measured there.
    """

    drift_px: Point = (0.0, 0.0)
    lag: float = 0.0

    def positions(self, commanded: FloatArray) -> FloatArray:
        """Where the probe was on the specimen as it lay at the beginning, when asked for positions (n, 2) px."""
        jumps = np.diff(commanded, axis=0, prepend=commanded[:1])
        behind = lfilter([-self.lag], [1.0, -self.lag], jumps, axis=0)
        time = np.linspace(0.0, 1.0, len(commanded))
        return np.asarray(commanded + behind - time[:, None] * np.asarray(self.drift_px))

    def __str__(self) -> str:
        (y, x), lag = self.drift_px, self.lag
        found = [f"a drift of {y:+.1f} px in y and {x:+.1f} px in x"] if y or x else []
        found += [f"a lag of {100 * lag:.0f} % of each step"] if lag else []
        return " and ".join(found)

    def corrected(self, scan: PartialImage) -> PartialImage:
        """A scan with its values at the true positions; those beyond the region's edges are left out."""
        positions = self.positions(scan.positions)
        known = inside(positions, scan.size_px)
        corrected = PartialImage(scan.size_px, scan.channels)
        corrected.add(Positions(positions[known]), np.concatenate(scan.values, axis=1)[:, known])
        return corrected
