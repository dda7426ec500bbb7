"""Random probe positions to train on: many kinds of path, coverages and stages of completion.

Positions have the shape (n, 2), float64, ``(y, x)`` in px of the region (see :mod:`adaptive_core.scan_path`).
"""

from __future__ import annotations

import math

import numpy as np

from adaptive_core import static_path
from adaptive_core.scan_path import FloatArray, Size

PROBES_PER_SEGMENT = 20
PROBE_SPACING_PX = static_path.DEFAULT_SPACING_PX
SEGMENT_PX = PROBES_PER_SEGMENT * PROBE_SPACING_PX
PAPER_COVERAGE = 400 / 96**2  # Ede 2021: 20 segments of 20 probes on 96 x 96 px

_KINDS = {
    "walk": 0.22,
    "pursuit": 0.16,
    "spiral": 0.09,
    "serpentine": 0.10,
    "grid": 0.13,
    "halton": 0.09,
    "segments": 0.10,
    "random": 0.05,
    "detail": 0.06,
}


def reflect(start: FloatArray, direction: FloatArray, size_px: Size) -> FloatArray:
    """Flip the sign of each component of unit directions that would leave the region within one segment.

    ``start`` and ``direction`` have the shape (..., 2). It is the rule of the scan loop.
    """
    end = start + direction * SEGMENT_PX
    leaves = (end < 0) | (end > np.asarray(size_px, dtype=np.float64))
    return np.where(leaves, -direction, direction)


def walk(size_px: Size, directions: FloatArray) -> FloatArray:
    """Connected segments from the centre in the given directions, shape (n, 2) of any length; edges reflect them."""
    offsets = np.arange(1, PROBES_PER_SEGMENT + 1)[:, None] * PROBE_SPACING_PX
    position = np.asarray(size_px, dtype=np.float64) / 2
    parts: list[FloatArray] = []
    for direction in directions / np.hypot(directions[:, :1], directions[:, 1:]):
        parts.append(position + offsets * reflect(position, direction, size_px))
        position = parts[-1][-1]
    return np.concatenate(parts)


def random_walk(size_px: Size, probes: int, rng: np.random.Generator, turn_sd_rad: float) -> FloatArray:
    """Connected segments from the centre; each turns by a normal angle with SD ``turn_sd_rad``, edges reflect."""
    offsets = np.arange(1, PROBES_PER_SEGMENT + 1)[:, None] * PROBE_SPACING_PX
    position, angle = np.asarray(size_px, dtype=np.float64) / 2, rng.uniform(0, 2 * np.pi)
    parts: list[FloatArray] = []
    for _ in range(-(-probes // PROBES_PER_SEGMENT)):
        direction = reflect(position, np.array([np.sin(angle), np.cos(angle)]), size_px)
        parts.append(position + offsets * direction)
        position = parts[-1][-1]
        angle = math.atan2(direction[0], direction[1]) + rng.normal(0, turn_sd_rad)
    return np.concatenate(parts)[:probes]


def square_spiral(size_px: Size, length_px: float, step_px: float = 0.5) -> FloatArray:
    """A curve from the centre outwards in rectangles of even pitch that fills the region, as dense points (n, 2).

    The pitch is the one for which the curve is ``length_px`` long and ends half a pitch from the edges.
    """
    half = np.asarray(size_px, dtype=np.float64) / 2
    low, high = 1e-3, 2.0
    for _ in range(20):
        # The pitch is relative to half the region; a turn goes once around the unit square's perimeter of 8.
        pitch = (low + high) / 2
        turns = np.linspace(0, max(1 - pitch / 2, 1e-3) / pitch, 1000)
        around = 8 * turns + 5
        unit = np.stack([_square_wave(around), _square_wave(around + 2)], axis=1)
        curve = half + half * (pitch * turns)[:, None] * unit
        distance = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
        low, high = (pitch, high) if distance[-1] > length_px else (low, pitch)
    along = np.arange(0, distance[-1], step_px)
    return np.stack([np.interp(along, distance, curve[:, axis]) for axis in (0, 1)], axis=1)


def _square_wave(around: FloatArray) -> FloatArray:
    """One coordinate on the perimeter of the square [-1, 1]^2 at the distance ``around`` along it."""
    return np.asarray(np.clip(np.abs((around + 3) % 8 - 4) - 2, -1, 1), dtype=np.float64)


def pursue(curve: FloatArray, position: FloatArray, index: int) -> tuple[FloatArray, int]:
    """Unit direction from ``position`` to where ``curve`` first is a segment away, beyond its point ``index``.

    Returns the direction and the index of that point; at the end of the curve its last point is aimed at.
    """
    ahead = curve[index:] - position
    far = np.flatnonzero(np.hypot(ahead[:, 0], ahead[:, 1]) >= SEGMENT_PX)
    aim = ahead[far[0]] if len(far) else ahead[-1]
    norm = float(np.hypot(*aim))
    direction = aim / norm if norm > 1e-9 else np.array([0.0, 1.0])
    return direction, index + int(far[0]) if len(far) else len(curve) - 1


def pursuit(size_px: Size, segments: int, rng: np.random.Generator, turn_sd_rad: float) -> FloatArray:
    """Connected segments from the centre along a square spiral, each turned by a normal angle, edges reflect."""
    offsets = np.arange(1, PROBES_PER_SEGMENT + 1)[:, None] * PROBE_SPACING_PX
    curve = square_spiral(size_px, rng.uniform(1.05, 1.2) * segments * SEGMENT_PX)
    position, index = np.asarray(size_px, dtype=np.float64) / 2, 0
    parts: list[FloatArray] = []
    for _ in range(segments):
        direction, index = pursue(curve, position, index)
        turn = rng.normal(0, turn_sd_rad)
        turned = direction * math.cos(turn) + direction[::-1] * np.array([1, -1]) * math.sin(turn)
        parts.append(position + offsets * reflect(position, turned, size_px))
        position = parts[-1][-1]
    return np.concatenate(parts)


def _turned(path: FloatArray, size_px: Size, rng: np.random.Generator) -> FloatArray:
    """The path flipped at random, and run backwards at random."""
    flips = rng.random(2) < 0.5
    path = np.where(flips, np.asarray(size_px) - path, path)
    return path[::-1] if rng.random() < 0.5 else path


def _of_kind(kind: str, size_px: Size, probes: int, rng: np.random.Generator) -> FloatArray:
    size = np.asarray(size_px, dtype=np.float64)
    if kind == "walk":
        return random_walk(size_px, probes, rng, turn_sd_rad=10 ** rng.uniform(-1, 0.6))
    if kind == "pursuit":
        path = pursuit(size_px, max(probes // PROBES_PER_SEGMENT, 1), rng, rng.choice([0.1, 0.3, 0.6]))
        return path if rng.random() < 0.5 else path[:, ::-1] * size / size[::-1]
    if kind == "spiral":
        return static_path.spiral(size_px, probes, 10 ** rng.uniform(0, 0.3))
    if kind == "serpentine":
        spacing = PROBE_SPACING_PX * 10 ** rng.uniform(-0.1, 0.4)
        if rng.random() < 0.5:
            return static_path.serpentine(size_px, probes, spacing)
        return static_path.serpentine((size_px[1], size_px[0]), probes, spacing)[:, ::-1]
    if kind == "grid":
        path = static_path.uniform_grid(size_px, probes)
        jitter_px = rng.uniform(0, 2) if rng.random() < 0.4 else 0.0
        return path + rng.normal(0, jitter_px, path.shape)
    if kind == "halton":
        return (static_path.halton(size_px, probes) + rng.uniform(0, 1, 2) * size) % size
    if kind == "segments":
        longest = min(60, int(0.9 * min(size_px) / PROBE_SPACING_PX))
        return static_path.random_segments(size_px, probes, int(rng.integers(2**31)), int(rng.integers(4, longest)))
    if kind == "random":
        return rng.uniform(0, 1, (probes, 2)) * size
    # "detail": a look at everything, then one part closely, as an adaptive policy might do.
    coarse = static_path.uniform_grid(size_px, max(probes // 2, 4))
    centre, spread_px = rng.uniform(0, 1, 2) * size, rng.uniform(0.05, 0.3) * min(size_px)
    return np.concatenate([coarse, np.clip(rng.normal(centre, spread_px, (probes // 2, 2)), 0, size)])


def random_path(size_px: Size, rng: np.random.Generator) -> FloatArray:
    """Positions of a random path: a kind or a mixture of two, a coverage between 1/50 and 1/5, finished or not."""
    coverage = PAPER_COVERAGE if rng.random() < 0.4 else math.exp(rng.uniform(math.log(1 / 50), math.log(1 / 5)))
    probes = max(int(size_px[0] * size_px[1] * coverage), 2 * PROBES_PER_SEGMENT)
    shares = [probes]
    if rng.random() < 0.15:
        first = int(probes * rng.uniform(0.2, 0.8))
        shares = [first, probes - first]
    kinds = rng.choice(list(_KINDS), size=len(shares), p=list(_KINDS.values()))
    parts = [_of_kind(kind, size_px, share, rng) for kind, share in zip(kinds, shares, strict=True)]
    path = np.concatenate([_turned(part, size_px, rng) for part in parts])
    # A live completion is asked for at every stage of a scan.
    return path if rng.random() < 0.7 else path[: max(int(len(path) * rng.uniform(0.1, 1)), 2)]
