"""How good a completion is, where the truth is known.

Images are compared after both have been scaled by the *truth's* range to [-1, 1], so that the scale of a detector does
not matter and an estimate with the wrong contrast is not forgiven. Measured pixels count like all others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from adaptive_core.errors import InvalidInputError

Image = npt.NDArray[np.floating]
_SCALED_RANGE = 2.0
_SSIM_SIGMA_PX = 1.5
_SSIM_RADIUS_PX = 5  # Wang's 11 px window


def mse(estimate: Image, truth: Image) -> float:
    """Mean squared error of images of the shape (height, width), both scaled to [-1, 1] by the truth's range."""
    scaled_estimate, scaled_truth = _scaled(estimate, truth)
    return float(np.mean((scaled_estimate - scaled_truth) ** 2))


def psnr_db(estimate: Image, truth: Image) -> float:
    """Peak signal-to-noise ratio in dB, the peak being the truth's range; infinite for equal images."""
    error = mse(estimate, truth)
    return float("inf") if error == 0 else float(10 * np.log10(_SCALED_RANGE**2 / error))


def ssim(estimate: Image, truth: Image) -> float:
    """Structural similarity of images of the shape (height, width), at least 11 px a side, both scaled as for the MSE.

    With the Gaussian window of sigma 1.5 px and 11 px width, K1 = 0.01 and K2 = 0.03 of Wang et al.,
    IEEE Trans. Image Process. 13, 600 (2004); the mean is taken where the window lies inside the image, as theirs is.
    """
    if min(truth.shape) < 2 * _SSIM_RADIUS_PX + 1:
        raise InvalidInputError(f"SSIM needs images of at least 11 px a side, not {truth.shape}.")
    x, y = _scaled(estimate, truth)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x**2
    variance_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * _SCALED_RANGE) ** 2, (0.03 * _SCALED_RANGE) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    inside = slice(_SSIM_RADIUS_PX, -_SSIM_RADIUS_PX)
    return float(np.mean(similarity[inside, inside]))


def _window_mean(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(ndimage.gaussian_filter(image, _SSIM_SIGMA_PX, radius=_SSIM_RADIUS_PX))


def _scaled(estimate: Image, truth: Image) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if estimate.shape != truth.shape or truth.ndim != 2:
        raise InvalidInputError(
            f"Images to compare need one shape (height, width), not {estimate.shape}, {truth.shape}."
        )
    low, high = float(np.min(truth)), float(np.max(truth))
    if not high > low:
        raise InvalidInputError(f"The truth must be finite and not constant; its range is {low} to {high}.")
    scale = _SCALED_RANGE / (high - low)
    return (estimate.astype(np.float64) - low) * scale - 1, (truth.astype(np.float64) - low) * scale - 1
