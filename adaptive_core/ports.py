"""What the loops need from hardware, as protocols with declared abilities.

Adapters (Nion Swift, recorded data, tests) implement these; the loops know nothing else of an instrument.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core.scan_path import Action, Size

FloatArray = npt.NDArray[np.float64]
ImageArray = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class ScannerAbilities:
    """What a scanner can do; anything else is refused before the beam moves.

    Attributes:
        segments: takes straight segments.
        positions_per_command: largest number of free positions in one command; 0 when it takes none.
        shortest_dwell_us: shortest dwell time in us.
        can_blank: the beam is blanked while it waits, so that waiting adds no dose.
        gates_beam: the beam is on for the dwell times and no longer; elsewhere each command exposes a little more.
    """

    segments: bool = True
    positions_per_command: int = 0
    shortest_dwell_us: float = 0.0
    can_blank: bool = False
    gates_beam: bool = False


@dataclasses.dataclass(frozen=True)
class ScannerSetup:
    """The scan that a scanner is set up for.

    Attributes:
        size_px: region (height, width) in px.
        pixel_size_nm: nm a pixel, None when it is not calibrated.
        dwell_us: dwell time a probe position in us.
        channels: names of the recorded channels; the first one is completed live.
        beam_current_pa: None when unknown.
    """

    size_px: Size
    pixel_size_nm: float | None
    dwell_us: float
    channels: tuple[str, ...]
    beam_current_pa: float | None = None

    @property
    def area_nm2(self) -> float | None:
        """Area of the region in nm^2."""
        if self.pixel_size_nm is None:
            return None
        return self.size_px[0] * self.size_px[1] * self.pixel_size_nm**2


class PathScanner(typing.Protocol):
    """A scan device that measures along a path in a fixed region."""

    @property
    def abilities(self) -> ScannerAbilities:
        """What the device can do."""
        ...

    @property
    def setup(self) -> ScannerSetup:
        """The region, dwell time and channels of this scan."""
        ...

    def check(self, action: Action) -> None:
        """Raise InvalidInputError if the action is beyond the device's abilities; never moves the beam."""
        ...

    def session(self) -> contextlib.AbstractContextManager[None]:
        """Take the device: stop its live view and blank or park the beam; put everything back on the way out."""
        ...

    @property
    def beam_on_us(self) -> float:
        """Time for which this scanner has exposed the specimen so far, in us.

        It is that of every command, failed and cancelled ones included, with the time that the beam needs to be
        unblanked and blanked, and any wait without a blanker.
        """
        ...

    def scan(self, action: Action) -> npt.NDArray[np.float32]:
        """Carry out one action inside a session.

        Returns:
            Values of shape (channels, probes), float32, detector units, in the order of the positions.

        Raises:
            DeviceError: if the device fails.
            ScanCancelledError: if it was stopped on purpose while it was being carried out.
        """
        ...


@dataclasses.dataclass(frozen=True)
class DiffractionSetup:
    """The 4D scan that an instrument is set up for.

    Attributes:
        size_px: region (height, width) in px of the conventional scan.
        pixel_size_nm: nm a pixel.
        exposure_us: of a pattern.
        detector_px: side of the square patterns.
        mrad_per_px: size of a detector pixel.
        energy_kev: beam energy.
        convergence_mrad: semi-angle of the aperture.
        defocus_nm: underfocus at the start.
        cs_mm: third-order spherical aberration.
        beam_current_pa: None when unknown.
        saturation: counts at which a detector pixel saturates; None when unknown.
    """

    size_px: Size
    pixel_size_nm: float
    exposure_us: float
    detector_px: int
    mrad_per_px: float
    energy_kev: float
    convergence_mrad: float
    defocus_nm: float = 0.0
    cs_mm: float = 0.0
    beam_current_pa: float | None = None
    saturation: float | None = None


@dataclasses.dataclass(frozen=True)
class DiffractionAbilities:
    """What a diffraction scanner can do; anything else is refused before the beam moves.

    Attributes:
        can_defocus: the defocus can be set for each command.
        can_blank: the beam is blanked while it waits, so that waiting adds no dose.
    """

    can_defocus: bool = False
    can_blank: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class DiffractionMeasurement:
    """Patterns of one command.

    Attributes:
        patterns: shape (n, d, d), float32, counts, the direct beam at pixel ``d // 2`` and ``beam_px`` beyond.
        positions: where they were taken, shape (n, 2), float64, ``(y, x)`` in px of the region; recorded data snap.
        beam_px: ``(y, x)``, mostly below 1 px; the same for all commands of a session.
    """

    patterns: npt.NDArray[np.float32]
    positions: FloatArray
    beam_px: tuple[float, float] = (0.0, 0.0)


class DiffractionScanner(typing.Protocol):
    """An instrument, or its stand-in, that records a diffraction pattern at each of a list of positions."""

    @property
    def abilities(self) -> DiffractionAbilities:
        """What the instrument can do."""
        ...

    @property
    def setup(self) -> DiffractionSetup:
        """The region, camera and illumination of this scan."""
        ...

    @property
    def beam_on_us(self) -> float:
        """Time for which this scanner has exposed the specimen so far, in us.

        It is that of every pattern, lost ones included, with the time that the beam needs to be unblanked and blanked,
        and any wait without a blanker.
        """
        ...

    @property
    def unfinished(self) -> DiffractionMeasurement | None:
        """What the last :meth:`measure` had taken when it failed or was cancelled; None if nothing."""
        ...

    def check(self, positions: FloatArray) -> None:
        """Raise InvalidInputError for positions (n, 2), px, that cannot be visited; never moves the beam."""
        ...

    def session(self) -> contextlib.AbstractContextManager[None]:
        """Take the instrument: blank or park the beam; put everything back on the way out, the defocus too."""
        ...

    def measure(self, positions: FloatArray, defocus_nm: float | None = None) -> DiffractionMeasurement:
        """Record patterns at positions (n, 2), px, inside a session, at a defocus or at the present one (None).

        Raises:
            DeviceError: if the instrument fails.
            ScanCancelledError: if it was stopped on purpose.
        """
        ...


class DiskCamera(typing.Protocol):
    """A camera that shows the bright-field disk."""

    def grab(self, after: float | None = None) -> tuple[ImageArray, float]:
        """A frame (height, width) that *started* after the monotonic time ``after``, with the time of its start.

        Raises DeviceTimeoutError if no such frame came in time.
        """
        ...


class DiffractionShift(typing.Protocol):
    """A 2D control that moves the disk on the camera."""

    @property
    def limit(self) -> float:
        """Largest magnitude of the control, in its own unit."""
        ...

    def get(self) -> tuple[float, float]:
        """The present value (y, x) in the control's unit."""
        ...

    def set(self, value: tuple[float, float]) -> float:
        """Set the control, wait until it has settled and return the monotonic time from which frames are valid."""
        ...


@typing.runtime_checkable
class SimulatedSpecimen(typing.Protocol):
    """The known truth of a simulated instrument; registered in Swift's Registry as "simulated_specimen"."""

    def load(self, source: str, pixel_size_nm: float | None = None) -> None:
        """Put a built-in specimen, by name, or an image file into the instrument. Raises InvalidInputError."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the built-in specimens."""
        ...

    def truth(self, frame_parameters: typing.Any, channel_index: int = 0) -> ImageArray:
        """The noise-free image that a whole scan with these frame parameters would approach (height, width)."""
        ...

    def phase(
        self, frame_parameters: typing.Any, transfer: collections.abc.Callable[[FloatArray], FloatArray]
    ) -> ImageArray | None:
        """The true phase (height, width), rad, at the positions of a whole scan with these frame parameters.

        ``transfer`` says how much of each spatial frequency (1/A) is wanted. None for a specimen whose potential is
        not known.
        """
        ...
