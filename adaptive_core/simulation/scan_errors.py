"""Where the beam really is: drift of the specimen, distortion of the scan, and the time that the beam takes to move."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import scipy.signal

from adaptive_core.errors import InvalidInputError
from adaptive_core.scan_path import Point

FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScanErrors:
    """Imperfections of the scan; all of them are off by default.

    Attributes:
        drift_nm_per_s: velocity (y, x) of the specimen, positive moves the image down and right. It advances with the
            time for which the device has scanned, not with the clock, so that a run repeats.
        shear: the rows shift by this fraction of their distance from the centre.
        radial_distortion: relative excess of the distance from the centre at ``distortion_radius_nm``, growing with its
            square.
        distortion_radius_nm: see above.
        line_jitter_nm: standard deviation of a displacement along x that a whole row shares.
        lag_us: time constant with which the beam follows the scan's signal.
        flyback_us: time between two rows.
        settling_us: wait after a jump: before a frame and, in a list of positions, after steps longer than two pixels.
    """

    drift_nm_per_s: Point = (0.0, 0.0)
    shear: float = 0.0
    radial_distortion: float = 0.0
    distortion_radius_nm: float = 10.0
    line_jitter_nm: float = 0.0
    lag_us: float = 0.0
    flyback_us: float = 0.0
    settling_us: float = 0.0

    def __post_init__(self) -> None:
        for name in ("line_jitter_nm", "lag_us", "flyback_us", "settling_us"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInputError(f"{name} must not be negative, not {value}.")
        if not self.distortion_radius_nm > 0:
            raise InvalidInputError(f"distortion_radius_nm must be positive, not {self.distortion_radius_nm}.")
        if not all(map(math.isfinite, (*self.drift_nm_per_s, self.shear, self.radial_distortion))):
            raise InvalidInputError("Drift, shear and radial distortion must be finite.")

    def distort(self, positions_nm: FloatArray) -> FloatArray:
        """Positions (n, 2) nm that the scan coils produce when asked for ``positions_nm`` (n, 2)."""
        if not (self.shear or self.radial_distortion):
            return positions_nm
        radius = np.hypot(positions_nm[:, 0], positions_nm[:, 1]) / self.distortion_radius_nm
        distorted = positions_nm * (1 + self.radial_distortion * radius**2)[:, None]
        distorted[:, 1] += self.shear * positions_nm[:, 0]
        return distorted

    def drift(self, time_us: FloatArray) -> FloatArray:
        """Displacement (n, 2) nm of the specimen after ``time_us`` (n,) of scanning."""
        return time_us[:, None] * (np.array(self.drift_nm_per_s) * 1e-6)


class BeamLag:
    """First-order lag of the beam behind the scan's signal; it remembers where the beam was."""

    def __init__(self) -> None:
        self._last: FloatArray | None = None  # the position asked for last
        self._error = np.zeros(2)  # how far the beam was from it

    def follow(self, positions_nm: FloatArray, step_us: FloatArray, lag_us: float) -> FloatArray:
        """Positions (n, 2) nm of the beam when it is asked for ``positions_nm`` (n, 2), ``step_us`` (n,) apart.

        Each position is measured ``step_us`` after the signal jumped to it: the error of the one before plus the jump,
        decayed by ``exp(-step_us / lag_us)``.
        """
        if not len(positions_nm):
            return positions_nm
        if not lag_us:
            self._last, self._error = positions_nm[-1], np.zeros(2)
            return positions_nm
        first = positions_nm[0] if self._last is None else self._last
        jumps = -np.diff(positions_nm, axis=0, prepend=first[None])
        decay = np.exp(-step_us / lag_us)
        errors = np.empty_like(positions_nm)
        error = self._error
        # Runs of equal steps (a row) are one recursive filter: error[k] = decay * (error[k - 1] + jump[k]).
        starts = np.flatnonzero(np.diff(decay, prepend=np.nan) != 0)
        for start, stop in zip(starts, [*starts[1:], len(decay)], strict=True):
            a = decay[start]
            run, _ = scipy.signal.lfilter([a], [1.0, -a], jumps[start:stop], axis=0, zi=(a * error)[None])
            errors[start:stop] = run
            error = run[-1]
        self._last, self._error = positions_nm[-1], error
        return positions_nm + errors
