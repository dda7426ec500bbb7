"""Probe positions that are fixed before a scan, in A from the region's top left corner, shape (n, 2), ``(y, x)``."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from adaptive_core import static_path
from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.simulation.ptychography_probe import FloatArray

Region = tuple[float, float]


def sparse_grid(count: int, fov_A: Region) -> FloatArray:
    """Exactly ``count`` positions in evenly spaced rows that differ by one position at most (the papers' baseline)."""
    _check(count, fov_A)
    rows = min(count, max(1, round(math.sqrt(count * fov_A[0] / fov_A[1]))))
    ends = np.round(np.linspace(0, count, rows + 1)).astype(int)
    lines = []
    for row, in_row in enumerate(np.diff(ends)):
        x = (np.arange(in_row) + 0.5) / in_row
        lines.append(np.stack([np.full(in_row, (row + 0.5) / rows), x], axis=1))
    return np.asarray(np.concatenate(lines) * np.asarray(fov_A))


def halton(count: int, fov_A: Region) -> FloatArray:
    """The Halton sequence with the bases 2 and 3 (baseline and first sub-sequence of the 2022 paper)."""
    _check(count, fov_A)
    return np.asarray(static_path.halton((1, 1), count) * np.asarray(fov_A))


def random(count: int, fov_A: Region, rng: np.random.Generator) -> FloatArray:
    """Independent uniform positions."""
    _check(count, fov_A)
    return np.asarray(rng.random((count, 2)) * np.asarray(fov_A))


def raster(rows: int, columns: int, fov_A: Region) -> FloatArray:
    """Every position of a conventional scan, row by row."""
    _check(rows * columns, fov_A)
    y, x = ((np.arange(n) + 0.5) / n * length for n, length in zip((rows, columns), fov_A, strict=True))
    return np.stack([axis.ravel() for axis in np.meshgrid(y, x, indexing="ij")], axis=1)


def found_atoms(image: Reconstruction, count: int, threshold: float = 0.35, pixel_A: float = 0.2) -> FloatArray:
    """Up to ``count`` positions on the atoms of a reconstruction, the strongest first (second pass of a two-pass scan).

    Atoms are local maxima of the phase, smoothed by 0.3 A, within 0.7 A, that rise above the background (its 20 %
    quantile) by ``threshold`` of the tallest; each is refined to the centre of mass around it. Where there are fewer
    atoms than positions, each atom gets several, spread over a small ring.
    """
    phase = ndimage.gaussian_filter(image.phase(pixel_A).astype(np.float64), 0.3 / pixel_A)
    phase -= np.quantile(phase, 0.2)
    reach = max(1, round(0.7 / pixel_A))
    peaks = (phase == ndimage.maximum_filter(phase, 2 * reach + 1)) & (phase > threshold * phase.max())
    rows, columns = np.nonzero(peaks)
    if len(rows) == 0:
        raise InvalidInputError("No atoms were found: the phase of the first pass is flat.")
    order = np.argsort(-phase[rows, columns])
    padded = np.pad(np.maximum(phase, 0), reach)
    offsets = np.arange(-reach, reach + 1)
    centres = []
    for row, column in zip(rows[order], columns[order], strict=True):
        patch = padded[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        total = patch.sum()
        centres.append((row + (patch.sum(1) @ offsets) / total, column + (patch.sum(0) @ offsets) / total))
    step = np.asarray(image.fov_A) / np.asarray(phase.shape)
    atoms = (np.asarray(centres) + 0.5) * step
    repeats = math.ceil(count / len(atoms))
    angle = 2 * np.pi * np.arange(repeats) / repeats
    ring = 0.3 * np.stack([np.sin(angle), np.cos(angle)], axis=1) if repeats > 1 else np.zeros((1, 2))
    spread = (atoms[None, :, :] + ring[:, None, :]).reshape(-1, 2)[:count]
    return np.asarray(np.clip(spread, 0, image.fov_A))


def _check(count: int, fov_A: Region) -> None:
    if count < 1 or not min(fov_A) > 0:
        raise InvalidInputError(f"Positions need a count of 1 or more and a region, not {count} in {fov_A} A.")
