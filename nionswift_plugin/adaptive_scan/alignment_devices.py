"""Swift's cameras and two-dimensional controls behind the ports of the alignment."""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import threading
import time
import typing
import weakref

import numpy as np
from nion.instrumentation import HardwareSource, camera_base, stem_controller
from nion.utils import Geometry, Registry

from adaptive_core.errors import (
    AdaptiveScanError,
    DeviceDataError,
    DeviceError,
    DeviceTimeoutError,
    InvalidInputError,
    ScanCancelledError,
)
from adaptive_core.ports import ImageArray
from nionswift_plugin.adaptive_scan.device_thread import DeviceThread

Camera = camera_base.CameraHardwareSource
Point = tuple[float, float]

KNOWN_CONTROLS = ("DiffractionShift", "CAperture")
"""Controls that move the disk on instruments that we know: our simulator's and usim's."""
CONFIRM_TIMEOUT_MS = 3000
_LONGER_S = 3.0
"""How much longer than three exposures a frame may take."""
_POLL_S = 0.02
_GRACE_S = 0.1
"""How long a frame that is no longer wanted has to end, before it is left behind."""
_STOPPED = "The camera was stopped."
_exposing: weakref.WeakSet[Camera] = weakref.WeakSet()
"""Cameras that have not ended a frame yet. A frame that was left behind outlives its alignment; until it has ended no
other is asked for, because the device could answer with the late one."""
_MRAD = {"rad": 1e3, "mrad": 1.0}


def cameras() -> list[Camera]:
    """The cameras that take images, ronchigram cameras first, and else by name."""
    sources = [
        typing.cast(Camera, source)
        for source in HardwareSource.HardwareSourceManager().hardware_sources
        if source.features.get("is_camera", False) and not source.features.get("is_eels_camera", False)
    ]
    return sorted(
        sources,
        key=lambda source: (not source.features.get("is_ronchigram_camera", False), source.display_name),
    )


def find_camera(camera_id: str | None) -> Camera:
    """The camera with this identifier, by default the first one. Raises InvalidInputError."""
    found = {source.hardware_source_id: source for source in cameras()}
    if camera_id is None and found:
        return next(iter(found.values()))
    if camera_id is None or camera_id not in found:
        raise InvalidInputError(f"There is no camera {camera_id or ''}; there are: {', '.join(found) or 'none'}.")
    return found[camera_id]


def find_stem_controller(device: str | None) -> stem_controller.STEMController:
    """The STEM controller with this identifier, by default the one in charge. Raises InvalidInputError."""
    in_charge = typing.cast("stem_controller.STEMController | None", Registry.get_component("stem_controller"))
    if in_charge is None:
        raise InvalidInputError("There is no STEM controller, so that nothing can move the disk.")
    if device is None:
        return in_charge
    found = {getattr(each, "instrument_id", ""): each for each in Registry.get_components_by_type("stem_controller")}
    if device not in found:
        raise InvalidInputError(f"There is no STEM controller {device!r}; there are: {', '.join(sorted(found))}.")
    return typing.cast(stem_controller.STEMController, found[device])


def default_control(controller: stem_controller.STEMController, axis: str) -> str | None:
    """The first known control that the instrument has; None if it has none of them."""
    axes = _axes(controller, axis)
    return next((name for name in KNOWN_CONTROLS if controller.TryGetVal(f"{name}.{axes[0]}")[0]), None)


def control_value(controller: stem_controller.STEMController, name: str) -> float | None:
    """A one-dimensional control; None where there is none."""
    exists, value = controller.TryGetVal(name) if name else (False, None)
    return float(value) if exists and value is not None and math.isfinite(value) else None


class SwiftShift:
    """A 2D control of a STEM controller, as a DiffractionShift.

    Args:
        controller: the STEM controller.
        name: of the control; it must have both parts, ``name.x`` and ``name.y`` or those of the axis.
        axis: Swift's name of the axes in which it is set.
        limit: largest magnitude.
        settle_s: time after a move until a frame may begin.

    Raises:
        InvalidInputError: the instrument has no such control, or it has but one dimension.
    """

    def __init__(
        self,
        controller: stem_controller.STEMController,
        name: str,
        axis: str = "tv",
        limit: float = math.inf,
        settle_s: float = 0.0,
    ) -> None:
        self._controller = controller
        self._name = name
        self._axis = _axes(controller, axis)
        self.limit = limit
        self._settle_s = settle_s
        for part in self._axis:
            if not name or not controller.TryGetVal(f"{name}.{part}")[0]:
                raise InvalidInputError(f"The instrument has no 2D control {name!r}: {name}.{part} does not exist.")
        try:
            self.get()
        except DeviceError as error:
            # usim answers for any part of a one-dimensional control.
            raise InvalidInputError(f"The instrument has no 2D control {name!r} that can be read.") from error

    def get(self) -> Point:
        """The present value (y, x). Raises DeviceError."""
        try:
            value = self._controller.GetVal2D(self._name, axis=self._axis)
        except Exception as error:  # vendors raise what they like
            raise DeviceError(f"The control {self._name} cannot be read: {error!r}") from error
        return float(value.y), float(value.x)

    def set(self, value: Point) -> float:
        """Set the control and wait until it has settled. Raises DeviceError if it does not take the value."""
        before, point = self.get(), Geometry.FloatPoint(y=value[0], x=value[1])
        try:
            taken = self._controller.SetVal2DAndConfirm(
                self._name, point, 1.0, CONFIRM_TIMEOUT_MS, axis=self._axis
            ) or self._controller.SetVal2D(self._name, point, axis=self._axis)
        except Exception as error:
            raise DeviceError(f"The control {self._name} cannot be set: {error!r}") from error
        found = self.get()
        if not taken or math.dist(found, value) > 0.1 * math.dist(before, value) + 1e-9 * math.hypot(*value):
            raise DeviceError(
                f"The control {self._name} did not take the value ({value[0]:.5g}, {value[1]:.5g}); "
                f"it is at ({found[0]:.5g}, {found[1]:.5g})."
            )
        time.sleep(self._settle_s)
        return time.monotonic()


class SwiftDiskCamera:
    """A camera of Swift, as a DiskCamera: each frame is an exposure of its own, which begins when it is asked for.

    The frames of a live view would have to be thrown away until one begins after the move; so the view is stopped in
    :meth:`session`, and goes on afterwards. Frames are asked of the camera *device*, as Swift's recordings do: those
    would also update a data item for each frame, for which the user interface needs longer than a frame takes.
    """

    def __init__(self, source: Camera) -> None:
        self.source = source
        self.parameters = source.get_current_frame_parameters()
        self.parameters.processing = None
        self.set_exposure(self.parameters.exposure_ms)
        self._cancelled = threading.Event()

    def set_exposure(self, exposure_ms: float) -> None:
        """Take frames with another exposure than that of Swift's settings."""
        self.parameters.exposure_ms = exposure_ms
        self.timeout_s = 3e-3 * exposure_ms + _LONGER_S

    @property
    def shape(self) -> tuple[int, int]:
        """Of a frame, (height, width)."""
        height, width = self.source.get_expected_dimensions(self.parameters.binning)
        return int(height), int(width)

    @property
    def mrad_per_px(self) -> float | None:
        """Angle of a px of a frame; None if the camera is not calibrated in angles."""
        calibrations = self.source.get_camera_calibrations(self.parameters)
        scales = [abs(c.scale) * _MRAD.get(c.units, math.nan) for c in calibrations]
        mean = float(np.mean(scales)) if len(scales) == 2 else math.nan
        return mean if math.isfinite(mean) and mean > 0 else None

    def position_px(self, angle_rad: Point) -> Point:
        """Where an angle (y, x) is on a frame. Raises InvalidInputError if the camera is not calibrated."""
        calibrations = self.source.get_camera_calibrations(self.parameters)
        if self.mrad_per_px is None:
            raise InvalidInputError(f"{self.source.display_name} is not calibrated in rad.")
        y, x = (
            float(c.convert_from_calibrated_value(angle * 1e3 / _MRAD[c.units]))
            for c, angle in zip(calibrations, angle_rad, strict=True)
        )
        return y, x

    @contextlib.contextmanager
    def session(self) -> typing.Iterator[None]:
        """Stop the live view, and let it go on at the end. Raises DeviceError if it does not stop."""
        was_playing = self.source.is_playing
        try:
            if was_playing:
                self.source.abort_playing()
                deadline = time.monotonic() + self.timeout_s
                while self.source.is_playing:
                    if time.monotonic() > deadline:
                        raise DeviceTimeoutError(f"{self.source.display_name} did not stop its live view.")
                    time.sleep(0.002)
            yield
        finally:
            if was_playing and not self.source.is_playing:
                self.source.start_playing()

    def cancel(self) -> None:
        """Let a frame that is being taken, and every later one, end with ScanCancelledError."""
        self._cancelled.set()

    def grab(self, after: float | None = None) -> tuple[ImageArray, float]:
        """A frame that began after the monotonic time ``after``, and when it began at the earliest.

        Raises DeviceTimeoutError, DeviceDataError, DeviceError, or ScanCancelledError after :meth:`cancel`.
        """
        self._wait_until(after or 0.0)
        name = self.source.display_name
        if self.source.is_recording or self.source.is_playing or self.source in _exposing:
            raise DeviceError(f"{name} is in use.")
        begun = time.monotonic()
        _exposing.add(self.source)
        # A device that hangs is left behind with its thread.
        thread = DeviceThread(f"a frame of {name}")
        try:
            frame = thread.call(self._expose, self.timeout_s, self._cancelled, _GRACE_S)
        except concurrent.futures.CancelledError as error:
            self._leave_behind()
            raise ScanCancelledError(_STOPPED) from error
        except TimeoutError as error:
            self._leave_behind()
            raise DeviceTimeoutError(f"{name} gave no frame within {self.timeout_s:.3g} s.") from error
        except AdaptiveScanError:
            raise
        except Exception as error:  # vendors raise what they like
            raise DeviceError(f"{name} failed to take a frame: {error!r}") from error
        finally:
            thread.close()
        if frame.ndim != 2 or not np.isfinite(frame).all():
            raise DeviceDataError(f"{name} gave data of the shape {frame.shape} that are no finite image.")
        return frame, begun

    def _expose(self) -> ImageArray:
        """Take a frame; on a thread of its own."""
        device = self.source.camera
        try:
            partial = device.acquire_single_begin(camera_base.CameraFrameParameters(self.parameters.as_dict()))
            while not (partial.is_complete or partial.is_canceled):
                if self._cancelled.is_set():
                    device.acquire_single_cancel()
                    raise ScanCancelledError(_STOPPED)
                partial = device.acquire_single_continue(update_period=_POLL_S)
        finally:
            try:
                device.acquire_single_end()
            finally:
                _exposing.discard(self.source)
        if not partial.is_complete:
            raise DeviceError(f"{self.source.display_name} stopped before the frame was complete.")
        return np.array(partial.xdata.data, dtype=np.float32)

    def _wait_until(self, moment: float) -> None:
        if self._cancelled.wait(max(moment - time.monotonic(), 0.0)):
            raise ScanCancelledError(_STOPPED)

    def _leave_behind(self) -> None:
        """Ask a frame that does not come to end, without waiting for the device."""
        threading.Thread(target=self.source.camera.acquire_single_cancel, name="camera cancel", daemon=True).start()


def _axes(controller: stem_controller.STEMController, axis: str) -> stem_controller.AxisType:
    """The parts' names (x, y) of an axis. Raises InvalidInputError for an axis that the instrument does not have."""
    names = [description.axis_id for description in controller.axis_descriptions]
    if names and axis not in names:
        raise InvalidInputError(f"The instrument has no axis {axis!r}; there are {', '.join(names)}.")
    return controller.resolve_axis(axis) or ("x", "y")
