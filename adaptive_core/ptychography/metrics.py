"""How good a ptychographic image is: SSIM of the phase, Fourier ring correlation, and what it cost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal, stats

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.simulation.ptychography_forward import ForwardModel

Image = npt.NDArray[np.floating]
Curve = npt.NDArray[np.float64]

_SSIM_SIGMA_PX = 1.5
_SSIM_RADIUS_PX = 5
_TOGETHER = 250
"""Probes that are held in memory at once."""


def phase_ssim(estimate: Image, reference: Image) -> float:
    """Structural similarity of two phase images (height, width), their means removed, data range of the reference.

    The Gaussian window has sigma 1.5 px and 11 px, K1 = 0.01, K2 = 0.03; the mean is taken where the window lies inside
    (Wang et al. 2004, as scikit-image with ``gaussian_weights=True, use_sample_covariance=False``). Unlike the SSIM of
    partial scans it takes phases as they are: a phase has no offset, but it has a scale.
    """
    if estimate.shape != reference.shape or min(reference.shape) < 2 * _SSIM_RADIUS_PX + 1:
        raise InvalidInputError(
            f"SSIM needs two images of one shape, 11 px or more a side, not {estimate.shape} and {reference.shape}."
        )
    x = np.asarray(estimate - estimate.mean(), dtype=np.float64)
    y = np.asarray(reference - reference.mean(), dtype=np.float64)
    span = float(y.max() - y.min())
    if span == 0:
        raise InvalidInputError("SSIM needs a reference that is not constant.")

    def window(image: Curve) -> Curve:
        return np.asarray(ndimage.gaussian_filter(image, _SSIM_SIGMA_PX, radius=_SSIM_RADIUS_PX))

    mean_x, mean_y = window(x), window(y)
    variance_x, variance_y = window(x * x) - mean_x**2, window(y * y) - mean_y**2
    covariance = window(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    inside = slice(_SSIM_RADIUS_PX, -_SSIM_RADIUS_PX)
    return float(similarity[inside, inside].mean())


def relative_gain(adaptive: float, baseline: float) -> float:
    """Q = (adaptive - baseline) / baseline, a fraction (Schloz et al. 2023, Results)."""
    return (adaptive - baseline) / baseline


def relative_resolution_gain(adaptive_A: float, baseline_A: float) -> float:
    """Q_res: how much finer the adaptive resolution is, as a fraction of the baseline's."""
    return (baseline_A - adaptive_A) / baseline_A


def mean_with_interval(values: npt.ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Mean, sample standard deviation and half width of the mean's confidence interval (Student's t)."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), 0.0, float("inf")
    spread = float(array.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, len(array) - 1)) * spread / np.sqrt(len(array))
    return float(array.mean()), spread, float(half)


def fourier_ring_correlation(a: Image, b: Image, pixel_A: float) -> tuple[Curve, Curve]:
    """Correlation of two images of one square shape, ring by ring, after a Hann window.

    Returns:
        Spatial frequencies (1/A) of the rings up to the Nyquist frequency, and the correlation of each. That of the
        first ring, the mean, is 1 by definition: it is taken out, as a phase has no offset.
    """
    if a.shape != b.shape or a.shape[0] != a.shape[1]:
        raise InvalidInputError(f"The ring correlation needs square images of one size, not {a.shape} and {b.shape}.")
    n = len(a)
    window = np.outer(*(signal.windows.hann(n, sym=False),) * 2)
    first, second = (np.fft.fft2((image - image.mean()) * window) for image in (a, b))
    frequency = np.fft.fftfreq(n, 1 / n)
    ring = np.rint(np.hypot(frequency[:, None], frequency)).astype(np.intp).ravel()

    def total(values: npt.NDArray[np.floating]) -> Curve:
        return np.asarray(np.bincount(ring, values.ravel())[: n // 2 + 1], dtype=np.float64)

    cross = total((first * second.conj()).real)
    power = np.sqrt(total(np.abs(first) ** 2) * total(np.abs(second) ** 2))
    # Rings without power in one of the images, as beyond a low-pass, carry rounding errors only.
    correlation = np.where(power > 1e-6 * power.max(), cross / np.maximum(power, np.finfo(np.float64).tiny), 0.0)
    correlation[0] = 1.0
    return np.arange(len(cross)) / (n * pixel_A), correlation


def resolution_A(a: Image, b: Image, pixel_A: float, threshold: float = 0.5) -> float:
    """One over the highest frequency at which the ring correlation, averaged over three rings, reaches ``threshold``.

    The first crossing would not do: focused probes carry low frequencies badly, and a crystal has power in few rings.
    Where the threshold is never reached, the side of the images.
    """
    frequency, correlation = fourier_ring_correlation(a, b, pixel_A)
    reached = np.flatnonzero(np.convolve(correlation, np.full(3, 1 / 3), "same")[2:] >= threshold) + 2
    return float(1 / frequency[reached[-1]]) if len(reached) else len(a) * pixel_A


def oversampling_ratio(image: Reconstruction, detector_px: int, pixel_A: float, threshold: float = 1e-3) -> float:
    """N_k / N_u: measured intensities over unknowns, two for every object pixel of ``pixel_A`` that is illuminated.

    A pixel counts where the summed illumination exceeds ``threshold`` of its largest value. The papers refer to Schloz
    et al., Opt. Express 28, 28306 (2020), and do not say where they draw the line.
    """
    grid, places = image.grid, image.grid.to_px(image.positions_A)
    illumination = np.zeros(grid.shape)
    for chosen in np.array_split(np.arange(len(places)), max(1, len(places) // _TOGETHER)):
        wave = image.probe if image.probe.ndim == 2 else image.probe[chosen]
        illumination += ForwardModel(wave, places[chosen], grid.shape, wave.shape[-1]).illumination()
    area_A2 = float((illumination > threshold * illumination.max()).sum()) * grid.pixel_A**2
    return len(places) * detector_px**2 / (2 * area_A2 / pixel_A**2)


def dose_e_per_A2(patterns: int, electrons: float, fov_A: tuple[float, float]) -> float:
    """Electrons per area of the scanned region."""
    return patterns * electrons / (fov_A[0] * fov_A[1])
