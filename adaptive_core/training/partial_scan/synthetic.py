"""Procedural images for training: crystals with defects and boundaries, particles, rough films, edges.

They widen what the real images show (lattices of any spacing and angle, empty regions beside structure); a physical
simulation of a specimen is not their purpose.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]


def _coordinates(size_px: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    y, x = np.mgrid[:size_px, :size_px] + 0.5
    return y, x


def soft_edge(size_px: int, rng: np.random.Generator) -> FloatImage:
    """A straight edge of random place, direction and width: 0 on one side, 1 on the other."""
    y, x = _coordinates(size_px)
    angle = rng.uniform(0, 2 * np.pi)
    distance = (y - size_px / 2) * np.cos(angle) + (x - size_px / 2) * np.sin(angle) - rng.uniform(-0.4, 0.4) * size_px
    return np.asarray(1 / (1 + np.exp(np.clip(-distance / rng.uniform(0.7, 10), -40, 40))), dtype=np.float32)


def rough_film(size_px: int, rng: np.random.Generator) -> FloatImage:
    """Noise with a power-law spectrum, zero mean and unit standard deviation."""
    frequency = np.hypot(np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None])
    frequency[0, 0] = 1 / size_px
    spectrum = np.fft.rfft2(rng.normal(size=(size_px, size_px))) * frequency ** -rng.uniform(0.8, 2.5)
    film = np.fft.irfft2(spectrum, s=(size_px, size_px))
    return np.asarray((film - film.mean()) / film.std(), dtype=np.float32)


def lattice(size_px: int, rng: np.random.Generator) -> FloatImage:
    """Atom columns on a random two-dimensional lattice with one to three columns a cell, displacements and defects."""
    length = rng.uniform(5, 24)
    ratio, corner = rng.uniform(0.75, 1.4), rng.choice([np.pi / 2, np.pi / 3, rng.uniform(1.0, 2.1)])
    angle = rng.uniform(0, np.pi)
    a = length * np.array([np.cos(angle), np.sin(angle)])
    b = length * ratio * np.array([np.cos(angle + corner), np.sin(angle + corner)])
    cells = int(1.5 * size_px / (min(length, length * ratio) * np.sin(corner))) + 2
    i, j = (grid.ravel() for grid in np.mgrid[-cells : cells + 1, -cells : cells + 1])
    origins = i[:, None] * a + j[:, None] * b + size_px / 2 + rng.uniform(0, length, 2)
    image = np.zeros((size_px, size_px), dtype=np.float32)
    pixel = np.arange(size_px) + 0.5
    for column in range(int(rng.integers(1, 4))):
        places = origins + (0 if column == 0 else rng.uniform(0.2, 0.7) * a + rng.uniform(0.2, 0.7) * b)
        places = places[np.all((places > -8) & (places < size_px + 8), axis=1)]
        places = places + rng.normal(0, rng.uniform(0, 0.04) * length, places.shape)
        sigma = length * rng.uniform(0.1, 0.25)
        heights = np.full(len(places), 1.0 if column == 0 else rng.uniform(0.1, 0.9))
        heights *= np.where(rng.random(len(places)) < rng.choice([0, 0.03, 0.1]), rng.uniform(0, 2), 1.0)
        rows = np.exp(-0.5 * ((pixel - places[:, :1]) / sigma) ** 2)
        columns = np.exp(-0.5 * ((pixel - places[:, 1:]) / sigma) ** 2)
        image += ((rows * heights[:, None]).T @ columns).astype(np.float32)
    return image


def particles(size_px: int, rng: np.random.Generator) -> FloatImage:
    """Spheres, disks and facetted particles on a faint rough support."""
    y, x = _coordinates(size_px)
    image = rough_film(size_px, rng) * rng.uniform(0, 0.25)
    scale = size_px / 96
    for _ in range(int(rng.integers(1, 10))):
        centre, radius, turn = rng.uniform(0, size_px, 2), rng.uniform(3, 32) * scale, rng.uniform(0, np.pi)
        dy, dx = y - centre[0], x - centre[1]
        u, v = dy * np.cos(turn) + dx * np.sin(turn), (dx * np.cos(turn) - dy * np.sin(turn)) * rng.uniform(0.6, 1.6)
        kind, softness = rng.integers(3), rng.uniform(0.7, 3)
        reach = np.maximum(np.abs(u), np.abs(v)) if kind == 2 else np.hypot(u, v)
        if kind == 0:
            shape = np.sqrt(np.clip(1 - (reach / radius) ** 2, 0, None))
        else:
            shape = 1 / (1 + np.exp(np.clip((reach - radius) / softness, -40, 40)))
        if rng.random() < 0.25:
            shape = shape * (0.5 + 0.5 * lattice(size_px, rng))
        image = image + (rng.uniform(0.3, 2) * rng.choice([1, 1, -0.5]) * shape).astype(np.float32)
    return image.astype(np.float32)


def crystal(size_px: int, rng: np.random.Generator) -> FloatImage:
    """A lattice alone, ending at an edge, meeting another lattice at a boundary, or on an uneven background."""
    image = lattice(size_px, rng)
    kind = rng.integers(4)
    if kind == 1:
        image = image * soft_edge(size_px, rng)
    elif kind == 2:
        side = soft_edge(size_px, rng)
        image = image * side + rng.uniform(0.4, 1.2) * lattice(size_px, rng) * (1 - side)
    elif kind == 3:
        image = image * rng.uniform(0.4, 1) + rng.uniform(0.05, 0.5) * rough_film(size_px, rng)
    return image.astype(np.float32)


def synthetic_image(size_px: int, rng: np.random.Generator) -> FloatImage:
    """One random image, float32 (size_px, size_px), arbitrary units."""
    choice = rng.random()
    if choice < 0.55:
        return crystal(size_px, rng)
    if choice < 0.8:
        return particles(size_px, rng)
    if choice < 0.92:
        return rough_film(size_px, rng)
    return soft_edge(size_px, rng) + rng.uniform(0, 0.4) * rough_film(size_px, rng)
