"""How far a predicted error can be trusted, told by the scan itself: probes are held out and predicted.

A generator knows how large its errors are on specimens like those that it was trained on; on smoother or finer ones its
intervals are too wide or too narrow. A scan's own probes tell: a part of them is left out, the rest is completed, and
the errors at what was left out are compared with what was predicted there, as for a conformal interval (Papadopoulos et
al., ECML 2002). What was left out is noisy, though. The residual of a probe that was held out, r, becomes f once the
completion knows the probe. For the best linear predictor f = n r with the noise's part n of the variance of r (the
leave-one-out identity of Gaussian processes; Rasmussen and Williams 2006, Eq. 5.12), so that n is seen in the scan:
sum(r f) / sum(r^2). The scale is freed of it, and counts the less the more of it there is.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from adaptive_core.partial_scan.generator import Estimate, Generator
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.scan_path import FloatArray, Positions

INTERVAL_90 = 1.6448536269514722
"""Half width of the central 90 % interval of a normal distribution, in standard deviations."""
PARTS = 4
"""One of so many parts of the probes is held out at a time."""
ENOUGH = 400
"""After so many held-out pixels no further part is held out: the completion of a large region takes long."""
LEAST = 40
"""With fewer held-out pixels the generator's own prediction stands."""
LONGEST_RUN = 20
WIDENING = 0.07
"""Logarithm of how much wider the interval is than held-out probes have it; from scans of training images."""
SMALLEST_SCALE = 0.5
"""What no probe has met, no probe can tell of: an interval is not made narrower than this part of the predicted one."""
_LARGEST_NOISE = 0.95


def calibrated(estimate: Estimate, scan: PartialImage, generator: Generator, channel: int = 0) -> Estimate:
    """A generator's estimate of a scan, with the predicted error scaled by what held-out probes say.

    The image stays as it is. An estimate without a predicted error, of few probes, or of a scan that leaves less than
    half of the pixels out, is given back. It takes up to PARTS further completions, but one where there are many
    probes. Raises ModelError if one of them is not finite.
    """
    if estimate.error is None or scan.probes < LEAST or scan.measured.mean() > 0.5:
        return estimate
    measured = scan.image(channel)
    runs = _runs(scan)
    part_of_run = np.random.default_rng(0).permutation(runs[-1] + 1) % PARTS
    residuals, ratios, fits = (np.empty(0, dtype=np.float32) for _ in range(3))
    for part in range(PARTS):
        kept = part_of_run[runs] != part
        if not kept.any():
            return estimate
        fewer = _only(scan, kept, channel)
        held_out = scan.measured & ~fewer.measured
        predicted = generator.complete(fewer)
        if predicted.error is None:
            return estimate
        residual = measured[held_out] - predicted.image[held_out]
        residuals = np.append(residuals, residual)
        ratios = np.append(ratios, np.abs(residual) / np.maximum(predicted.error[held_out], 1e-30))
        fits = np.append(fits, (measured - estimate.image)[held_out])
        if len(residuals) >= ENOUGH:
            break
    if len(residuals) < LEAST or not residuals.any():
        return estimate
    return _scaled(estimate, _log_scale(residuals.astype(np.float64), ratios, fits))


def _log_scale(residuals: FloatArray, ratios: npt.NDArray[np.float32], fits: npt.NDArray[np.float32]) -> float:
    noise = float(np.clip(np.sum(residuals * fits) / np.sum(residuals**2), 0.0, _LARGEST_NOISE))
    quantile = max(float(np.quantile(ratios, 0.9)) / INTERVAL_90, 1e-3)
    log_scale = (1 - noise) ** 2 * (WIDENING + math.log(quantile) + 0.5 * math.log(1 - noise))
    return max(log_scale, math.log(SMALLEST_SCALE))


def _scaled(estimate: Estimate, log_scale: float) -> Estimate:
    standardised = estimate.standardised.copy()
    standardised[:, 1] += np.float32(2 * log_scale)
    error = None if estimate.error is None else np.asarray(estimate.error * math.exp(log_scale), dtype=np.float32)
    return dataclasses.replace(estimate, error=error, standardised=standardised)


def _runs(scan: PartialImage) -> npt.NDArray[np.intp]:
    """To which run each probe belongs, shape (probes,): probes that are much closer than the mean distance make up one.

    A probe between two others of a path would be known from them, so that a path is held out in runs.
    """
    positions = np.concatenate([action.positions for action in scan.actions])
    spacing_px = math.sqrt(scan.size_px[0] * scan.size_px[1] / len(positions))
    step = np.diff(positions, axis=0)
    begins = np.append(True, np.hypot(step[:, 0], step[:, 1]) >= 0.5 * spacing_px)
    number = np.arange(len(positions))
    begins |= (number - np.maximum.accumulate(np.where(begins, number, 0))) % LONGEST_RUN == 0
    return np.cumsum(begins) - 1


def _only(scan: PartialImage, kept: npt.NDArray[np.bool_], channel: int) -> PartialImage:
    """One channel of a scan as if only some of its probes, shape (probes,), had been measured."""
    fewer = PartialImage(scan.size_px)
    positions = np.concatenate([action.positions for action in scan.actions])
    fewer.add(Positions(positions[kept]), np.concatenate(scan.values, axis=1)[channel : channel + 1, kept])
    return fewer
