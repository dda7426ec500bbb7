"""Built-in specimens made of atoms, with the projected potential from which diffraction patterns follow."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools

import numpy as np

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.projected_potential import ProjectedPotential
from adaptive_core.simulation.ptychography_probe import Optics
from adaptive_core.simulation.ptychography_specimens import BUILDERS, projected_potential
from adaptive_core.simulation.specimens import Specimen, blurred, from_image

SIDE_PX = 640
PIXEL_A = 0.1
SEED = 6
"""With it the field of view of MoS2 shows four vacancies."""
_PROBE_SIGMA_PX = 3.8  # of the image that detectors give, 0.038 nm
_SCATTERING = 1.5  # power of the potential with which atoms scatter to the detectors


@dataclasses.dataclass(frozen=True)
class _Conditions:
    optics: Optics
    view_nm: float


_CONDITIONS: collections.abc.Mapping[str, _Conditions] = {
    "mos2": _Conditions(Optics(60, 33), 2.0),
    "dwcnt": _Conditions(Optics(60, 40), 2.3),
}

ATOMIC_NAMES = tuple(_CONDITIONS)
"""Monolayer MoS2 with sulphur vacancies, and the nanotube (10,4)@(21,0): the specimens of Schloz et al. (2023)."""


@functools.lru_cache(maxsize=2)
def atomic_specimen(name: str, seed: int = SEED) -> Specimen:
    """The specimen of this name, 6.4 nm wide, the same for the same seed. Raises InvalidInputError for another name."""
    if name not in _CONDITIONS:
        raise InvalidInputError(f"There is no atomic specimen '{name}'; the names are {', '.join(ATOMIC_NAMES)}.")
    conditions = _CONDITIONS[name]
    values = projected_potential(BUILDERS[name](seed, cell_A=SIDE_PX * PIXEL_A), SIDE_PX)
    atoms = np.maximum(values, 0.0) ** np.float32(_SCATTERING)
    scattering = np.maximum(blurred(atoms, _PROBE_SIGMA_PX), 0.0)
    image = from_image(scattering, PIXEL_A / 10, name)
    potential = ProjectedPotential(values, PIXEL_A, conditions.optics)
    return dataclasses.replace(image, view_nm=conditions.view_nm, potential=potential)
