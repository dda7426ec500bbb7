"""Specimens and patterns through ASE and abTEM: an independent check of the simulation, and multislice.

Needs the extra ``multislice``. Nothing else imports this module.

    python -m adaptive_core.training.ptychography.multislice mos2 --seed 0 --out potential.npz
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.ptychography_probe import FloatArray, Optics
from adaptive_core.simulation.ptychography_specimens import BUILDERS, Atoms

RealArray = npt.NDArray[np.float32]

_VACUUM_A = 2.0


def to_ase(atoms: Atoms) -> typing.Any:
    """The atoms as ``ase.Atoms``, x and y exchanged for (y, x) arrays, with 2 A of vacuum above and below."""
    ase = _module("ase")
    z, y, x = atoms.positions_A.T
    height = float(np.ptp(z)) + 2 * _VACUUM_A
    return ase.Atoms(
        [str(element) for element in atoms.elements],
        positions=np.column_stack([y, x, z - z.min() + _VACUUM_A]),
        cell=[atoms.cell_A, atoms.cell_A, height],
        pbc=True,
    )


def projected_potential(atoms: Atoms, grid_px: int) -> RealArray:
    """abTEM's projected potential of independent atoms (Kirkland), (grid_px, grid_px), float32, V A."""
    abtem = _module("abtem")
    model = to_ase(atoms)
    potential = abtem.Potential(
        model,
        gpts=(grid_px, grid_px),
        slice_thickness=float(model.cell[2, 2]),
        projection="infinite",
        parametrization="kirkland",
    )
    return np.asarray(potential.build(lazy=False).array.sum(0), dtype=np.float32)


def multislice_patterns(
    atoms: Atoms, optics: Optics, positions_A: FloatArray, grid_px: int, detector_px: int, slice_A: float = 1.0
) -> RealArray:
    """Diffraction patterns (p, d, d), float32, fractions of the beam, centred, by multislice with abTEM.

    ``positions_A`` (p, 2) are ``(y, x)`` in the cell.
    """
    abtem = _module("abtem")
    potential = abtem.Potential(
        to_ase(atoms),
        gpts=(grid_px, grid_px),
        slice_thickness=slice_A,
        projection="infinite",
        parametrization="kirkland",
    )
    probe = abtem.Probe(
        energy=optics.energy_kev * 1e3,
        semiangle_cutoff=optics.convergence_mrad,
        defocus=optics.defocus_A,
        Cs=optics.cs_mm * 1e7,
    )
    probe.grid.match(potential)
    waves = probe.multislice(potential, scan=abtem.CustomScan(positions_A), lazy=False)
    patterns = np.asarray(waves.diffraction_patterns(max_angle=None, block_direct=False).array)
    low = patterns.shape[-1] // 2 - detector_px // 2
    cut = patterns[:, low : low + detector_px, low : low + detector_px]
    return np.asarray(cut / patterns.sum((1, 2), keepdims=True), dtype=np.float32)


def main() -> None:
    """Write a projected potential with its cell: ``potential_VA`` (n, n) and ``cell_A``."""
    parser = argparse.ArgumentParser(description="Build a projected potential with ASE and abTEM.")
    parser.add_argument("specimen", choices=sorted(BUILDERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    atoms = BUILDERS[arguments.specimen](arguments.seed)
    potential = projected_potential(atoms, arguments.pixels)
    np.savez_compressed(arguments.out, potential_VA=potential, cell_A=atoms.cell_A)


def _module(name: str) -> typing.Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InvalidInputError(f"{name} is not installed; install the extra multislice.") from error


if __name__ == "__main__":
    main()
