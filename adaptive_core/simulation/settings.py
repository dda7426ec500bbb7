"""Everything that can be set on the simulated instrument, and how to reach it."""

from __future__ import annotations

import dataclasses
import math
import typing

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.damage import Damage
from adaptive_core.simulation.detector import Detector
from adaptive_core.simulation.disk_image import DiskCameraModel, SpecimenInBeam
from adaptive_core.simulation.faults import Fault
from adaptive_core.simulation.scan_errors import ScanErrors
from adaptive_core.simulation.shift_world import WORLD_FAMILIES


@dataclasses.dataclass(frozen=True, kw_only=True)
class CameraSettings:
    """The camera that shows the bright-field disk, and how the disk moves on it.

    Attributes:
        world: family of :mod:`shift_world` ("A", "B" or "C") from which the seed draws how the diffraction shift
            behaves; None for an ideal one.
        shift_latency_s, shift_settle_s: when a move of the shift arrives, and the time constant with which the disk
            then settles (:mod:`settling`). Both add to what the world does from frame to frame.
        in_beam: what the beam goes through.
        background: of the disk's intensity, everywhere.
        pedestal, read_noise: in electrons.
        gain_gradient: relative change of the gain from the middle to the edges (y, x).
        hot_pixels: number of hot px.
        saturation: largest number of electrons in a px, None for none.
    """

    world: str | None = None
    shift_latency_s: float = 0.0
    shift_settle_s: float = 0.0
    in_beam: SpecimenInBeam = SpecimenInBeam.VACUUM
    background: float = 0.02
    pedestal: float = 2.5
    read_noise: float = 0.25
    gain_gradient: tuple[float, float] = (0.0, 0.0)
    hot_pixels: int = 0
    saturation: float | None = None

    def __post_init__(self) -> None:
        if self.world is not None and self.world not in WORLD_FAMILIES:
            raise InvalidInputError(f"The world must be one of {', '.join(WORLD_FAMILIES)}, not {self.world!r}.")
        for name in ("shift_latency_s", "shift_settle_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInputError(f"{name} must not be negative, not {value}.")

    def model(self, size_px: tuple[int, int]) -> DiskCameraModel:
        """The camera for frames of this size."""
        own = {field.name for field in dataclasses.fields(DiskCameraModel)}
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name in own}
        return DiskCameraModel(size_px=size_px, edge_px=0.5, **values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstrumentSettings:
    """A simulated instrument.

    Attributes:
        seed: of every random number; the same seed and commands give the same data.
        beam_current_pa: in pA.
        detector: noise, gain and offset of all channels.
        scan_errors: drift, distortion, lag, flyback, settling.
        damage: what dose does to the specimen.
        faults: that the scan device has.
        camera: what its camera shows.
        shortest_dwell_us: shorter dwell times are lengthened to this, as scan generators do.
        max_scan_path_positions: largest list of positions in one command.
    """

    seed: int = 1
    beam_current_pa: float = 50.0
    detector: Detector = dataclasses.field(default_factory=Detector)
    scan_errors: ScanErrors = dataclasses.field(default_factory=ScanErrors)
    damage: Damage = dataclasses.field(default_factory=Damage)
    faults: tuple[Fault, ...] = ()
    camera: CameraSettings = dataclasses.field(default_factory=CameraSettings)
    shortest_dwell_us: float = 0.5
    max_scan_path_positions: int = 65536

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InvalidInputError(f"The seed must not be negative, not {self.seed}.")
        if not (math.isfinite(self.beam_current_pa) and self.beam_current_pa >= 0):
            raise InvalidInputError(f"The beam current must not be negative, not {self.beam_current_pa} pA.")
        if not (math.isfinite(self.shortest_dwell_us) and self.shortest_dwell_us > 0):
            raise InvalidInputError(f"The shortest dwell time must be positive, not {self.shortest_dwell_us} us.")
        if self.max_scan_path_positions < 1:
            raise InvalidInputError(f"At least 1 position a command is needed, not {self.max_scan_path_positions}.")


@dataclasses.dataclass(frozen=True)
class Delivered:
    """Expected electrons that reached the specimen.

    Attributes:
        probes: while the beam dwelt on probe positions.
        overhead: during flyback and settling.
        idle: between frames, while the beam was not blanked.
    """

    probes: float = 0.0
    overhead: float = 0.0
    idle: float = 0.0

    @property
    def total(self) -> float:
        """All electrons."""
        return self.probes + self.overhead + self.idle


@typing.runtime_checkable
class SimulatedInstrument(typing.Protocol):
    """Control of the simulated instrument; registered in Swift's Registry as "simulated_instrument".

    The same object is registered as "simulated_specimen" (:class:`adaptive_core.ports.SimulatedSpecimen`).
    """

    @property
    def settings(self) -> InstrumentSettings:
        """The present settings; assigning others takes effect with the next frame.

        Assigning restarts the random numbers, the clock of the drift and the count of the faults, and reconnects the
        device. Change one with ``dataclasses.replace(instrument.settings, seed=2)``.
        """
        ...

    @settings.setter
    def settings(self, settings: InstrumentSettings) -> None: ...

    @property
    def delivered(self) -> Delivered:
        """Electrons delivered since the last :meth:`reset`, idle time up to now included."""
        ...

    @property
    def field_of_view_nm(self) -> float:
        """The field of view that shows the present specimen well; loading a specimen sets the scan to it."""
        ...

    @property
    def is_calibrated(self) -> bool:
        """Whether the pixel size of the present specimen is known; False if it is assumed."""
        ...

    def reset(self) -> None:
        """A fresh specimen and instrument: forget dose, delivered electrons, drift, and restart the random numbers."""
        ...
