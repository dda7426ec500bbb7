"""Built-in specimens with known truth, drawn from a seed: atoms as the probe sees them, and amorphous material."""

from __future__ import annotations

import functools
import math
import typing

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.specimens import Specimen

FloatArray = npt.NDArray[np.float64]
ImageArray = npt.NDArray[np.float32]

SIDE_PX = 2048
PROBE_SIGMA_NM = 0.038  # of the core of an aberration-corrected probe, FWHM 0.09 nm
TAIL_SIGMA_NM = 0.16  # of its tails, which hold a quarter of the electrons
TAIL = 0.25
# Scattering grows with a power of the atomic number: nearly Z^2 at high angles, less at medium angles.
EXPONENTS = (1.7, 1.35, 1.2)
Z_REFERENCE = 79.0  # gold


class Atoms(typing.NamedTuple):
    """Columns of atoms: positions (n, 2) in nm from the centre, atomic number (n,), number of atoms in each (n,)."""

    positions_nm: FloatArray
    z: FloatArray
    thickness: FloatArray


class _Canvas:
    """The square on which a specimen is drawn."""

    def __init__(self, side_nm: float) -> None:
        self.pixel_nm = side_nm / SIDE_PX
        self.side_nm = side_nm
        axis = ((np.arange(SIDE_PX) + 0.5) / SIDE_PX - 0.5) * side_nm
        self.y, self.x = axis[:, None], axis[None, :]
        frequency = scipy.fft.fftfreq(SIDE_PX, self.pixel_nm)
        self._k2 = frequency[:, None] ** 2 + frequency[None, : SIDE_PX // 2 + 1] ** 2

    def columns(self, atoms: Atoms, exponent: float) -> FloatArray:
        """Scattering of atoms as the probe sees it, per atom of gold 1 at the peak of the probe's core."""
        density = np.zeros((SIDE_PX + 1, SIDE_PX + 1))
        at = atoms.positions_nm / self.pixel_nm + (SIDE_PX / 2 - 0.5)
        cell = np.floor(at).astype(np.intp)
        inside = ((cell >= 0) & (cell < SIDE_PX)).all(axis=1)
        cell, part = cell[inside], (at - cell)[inside]
        weight = (atoms.thickness * (atoms.z / Z_REFERENCE) ** exponent)[inside]
        for dy in (0, 1):  # shared by the four pixels around it
            for dx in (0, 1):
                share = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
                np.add.at(density, (cell[:, 0] + dy, cell[:, 1] + dx), weight * share)
        core, tail = (np.exp(-2 * math.pi**2 * s**2 * self._k2) for s in (PROBE_SIGMA_NM, TAIL_SIGMA_NM))
        peak = 2 * math.pi * (PROBE_SIGMA_NM / self.pixel_nm) ** 2 / (1 - TAIL)
        transfer = (1 - TAIL) * core + TAIL * tail
        seen: FloatArray = scipy.fft.irfft2(scipy.fft.rfft2(density[:-1, :-1]) * transfer, s=(SIDE_PX, SIDE_PX))
        return peak * seen

    def amorphous(self, rng: np.random.Generator, ring_nm: float = 0.24) -> FloatArray:
        """Fluctuations of an amorphous film, SD 1: white noise with the first diffuse ring and a slow part."""
        k = np.sqrt(self._k2)
        ring = np.exp(-(((k - 1 / ring_nm) / (0.6 / ring_nm)) ** 2)) + 0.9 * np.exp(-((k * 0.55) ** 2))
        ring *= np.exp(-2 * math.pi**2 * PROBE_SIGMA_NM**2 * self._k2)
        return self._noise(rng, ring)

    def smooth(self, rng: np.random.Generator, length_nm: float) -> FloatArray:
        """A slowly varying random field, SD 1, correlated over ``length_nm``."""
        return self._noise(rng, np.exp(-2 * math.pi**2 * (length_nm / 2) ** 2 * self._k2))

    def _noise(self, rng: np.random.Generator, transfer: FloatArray) -> FloatArray:
        field: FloatArray = scipy.fft.irfft2(scipy.fft.rfft2(rng.standard_normal((SIDE_PX, SIDE_PX))) * transfer)
        field -= field.mean()
        field /= field.std()
        return field


def _grid(side_nm: float, a: FloatArray, b: FloatArray, origin: FloatArray) -> FloatArray:
    """Points (n, 2) of a lattice with the vectors ``a`` and ``b`` (y, x) in nm that cover a square and a margin."""
    n = math.ceil(side_nm * 1.6 / min(np.hypot(*a), np.hypot(*b)))
    i, j = np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1), indexing="ij")
    points: FloatArray = origin + i.reshape(-1, 1) * a + j.reshape(-1, 1) * b
    return np.compress(np.abs(points).max(axis=1) < side_nm / 2 + 1.0, points, axis=0)


def _turn(points: FloatArray, angle_rad: float) -> FloatArray:
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    turned: FloatArray = points @ np.array([[cos, -sin], [sin, cos]])
    return turned


def _specimen(name: str, canvas: _Canvas, view_nm: float, scattering: typing.Sequence[FloatArray]) -> Specimen:
    """Fractions from scattering powers, which saturate as multiple scattering does; 20 atoms of gold are about 1."""
    high, medium, low = (np.maximum(s, 0.0) for s in scattering)
    fractions = np.stack(
        [0.30 * (1 - np.exp(-0.9 * high)), 0.38 * (1 - np.exp(-1.4 * medium)), 0.85 * np.exp(-0.9 * low)]
    )
    return Specimen(name, fractions.astype(np.float32), canvas.pixel_nm, view_nm)


def lattice(seed: int) -> Specimen:
    """A monolayer of MoSe2 with tungsten in place of some molybdenum, selenium vacancies, and a small hole."""
    rng, canvas = np.random.default_rng([seed, 0]), _Canvas(25.6)
    a = 0.3289
    v1, v2 = _turn(np.array([[0.0, a], [a * math.sqrt(3) / 2, a / 2]]), math.radians(7.0))
    metal = _grid(canvas.side_nm, v1, v2, np.zeros(2))
    selenium = _grid(canvas.side_nm, v1, v2, (v1 + v2) / 3)
    solute = rng.random(len(metal)) < 0.09
    pairs = 2.0 - (rng.random(len(selenium)) < 0.05) - (rng.random(len(selenium)) < 0.01)
    positions = np.concatenate([metal, selenium])
    z = np.concatenate([np.where(solute, 74.0, 42.0), np.full(len(selenium), 34.0)])
    thickness = np.concatenate([(rng.random(len(metal)) > 0.006).astype(float), pairs])
    hole = np.array([1.6, -2.1])
    offset = positions - hole
    angle = np.arctan2(offset[:, 0], offset[:, 1])
    radius = 0.75 + 0.12 * np.cos(3 * angle + 0.4)
    keep = np.hypot(offset[:, 0], offset[:, 1]) > radius
    positions = positions + rng.normal(0.0, 0.006, positions.shape)
    atoms = Atoms(positions[keep], z[keep], thickness[keep])
    dirt = np.clip(canvas.smooth(rng, 3.0) - 1.2, 0.0, None) * (0.06 + 0.02 * canvas.amorphous(rng))
    return _specimen(
        "lattice",
        canvas,
        8.0,
        [0.30 * canvas.columns(atoms, e) + k * (0.01 + dirt) for e, k in zip(EXPONENTS, (1, 2.5, 3), strict=True)],
    )


_FCC_110 = np.array([[0.0, 0.2884], [0.2039, 0.1442]])  # gold along [110]: rows {111} run along the second vector
_FCC_100 = np.array([[0.2039, 0.0], [0.0, 0.2039]])
_FRINGES = np.array([[0.2355, 0.0], [0.0, 0.06]])  # one set of planes {111} seen edge on
_OFF_AXIS = np.array([[0.071, 0.0], [0.033, 0.067]])  # no columns to be seen


def _particle(rng: np.random.Generator, radius: float) -> tuple[FloatArray, FloatArray]:
    """Columns of a faceted gold particle in a random orientation: positions (n, 2) nm, atoms in each (n,)."""
    kind = rng.choice(5, p=[0.25, 0.2, 0.2, 0.2, 0.15])
    basis = (_FCC_110, _FCC_110, _FCC_100, _FRINGES, _OFF_AXIS)[kind]
    columns = _grid(2.2 * radius, basis[0], basis[1], rng.uniform(-0.1, 0.1, 2))
    if kind == 1:  # a twin: the lattice beyond the row of columns through the centre is its mirror image
        along = basis[1] / np.hypot(*basis[1])
        across = np.array([along[1], -along[0]])
        columns = columns[columns @ across >= -1e-6]
        columns = np.concatenate([columns, columns - 2 * (columns @ across)[:, None] * across])
    angles = np.arange(6) * math.pi / 3 + rng.uniform(0, math.pi) + rng.normal(0.0, 0.12, 6)
    facets = np.stack([np.sin(angles), np.cos(angles)]) / rng.uniform(0.78, 1.02, 6)
    round_part = rng.uniform(0.2, 0.6)
    distance = (1 - round_part) * (columns @ facets).max(axis=1) + round_part * np.hypot(columns[:, 0], columns[:, 1])
    inside = distance < radius
    area = abs(float(np.linalg.det(basis)))
    depth = 2 * radius * rng.uniform(0.6, 0.9) * np.sqrt(1 - (distance[inside] / radius) ** 2)
    atoms = depth * area / 0.01696  # a gold atom takes 0.01696 nm^3
    if kind < 3:
        atoms = np.maximum(np.round(atoms), 1.0)
    turned = _turn(columns[inside], rng.uniform(0, 2 * math.pi))
    return turned + rng.normal(0.0, 0.007, turned.shape), atoms


def nanoparticles(seed: int) -> Specimen:
    """Gold nanoparticles of many sizes and orientations, and single atoms, on an amorphous carbon film."""
    rng, canvas = np.random.default_rng([seed, 1]), _Canvas(51.2)
    film = 0.075 * (1 + 0.13 * canvas.smooth(rng, 9.0) + 0.08 * canvas.amorphous(rng))
    placed: list[tuple[float, float, float]] = []
    columns, atoms = [rng.uniform(-25.6, 25.6, (350, 2))], [np.ones(350)]
    for _ in range(900):
        radius = float(np.clip(rng.lognormal(math.log(1.35), 0.55), 0.4, 4.6))
        y, x = rng.uniform(-25.6, 25.6, 2)
        if len(placed) < 75 and all(math.hypot(y - py, x - px) > 0.92 * (radius + r) for py, px, r in placed):
            placed.append((y, x, radius))
            at, number = _particle(rng, radius)
            columns.append(at + np.array([y, x]))
            atoms.append(number)
    positions = np.concatenate(columns)
    gold = Atoms(positions, np.full(len(positions), 79.0), np.concatenate(atoms))
    scattering = [0.05 * canvas.columns(gold, e) + k * film for e, k in zip(EXPONENTS, (1, 2.5, 3.5), strict=True)]
    return _specimen("nanoparticles", canvas, 20.0, scattering)


def grain_boundary(seed: int) -> Specimen:
    """Two crystals of strontium titanate [001] that meet at a tilt boundary of 26 degrees."""
    rng, canvas = np.random.default_rng([seed, 2]), _Canvas(25.6)
    a = 0.3905
    parts = []
    for side, degrees in ((-1, -13.0), (1, 13.0)):
        v1, v2 = _turn(np.array([[a, 0.0], [0.0, a]]), math.radians(degrees))
        for origin, z in ((np.zeros(2), 38.0), ((v1 + v2) / 2, 24.0), (v1 / 2, 8.0), (v2 / 2, 8.0)):
            points = _grid(canvas.side_nm, v1, v2, origin + side * np.array([0.02, 0.06]))
            x = points[:, 1] - 0.25 * np.sin(2 * math.pi * points[:, 0] / 9.0)
            parts.append(
                np.concatenate([points[side * x > 0.06], np.full((int((side * x > 0.06).sum()), 1), z)], axis=1)
            )
    columns = np.concatenate(parts)
    near = np.exp(-((columns[:, 1] / 0.35) ** 2))
    thickness = (1 + 0.04 * rng.standard_normal(len(columns))) * (1 - 0.35 * near * rng.random(len(columns)))
    at = columns[:, :2] + rng.normal(0.0, 1.0, (len(columns), 2)) * (0.004 + 0.03 * near)[:, None]
    atoms = Atoms(at, columns[:, 2], 16 * thickness)
    wedge = np.clip(1.0 + 0.10 * canvas.smooth(rng, 8.0), 0.5, 1.5)
    film = 0.03 + 0.006 * canvas.amorphous(rng)
    return _specimen(
        "grain-boundary",
        canvas,
        10.0,
        [0.085 * wedge * canvas.columns(atoms, e) + k * film for e, k in zip(EXPONENTS, (1, 2.0, 3.0), strict=True)],
    )


def edge(seed: int) -> Specimen:
    """The edge of a crystal of silicon [110], a wedge under an amorphous layer, beside vacuum."""
    rng, canvas = np.random.default_rng([seed, 3]), _Canvas(32.0)
    a = 0.5431
    v1, v2 = _turn(np.array([[0.0, a / math.sqrt(2)], [a / 2, a / math.sqrt(2) / 2]]), math.radians(-4.0))
    normal_y, normal_x = 0.26, 0.966
    rough = canvas.smooth(rng, 2.5)[:, SIDE_PX // 2]

    def depth(y: FloatArray, x: FloatArray) -> FloatArray:
        """Distance into the crystal from its rough edge (nm); negative in the vacuum."""
        bump = np.interp(normal_x * y - normal_y * x, canvas.y[:, 0], rough)
        return 0.30 * bump - (normal_y * y + normal_x * x)

    dumbbells = np.concatenate([_grid(canvas.side_nm, v1, v2, o) for o in (np.zeros(2), np.array([a / 4, 0.0]))])
    inside = depth(dumbbells[:, 0], dumbbells[:, 1])
    keep = inside > 0
    at = dumbbells[keep] + rng.normal(0.0, 0.006, (int(keep.sum()), 2))
    thickness = 6 + 3.2 * inside[keep]
    atoms = Atoms(at, np.full(len(at), 14.0), thickness)
    into = depth(np.broadcast_to(canvas.y, (SIDE_PX, SIDE_PX)), np.broadcast_to(canvas.x, (SIDE_PX, SIDE_PX)))
    layer = 1 / (1 + np.exp(-(into + 1.3 + 0.15 * canvas.smooth(rng, 1.2)) / 0.18))
    film = layer * (0.035 + 0.004 * canvas.amorphous(rng)) + 0.0035 * np.clip(into, 0.0, None)
    return _specimen(
        "edge",
        canvas,
        12.0,
        [0.10 * canvas.columns(atoms, e) + k * film for e, k in zip(EXPONENTS, (1, 2.2, 3.0), strict=True)],
    )


def amorphous(seed: int) -> Specimen:
    """An amorphous carbon film of uneven thickness with a few holes and single heavy atoms."""
    rng, canvas = np.random.default_rng([seed, 4]), _Canvas(25.6)
    thickness = np.clip(1.0 + 0.28 * canvas.smooth(rng, 5.0), 0.15, None)
    holes = 1 / (1 + np.exp((canvas.smooth(rng, 3.0) - 1.75) / 0.05))
    film = thickness * holes * (0.10 + 0.022 * canvas.amorphous(rng))
    at = rng.uniform(-12.8, 12.8, (900, 2))
    pixel = np.clip((at / canvas.pixel_nm + SIDE_PX / 2).astype(np.intp), 0, SIDE_PX - 1)
    at = at[holes[pixel[:, 0], pixel[:, 1]] > 0.5]
    atoms = Atoms(at, np.full(len(at), 78.0), np.ones(len(at)))
    return _specimen(
        "amorphous",
        canvas,
        10.0,
        [0.20 * canvas.columns(atoms, e) + k * film for e, k in zip(EXPONENTS, (1, 2.5, 3.5), strict=True)],
    )


_BUILDERS: dict[str, typing.Callable[[int], Specimen]] = {
    "nanoparticles": nanoparticles,
    "lattice": lattice,
    "grain-boundary": grain_boundary,
    "edge": edge,
    "amorphous": amorphous,
}

BUILTIN_NAMES = tuple(_BUILDERS)
"""Names of the built-in specimens; the first one is the default."""


@functools.lru_cache(maxsize=2)
def builtin_specimen(name: str, seed: int = 1) -> Specimen:
    """The built-in specimen of this name, the same for the same seed. Raises InvalidInputError for another name."""
    if name not in _BUILDERS:
        raise InvalidInputError(f"There is no built-in specimen '{name}'; the names are {', '.join(BUILTIN_NAMES)}.")
    return _BUILDERS[name](seed)
