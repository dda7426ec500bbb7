"""Any scan device of Nion Swift as a :class:`adaptive_core.ports.PathScanner`.

A segment is a rotated subscan of one row, which every scan device of Swift understands. A list of positions travels in
the frame parameter ``scan_path`` where the device advertises it (``supports_scan_path``), as ``[[y, x], ...]`` in
fractions of the unrotated context; elsewhere it is cut into segments.

A device whose blanker follows the scan says so by ``supports_beam_gate``: while ``set_beam_gate(True)`` holds, the beam
is on the specimen only for the dwell time of each position. Else the beam is on for as long as a command takes.

The scanner talks to the scan *device*, below Swift's acquisition tasks: that saves 20 ms a segment. Nothing locks a
scan device, so every answer is checked for being the one that was asked for.
"""

from __future__ import annotations

import collections.abc
import concurrent.futures
import contextlib
import functools
import logging
import threading
import time

import numpy as np
from nion.instrumentation import scan_base

from adaptive_core.errors import (
    AdaptiveScanError,
    DeviceDisconnectedError,
    DeviceError,
    DeviceTimeoutError,
    InvalidInputError,
)
from adaptive_core.ports import ScannerAbilities, ScannerSetup
from adaptive_core.scan_path import Action, Positions, Segment, as_segments, segment_to_subscan
from nionswift_plugin.adaptive_scan.beam import Beam, BeamSettings, beam_current_pa, make_beam
from nionswift_plugin.adaptive_scan.device_thread import DeviceThread
from nionswift_plugin.adaptive_scan.frame_reader import Frame, FrameReader
from nionswift_plugin.adaptive_scan.putting_back import putting_back
from nionswift_plugin.adaptive_scan.scan_region import ScanRegion, context_parameters

logger = logging.getLogger(__name__)

_STOP_VIEW_S = 5.0
"""How long the live view may take to stop."""
_CANCEL_GRACE_S = 0.1
"""How long a device has to come back after it was cancelled, before it is left behind."""
_EDGE_PX = 1e-6
"""Distance by which rounding may carry a position over the region's edge."""

_taken: set[str] = set()
"""Identifiers of the devices that are in a session; Swift itself does not lock a scan device."""
_taken_lock = threading.Lock()


class SwiftScanner:
    """Scans paths in a region with a scan device of Swift; one scanner serves one run.

    Args:
        hardware_source: the scan device as Swift knows it.
        region: where to scan.
        parameters: context and dwell time; Swift's present ones by default.
        channels: indexes of the recorded channels, the one that is completed live first; by default the enabled ones.
        beam: how the instrument's beam is blanked, and where its current is found.
        restart_view: whether a live view that had to be stopped goes on afterwards.
        timeout_s: how much longer than its beam time a command may take.

    Raises:
        InvalidInputError: if the device cannot do such a scan; nothing has moved then.
    """

    def __init__(
        self,
        hardware_source: scan_base.ScanHardwareSource,
        region: ScanRegion,
        *,
        parameters: scan_base.ScanFrameParameters | None = None,
        channels: collections.abc.Sequence[int] | None = None,
        beam: BeamSettings | None = None,
        restart_view: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        self._hardware_source = hardware_source
        self._device = hardware_source.scan_device
        self._region = region
        self._beam_settings = beam or BeamSettings()
        self._restart_view = restart_view
        self._timeout_s = timeout_s
        self._channels = tuple(hardware_source.get_enabled_channel_indexes() if channels is None else channels)
        self._context = context_parameters(parameters or hardware_source.get_current_frame_parameters())
        self._context.enabled_channel_indexes = sorted(self._channels)
        self._context_dict = self._context.as_dict()
        self._check_fit()
        self._gates = bool(getattr(self._device, "supports_beam_gate", False))
        self.abilities = ScannerAbilities(
            positions_per_command=_positions_per_command(self._device),
            shortest_dwell_us=float(getattr(self._device, "shortest_dwell_us", 0.0)),
            can_blank=self._gates or self._make_beam().blanks,
            gates_beam=self._gates,
        )
        self.setup = ScannerSetup(
            size_px=region.size_px,
            pixel_size_nm=region.pixel_size_nm,
            dwell_us=float(self._context.pixel_time_us),
            channels=tuple(self._device.get_channel_name(index) for index in self._channels),
            beam_current_pa=beam_current_pa(hardware_source.stem_controller, self._beam_settings),
        )
        if self.setup.dwell_us < self.abilities.shortest_dwell_us:
            raise InvalidInputError(
                f"The dwell time must be at least {self.abilities.shortest_dwell_us:g} us on {self.device_id}, "
                f"not {self.setup.dwell_us:g} us."
            )
        self._beam: Beam | None = None
        self._exposed_us = 0.0
        self._thread: DeviceThread | None = None
        self._stopped = threading.Event()
        self._reader = FrameReader(hardware_source, self._channels, self._stopped)

    @property
    def device_id(self) -> str:
        """Swift's identifier of the scan device."""
        return self._device.scan_device_id

    @property
    def channels(self) -> tuple[int, ...]:
        """Indexes of the recorded channels, in the order of ``setup.channels``."""
        return self._channels

    @property
    def region(self) -> ScanRegion:
        """Where it scans."""
        return self._region

    @property
    def context(self) -> scan_base.ScanFrameParameters:
        """A copy of the context's frame parameters, with dwell time and enabled channels."""
        return context_parameters(self._context)

    def check(self, action: Action) -> None:
        """Raise InvalidInputError if the action leaves the region or is beyond the device; never moves the beam."""
        if isinstance(action, Segment):
            ends = np.array([action.start, action.end])
            if action.probes > 1 and action.start == action.end:
                raise InvalidInputError("A segment of several probe positions needs two different ends.")
        else:
            ends = action.positions
            limit = self.abilities.positions_per_command
            if 0 < limit < action.probes:
                raise InvalidInputError(
                    f"{self.device_id} takes at most {limit} positions in one command, not {action.probes}."
                )
        height, width = self.setup.size_px
        outside = ends[np.any((ends < -_EDGE_PX) | (ends > np.array([height, width]) + _EDGE_PX), axis=1)]
        if len(outside):
            y, x = outside[0]
            raise InvalidInputError(
                f"Probe positions must lie in the region of {height} x {width} px; ({y:.2f}, {x:.2f}) px does not."
            )

    @contextlib.contextmanager
    def session(self) -> collections.abc.Iterator[None]:
        """Take the device: stop its live view and blank or park the beam; put the rest back on every way out.

        Afterwards the beam stays blanked or parked outside the region, unless the live view goes on.
        """
        source, stem = self._hardware_source, self._hardware_source.stem_controller
        if source.is_recording:
            raise DeviceError(f"{self.device_id} is recording; an adaptive scan must wait until it has finished.")
        with contextlib.ExitStack() as stack:
            stack.enter_context(taking(self.device_id))
            beam = self._make_beam()
            if self._stop_view() and self._restart_view:
                stack.push(putting_back(self.device_id, "the live view", source.start_playing))
                stack.push(putting_back(self.device_id, "the beam", beam.put_back))
            stem._enter_scanning_state()
            stack.push(putting_back(self.device_id, "the scanning state", stem._exit_scanning_state))
            stack.push(putting_back(self.device_id, "the scan settings", self._put_back_parameters))
            enabled = list(source.get_enabled_channel_indexes())
            if set(enabled) != set(self._channels):
                stack.push(
                    putting_back(self.device_id, "the channels", functools.partial(self._enable_channels, enabled))
                )
                self._enable_channels(self._channels)
            thread = DeviceThread(f"adaptive scan on {self.device_id}")
            stack.callback(thread.close)
            if self._gates:
                stack.push(putting_back(self.device_id, "the beam's gate", functools.partial(self._set_gate, False)))
            stack.push(putting_back(self.device_id, "the beam", beam.rest))
            beam.rest()
            if self._gates:
                self._set_gate(True)
            self._beam, self._thread = beam, thread
            try:
                yield
            finally:
                self._exposed_us = self.beam_on_us
                self._beam = self._thread = None

    @property
    def beam_on_us(self) -> float:
        """Time for which the specimen was exposed so far (us), see :class:`adaptive_core.ports.PathScanner`."""
        return self._exposed_us + (0.0 if self._beam is None or self._gates else self._beam.exposed_us)

    def scan(self, action: Action) -> Frame:
        """Carry out one action inside a session; values of shape (channels, probes), float32.

        Raises:
            DeviceTimeoutError: if the device took ``timeout_s`` longer than the beam time.
            DeviceDataError: if it answered with too few values, values that are not finite, or another frame.
            DeviceDisconnectedError: if it went away.
            DeviceError: if it failed in another way, or was taken by another acquisition.
            ScanCancelledError: if :meth:`cancel` was called.
        """
        if isinstance(action, Segment):
            return self._measure(self._segment_parameters(action), action.probes)
        if self.abilities.positions_per_command:
            return self._measure(self._path_parameters(action), action.probes)
        parts = [
            self._measure(self._segment_parameters(segment), segment.probes)
            for segment in as_segments(action.positions)
        ]
        return np.concatenate(parts, axis=1)

    def raster(self) -> Frame:
        """Raster the region pixel by pixel inside a session; values of shape (channels, height, width), float32.

        Raises as :meth:`scan` does.
        """
        return self._read(self._region.raster_parameters(self._context), self.setup.size_px)

    def cancel(self) -> None:
        """Stop this scanner for good, from any thread: the running action and later ones raise ScanCancelledError."""
        self._stopped.set()
        if self._thread is not None:
            try:
                self._device.cancel()
            except Exception as error:
                # A device that has gone away cannot be stopped, and the scan ends all the same.
                logger.warning("%s could not be stopped: %r", self.device_id, error)

    def _measure(self, parameters: scan_base.ScanFrameParameters, probes: int) -> Frame:
        """Values (channels, probes) of one row."""
        return self._read(parameters, (1, probes))[:, 0]

    def _read(self, parameters: scan_base.ScanFrameParameters, shape: tuple[int, int]) -> Frame:
        """Carry out one command of the device, in terms of this project's errors."""
        probes = shape[0] * shape[1]
        beam, thread = self._beam, self._thread
        if beam is None or thread is None:
            raise DeviceError("A scanner scans only inside its session.")
        scanned_us = probes * self.setup.dwell_us
        timeout_s = scanned_us * 1e-6 + self._timeout_s
        read = functools.partial(self._reader.read, beam, parameters, shape)
        before_us = beam.exposed_us
        try:
            values = thread.call(read, timeout_s, self._stopped, _CANCEL_GRACE_S)
        except AdaptiveScanError:
            raise
        except concurrent.futures.CancelledError as error:
            raise self._reader.cancelled() from error
        except TimeoutError as error:
            self.cancel()
            raise DeviceTimeoutError(
                f"{self.device_id} did not scan {probes} probes within {timeout_s:.1f} s."
            ) from error
        except OSError as error:
            raise DeviceDisconnectedError(f"{self.device_id} went away: {error}") from error
        except Exception as error:
            raise DeviceError(f"{self.device_id} failed: {error!r}") from error
        finally:
            exposed_us = beam.exposed_us - before_us
            if self._gates:
                self._exposed_us += min(exposed_us, scanned_us)
        if exposed_us < scanned_us:
            # A simulator may be faster than the beam that it simulates.
            self._exposed_us += scanned_us - exposed_us
        return values

    def _segment_parameters(self, segment: Segment) -> scan_base.ScanFrameParameters:
        geometry = segment_to_subscan(self._region.segment_to_context_px(segment), self._region.context_px)
        return self._frame_parameters(
            subscan_pixel_size=geometry.pixel_size,
            subscan_fractional_size=geometry.fractional_size,
            subscan_fractional_center=geometry.fractional_center,
            subscan_rotation=geometry.rotation_rad,
        )

    def _path_parameters(self, positions: Positions) -> scan_base.ScanFrameParameters:
        # The size makes Swift's plumbing expect one row; the geometry is that of the list.
        return self._frame_parameters(
            subscan_pixel_size=(1, positions.probes),
            subscan_fractional_size=(1 / self._region.context_px[0], 1.0),
            subscan_fractional_center=(0.5, 0.5),
            scan_path=self._region.to_fractions(positions.positions).tolist(),
        )

    def _frame_parameters(self, **parameters: object) -> scan_base.ScanFrameParameters:
        """The context's parameters and these. Swift's own copies are deep ones, which take longer than a segment."""
        return type(self._context)({**self._context_dict, **parameters})

    def _check_fit(self) -> None:
        """Whether channels and context are what the device has."""
        count = self._device.channel_count
        if not self._channels:
            raise InvalidInputError(f"{self.device_id} has no enabled channel; enable one.")
        if len(set(self._channels)) < len(self._channels) or not all(0 <= index < count for index in self._channels):
            raise InvalidInputError(f"{self.device_id} has the channels 0 to {count - 1}, not {self._channels}.")
        size = self._context.pixel_size
        if (size.height, size.width) != self._region.context_px or self._context.fov_nm != self._region.fov_nm:
            raise InvalidInputError("The region belongs to another field of view than the scan.")
        largest = self._device.calculate_max_field_of_view(self._context)
        if self._context.fov_nm > largest:
            raise InvalidInputError(
                f"{self.device_id} has a field of view of at most {largest:g} nm, not {self._context.fov_nm:g} nm."
            )

    def _make_beam(self) -> Beam:
        return make_beam(self._hardware_source, self._beam_settings, self._region.waiting_position())

    def _stop_view(self) -> bool:
        """Stop the live view; whether there was one."""
        was_playing = self._hardware_source.is_playing
        if was_playing:
            self._hardware_source.abort_playing()
            deadline = time.monotonic() + _STOP_VIEW_S
            while self._hardware_source.is_playing:
                if time.monotonic() > deadline:
                    raise DeviceTimeoutError(f"The live view of {self.device_id} did not stop within {_STOP_VIEW_S} s.")
                time.sleep(0.005)
        return was_playing

    def _enable_channels(self, indexes: collections.abc.Sequence[int]) -> None:
        for index in range(self._device.channel_count):
            self._hardware_source.set_channel_enabled(index, index in indexes)

    def _set_gate(self, on: bool) -> None:
        self._device.set_beam_gate(on)  # type: ignore[attr-defined]

    def _put_back_parameters(self) -> None:
        self._device.set_frame_parameters(self._hardware_source.get_current_frame_parameters())


@contextlib.contextmanager
def taking(device_id: str) -> collections.abc.Iterator[None]:
    """Keep other scans of this plug-in off a device. Raises DeviceError if one is using it."""
    with _taken_lock:
        if device_id in _taken:
            raise DeviceError(f"Another adaptive scan is using {device_id}.")
        _taken.add(device_id)
    try:
        yield
    finally:
        with _taken_lock:
            _taken.remove(device_id)


def _positions_per_command(device: scan_base.ScanDevice) -> int:
    """How many free positions the device takes in one command, as it advertises; 0 for none."""
    return int(getattr(device, "max_scan_path_positions", 0)) if getattr(device, "supports_scan_path", False) else 0
