"""The simulated instrument's scan device: whole scans, subscans at any angle, and lists of positions, in real time."""

from __future__ import annotations

import threading
import time
import typing

import numpy as np
from nion.device_kit import ScanDevice as KitScanDevice
from nion.instrumentation import scan_base, stem_controller
from nion.utils import Geometry

from adaptive_core.errors import DeviceDisconnectedError
from adaptive_core.scan_path import Point
from adaptive_core.simulation.faults import FaultCounter, FaultKind
from adaptive_core.simulation.microscope import Microscope
from adaptive_core.simulation.scan_geometry import Context
from adaptive_core.simulation.settings import Delivered, InstrumentSettings
from adaptive_core.simulation.specimens import CHANNELS, Specimen
from simulator_device.frame import SLICE_S, Frame, ReadResult, wait_until
from simulator_device.instrument import Column
from simulator_device.recent_frames import DataElement, RecentFrames
from simulator_device.scan_parameters import context_of, geometry_of

SCAN_ID = "adaptive_simulator_scan"


class ScanDevice(scan_base.ScanDevice):
    """A scan device on a simulated microscope.

    Besides what Swift asks of a scan device it says what it can do:

    Attributes:
        supports_scan_path: takes the frame parameter "scan_path", a list of ``[y, x]`` in fractions of the context.
        max_scan_path_positions: longest list.
        supports_beam_gate: can keep the beam off the specimen but for the dwell time of each position.
        shortest_dwell_us: shorter dwell times are lengthened to this.
        scan_device_is_secondary: beside another instrument's scan device, which stays the STEM controller's own.
    """

    supports_scan_path = True
    supports_beam_gate = True

    def __init__(self, column: Column, microscope: Microscope, is_secondary: bool) -> None:
        self.scan_device_id = SCAN_ID
        self.scan_device_name = "Adaptive Simulator Scan"
        self.scan_device_is_secondary = is_secondary
        self.on_device_state_changed = None
        self.microscope = microscope
        self._column = column
        self._faults = FaultCounter(microscope.settings.faults)
        self._connected = True
        self._parameters = KitScanDevice.ScanFrameParameters()
        self._enabled = [channel == 0 for channel in range(len(CHANNELS))]
        self._lock = threading.RLock()
        self._frame: Frame | None = None
        self._frame_number = 0
        self._last: tuple[list[DataElement], int] | None = None  # data and number of the last complete frame
        self._clock_pixels = 0
        self._recent = RecentFrames()
        self._beam = column.beam
        self._idle_since_s: float | None = time.perf_counter()
        self._resting_nm: Point = (0.0, 0.0)
        self._parked_nm: Point | None = None
        self._listener = column.controller.property_changed_event.listen(self._control_changed)

    def close(self) -> None:
        self._listener.close()
        self.cancel()

    # what it can do

    @property
    def max_scan_path_positions(self) -> int:
        return self.microscope.settings.max_scan_path_positions

    @property
    def shortest_dwell_us(self) -> float:
        return self.microscope.settings.shortest_dwell_us

    def calculate_flyback_pixels(self, frame_parameters: scan_base.ScanFrameParameters) -> int:
        return 0

    def calculate_max_field_of_view(self, frame_parameters: scan_base.ScanFrameParameters) -> float:
        return 1000.0

    # channels

    @property
    def channel_count(self) -> int:
        return len(CHANNELS)

    @property
    def channels_enabled(self) -> tuple[bool, ...]:
        return tuple(self._enabled)

    def set_channel_enabled(self, channel_index: int, enabled: bool) -> bool:
        self._enabled[channel_index] = enabled
        if not any(self._enabled):
            self.cancel()
        return True

    @property
    def _enabled_channels(self) -> tuple[int, ...]:
        return tuple(index for index, enabled in enumerate(self._enabled) if enabled)

    def get_channel_name(self, channel_index: int) -> str:
        return CHANNELS[channel_index]

    # the instrument's side: settings and electrons

    def configure(self, settings: InstrumentSettings) -> None:
        """Use other settings from the next frame on; the device is connected again."""
        with self._lock:
            self.cancel()
            self._count_idle()
            self.microscope.configure(settings)
            self._faults = FaultCounter(settings.faults)
            self._connected = True

    def reset(self) -> None:
        """Forget what was delivered so far and start again with the same settings."""
        with self._lock:
            self.configure(self.microscope.settings)
            self.microscope.reset()

    def insert(self, specimen: Specimen) -> None:
        """Put in a fresh specimen."""
        with self._lock:
            self.cancel()
            self.microscope.insert(specimen)
            self._idle_since_s = time.perf_counter()

    @property
    def delivered(self) -> Delivered:
        """Electrons delivered up to now."""
        with self._lock:
            self._count_idle()
            return self.microscope.delivered

    def _control_changed(self, name: str) -> None:
        self._count_idle()

    def _count_idle(self) -> None:
        """Count the electrons of the idle time since the last call, and look at the beam again."""
        with self._lock:
            now_s = time.perf_counter()
            if self._idle_since_s is not None:
                position = self._parked_nm or self._resting_nm
                self.microscope.idle((now_s - self._idle_since_s) * 1e6, self._beam, position)
                self._idle_since_s = now_s
            self._beam = self._column.beam

    def set_beam_gate(self, on: bool) -> None:
        """Whether the beam is on the specimen only while it dwells on the positions of a frame."""
        with self._lock:
            self._count_idle()
            self.microscope.gated = on

    # frame parameters and probe

    @property
    def current_frame_parameters(self) -> scan_base.ScanFrameParameters:
        return self._parameters

    def set_frame_parameters(self, frame_parameters: scan_base.ScanFrameParameters) -> None:
        """The parameters of the frames to come. Raises DeviceDisconnectedError."""
        self._check_connection()
        self._parameters = KitScanDevice.ScanFrameParameters(frame_parameters.as_dict())
        self.microscope.prepare(context_of(self._parameters).pixel_nm, self._enabled_channels, self._column.beam)

    def save_frame_parameters(self) -> None:
        """Swift keeps the scan settings; there is nothing to save."""

    def set_scan_context_probe_position(
        self, scan_context: stem_controller.ScanContext, probe_position: Geometry.FloatPoint | None
    ) -> None:
        """Where the beam stands between frames; without a position it stays where the last frame ended."""
        size, center = scan_context.size.as_tuple(), scan_context.center_nm.as_tuple()
        self._park(Context(size, scan_context.fov_nm, scan_context.rotation_rad, center), probe_position)

    def set_idle_position_by_percentage(self, x: float, y: float) -> None:
        """Where the beam stands between frames, in fractions of the last context; negative ones undo it."""
        self._park(context_of(self._parameters), None if x < 0 or y < 0 else Geometry.FloatPoint(y, x))

    def _park(self, context: Context, position: Geometry.FloatPoint | None) -> None:
        at = None if position is None else context.to_nm(np.array([[position.y, position.x]]))[0]
        with self._lock:
            self._count_idle()
            self._parked_nm = None if at is None else (float(at[0]), float(at[1]))

    @property
    def probe_nm(self) -> Point:
        """Where the beam is on the specimen now, ``(y, x)``."""
        with self._lock:
            frame = self._frame
            if frame is None or frame.cancelled:
                y, x = self._parked_nm or self._resting_nm
            else:
                at = self._clock_pixels - 1 if frame.clocked else frame.exposure.done
                y, x = frame.position_nm(at)
            stage_y, stage_x = self._column.beam.stage_nm
            return y - stage_y, x - stage_x

    def expose(self, exposure_s: float) -> None:
        """A camera takes a frame: with a gate the standing beam is on the specimen for just as long."""
        with self._lock:
            if self.microscope.gated and not self.is_scanning:
                self._count_idle()
                self.microscope.stand(exposure_s * 1e6, self._beam, self._parked_nm or self._resting_nm)

    # frames

    @property
    def is_scanning(self) -> bool:
        frame = self._frame
        return frame is not None and not frame.cancelled

    def start_frame(self, is_continuous: bool) -> int:
        """Begin a frame unless one is being scanned; its number.

        Raises DeviceDisconnectedError, and InvalidInputError if the frame cannot be scanned.
        """
        with self._lock:
            if not self.is_scanning:
                self._recent.clear()
                self._begin_frame()
            return self._frame_number

    def _check_connection(self) -> None:
        if not self._connected:
            raise DeviceDisconnectedError(f"{self.scan_device_name} is disconnected.")

    def _begin_frame(self) -> Frame:
        self._check_connection()
        fault = self._faults.next()
        if fault is FaultKind.DISCONNECTION:
            self._connected = False
            self._check_connection()
        parameters = self._parameters
        exposure = self.microscope.start(geometry_of(parameters), parameters.pixel_time_us, self._enabled_channels)
        self._count_idle()
        self._idle_since_s = None
        self._frame_number += 1
        self._clock_pixels = 0
        clocked = parameters.get_parameter("external_clock_mode", 0) != 0
        self._frame = Frame(self._frame_number, exposure, parameters, time.perf_counter(), fault, clocked)
        return self._frame

    def read_partial(self, frame_number: int | None, pixels_to_skip: int) -> ReadResult:
        """Continue the frame for a moment, or begin the next one, and return what there is of it (see Nion's kit)."""
        with self._lock:
            self._check_connection()
            frame = self._frame or self._begin_frame()
            self._beam = self._column.beam
            deadline_s = frame.expose(self._beam, self._clock_pixels)
        wait_until(deadline_s)
        with self._lock:
            return self._result(frame, pixels_to_skip // frame.exposure.geometry.shape[1])

    def _result(self, frame: Frame, first_row: int) -> ReadResult:
        if frame.fault is FaultKind.DROPPED_SEGMENT:
            self._end_frame(frame)
            elements, number = self._last or ([], frame.number)
            return elements, True, False, ((0, 0), frame.exposure.geometry.shape), number, 0
        result = frame.read(first_row)
        if result[1]:
            self._end_frame(frame)
            self._last = list(result[0]), frame.number
            self._recent.append(self._last[0])
        return result

    def _end_frame(self, frame: Frame) -> None:
        """The beam rests where the frame ended; its dose is on the specimen."""
        if frame is self._frame:
            self._frame = None
        if not frame.cancelled:
            now_s = time.perf_counter()
            planned_s = frame.start_s + frame.exposure.duration_us * 1e-6
            self._rest(frame, now_s if frame.clocked else min(planned_s, now_s))

    def _rest(self, frame: Frame, since_s: float) -> None:
        exposure = frame.exposure
        exposure.finish()
        self._resting_nm = frame.position_nm(exposure.done - 1)
        self._idle_since_s = since_s

    def cancel(self) -> None:
        """End the frame now; what was not measured stays zero."""
        with self._lock:
            if self._frame and not self._frame.cancelled:
                self._frame.cancelled = True
                self._rest(self._frame, time.perf_counter())

    def stop(self) -> None:
        """Scan no further frame after this one, which is what happens anyway if nobody reads one."""

    # frames driven by a camera

    def prepare_synchronized_scan(
        self, scan_frame_parameters: scan_base.ScanFrameParameters, *, camera_exposure_ms: float, **kwargs: typing.Any
    ) -> None:
        """Let the camera say when the beam moves on."""
        scan_frame_parameters.set_parameter("pixel_time_us", min(5120000.0, 1000 * camera_exposure_ms))
        scan_frame_parameters.set_parameter("external_clock_wait_time_ms", 20000)
        scan_frame_parameters.set_parameter("external_clock_mode", 1)

    def advance_pixel(self, do_sync: bool = False) -> None:
        """A frame of the camera begins: the beam moves to the next position. It may wait for the scan to begin."""
        give_up_s = time.perf_counter() + 5.0
        while do_sync and not self.is_scanning and time.perf_counter() < give_up_s:
            time.sleep(SLICE_S)
        with self._lock:
            self._clock_pixels += 1

    @property
    def current_probe_position(self) -> Geometry.FloatPoint:
        """Position of the beam in fractions of the context, while a camera drives the scan."""
        with self._lock:
            if not self._frame:
                return Geometry.FloatPoint(0.5, 0.5)
            context = context_of(self._parameters)
            y, x = self._frame.position_nm(self._clock_pixels - 1)
            offset = Geometry.FloatPoint(y - context.center_nm[0], x - context.center_nm[1]).rotate(
                -context.rotation_rad
            )
            height, width = (n * context.pixel_nm for n in context.size_px)
            return Geometry.FloatPoint(offset.y / height + 0.5, offset.x / width + 0.5)

    # recent frames

    def set_sequence_buffer_size(self, buffer_size: int) -> None:
        self._recent.reserve(buffer_size)

    def get_sequence_buffer_count(self) -> int:
        return len(self._recent.frames)

    def pop_sequence_buffer_data(self) -> list[DataElement]:
        return self._recent.pop()

    def get_buffer_data(self, start: int, count: int) -> list[list[DataElement]]:
        return self._recent.slice(start, count)
