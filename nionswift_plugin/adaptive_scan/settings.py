"""What the operator chose in the panel, kept over restarts of Swift."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import math
import pathlib
import typing

from nion.swift.model import ApplicationData

from nionswift_plugin.adaptive_scan.beam import BeamSettings

if typing.TYPE_CHECKING:
    # Loading the loop loads onnxruntime and scipy; Swift's start must not wait for them.
    from adaptive_core.partial_scan import Budget

logger = logging.getLogger(__name__)

FILE_NAME = "adaptive_scan.json"

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


class SettingsStore:
    """Keeps settings in a JSON file of Swift's configuration folder; None keeps them for this session only."""

    def __init__(self, folder: pathlib.Path | None) -> None:
        self._path = None if folder is None else folder / FILE_NAME
        self._data = ApplicationData.ApplicationData(self._path)

    def load(self) -> PartialScanSettings:
        """The settings as they were last; what cannot be read has its default."""
        try:
            stored = self._data.get_data_dict().get("partial_scan", {})
        except (OSError, json.JSONDecodeError, AttributeError) as error:
            logger.warning("The settings %s cannot be read: %s", self._path, error)
            return PartialScanSettings()
        settings = PartialScanSettings()
        for field in dataclasses.fields(PartialScanSettings):
            if field.name in stored:
                try:
                    value = _checked(field.name, stored[field.name])
                    settings = dataclasses.replace(settings, **{field.name: value})
                except (TypeError, ValueError) as error:
                    logger.warning("The setting %s in %s is ignored: %s", field.name, self._path, error)
        return settings

    def save(self, settings: PartialScanSettings) -> None:
        """Write them; a folder that cannot be written is no reason to stop the operator."""
        try:
            data = self._data.get_data_dict()
            self._data.set_data_dict({**data, "partial_scan": dataclasses.asdict(settings)})
        except OSError as error:
            logger.warning("The settings cannot be written to %s: %s", self._path, error)

    def first_start(self) -> bool:
        """Whether Swift runs with the plug-in for the first time; from now on it does not. Never for a session only."""
        if self._path is None:
            return False
        try:
            data = self._data.get_data_dict()
            if not data.get("started"):
                self._data.set_data_dict({**data, "started": True})
                return True
        except (OSError, json.JSONDecodeError, AttributeError) as error:
            logger.warning("The settings %s cannot be read or written: %s", self._path, error)
        return False


_TYPES: typing.Final[dict[str, tuple[type, bool]]] = {
    "device": (str, True),
    "channel": (int, True),
    "policy": (str, True),
    "generator": (str, True),
    "budget": (BudgetKind, False),
    "segments": (int, False),
    "coverage": (float, False),
    "dose_e_per_A2": (float, False),
    "stop_error": (float, True),
    "region": (RegionKind, False),
    "size_px": (int, True),
    "dwell_us": (float, True),
    "beam_current": (str, False),
    "blanker_control": (str, False),
    "unblank_delay_us": (float, False),
    "restart_view": (bool, False),
    "seed": (int, False),
}
"""The type of each setting, and whether it may be None."""


def _checked(name: str, value: typing.Any) -> typing.Any:
    """A value from a file as its setting needs it. Raises TypeError or ValueError."""
    expected, optional = _TYPES[name]
    if value is None and optional:
        return None
    if issubclass(expected, enum.Enum):
        return expected(value)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not expected:
        raise TypeError(f"expected {expected.__name__}, found {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a finite number, found {value}")
    return value
