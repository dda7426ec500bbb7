"""What the operator chose in the panel, kept over restarts of Swift."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
import typing

from nionswift_plugin.adaptive_scan.beam import BeamSettings
from nionswift_plugin.adaptive_scan.settings_store import SectionStore, read_members, write_member

if typing.TYPE_CHECKING:
    # Loading the loop loads onnxruntime and scipy; Swift's start must not wait for them.
    from adaptive_core.partial_scan import Budget

SIMULATOR_ID = "adaptive_simulator_scan"
"""Swift's identifier of the simulated scan device."""


class BudgetKind(enum.StrEnum):
    """What ends a scan."""

    SEGMENTS = "segments"
    COVERAGE = "coverage"
    DOSE = "dose"


class RegionKind(enum.StrEnum):
    """Where a scan is."""

    CONTEXT = "context"
    RECTANGLE = "rectangle"
    SUBSCAN = "subscan"


@dataclasses.dataclass(frozen=True)
class PartialScanSettings:
    """The panel's choices for a partial scan. None leaves a choice to Swift's settings or to the default.

    Attributes:
        device: Swift's identifier of the scan device.
        channel: index of the channel that is completed live; by default the first enabled one.
        policy, generator: as :func:`adaptive_core.partial_scan.catalogue.policy` understands them.
        budget: which of the three limits applies.
        segments: number of segments.
        coverage: probes over pixels, a fraction.
        dose_e_per_A2: delivered dose.
        stop_error: predicted RMS error in standard deviations at which the scan ends early.
        region: where to scan.
        size_px: pixels along the longer side of the region; None keeps the pixels of Swift's scan settings.
        dwell_us: dwell time; None takes Swift's.
        beam_current: a number is the beam current in pA, anything else the name of the control that holds it in A.
        blanker_control: the control that blanks the beam when it is not 0; empty never blanks.
        unblank_delay_us: time from unblanking until the beam is steady.
        restart_view: whether a live view that was stopped goes on afterwards.
        seed: of policies that draw random numbers.
    """

    device: str | None = None
    channel: int | None = None
    policy: str | None = None
    generator: str | None = None
    budget: BudgetKind = BudgetKind.SEGMENTS
    segments: int = 20
    coverage: float = 0.05
    dose_e_per_A2: float = 100.0
    stop_error: float | None = None
    region: RegionKind = RegionKind.CONTEXT
    size_px: int | None = 96
    dwell_us: float | None = None
    beam_current: str = "BeamCurrent"
    blanker_control: str = "C_Blank"
    unblank_delay_us: float = 0.0
    restart_view: bool = False
    seed: int = 0

    def scan_budget(self) -> Budget:
        """The budget of one scan. Raises InvalidInputError."""
        from adaptive_core.partial_scan import Budget

        limits: dict[BudgetKind, dict[str, typing.Any]] = {
            BudgetKind.SEGMENTS: {"segments": self.segments},
            BudgetKind.COVERAGE: {"coverage": self.coverage},
            BudgetKind.DOSE: {"dose_e_per_A2": self.dose_e_per_A2},
        }
        return Budget(**limits[self.budget], predicted_error=self.stop_error)

    def beam_settings(self) -> BeamSettings:
        """How the instrument's beam is treated. Raises InvalidInputError."""
        current_pa = _number(self.beam_current)
        return BeamSettings(
            blanker_control=self.blanker_control or None,
            unblank_delay_us=self.unblank_delay_us,
            current_control=None if current_pa is not None else self.beam_current.strip() or None,
            current_pa=current_pa,
        )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class SettingsStore(SectionStore[PartialScanSettings]):
    """Keeps the settings of partial scans, and whether Swift has run with the plug-in before."""

    def __init__(self, folder: pathlib.Path | None) -> None:
        super().__init__(folder, "partial_scan", PartialScanSettings())

    def first_start(self) -> bool:
        """Whether Swift runs with the plug-in for the first time; from now on it does not. Never for a session only."""
        if self._path is None or read_members(self._path).get("started"):
            return False
        write_member(self._path, "started", True)
        return True
