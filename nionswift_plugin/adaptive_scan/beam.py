"""The beam while nothing is scanned: blanked, or parked outside the region; and its current."""

from __future__ import annotations

import dataclasses
import math
import time
import typing

from nion.instrumentation import scan_base, stem_controller
from nion.utils import Geometry

from adaptive_core.errors import DeviceError, InvalidInputError
from adaptive_core.scan_path import Point


@dataclasses.dataclass(frozen=True)
class BeamSettings:
    """How a site's instrument names and treats its beam.

    Attributes:
        blanker_control: control that blanks the beam when it is not 0; Swift's own name by default. None never blanks.
        unblank_delay_us: time from unblanking until the beam is steady, in us; it counts as exposure, as all of the
            time does for which the beam is not blanked.
        current_control: control that holds the beam current in A.
        current_pa: the operator's value of the beam current in pA, which goes before the control's.
    """

    blanker_control: str | None = "C_Blank"
    unblank_delay_us: float = 0.0
    current_control: str | None = "BeamCurrent"
    current_pa: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.unblank_delay_us) and self.unblank_delay_us >= 0):
            raise InvalidInputError(f"The unblanking delay must not be negative, but is {self.unblank_delay_us} us.")
        if self.current_pa is not None and not (math.isfinite(self.current_pa) and self.current_pa > 0):
            raise InvalidInputError(f"The beam current must be positive, not {self.current_pa} pA.")


def beam_current_pa(stem: stem_controller.STEMController, settings: BeamSettings) -> float | None:
    """The beam current in pA from the operator or else from the instrument's control; None when it is unknown."""
    if settings.current_pa is not None:
        return settings.current_pa
    current_a = _control_value(stem, settings.current_control)
    return current_a * 1e12 if current_a is not None and math.isfinite(current_a) and current_a > 0 else None


class Beam(typing.Protocol):
    """Keeps the beam off the specimen while a policy decides."""

    @property
    def blanks(self) -> bool:
        """Whether waiting adds no dose."""
        ...

    def rest(self) -> None:
        """Blank the beam, or park it outside the region."""
        ...

    def expose(self) -> None:
        """Make the beam ready for a scan."""
        ...

    @property
    def exposed_us(self) -> float:
        """Time in us for which the beam was on so far."""
        ...

    def put_back(self) -> None:
        """The state from before, for a live view that goes on."""
        ...


def make_beam(hardware_source: scan_base.ScanHardwareSource, settings: BeamSettings, waiting_position: Point) -> Beam:
    """A blanked beam where the instrument has the blanker control, else a parked one."""
    stem = hardware_source.stem_controller
    if settings.blanker_control is not None and _control_value(stem, settings.blanker_control) is not None:
        return BlankedBeam(stem, settings.blanker_control, settings.unblank_delay_us)
    return ParkedBeam(hardware_source, waiting_position)


class BlankedBeam:
    """A beam that a control blanks between exposures."""

    blanks = True

    def __init__(self, stem: stem_controller.STEMController, control: str, delay_us: float) -> None:
        self._stem = stem
        self._control = control
        self._delay_us = delay_us
        self._before = _control_value(stem, control) or 0.0
        self._exposed_s = 0.0
        self._since: float | None = None

    def rest(self) -> None:
        self._set(1.0)
        since, self._since = self._since, None
        if since is not None:
            self._exposed_s += time.perf_counter() - since

    def expose(self) -> None:
        self._since = time.perf_counter()
        self._set(0.0)
        if self._delay_us:
            time.sleep(self._delay_us * 1e-6)

    @property
    def exposed_us(self) -> float:
        since = self._since
        running_s = 0.0 if since is None else time.perf_counter() - since
        return (self._exposed_s + running_s) * 1e6

    def put_back(self) -> None:
        self._set(self._before)

    def _set(self, value: float) -> None:
        if not self._stem.SetVal(self._control, value):
            raise DeviceError(f"The blanker {self._control} did not accept the value {value:g}.")


class ParkedBeam:
    """A beam that cannot be blanked: it waits where Swift's probe position puts it, and all of its time counts."""

    blanks = False

    def __init__(self, hardware_source: scan_base.ScanHardwareSource, position: Point) -> None:
        self._hardware_source = hardware_source
        self._position = Geometry.FloatPoint(y=position[0], x=position[1])
        self._before = hardware_source.probe_position
        self._since = time.perf_counter()

    def rest(self) -> None:
        self._hardware_source.probe_position = self._position

    def expose(self) -> None:
        """Nothing to do: the scan itself takes the probe."""

    @property
    def exposed_us(self) -> float:
        return (time.perf_counter() - self._since) * 1e6

    def put_back(self) -> None:
        self._hardware_source.probe_position = self._before


def _control_value(stem: stem_controller.STEMController, name: str | None) -> float | None:
    if not name:
        return None
    exists, value = stem.TryGetVal(name)
    return value if exists else None
