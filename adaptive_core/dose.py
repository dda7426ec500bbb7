"""Electrons and dose: predicted before a scan, delivered during it."""

from __future__ import annotations

import dataclasses

from adaptive_core.errors import InvalidInputError

ELEMENTARY_CHARGE_C = 1.602176634e-19


def electrons(beam_current_pa: float, time_us: float) -> float:
    """Number of electrons that a beam of ``beam_current_pa`` delivers in ``time_us``."""
    return beam_current_pa * 1e-12 * time_us * 1e-6 / ELEMENTARY_CHARGE_C


@dataclasses.dataclass(frozen=True)
class DoseMeter:
    """Turns beam-on time into dose; a quantity that is not known (None) makes the result None, never a guess.

    Args:
        beam_current_pa: beam current in pA.
        area_nm2: area of the scanned region in nm^2.
    """

    beam_current_pa: float | None
    area_nm2: float | None

    def __post_init__(self) -> None:
        if self.beam_current_pa is not None and not self.beam_current_pa > 0:
            raise InvalidInputError(f"The beam current must be positive, not {self.beam_current_pa} pA.")
        if self.area_nm2 is not None and not self.area_nm2 > 0:
            raise InvalidInputError(f"The area must be positive, not {self.area_nm2} nm^2.")

    def electrons(self, time_us: float) -> float | None:
        """Electrons delivered in ``time_us`` of beam-on time."""
        return None if self.beam_current_pa is None else electrons(self.beam_current_pa, time_us)

    def dose_e_per_A2(self, time_us: float) -> float | None:
        """Electrons per area of the region (e-/A^2) delivered in ``time_us`` of beam-on time."""
        count = self.electrons(time_us)
        return None if count is None or self.area_nm2 is None else count / (self.area_nm2 * 100.0)
