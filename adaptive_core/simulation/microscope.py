"""The simulated microscope: probe positions, beam and specimen in, detector counts out."""

from __future__ import annotations

import collections.abc
import dataclasses
import math

import numpy as np
import numpy.typing as npt

from adaptive_core.dose import electrons
from adaptive_core.errors import InvalidInputError
from adaptive_core.scan_path import Point
from adaptive_core.simulation.damage import DoseMap
from adaptive_core.simulation.detector import DetectorChannel
from adaptive_core.simulation.scan_errors import BeamLag
from adaptive_core.simulation.scan_geometry import ScanGeometry
from adaptive_core.simulation.settings import Delivered, InstrumentSettings
from adaptive_core.simulation.specimens import CHANNELS, Specimen

FloatArray = npt.NDArray[np.float64]
ImageArray = npt.NDArray[np.float32]

JUMP_PX = 2.0  # longer steps of a list of positions are jumps, which pay the settling time


@dataclasses.dataclass(frozen=True)
class Beam:
    """State of the column while a part of a frame is exposed.

    Attributes:
        current_pa: beam current.
        blanked: the beam does not reach the specimen.
        stage_nm: stage position (y, x); positive values move the image down and right.
        defocus_nm: a defocused probe is a wider one.
        convergence_mrad: convergence semi-angle.
    """

    current_pa: float
    blanked: bool = False
    stage_nm: Point = (0.0, 0.0)
    defocus_nm: float = 0.0
    convergence_mrad: float = 30.0

    @property
    def defocus_width_nm(self) -> float:
        """Standard deviation along an axis of the geometric probe, a disk of the radius defocus x angle."""
        return abs(self.defocus_nm) * self.convergence_mrad * 1e-3 / 2


class Exposure:
    """One frame while it is scanned.

    Attributes:
        geometry: its probe positions.
        dwell_us: dwell time of each.
        channels: indices of the recorded channels.
        data: shape (channels, positions), float32, counts; zero where not measured yet.
        done: number of measured positions.
    """

    def __init__(
        self, microscope: Microscope, geometry: ScanGeometry, dwell_us: float, channels: tuple[int, ...]
    ) -> None:
        self.geometry = geometry
        self.dwell_us = dwell_us
        self.channels = channels
        self.data = np.zeros((len(channels), geometry.count), np.float32)
        self.done = 0
        self._microscope = microscope
        errors = microscope.settings.scan_errors
        self._settling_us, self._flyback_us = errors.settling_us, errors.flyback_us
        self._jumps: npt.NDArray[np.intp] | None = None  # jumps within a list of positions before each of them
        if geometry.path_nm is not None and self._settling_us:
            steps = np.hypot(*np.diff(geometry.path_nm, axis=0).T)
            self._jumps = np.concatenate([[0], np.cumsum(steps > JUMP_PX * geometry.pixel_nm)])
        self._deposits: list[tuple[npt.NDArray[np.intp], FloatArray]] = []
        self._start_us = microscope.clock_us
        self._jitter_nm = microscope.draw_line_jitter(geometry.shape[0])
        for channel in channels:
            microscope.detectors[channel].start_frame(microscope.settings.detector, geometry.shape[0])

    def elapsed_us(self, count: int | npt.NDArray[np.intp]) -> FloatArray:
        """Time from the start of the frame until ``count`` positions have been measured, waits included (us)."""
        last = np.maximum(np.asarray(count) - 1, 0)
        waits = self._settling_us + (last // self.geometry.shape[1]) * self._flyback_us
        if self._jumps is not None:
            waits = waits + self._jumps[last] * self._settling_us
        return np.asarray(np.asarray(count) * self.dwell_us + waits, dtype=np.float64)

    @property
    def duration_us(self) -> float:
        """Time that the whole frame takes (us)."""
        return float(self.elapsed_us(self.geometry.count))

    def count_at(self, time_us: float) -> int:
        """Number of positions that have been measured ``time_us`` after the start of the frame."""
        low, high = self.done, self.geometry.count
        if time_us >= self.duration_us:
            return high
        while low < high:  # the time grows with the count, so it is found by bisection
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.elapsed_us(middle) <= time_us else (low, middle - 1)
        return low

    def expose(self, count: int, beam: Beam) -> None:
        """Measure the positions from ``done`` up to number ``count`` with the beam as it is now."""
        start, self.done = self.done, max(count, self.done)
        if self.done == start:
            return
        microscope, errors = self._microscope, self._microscope.settings.scan_errors
        index = np.arange(start, self.done)
        row = index // self.geometry.shape[1]
        ends_us = self.elapsed_us(index + 1)
        before_us = float(self.elapsed_us(start)) if start else 0.0
        positions = self.geometry.positions_nm(start, self.done)
        if errors.lag_us:
            steps_us = np.diff(ends_us, prepend=before_us)
            positions = microscope.lag.follow(positions, steps_us, errors.lag_us)
        positions = errors.distort(positions)
        if len(self._jitter_nm):
            positions = positions + np.stack([np.zeros(len(row)), self._jitter_nm[row]], axis=1)
        on_specimen = positions - np.array(beam.stage_nm)
        if any(errors.drift_nm_per_s):
            on_specimen = on_specimen - errors.drift(self._start_us + ends_us)
        probe_electrons = 0.0 if beam.blanked else electrons(beam.current_pa, self.dwell_us)
        self._measure(slice(start, self.done), on_specimen, row, probe_electrons, beam)
        waited_us = float(ends_us[-1]) - before_us - len(index) * self.dwell_us
        waits_blanked = beam.blanked or microscope.gated
        microscope.count_electrons(
            probes=probe_electrons * len(index),
            overhead=0.0 if waits_blanked else electrons(beam.current_pa, waited_us),
        )
        microscope.clock_us = self._start_us + float(ends_us[-1])

    def _measure(
        self, part: slice, positions: FloatArray, row: npt.NDArray[np.intp], probe_electrons: float, beam: Beam
    ) -> None:
        microscope, specimen = self._microscope, self._microscope.specimen
        settings = microscope.settings
        cells = microscope.dose_map.cells(positions) if probe_electrons else np.zeros(0, np.intp)
        damaged = settings.damage.active and probe_electrons > 0
        dose = microscope.dose_map.dose_e_per_A2(cells) if damaged else None
        width_nm = specimen.width_nm(self.geometry.pixel_nm, beam.defocus_width_nm)
        for k, channel in enumerate(self.channels):
            if probe_electrons:
                fraction = specimen.sample(channel, positions, width_nm)
                if dose is not None:
                    fraction = settings.damage.apply(fraction, specimen.means[channel], dose)
            else:
                fraction = np.zeros(len(positions))
            self.data[k, part] = microscope.detectors[channel].read(settings.detector, fraction * probe_electrons, row)
        if probe_electrons:
            self._deposits.append((cells, np.full(len(cells), probe_electrons)))

    def finish(self) -> None:
        """The frame is over, complete or not: its dose is on the specimen."""
        for cells, received in self._deposits:
            self._microscope.dose_map.add(cells, received)
        self._deposits = []


class Microscope:
    """A specimen, the state of the instrument that outlasts a frame, and the electrons that were delivered.

    Attributes:
        settings: see :class:`InstrumentSettings`; assign with :meth:`configure`.
        dose_map: electrons that every place of the specimen has received in finished frames.
        clock_us: time scanned since the random numbers were restarted; the drift follows it.
        gated: the beam is on the specimen only while it dwells on the positions of a frame.
    """

    def __init__(self, specimen: Specimen, settings: InstrumentSettings | None = None) -> None:
        self.specimen = specimen
        self.dose_map = DoseMap(specimen.size_nm)
        self.delivered = Delivered()
        self.gated = False
        self.configure(settings or InstrumentSettings())

    def configure(self, settings: InstrumentSettings) -> None:
        """Use other settings and restart the random numbers and the clock of the drift."""
        self.settings = settings
        self.detectors = [DetectorChannel(settings.seed, channel) for channel in range(len(CHANNELS))]
        self.lag = BeamLag()
        self.clock_us = 0.0
        self._jitter = np.random.default_rng([settings.seed, len(CHANNELS)])

    def insert(self, specimen: Specimen) -> None:
        """Put in a fresh specimen."""
        self.specimen = specimen
        self.reset()

    def reset(self) -> None:
        """Forget dose and delivered electrons; restart the random numbers and the clock."""
        self.dose_map = DoseMap(self.specimen.size_nm)
        self.delivered = Delivered()
        self.configure(self.settings)

    def prepare(self, pixel_nm: float, channels: collections.abc.Iterable[int], beam: Beam) -> None:
        """Have the specimen ready for scans with pixels of this size, before the beam is on it."""
        width_nm = self.specimen.width_nm(pixel_nm, beam.defocus_width_nm)
        for channel in channels:
            self.specimen.prepare(channel, width_nm)

    def start(self, geometry: ScanGeometry, dwell_us: float, channels: tuple[int, ...]) -> Exposure:
        """Begin a frame. Raises InvalidInputError if it cannot be scanned."""
        if not (math.isfinite(dwell_us) and dwell_us > 0):
            raise InvalidInputError(f"The dwell time must be positive, not {dwell_us} us.")
        if geometry.path_nm is not None and geometry.count > self.settings.max_scan_path_positions:
            limit = self.settings.max_scan_path_positions
            raise InvalidInputError(f"A command takes at most {limit} scan positions, not {geometry.count}.")
        return Exposure(self, geometry, max(dwell_us, self.settings.shortest_dwell_us), channels)

    def truth(self, geometry: ScanGeometry, dwell_us: float, channel: int, beam: Beam) -> ImageArray:
        """Expected counts, shape ``geometry.shape``, of an undamaged specimen without noise, drift and distortion."""
        dwell_us = max(dwell_us, self.settings.shortest_dwell_us)
        width_nm = self.specimen.width_nm(geometry.pixel_nm, beam.defocus_width_nm)
        fraction = self.specimen.sample(channel, geometry.positions_nm() - np.array(beam.stage_nm), width_nm)
        counts = self.settings.detector.expected(fraction * electrons(beam.current_pa, dwell_us))
        return counts.reshape(geometry.shape)

    def idle(self, time_us: float, beam: Beam, position_nm: Point | None) -> None:
        """The beam stood still for a while, at ``position_nm`` of the scan plane if that is known."""
        if not self.gated:
            self.stand(time_us, beam, position_nm)

    def stand(self, time_us: float, beam: Beam, position_nm: Point | None) -> None:
        """The beam is on for a while, gated or not, at ``position_nm`` of the scan plane if that is known."""
        if beam.blanked:
            return
        received = electrons(beam.current_pa, time_us)
        self.count_electrons(idle=received)
        if position_nm is not None:
            cells = self.dose_map.cells(np.array([position_nm]) - np.array(beam.stage_nm))
            self.dose_map.add(cells, np.array([received]))

    def count_electrons(self, *, probes: float = 0.0, overhead: float = 0.0, idle: float = 0.0) -> None:
        """Add to the delivered electrons."""
        d = self.delivered
        self.delivered = Delivered(d.probes + probes, d.overhead + overhead, d.idle + idle)

    def draw_line_jitter(self, rows: int) -> FloatArray:
        """Displacement along x of each row of a frame in nm; empty if there is none."""
        jitter = self.settings.scan_errors.line_jitter_nm
        return self._jitter.normal(0.0, jitter, rows) if jitter else np.zeros(0)
