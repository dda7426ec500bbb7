"""Refines a circle by least squares on the px around the rim, where a plain rim explains them.

The model is a step of finite width on a circle, with an inside that may be inclined (a gain gradient):

    I = (a0 + a1 y + a2 x) L + b,    L = 1 / (1 + exp((|p - c| - R) / s))

with the px weighted by their noise. It uses all that is known of the centre (the error is close to the Cramer-Rao
bound), but only a disk without contrast of its own looks like this. A frame that differs from the model by more than
its noise is left to the robust fit of :mod:`adaptive_core.alignment.circle_fit`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from adaptive_core.alignment.circle_fit import Circle

ImageArray = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

_ITERATIONS = 3
_MISFIT = 1.12
"""Largest mean square of the residuals, in units of the noise, with which the model is believed."""
_SOFTNESS, _SOFTNESS_SD = 1.0, 0.3
"""Of the rim in px, as it is expected."""
_HOT = 0.002
"""Part of the px that may be hot."""
_OUTLIER = 4.0
"""Residuals are cut to this many standard deviations: a hot px is no reason to disbelieve a disk."""


def refine_circle(image: ImageArray, circle: Circle, hot_level: float = math.inf) -> Circle | None:
    """The circle with its least-squares centre and radius; None where the plain rim does not explain the frame.

    Args:
        image: (height, width).
        circle: to begin with, good to about a px.
        hot_level: larger values are cut.
    """
    radius = circle.radius_px
    width = min(14.0, 0.25 * radius)
    rows, columns = (
        slice(max(0, math.floor(c - radius - width)), max(0, math.ceil(c + radius + width))) for c in circle.centre_px
    )
    crop = np.minimum(image[rows, columns], np.float32(hot_level)).astype(np.float64)
    if min(crop.shape) < radius:
        return None
    y = np.arange(crop.shape[0])[:, None] + (rows.start + 0.5 - circle.centre_px[0])
    x = np.arange(crop.shape[1])[None, :] + (columns.start + 0.5 - circle.centre_px[1])
    distance = np.hypot(y, x)
    ring = np.abs(distance - radius) < width
    inside, outside = ring & (distance < radius - width / 2), ring & (distance > radius + width / 2)
    if min(np.count_nonzero(inside), np.count_nonzero(outside)) < 100:
        return None
    dark, bright = _noise(crop, outside), _noise(crop, inside)
    y, x = np.broadcast_to(y, crop.shape)[ring], np.broadcast_to(x, crop.shape)[ring]
    values = crop[ring]
    variance = np.clip(dark + (bright - dark) * _step(distance[ring], radius, 1.0), max(0.1 * bright, 1e-9), None)
    return _fitted(circle, values, y, x, 1 / np.sqrt(variance))


def _fitted(circle: Circle, values: FloatArray, y: FloatArray, x: FloatArray, weights: FloatArray) -> Circle | None:
    """Gauss-Newton; y and x are counted from the circle's centre."""
    centre, radius, softness = np.zeros(2), circle.radius_px, _SOFTNESS
    covariance: FloatArray = np.eye(8)
    cut = weights
    plane = np.stack([np.ones_like(y), y / radius, x / radius])
    design = np.empty((8, values.size))
    design[7] = weights
    weighted = values * weights
    for _ in range(_ITERATIONS):
        from_y, from_x = y - centre[0], x - centre[1]
        distance = np.hypot(from_y, from_x)
        step = _step(distance, radius, softness)
        design[4:7] = plane * (step * weights)
        linear = design[4:]
        solution = np.linalg.solve(linear @ linear.T, linear @ weighted)
        cut = np.clip(weighted - solution @ linear, -_OUTLIER, _OUTLIER)
        slope = (solution[:3] @ linear[:3]) * (1 - step) / softness
        design[0] = slope * from_y / distance
        design[1] = slope * from_x / distance
        design[2] = slope
        design[3] = slope * (distance - radius) / softness
        normal, gradient = design @ design.T, design @ cut
        # At low dose only the prior keeps the step from becoming as sharp as the noise.
        normal[3, 3] += 1 / _SOFTNESS_SD**2
        gradient[3] += (_SOFTNESS - softness) / _SOFTNESS_SD**2
        covariance = np.linalg.pinv(normal, hermitian=True).astype(np.float64)
        change = (covariance @ gradient)[:4]
        centre = centre + np.clip(change[:2], -1.0, 1.0)
        radius += float(np.clip(change[2], -1.0, 1.0))
        softness = float(np.clip(softness + change[3], 0.3, 3.0))
    misfit = float(np.mean(cut**2))
    if misfit > _MISFIT or float(np.hypot(*centre)) > 2.0 + 4 * circle.sigma_px:
        return None
    return Circle(
        (circle.centre_px[0] + float(centre[0]), circle.centre_px[1] + float(centre[1])),
        radius,
        math.sqrt(float(covariance[0, 0] + covariance[1, 1]) / 2),
        circle.support,
    )


def _step(distance: FloatArray, radius: float, softness: float) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(np.clip((distance - radius) / softness, -30, 30))))


def _noise(crop: FloatArray, part: npt.NDArray[np.bool_]) -> float:
    """Variance of a px in a part of the crop, from the differences of neighbours, robust to hot px."""
    pairs = part[:, 1:] & part[:, :-1]
    squares = np.sort((crop[:, 1:] - crop[:, :-1])[pairs] ** 2 / 2)
    return float(squares[: squares.size - math.ceil(_HOT * squares.size)].mean())
