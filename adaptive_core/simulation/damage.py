"""The dose that every place of a specimen has received, and what it does to it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError
from adaptive_core.scan_path import Size

FloatArray = npt.NDArray[np.float64]

PROBE_NM = 0.1  # the electrons of a probe are spread over about this, however finely its position is known
CELLS = 1024  # at most, along the longer side of the specimen


@dataclasses.dataclass(frozen=True, kw_only=True)
class Damage:
    """What dose does to the specimen; nothing by default. A frame sees the dose of the frames before it.

    Attributes:
        critical_dose_e_per_A2: dose after which the contrast has fallen to 1/e of itself; None for a robust specimen.
        contamination_per_e_per_A2: growth of the collected fraction of the beam, through deposited carbon.
    """

    critical_dose_e_per_A2: float | None = None
    contamination_per_e_per_A2: float = 0.0

    def __post_init__(self) -> None:
        if self.critical_dose_e_per_A2 is not None and not self.critical_dose_e_per_A2 > 0:
            raise InvalidInputError(f"The critical dose must be positive, not {self.critical_dose_e_per_A2} e-/A^2.")
        if not (math.isfinite(self.contamination_per_e_per_A2) and self.contamination_per_e_per_A2 >= 0):
            raise InvalidInputError(
                f"Contamination must not be negative, not {self.contamination_per_e_per_A2} per e-/A^2."
            )

    @property
    def active(self) -> bool:
        """Whether dose changes anything."""
        return self.critical_dose_e_per_A2 is not None or self.contamination_per_e_per_A2 > 0

    def apply(self, fraction: FloatArray, mean: float, dose_e_per_A2: FloatArray) -> FloatArray:
        """Collected fraction of the beam (n,) after a dose (n,), where the undamaged specimen gives ``fraction`` (n,).

        The contrast against the specimen's ``mean`` decays; contamination adds to the fraction.
        """
        if self.critical_dose_e_per_A2 is not None:
            fraction = mean + (fraction - mean) * np.exp(-dose_e_per_A2 / self.critical_dose_e_per_A2)
        return np.clip(fraction + self.contamination_per_e_per_A2 * dose_e_per_A2, 0.0, 1.0)


class DoseMap:
    """Electrons received by every cell of a specimen of ``size_nm`` (height, width), mirrored beyond its edges.

    Attributes:
        electrons: shape (rows, columns), float64, centred on the specimen's centre.
        cell_nm: side of a cell.
    """

    def __init__(self, size_nm: tuple[float, float]) -> None:
        self.cell_nm = max(max(size_nm) / CELLS, PROBE_NM)
        shape: Size = (math.ceil(size_nm[0] / self.cell_nm - 1e-9), math.ceil(size_nm[1] / self.cell_nm - 1e-9))
        self.electrons: FloatArray = np.zeros(shape)

    def cells(self, positions_nm: FloatArray) -> npt.NDArray[np.intp]:
        """Flat indices (n,) of the cells that hold the positions (n, 2) of the specimen in nm."""
        shape = np.array(self.electrons.shape)
        index = np.floor(positions_nm / self.cell_nm + shape / 2).astype(np.intp) % (2 * shape)
        index = np.where(index < shape, index, 2 * shape - 1 - index)
        flat: npt.NDArray[np.intp] = index[:, 0] * shape[1] + index[:, 1]
        return flat

    def add(self, cells: npt.NDArray[np.intp], electrons: FloatArray) -> None:
        """Add electrons (n,) to cells (n,)."""
        np.add.at(self.electrons.reshape(-1), cells, electrons)

    def dose_e_per_A2(self, cells: npt.NDArray[np.intp]) -> FloatArray:
        """Dose (n,) of cells (n,)."""
        return self.electrons.reshape(-1)[cells] / (self.cell_nm**2 * 100.0)
