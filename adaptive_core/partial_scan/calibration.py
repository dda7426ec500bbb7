"""How far a predicted error can be trusted, told by the scan itself: probes are held out and predicted.

A generator knows how large its errors are on specimens like those that it was trained on; on smoother or finer ones its
intervals are too wide or too narrow. A scan's own probes tell: a part of them is left out, the rest is completed, and
the errors at what was left out are compared with what was predicted there, as for a conformal interval (Papadopoulos et
al., ECML 2002). What was left out is noisy, though. The residual of a probe that was held out, r, becomes f once the
completion knows the probe. For the best linear predictor f = n r with the noise's part n of the variance of r (the
leave-one-out identity of Gaussian processes; Rasmussen and Williams 2006, Eq. 5.12), so that n is seen in the scan:
sum(r f) / sum(r^2). The scale is freed of it, and counts the less the more of it there is.

Probes of a periodic pattern tell nothing: what aliases on the pattern fits what is left out of it as well.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import math

import numpy as np
import numpy.typing as npt

from adaptive_core.partial_scan.generator import Estimate
from adaptive_core.partial_scan.held_out import HeldOut, runs_of
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.scan_path import FloatArray, rasterize

INTERVAL_90 = 1.6448536269514722
"""Half width of the central 90 % interval of a normal distribution, in standard deviations."""
RUNS = 13
"""With so many independent runs of probes half of what they say is believed, unless they say much. This and the next
two constants are from scans of training images."""
MOST_DOUBT = 0.2
"""As a logarithm: what few runs say is not doubted by more, since an interval that is far off shows in any of them."""
NOISELESS = 0.25
"""The noise's part as it may be seen where there is no noise: most on lattices at the limit of what is sampled."""
SMALLEST_SCALE = 0.5
"""What no probe has met, no probe can tell of: an interval is not made narrower than this part of the predicted one."""
_LARGEST_NOISE = 0.95
_BRAGG = 0.5
_COARSEST = 4  # periods in the region; slower ones are how the density of the probes changes from place to place


def calibrated(
    estimate: Estimate, scan: PartialImage, parts: collections.abc.Sequence[HeldOut], channel: int = 0
) -> Estimate:
    """A generator's estimate of a scan, with the predicted error scaled by what held-out parts of it say.

    The image stays as it is. An estimate without a predicted error, without held-out parts, or of a scan whose
    positions are periodic, is given back.
    """
    if estimate.error is None or not parts or is_periodic(scan):
        return estimate
    measured = scan.image(channel)
    residuals, ratios, fits = (np.empty(0, dtype=np.float32) for _ in range(3))
    for part in parts:
        if part.estimate.error is None:
            return estimate
        residual = (measured - part.estimate.image)[part.pixels]
        residuals = np.append(residuals, residual)
        ratios = np.append(ratios, np.abs(residual) / np.maximum(part.estimate.error[part.pixels], 1e-30))
        fits = np.append(fits, (measured - estimate.image)[part.pixels])
    if not residuals.any():
        return estimate
    runs = int(runs_of(scan)[-1]) + 1
    return _scaled(estimate, _log_scale(residuals.astype(np.float64), ratios, fits, runs))


def is_periodic(scan: PartialImage) -> bool:
    """Whether the probes lie on a grid or on even, parallel lines: their pattern has a reflection.

    Of a perfect lattice of n points the strongest reflection has the amplitude n; of irregular points about sqrt(n).
    """
    height, width = scan.size_px
    pattern = np.zeros(scan.size_px)
    np.add.at(pattern, rasterize(scan.positions, scan.size_px), 1)
    amplitude = np.abs(np.fft.rfft2(pattern)) / scan.probes
    periods = np.hypot(np.fft.fftfreq(height, 1 / height)[:, None], np.fft.rfftfreq(width, 1 / width))
    return bool(amplitude[periods >= _COARSEST].max() > _BRAGG)


def _log_scale(
    residuals: FloatArray, ratios: npt.NDArray[np.float32], fits: npt.NDArray[np.float32], runs: int
) -> float:
    seen = float(np.sum(residuals * fits) / np.sum(residuals**2))
    noise = float(np.clip((seen - NOISELESS) / (1 - NOISELESS), 0.0, _LARGEST_NOISE))
    quantile = max(float(np.quantile(ratios, 0.9)) / INTERVAL_90, 1e-3)
    told = math.log(quantile) + 0.5 * math.log(1 - noise)
    doubt = float(np.clip(told * RUNS / (runs + RUNS), -MOST_DOUBT, MOST_DOUBT))
    return max((1 - noise) ** 2 * (told - doubt), math.log(SMALLEST_SCALE))


def _scaled(estimate: Estimate, log_scale: float) -> Estimate:
    standardised = estimate.standardised.copy()
    standardised[:, 1] += np.float32(2 * log_scale)
    error = None if estimate.error is None else np.asarray(estimate.error * math.exp(log_scale), dtype=np.float32)
    return dataclasses.replace(estimate, error=error, standardised=standardised)
