"""A validated, frozen plan of a partial scan, and its budget."""

from __future__ import annotations

import dataclasses
import math
import typing

from adaptive_core.dose import DoseMeter
from adaptive_core.errors import InvalidInputError
from adaptive_core.ports import ScannerSetup
from adaptive_core.static_path import DEFAULT_SPACING_PX

LONGEST_DWELL_US = 1e7
"""Longer than any detector integrates; a longer one is a slip of the pen, and a scan that could not be waited for."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a scan may spend; whichever limit is reached first ends it. None sets no limit.

    Attributes:
        segments: number of segments, each of ``ScanPlan.probes_per_segment`` probes.
        coverage: probes over pixels of the region.
        dose_e_per_A2: delivered electrons over the area of the region (e-/A^2).
        predicted_error: RMS error that the generator predicts for the completion, in units of the standard deviation of
            the measured values, below which the scan has seen enough.
    """

    segments: int | None = None
    coverage: float | None = None
    dose_e_per_A2: float | None = None
    predicted_error: float | None = None

    def __post_init__(self) -> None:
        limits = {"segments": self.segments, "coverage": self.coverage, "dose": self.dose_e_per_A2}
        if all(limit is None for limit in limits.values()):
            raise InvalidInputError("A scan needs a budget: a number of segments, a coverage or a dose.")
        for name, limit in (*limits.items(), ("predicted error", self.predicted_error)):
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise InvalidInputError(f"The budget's {name} must be positive, not {limit}.")


@dataclasses.dataclass(frozen=True)
class ScanPlan:
    """Everything that is decided before the beam moves.

    Attributes:
        setup: the region, dwell time, channels and beam current.
        budget: when the scan ends.
        probes_per_segment: probes of one segment or batch.
        probe_spacing_px: distance of neighbouring probes on a segment in px.
        seed: seed of policies that draw random numbers.
    """

    setup: ScannerSetup
    budget: Budget
    probes_per_segment: int = 20
    probe_spacing_px: float = DEFAULT_SPACING_PX
    seed: int = 0

    def __post_init__(self) -> None:
        height, width = self.setup.size_px
        if min(height, width) < 8 or max(height, width) > 8192:
            raise InvalidInputError(f"The region must have 8 to 8192 px a side, not {height} x {width} px.")
        if self.probes_per_segment < 2:
            raise InvalidInputError(f"A segment needs at least 2 probes, not {self.probes_per_segment}.")
        if not (math.isfinite(self.probe_spacing_px) and self.probe_spacing_px > 0):
            raise InvalidInputError(f"The probe spacing must be positive, not {self.probe_spacing_px} px.")
        if not (math.isfinite(self.setup.dwell_us) and self.setup.dwell_us > 0):
            raise InvalidInputError(f"The dwell time must be positive, not {self.setup.dwell_us} us.")
        if self.setup.dwell_us > LONGEST_DWELL_US:
            raise InvalidInputError(
                f"The dwell time must be at most {LONGEST_DWELL_US / 1e6:g} s, not {self.setup.dwell_us / 1e6:g} s."
            )
        if self.budget.coverage is not None and self.budget.coverage > 1:
            raise InvalidInputError(f"A coverage is at most 1 (every pixel once), not {self.budget.coverage}.")
        if self.budget.dose_e_per_A2 is not None and self.dose_of_probes(1) is None:
            raise InvalidInputError("A dose budget needs a known beam current and a calibrated pixel size.")
        if self.probes < 2:
            raise InvalidInputError("The budget does not allow 2 probes; raise it.")

    @property
    def dose_meter(self) -> DoseMeter:
        """Turns beam-on time into dose for this plan."""
        return DoseMeter(self.setup.beam_current_pa, self.setup.area_nm2)

    def dose_of_probes(self, probes: int) -> float | None:
        """Dose (e-/A^2) of a number of probes, waiting not included."""
        return self.dose_meter.dose_e_per_A2(probes * self.setup.dwell_us)

    @property
    def probes(self) -> int:
        """Number of probes that the budget allows."""
        return self.probes_left(0, 0, 0.0)

    def probes_left(self, segments: int, probes: int, beam_on_us: float) -> int:
        """How many more probes the budget allows after what was spent."""
        budget = self.budget
        pixels = self.setup.size_px[0] * self.setup.size_px[1]
        left = [math.inf]
        if budget.segments is not None:
            left.append((budget.segments - segments) * self.probes_per_segment)
        if budget.coverage is not None:
            left.append(round(budget.coverage * pixels) - probes)
        if budget.dose_e_per_A2 is not None:
            each, spent = self.dose_of_probes(1), self.dose_meter.dose_e_per_A2(beam_on_us)
            if each is not None and spent is not None:
                left.append(math.floor((budget.dose_e_per_A2 - spent) / each + 1e-9))
        return max(int(min(left)), 0)

    def remaining(self, segments: int, probes: int, beam_on_us: float) -> float:
        """Fraction of the budget that is left, 1 at the start and 0 at the end."""
        return min(self.probes_left(segments, probes, beam_on_us) / self.probes, 1.0)

    def to_dict(self) -> dict[str, typing.Any]:
        """The plan as JSON-compatible data."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: dict[str, typing.Any]) -> ScanPlan:
        """The inverse of :meth:`to_dict`, also of data that went through JSON."""
        setup = dict(data["setup"])
        setup["size_px"] = (int(setup["size_px"][0]), int(setup["size_px"][1]))
        setup["channels"] = tuple(setup["channels"])
        return ScanPlan(**{**data, "setup": ScannerSetup(**setup), "budget": Budget(**data["budget"])})
