"""Atomic models of the specimens of the papers and their projected potential.

Monolayer MoS2 with sulphur vacancies, and the double-walled carbon nanotube (10,4)@(21,0) (Schloz et al. 2023,
Settings). Coordinates are ``(z, y, x)`` in A, in a square periodic cell; the beam runs along z.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import math

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.ptychography_probe import FloatArray

RealArray = npt.NDArray[np.float32]

# Electron scattering factors f(q) = sum a / (q^2 + b) + sum c exp(-d q^2), q in 1/A, f in A (E. J. Kirkland, Advanced
# Computing in Electron Microscopy, 2nd edition, appendix C): rows a, b, c, d.
KIRKLAND: collections.abc.Mapping[str, tuple[tuple[float, ...], ...]] = {
    "C": (
        (0.212080767, 0.199811865, 0.168254385),
        (0.208605417, 0.208610186, 5.57870773),
        (0.14204836, 0.363830672, 0.000835012),
        (1.33311887, 3.80800263, 0.040398262),
    ),
    "S": (
        (1.01646916, 0.441766748, 0.121503863),
        (1.69181965, 0.174180288, 167.011091),
        (0.82796667, 0.0233022533, 1.18302846),
        (2.3034281, 0.15695415, 5.85782891),
    ),
    "Mo": (
        (0.61016012, 1.26544, 1.97428762),
        (0.0911628054, 0.506776025, 5.89590381),
        (0.648028962, 0.0026038082, 0.113887493),
        (1.46634108, 0.0078433631, 0.15511434),
    ),
}
POTENTIAL_V_A2 = 47.87801
"""h^2 / (2 pi m e) in V A^2: turns a scattering factor in A into a projected potential."""

MOS2_LATTICE_A = 3.18
MOS2_THICKNESS_A = 3.13
CARBON_BOND_A = 1.42
DWCNT_TUBES = ((10, 4), (21, 0))


@dataclasses.dataclass(frozen=True, eq=False)
class Atoms:
    """Atoms in a square periodic cell.

    Attributes:
        elements: chemical symbol of each atom, shape (n,).
        positions_A: shape (n, 3), float64, ``(z, y, x)``.
        cell_A: side of the cell in y and x.
    """

    elements: npt.NDArray[np.str_]
    positions_A: FloatArray
    cell_A: float


def mos2(seed: int, cell_A: float = 30.8, vacancies: float = 0.02, rotation_rad: float | None = None) -> Atoms:
    """Monolayer 2H-MoS2, rotated and shifted at random, a fraction ``vacancies`` of the sulphur atoms missing."""
    if not 0 <= vacancies <= 1:
        raise InvalidInputError(f"The fraction of vacancies must be from 0 to 1, not {vacancies}.")
    rng = np.random.default_rng(seed)
    a = MOS2_LATTICE_A
    cells = int(cell_A / a) + 3
    i, j = (index.ravel() for index in np.meshgrid(*(np.arange(-cells, cells + 1),) * 2, indexing="ij"))
    lattice = np.stack([i * a - j * a / 2, j * a * math.sqrt(3) / 2], axis=1)
    sulphur = lattice + np.array([0.0, a / math.sqrt(3)])
    plane = np.concatenate([lattice, sulphur, sulphur])
    half = MOS2_THICKNESS_A / 2
    z = np.repeat([0.0, half, -half], len(lattice))
    elements = np.repeat(["Mo", "S", "S"], len(lattice))
    angle = rng.uniform(0, 2 * np.pi) if rotation_rad is None else rotation_rad
    plane = plane @ _rotation(angle) + rng.uniform(-a / 2, a / 2, 2) + cell_A / 2
    kept = _in_cell(plane, cell_A) & ((elements == "Mo") | (rng.random(len(z)) >= vacancies))
    return Atoms(elements[kept], np.column_stack([z, plane])[kept], cell_A)


def nanotube(n: int, m: int, length_A: float) -> FloatArray:
    """Atoms of an (n, m) nanotube along y, centred, shape (atoms, 3), ``(z, y, x)`` in A: a rolled graphene sheet."""
    if not (n >= m >= 0 and n > 0):
        raise InvalidInputError(f"A nanotube (n, m) needs n >= m >= 0 and n > 0, not ({n}, {m}).")
    a = CARBON_BOND_A * math.sqrt(3)
    basis = a * np.array([[math.sqrt(3) / 2, 0.5], [math.sqrt(3) / 2, -0.5]])
    chiral = n * basis[0] + m * basis[1]
    circumference = float(np.hypot(*chiral))
    reach = int((circumference + length_A) / a) + 4
    i, j = (index.ravel() for index in np.meshgrid(*(np.arange(-reach, reach + 1),) * 2, indexing="ij"))
    sheet = i[:, None] * basis[0] + j[:, None] * basis[1]
    sheet = np.concatenate([sheet, sheet + (basis[0] + basis[1]) / 3])
    along = sheet @ chiral / circumference
    axial = sheet @ np.array([-chiral[1], chiral[0]]) / circumference
    tiny = 1e-6
    kept = (along > -tiny) & (along < circumference - tiny) & (np.abs(axial) <= length_A / 2)
    angle, radius = 2 * np.pi * along[kept] / circumference, circumference / (2 * np.pi)
    return np.column_stack([radius * np.sin(angle), axial[kept], radius * np.cos(angle)])


def dwcnt(seed: int, cell_A: float = 28.0) -> Atoms:
    """The double-walled nanotube along y; the tubes turned against each other and the whole shifted at random."""
    rng = np.random.default_rng(seed)
    tubes = []
    for n, m in DWCNT_TUBES:
        tube = nanotube(n, m, cell_A + 12)
        tube[:, [0, 2]] = tube[:, [0, 2]] @ _rotation(rng.uniform(0, 2 * np.pi))
        tubes.append(tube)
    positions = np.concatenate(tubes)
    positions[:, 1:] += rng.uniform((-2, -1), (2, 1)) + cell_A / 2
    positions = positions[_in_cell(positions[:, 1:], cell_A)]
    return Atoms(np.full(len(positions), "C"), positions, cell_A)


BUILDERS: collections.abc.Mapping[str, collections.abc.Callable[..., Atoms]] = {
    "mos2": mos2,
    "mos2_crystal": functools.partial(mos2, rotation_rad=0.0),
    "dwcnt": dwcnt,
}
"""Specimens by name; each takes ``seed`` and ``cell_A``."""


def projected_potential(atoms: Atoms, grid_px: int, displacement_A: float = 0.06) -> RealArray:
    """Projected potential of independent atoms, shape (grid_px, grid_px), float32, V A.

    Sampled at ``(i, j) * cell / grid_px`` and band-limited by the grid; ``displacement_A`` is the root mean square
    thermal displacement along an axis, which blurs every atom (Debye-Waller factor).
    """
    frequency = np.fft.fftfreq(grid_px, 1 / grid_px) / atoms.cell_A
    squared = frequency[:, None] ** 2 + frequency**2
    spectrum = np.zeros((grid_px, grid_px), np.complex128)
    for element in np.unique(atoms.elements):
        if element not in KIRKLAND:
            raise InvalidInputError(f"No scattering factor for {element}; there are {', '.join(sorted(KIRKLAND))}.")
        a, b, c, d = np.asarray(KIRKLAND[str(element)])[:, :, None, None]
        factor = (a / (squared + b) + c * np.exp(-d * squared)).sum(0)
        y, x = atoms.positions_A[atoms.elements == element, 1:].T
        rows = np.exp(-2j * np.pi * frequency[:, None] * y)
        columns = np.exp(-2j * np.pi * x[:, None] * frequency)
        spectrum += factor * (rows @ columns)
    spectrum *= POTENTIAL_V_A2 / atoms.cell_A**2 * np.exp(-2 * np.pi**2 * displacement_A**2 * squared)
    return np.asarray(np.fft.ifft2(spectrum).real * grid_px**2, dtype=np.float32)


def _rotation(angle_rad: float) -> FloatArray:
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    return np.array([[cosine, sine], [-sine, cosine]])


def _in_cell(plane: FloatArray, cell_A: float) -> npt.NDArray[np.bool_]:
    return np.asarray(((plane >= 0) & (plane < cell_A)).all(1), dtype=np.bool_)
