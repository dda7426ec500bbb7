"""Static scan paths: probe positions that are fixed before the scan, the rivals of every adaptive policy.

Each function returns positions of shape (probes, 2), float64, ``(y, x)`` in px of the region (see :mod:`scan_path`), in
the order in which they are visited, all inside the region.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from adaptive_core.errors import InvalidInputError
from adaptive_core.nearest_pixels import nearest_pixels
from adaptive_core.scan_path import FloatArray, Segment, Size, rasterize

DEFAULT_SPACING_PX = math.sqrt(2.0)
"""Spacing of probe positions at which two of a segment cannot share a pixel (Ede 2021, section 2.1)."""


def _check(size_px: Size, probes: int) -> None:
    if min(size_px) < 1 or probes < 1:
        raise InvalidInputError(f"A path needs a region and at least 1 probe, not {size_px} px and {probes} probes.")


def spiral(size_px: Size, probes: int, spacing_px: float = DEFAULT_SPACING_PX) -> FloatArray:
    """Archimedean spiral of equal arc spacing from the centre to the edge, stretched to a rectangular region.

    With radius ``b * theta`` the arc length is about ``b * theta^2 / 2``, so equal arcs give ``theta = sqrt(2 s / b)``
    and the outermost radius ``R`` after the length ``L`` fixes ``b = R^2 / (2 L)``.
    """
    _check(size_px, probes)
    height, width = size_px
    radius = max(min(height, width) / 2 - 0.5, 0.0)
    arc = spacing_px * np.arange(1, probes + 1)
    b = max(radius**2 / (2 * arc[-1]), 1e-12)
    theta = np.sqrt(2 * arc / b)
    unit = np.stack([np.sin(theta), np.cos(theta)], axis=1) * (b * theta / max(radius, 1e-12))[:, None]
    half = np.array([height / 2 - 0.5, width / 2 - 0.5])
    return np.asarray(np.array([height / 2, width / 2]) + unit * half, dtype=np.float64)


def serpentine(size_px: Size, probes: int, spacing_px: float = DEFAULT_SPACING_PX) -> FloatArray:
    """Serpentine raster of the length ``probes * spacing_px``: as many full lines as that allows, evenly spread."""
    _check(size_px, probes)
    height, width = size_px
    # All lines together measure lines * (width - 1), the way down from line to line a little less than the height.
    lines = max(1, min(height, round((probes * spacing_px - height) / max(width - 1, 1))))
    rows = (np.arange(lines) + 0.5) * height / lines
    ends = np.array([[0.5, width - 0.5], [width - 0.5, 0.5]])
    corners = np.array([(row, x) for i, row in enumerate(rows) for x in ends[i % 2]])
    distance = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    along = np.linspace(0.0, distance[-1], probes)
    return np.stack([np.interp(along, distance, corners[:, axis]) for axis in (0, 1)], axis=1)


def uniform_grid(size_px: Size, probes: int) -> FloatArray:
    """Evenly spaced grid of at most ``probes`` positions, with the region's aspect ratio, visited as a serpentine."""
    _check(size_px, probes)
    height, width = size_px
    rows = min(max(1, round(math.sqrt(probes * height / width))), probes)
    columns = probes // rows
    y = (np.arange(rows) + 0.5) * height / rows
    x = (np.arange(columns) + 0.5) * width / columns
    lines = [np.stack([np.full(columns, row), x if i % 2 == 0 else x[::-1]], axis=1) for i, row in enumerate(y)]
    return np.concatenate(lines)


def halton(size_px: Size, probes: int) -> FloatArray:
    """The first positions of the Halton sequence with the bases 2 and 3, without its first point at the corner."""
    _check(size_px, probes)
    points = qmc.Halton(d=2, scramble=False).random(probes + 1)[1:]
    return np.asarray(points * np.asarray(size_px), dtype=np.float64)


def random_segments(
    size_px: Size, probes: int, seed: int, probes_per_segment: int = 20, spacing_px: float = DEFAULT_SPACING_PX
) -> FloatArray:
    """Straight segments of random place and direction; as many whole ones as needed, the last one cut short."""
    _check(size_px, probes)
    reach = np.asarray(size_px, dtype=np.float64)
    length = spacing_px * (probes_per_segment - 1)
    if length > min(size_px):
        raise InvalidInputError(f"A segment of {length:.1f} px does not fit into a region of {size_px} px.")
    rng = np.random.default_rng(seed)
    runs: list[FloatArray] = []
    while len(runs) * probes_per_segment < probes:
        start, angle = rng.uniform(0, reach), rng.uniform(0, 2 * math.pi)
        end = start + length * np.array([math.sin(angle), math.cos(angle)])
        if np.all((end >= 0) & (end <= reach)):
            runs.append(Segment((start[0], start[1]), (end[0], end[1]), probes_per_segment).positions)
    return np.concatenate(runs)[:probes]


@functools.lru_cache(maxsize=4)
def blue_noise(size_px: Size, probes: int, seed: int = 0, relaxations: int = 5) -> FloatArray:
    """Irregular positions at even distances, visited strip by strip.

    A shifted Halton sequence after a few of Lloyd's relaxations (Lloyd 1982): every position moves to the centre of its
    Voronoi cell. It is as even as a grid but has no period, so that a lattice in the specimen cannot alias. It takes
    half a second for 1024 x 1024 px, so the last few are kept; they are read-only.
    """
    _check(size_px, probes)
    shift = np.random.default_rng(seed).uniform(size=2)
    positions: FloatArray = (qmc.Halton(d=2, scramble=False).random(probes) + shift) % 1 * np.asarray(size_px)
    for _ in range(relaxations):
        cells = np.full(size_px, -1)
        cells[rasterize(positions, size_px)] = np.arange(probes)
        cell = cells[tuple(nearest_pixels(cells >= 0).pixel)].ravel()
        area = np.bincount(cell, minlength=probes)
        # A position that shares its pixel with another one has no cell and stays.
        for axis, centre in enumerate(np.indices(size_px) + 0.5):
            mean = np.bincount(cell, centre.ravel(), probes) / np.maximum(area, 1)
            positions[:, axis] = np.where(area > 0, mean, positions[:, axis])
    ordered: FloatArray = positions[strip_order(positions, size_px)]
    ordered.setflags(write=False)
    return ordered


def strip_order(positions: FloatArray, size_px: Size) -> npt.NDArray[np.intp]:
    """An order, shape (n,), in which scattered positions (n, 2) px are visited on a short way.

    The region is cut into strips that are run through in turn, forth and back; ``sqrt(3 / density)`` is the height at
    which the way through random positions is shortest (Daganzo 1984).
    """
    height, width = size_px
    strips = max(1, round(math.sqrt(len(positions) * height / width / 3)))
    strip = np.minimum((positions[:, 0] * strips / height).astype(np.intp), strips - 1)
    return np.lexsort((np.where(strip % 2 == 0, positions[:, 1], -positions[:, 1]), strip))
