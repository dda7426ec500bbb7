"""A robust circle fit to the rim of a disk: the steepest descent along rays, reweighted until outliers do not count.

The radius is nearly known; the centre and a small correction of the radius are fitted.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

ImageArray = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

_RAYS = 96
_STEP_PX = 0.5
_ITERATIONS = 8
_FEWEST_RAYS = 12


@dataclasses.dataclass(frozen=True)
class Circle:
    """A fitted circle.

    Attributes:
        centre_px: ``(y, x)``.
        radius_px: with the fitted correction.
        sigma_px: expected standard deviation of the centre, each axis, from the scatter of the rim.
        support: contrast of the rim, summed over the rays that agree.
    """

    centre_px: tuple[float, float]
    radius_px: float
    sigma_px: float
    support: float


def fit_circle(
    image: ImageArray,
    start_px: tuple[float, float],
    radius_px: float,
    *,
    reach: float = 0.25,
    hot_level: float = math.inf,
) -> Circle | None:
    """Fit a circle near ``start_px``; None if fewer than 12 rays see a rim.

    Args:
        image: (height, width).
        start_px: centre to start from, ``(y, x)``, good to about ``reach`` radii.
        radius_px: expected radius.
        reach: the rim is looked for within this fraction of the radius.
        hot_level: larger values are cut.
    """
    sigma = min(2.0, 0.05 * radius_px + 0.2)
    margin = math.ceil((1 + 2 * reach) * radius_px + 4 * sigma)
    top, left = (max(0, math.floor(c) - margin) for c in start_px)
    crop = image[top : math.ceil(start_px[0]) + margin, left : math.ceil(start_px[1]) + margin]
    if min(crop.shape) < 4:
        return None
    smooth = ndimage.gaussian_filter(np.minimum(crop, np.float32(hot_level)), sigma, truncate=3.0)
    # map_coordinates counts from the middle of the first pixel.
    centre = np.array([start_px[0] - top - 0.5, start_px[1] - left - 0.5])
    size = np.array([image.shape[0] - top, image.shape[1] - left], dtype=np.float64)
    directions = _directions()
    # Neighbouring rays see the same smoothed noise.
    alike = max(1.0, 2.5 * sigma * _RAYS / (2 * math.pi * radius_px))
    circle: Circle | None = None
    for narrowing in (1.0, 0.5):
        radii = np.arange(radius_px * (1 - reach * narrowing), radius_px * (1 + reach * narrowing), _STEP_PX)
        rims, weights = _rims(smooth, centre, directions, radii, sigma, size)
        if np.count_nonzero(weights) < _FEWEST_RAYS:
            return None
        shift, growth, spread, kept = _solve(directions, rims - radius_px, weights)
        centre = centre + shift
        normal = (directions * kept[:, None]).T @ directions / kept.max()
        deviation = spread * math.sqrt(alike * float(np.trace(np.linalg.inv(normal + 1e-3 * np.eye(2)))) / 2)
        circle = Circle(
            (float(centre[0]) + top + 0.5, float(centre[1]) + left + 0.5),
            radius_px + growth,
            deviation,
            float(kept.sum()),
        )
    return circle


@functools.cache
def _directions() -> FloatArray:
    angle = np.linspace(0, 2 * math.pi, _RAYS, endpoint=False)
    return np.stack([np.sin(angle), np.cos(angle)], 1)


def _rims(
    smooth: ImageArray,
    centre: FloatArray,
    directions: FloatArray,
    radii: FloatArray,
    sigma: float,
    size: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Distance of the steepest descent on each ray, and its contrast; 0 outside of the frame."""
    lag = max(1, round(sigma / _STEP_PX))
    places = centre[:, None, None] + directions.T[:, :, None] * radii
    values = ndimage.map_coordinates(smooth, places, order=1, mode="nearest", prefilter=False)
    descent = values[:, : -2 * lag] - values[:, 2 * lag :]
    best = descent.argmax(1)
    rays = np.arange(len(directions))
    inner = np.clip(best, 1, descent.shape[1] - 2)
    before, here, after = (descent[rays, inner + i] for i in (-1, 0, 1))
    bend = before - 2 * here + after
    offset = np.where((bend < 0) & (inner == best), 0.5 * (before - after) / np.where(bend < 0, bend, -1.0), 0.0)
    rims = radii[best + lag] + _STEP_PX * np.clip(offset, -1, 1)
    rim_places = centre + directions * rims[:, None]
    visible = ((rim_places > 2.0) & (rim_places < size - 3.0)).all(1)
    return rims, np.where(visible, np.maximum(descent[rays, best], 0.0), 0.0)


def _solve(
    directions: FloatArray, distances: FloatArray, weights: FloatArray
) -> tuple[FloatArray, float, float, FloatArray]:
    """Shift (2,), growth, scatter of the rim and final weights (rays,), by reweighted least squares."""
    seen = weights > 0
    design = np.concatenate([directions, np.ones((len(directions), 1))], 1)
    # A weak prior keeps the growth of the radius out of the shift where only an arc is seen.
    prior = np.diag([1e-6, 1e-6, 0.1]) * weights.sum()
    solution = np.zeros(3)
    solution[2] = float(np.median(distances[seen]))
    kept = weights
    scatter = 1.0
    for _ in range(_ITERATIONS):
        residual = distances - design @ solution
        scatter = float(np.median(np.abs(residual[seen])))
        kept = weights / (1 + (residual / (1.5 * scatter + 0.2)) ** 2)
        weighted = design * kept[:, None]
        solution = np.linalg.solve(weighted.T @ design + prior, weighted.T @ distances)
    return solution[:2], float(solution[2]), 1.5 * scatter, kept
