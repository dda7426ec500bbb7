"""Random probe positions to train on: many kinds of path, coverages and stages of completion.

Positions have the shape (n, 2), float64, ``(y, x)`` in px of the region (see :mod:`adaptive_core.scan_path`).
"""

from __future__ import annotations

import collections.abc
import dataclasses
import math

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

from adaptive_core import static_path
from adaptive_core.scan_path import FloatArray, Size

FloatImage = npt.NDArray[np.float32]

PROBES_PER_SEGMENT = 20
PROBE_SPACING_PX = static_path.DEFAULT_SPACING_PX
SEGMENT_PX = PROBES_PER_SEGMENT * PROBE_SPACING_PX
PAPER_COVERAGE = 400 / 96**2  # Ede 2021: 20 segments of 20 probes on 96 x 96 px


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Which paths to train on.

    Attributes:
        odds: relative frequency of each kind of path; the kinds are those of :func:`_of_kind` and STATIC_PATHS.
        paper_coverage: fraction of the scans with the paper's coverage; the others have one between 1/50 and 1/5.
        mixed: fraction of the scans that join two kinds.
        whole: fraction of the scans that are finished; the others stop at any stage.
        turned: whether paths that do not follow the truth are flipped and run backwards at random.
    """

    odds: dict[str, float]
    paper_coverage: float = 0.8
    mixed: float = 0.0
    whole: float = 0.9
    turned: bool = False


STATIC_PATHS: dict[str, collections.abc.Callable[[Size, int], FloatArray]] = {
    "spiral": static_path.spiral,
    "serpentine": static_path.serpentine,
    "uniform-grid": static_path.uniform_grid,
    "halton": static_path.halton,
}
"""Paths without randomness, as they are scanned and as benchmarks know them."""

MIXTURES = {
    "any": Mixture(
        {
            "walk": 0.14,
            "pursuit": 0.10,
            "winding": 0.08,
            "meander": 0.08,
            "grid": 0.18,
            "shifted-halton": 0.14,
            "segments": 0.08,
            "random": 0.04,
            "detail": 0.04,
            "refined": 0.12,
        },
        paper_coverage=0.55,
        mixed=0.12,
        whole=0.75,
        turned=True,
    ),
    **{name: Mixture({name: 1.0}) for name in STATIC_PATHS},
    "random-segments": Mixture({"segments-20": 1.0}),
    "blue-noise": Mixture({"blue-noise": 1.0}),
    "refinement": Mixture({"blue-noise": 1.0}, whole=0.7),
    "recurrent": Mixture({"walk": 0.5, "pursuit": 0.5}),
    "raster": Mixture({"raster": 1.0}, whole=1.0),
}
"""By name: any path, one static path each, what the refinement policy looks at first, paths like those of a policy that
walks, and the full raster."""


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


def _of_kind(kind: str, truth: FloatImage, probes: int, rng: np.random.Generator) -> FloatArray:
    size_px = (truth.shape[0], truth.shape[1])
    size = np.asarray(size_px, dtype=np.float64)
    if kind in STATIC_PATHS:
        return STATIC_PATHS[kind](size_px, probes)
    if kind == "raster":
        return np.moveaxis(np.indices(size_px), 0, -1).reshape(-1, 2).astype(np.float64) + 0.5
    if kind == "walk":
        return random_walk(size_px, probes, rng, turn_sd_rad=10 ** rng.uniform(-1, 0.6))
    if kind == "pursuit":
        path = pursuit(size_px, max(probes // PROBES_PER_SEGMENT, 1), rng, rng.choice([0.1, 0.3, 0.6]))
        return path if rng.random() < 0.5 else path[:, ::-1] * size / size[::-1]
    if kind == "winding":
        return static_path.spiral(size_px, probes, 10 ** rng.uniform(0, 0.3))
    if kind == "meander":
        spacing = PROBE_SPACING_PX * 10 ** rng.uniform(-0.1, 0.4)
        if rng.random() < 0.5:
            return static_path.serpentine(size_px, probes, spacing)
        return static_path.serpentine((size_px[1], size_px[0]), probes, spacing)[:, ::-1]
    if kind == "grid":
        path = static_path.uniform_grid(size_px, probes)
        jitter_px = rng.uniform(0, 2) if rng.random() < 0.4 else 0.0
        return path + rng.normal(0, jitter_px, path.shape)
    if kind == "shifted-halton":
        return (static_path.halton(size_px, probes) + rng.uniform(0, 1, 2) * size) % size
    if kind == "segments":
        longest = min(60, int(0.9 * min(size_px) / PROBE_SPACING_PX))
        return static_path.random_segments(size_px, probes, int(rng.integers(2**31)), int(rng.integers(4, longest)))
    if kind == "segments-20":
        return static_path.random_segments(size_px, probes, int(rng.integers(2**31)))
    if kind == "blue-noise":
        return static_path.blue_noise(size_px, probes, int(rng.integers(2**31)))
    if kind == "random":
        return rng.uniform(0, 1, (probes, 2)) * size
    if kind == "refined":
        return _refined(truth, probes, rng)
    # "detail": a look at everything, then one part closely, as an adaptive policy might do.
    coarse = static_path.uniform_grid(size_px, max(probes // 2, 4))
    centre, spread_px = rng.uniform(0, 1, 2) * size, rng.uniform(0.05, 0.3) * min(size_px)
    return np.concatenate([coarse, np.clip(rng.normal(centre, spread_px, (probes // 2, 2)), 0, size)])


def _refined(truth: FloatImage, probes: int, rng: np.random.Generator) -> FloatArray:
    """An even first look, then the rest of the probes where the truth changes most, as a good policy would go."""
    size_px = (truth.shape[0], truth.shape[1])
    first = max(int(probes * rng.uniform(0.3, 0.7)), 4)
    even = (static_path.uniform_grid if rng.random() < 0.5 else static_path.halton)(size_px, first)
    detail = gaussian_filter(gaussian_gradient_magnitude(truth, 1.0), rng.uniform(1, 4)).astype(np.float64)
    odds = (detail ** rng.uniform(0.5, 2)).ravel() + 1e-9
    chosen = rng.choice(odds.size, size=max(probes - first, 1), replace=False, p=odds / odds.sum())
    return np.concatenate([even, np.stack(np.unravel_index(chosen, size_px), axis=1) + 0.5])


def random_probes(pixels: int, mixture: Mixture, rng: np.random.Generator) -> int:
    """Number of probes of a whole scan."""
    at_paper = rng.random() < mixture.paper_coverage
    coverage = PAPER_COVERAGE if at_paper else math.exp(rng.uniform(math.log(1 / 50), math.log(1 / 5)))
    return max(round(pixels * coverage), 2 * PROBES_PER_SEGMENT)


def random_path(truth: FloatImage, mixture: Mixture, rng: np.random.Generator) -> FloatArray:
    """Positions of a random path of a mixture on a truth (H, W), which only the kind "refined" looks at."""
    kinds, odds = list(mixture.odds), np.fromiter(mixture.odds.values(), np.float64)
    probes = random_probes(truth.size, mixture, rng)
    shares = [probes]
    if rng.random() < mixture.mixed:
        first = int(probes * rng.uniform(0.2, 0.8))
        shares = [first, probes - first]
    chosen = rng.choice(kinds, size=len(shares), p=odds / odds.sum())
    parts = [_of_kind(kind, truth, share, rng) for kind, share in zip(chosen, shares, strict=True)]
    size_px = (truth.shape[0], truth.shape[1])
    if mixture.turned:
        parts = [
            part if kind == "refined" else _turned(part, size_px, rng) for kind, part in zip(chosen, parts, strict=True)
        ]
    path = np.concatenate(parts)
    # A live completion is asked for at every stage of a scan.
    return path if rng.random() < mixture.whole else path[: max(int(len(path) * rng.uniform(0.1, 1)), 2)]
