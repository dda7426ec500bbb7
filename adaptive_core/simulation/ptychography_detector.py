"""The pixelated detector: binning and counting noise. Patterns are centred: the direct beam is at pixel ``n // 2``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError

RealArray = npt.NDArray[np.float32]


def centred(patterns: RealArray) -> RealArray:
    """Patterns (p, d, d) in FFT order, with the direct beam brought to pixel ``d // 2``."""
    return np.asarray(np.fft.fftshift(patterns, axes=(-2, -1)))


def fft_order(patterns: RealArray) -> RealArray:
    """The inverse of :func:`centred`."""
    return np.asarray(np.fft.ifftshift(patterns, axes=(-2, -1)))


def binned(patterns: RealArray, factor: int) -> tuple[RealArray, float]:
    """Sum blocks of ``factor`` x ``factor`` px of centred patterns (p, d, d); edges that fill no block are lost.

    Returns:
        Centred binned patterns, float32, and the position of the middle of their central pixel from the direct beam in
        binned px: 0 for an odd factor, ``(factor - 1) / 2 / factor`` for an even one.
    """
    side = patterns.shape[-1]
    if not 1 <= factor <= side // 2:
        raise InvalidInputError(f"The binning must be from 1 to {side // 2} for a detector of {side} px, not {factor}.")
    if factor == 1:
        return patterns, 0.0
    before = (factor - 1) // 2  # px of the central block that lie before the direct beam
    below = (side // 2 - before) // factor
    above = (side - side // 2 - (factor - before)) // factor
    if factor % 2:
        # Equal numbers of bins on both sides keep the direct beam in the middle of the central one.
        below = above = min(below, above)
    else:
        below = above + 1 if below > above else below
    start = side // 2 - before - below * factor
    count = below + 1 + above
    cut = patterns[..., start : start + count * factor, start : start + count * factor]
    blocks = cut.reshape(*patterns.shape[:-2], count, factor, count, factor)
    middle = (factor - 1) / 2 - before
    return np.asarray(blocks.sum((-3, -1)), dtype=np.float32), middle / factor


def counted(patterns: RealArray, electrons: float, rng: np.random.Generator) -> RealArray:
    """Poisson counts of patterns (fractions of the beam) for ``electrons`` incident electrons each, float32."""
    if not electrons > 0:
        raise InvalidInputError(f"The number of electrons a pattern must be positive, not {electrons}.")
    return np.asarray(rng.poisson(patterns.astype(np.float64) * electrons), dtype=np.float32)
