"""Where the probe really was: drift of the specimen and lag of the beam, told by the scan itself.

A probe that was not where it was asked to be contradicts its neighbours if those were displaced otherwise. Parts of the
probes are held out and the others completed; what a held-out probe measured differs from the completion by the slope of
the image times how much farther the probe was displaced than the neighbours from which it is predicted. A displacement
that all neighbours share leaves no trace, so that shift, shear, magnification and any smooth distortion of the scan
cannot be seen without a reference, nor can a drift while the beam goes once through the region, strip by strip. It is
seen where the beam comes back, as in a refinement after a first look. Then a steady drift is known for the whole scan.

The few parameters are those of the largest posterior probability for residuals with the tails of Student's t, by
Gauss-Newton steps that redraw the scan and complete it anew. What is not significant stays zero.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing

import numpy as np
import numpy.typing as npt
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import map_coordinates

from adaptive_core.partial_scan.generator import Estimate, Generator
from adaptive_core.partial_scan.held_out import HeldOut, runs_of, subset
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.position_errors import PositionErrors
from adaptive_core.scan_path import FloatArray, inside

SIGNIFICANT = 13.0
"""Least score statistic of drift and of lag, a chi^2 of two degrees of freedom and of one. This and the next constant
are from true scans of training images, and from scans of them with a drift or a lag."""
SIGNIFICANT_GAIN = 12.0
"""Least gain of the held-out probes' log-likelihood (nat)."""
PRIOR = np.array([3.0, 3.0, 0.15])
"""Standard deviations of drift (px) and lag before anything is measured."""
LARGEST_UNCERTAINTY = 0.25
"""What is known no better afterwards, in units of PRIOR, may be significant by chance, and would do harm."""
LARGEST_LAG = 0.6
_GROUPS: typing.Final = ((0, 1), (2,))  # drift, lag
_DEGREES = 3.0  # of freedom of Student's t
_ITERATIONS = 4
_SMALL = 0.03  # of PRIOR; a smaller step is the last


def find_position_errors(
    scan: PartialImage, parts: collections.abc.Sequence[HeldOut], generator: Generator
) -> PositionErrors | None:
    """Drift and lag of a scan by held-out parts of its first channel; None where neither is significant.

    Without one it takes no completion, otherwise one for each part and step. Raises ModelError if one is not finite.
    """
    if not parts:
        return None
    problem = _Problem(scan, parts, generator)
    best = problem.begin()
    free: list[int] = []
    while best is not None:
        scores = {group: best.score(group, free) for group in _GROUPS if group[0] not in free}
        group = max(scores, key=scores.__getitem__, default=None)
        if group is None or scores[group] < SIGNIFICANT or best.uncertainty([*free, *group]) > LARGEST_UNCERTAINTY:
            break
        improved = problem.improve(best, [*free, *group])
        if improved is None:
            break
        free += group
        best = improved
    return best.errors if best is not None and free else None


@dataclasses.dataclass(frozen=True, eq=False)
class _Residuals:
    """How well held-out probes are predicted with some correction.

    Attributes:
        parameters: drift (y, x) and lag.
        residuals: of each probe (n,) in units of its expected size; NaN where it is not predicted.
        slopes: of the residuals in the parameters (n, 3).
        runs: to which run of a path each probe belongs (n,).
    """

    parameters: FloatArray
    residuals: FloatArray
    slopes: FloatArray
    runs: npt.NDArray[np.intp]

    @property
    def errors(self) -> PositionErrors:
        return _errors(self.parameters)

    @property
    def loss(self) -> FloatArray:
        """Negative log-likelihood of each probe."""
        return np.asarray((_DEGREES + 1) / 2 * np.log1p(self.residuals**2 / _DEGREES))

    def score(self, group: collections.abc.Sequence[int], free: collections.abc.Sequence[int]) -> float:
        """Score statistic of some parameters beside others that were fitted (Rao 1948), robust to the residuals."""
        residuals, tested, _ = self._of(group)
        weight = _weight(residuals)
        if len(free):
            others, rooted = self._of(free)[1], np.sqrt(weight)[:, None]
            tested = tested - others @ np.linalg.lstsq(rooted * others, rooted * tested, rcond=None)[0]
        # What neighbours on a path say is one and the same thing.
        scores = np.zeros((int(self.runs[-1]) + 1, len(group)))
        np.add.at(scores, self.runs[np.isfinite(self.residuals)], tested * (weight * residuals)[:, None])
        total = scores.sum(axis=0)
        return float(total @ np.linalg.pinv(scores.T @ scores, hermitian=True) @ total)

    def uncertainty(self, free: collections.abc.Sequence[int]) -> float:
        """Largest posterior standard deviation of some parameters, over that of their prior."""
        residuals, slopes, prior = self._of(free)
        slopes = slopes * prior
        information = (slopes * _weight(residuals)[:, None]).T @ slopes
        return float(1 / np.sqrt(1 + np.linalg.eigvalsh(information)[0]))

    def step(self, free: collections.abc.Sequence[int]) -> FloatArray:
        """The Gauss-Newton step of the free parameters (3,), the others' being zero."""
        residuals, slopes, prior = self._of(free)
        now = self.parameters[np.asarray(free)]
        step = np.zeros(len(free))
        for _ in range(15):
            weighted = slopes * _weight(residuals - slopes @ step)[:, None]
            gradient = weighted.T @ residuals - now / prior**2
            step = np.asarray(np.linalg.solve(weighted.T @ slopes + np.diag(prior**-2), gradient))
        whole = np.zeros(len(self.parameters))
        whole[np.asarray(free)] = step
        return whole

    def _of(self, free: collections.abc.Sequence[int]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Known residuals (n,), their slopes in some parameters (n, k), and the prior of these (k,)."""
        known, chosen = np.isfinite(self.residuals), np.asarray(free)
        return self.residuals[known], self.slopes[known][:, chosen], PRIOR[chosen]


class _Problem:
    """Predicts the held-out probes of a scan with any correction."""

    def __init__(self, scan: PartialImage, parts: collections.abc.Sequence[HeldOut], generator: Generator) -> None:
        self._scan, self._parts, self._generator = scan, parts, generator
        self._commanded, self._runs = scan.positions, runs_of(scan)
        self._values = np.concatenate(scan.values, axis=1)[0].astype(np.float64)
        self._expected = np.ones(len(self._values))

    def begin(self) -> _Residuals | None:
        """The residuals without a correction, by whose predicted errors all others are weighted; None if all vanish."""
        estimates = [part.estimate for part in self._parts]
        residuals, slopes = self._predict(np.zeros(3), estimates)
        for part, estimate in zip(self._parts, estimates, strict=True):
            if estimate.error is None:
                return None
            self._expected[~part.kept] = np.maximum(_at(estimate.error, self._commanded[~part.kept]), 1e-30)
        # The size of Student's t is that of most residuals, which noise may make larger than predicted.
        typical = float(np.nanmedian(np.abs(residuals / self._expected))) if np.isfinite(residuals).any() else 0.0
        if typical <= 0:
            return None
        self._expected *= 1.3 * typical
        return self._weighted(np.zeros(3), residuals, slopes)

    def improve(self, start: _Residuals, free: collections.abc.Sequence[int]) -> _Residuals | None:
        """Fit some of the parameters; None if that does not predict the held-out probes significantly better."""
        best = start
        for _ in range(_ITERATIONS):
            step = best.step(free)
            found = next((trial for part in (1.0, 0.5) if (trial := self._better(best, part * step)) is not None), None)
            if found is None:
                break
            best = found
            if np.all(np.abs(step) < _SMALL * PRIOR):
                break
        return best if np.nansum(start.loss - best.loss) >= SIGNIFICANT_GAIN else None

    def _better(self, than: _Residuals, step: FloatArray) -> _Residuals | None:
        parameters = than.parameters + step
        parameters[2] = np.clip(parameters[2], 0.0, LARGEST_LAG)
        positions = _errors(parameters).positions(self._commanded)
        known = inside(positions, self._scan.size_px)
        estimates = [
            self._generator.complete(subset(self._scan, part.kept & known, 0, positions)) for part in self._parts
        ]
        trial = self._evaluate(parameters, estimates)
        gain = than.loss - trial.loss
        return trial if np.nansum(gain) > 0 else None

    def _evaluate(self, parameters: FloatArray, estimates: collections.abc.Sequence[Estimate]) -> _Residuals:
        return self._weighted(parameters, *self._predict(parameters, estimates))

    def _weighted(self, parameters: FloatArray, residuals: FloatArray, slopes: FloatArray) -> _Residuals:
        return _Residuals(parameters, residuals / self._expected, slopes / self._expected[:, None], self._runs)

    def _predict(
        self, parameters: FloatArray, estimates: collections.abc.Sequence[Estimate]
    ) -> tuple[FloatArray, FloatArray]:
        """Measured less predicted values of held-out probes (n,), and slopes of the prediction in the parameters."""
        positions, shifts = _shifts(parameters, self._commanded)
        known = inside(positions, self._scan.size_px)
        residuals = np.full(len(positions), np.nan)
        slopes = np.full((len(positions), len(parameters)), np.nan)
        for part, estimate in zip(self._parts, estimates, strict=True):
            out, kept = ~part.kept & known, part.kept & known
            where = positions[out]
            apart = shifts[out] - _carried(positions[kept], shifts[kept], where)
            gradient = np.stack([_at(np.asarray(slope), where) for slope in np.gradient(estimate.image)], axis=1)
            slope = np.einsum("na,nap->np", gradient, apart)
            residuals[out] = np.where(
                np.isfinite(slope).all(axis=1), self._values[out] - _at(estimate.image, where), np.nan
            )
            slopes[out] = slope
        return residuals, slopes


def _errors(parameters: FloatArray) -> PositionErrors:
    return PositionErrors((float(parameters[0]), float(parameters[1])), float(parameters[2]))


def _shifts(parameters: FloatArray, commanded: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Positions (n, 2) with a correction, and their slopes in its parameters (n, 2, 3)."""
    positions = _errors(parameters).positions(commanded)
    steps = 1e-3 * np.eye(len(parameters))
    moved = [_errors(parameters + step).positions(commanded) for step in steps]
    return positions, np.stack([(there - positions) / 1e-3 for there in moved], axis=2)


def _carried(points: FloatArray, shifts: FloatArray, where: FloatArray) -> FloatArray:
    """Displacements (m, 2, 3) that neighbours carry to positions (m, 2), by linear interpolation; NaN outside them."""
    if np.linalg.matrix_rank(points - points[0], tol=1e-6) < 2:
        return np.full((len(where), *shifts.shape[1:]), np.nan)
    carried = LinearNDInterpolator(points, shifts.reshape(len(points), -1))(where)
    return np.asarray(carried.reshape(-1, *shifts.shape[1:]))


def _at(image: npt.NDArray[np.floating], positions: FloatArray) -> FloatArray:
    """Values of an image (height, width) at positions (n, 2) px, by linear interpolation."""
    return np.asarray(map_coordinates(image, (positions - 0.5).T, order=1, mode="nearest"), dtype=np.float64)


def _weight(residuals: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray((_DEGREES + 1) / (_DEGREES + residuals**2))
