"""The simulated instrument's camera: the bright-field disk as its diffraction shift really moves it.

Where the specimen's potential is known the disk holds the diffraction pattern of the place where the beam is.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import threading
import time
import typing

import numpy as np
from nion.data import Calibration, DataAndMetadata
from nion.device_kit import CameraDevice
from nion.instrumentation import stem_controller
from nion.utils import Geometry

from adaptive_core.dose import electrons
from adaptive_core.ports import ImageArray
from adaptive_core.simulation.disk_image import (
    SpecimenContrast,
    disk_radius_px,
    draw_contrast,
    electrons_per_px,
    expected_disk,
    expose,
)
from adaptive_core.simulation.ptychography_probe import Optics
from adaptive_core.simulation.settings import InstrumentSettings
from adaptive_core.simulation.settling import SettlingShift
from adaptive_core.simulation.shift_world import (
    HALF_SCREEN_PX,
    NOMINAL_GAIN_PX,
    ShiftWorldState,
    draw_noise,
    draw_worlds,
)
from simulator_device.instrument import SENSOR_PX, Column
from simulator_device.scan_device import ScanDevice

CAMERA_ID = "adaptive_simulator_camera"
RAD_PER_PX = 0.4e-3  # at the camera length of 0.1 m, without binning
COUNTS_PER_ELECTRON = 8.0
SHIFT_CONTROLS = ("DiffractionShift", "CAperture")
"""Controls that move the disk, in rad; the first one that the STEM controller in charge has."""
_WORLD_PX = SENSOR_PX / (2 * HALF_SCREEN_PX)
"""Sensor px of one px of a world's screen, at the camera length of 0.1 m."""
_RAD_PER_UNIT = NOMINAL_GAIN_PX * _WORLD_PX * RAD_PER_PX
"""Change of the control that is one unit of a world's command."""
_FRAME_S = 0.05
"""Time of one of a world's frames. While nothing is exposed the disk does not drift, but it comes to rest."""


@dataclasses.dataclass(frozen=True)
class CameraState:
    """What a frame of the camera depends on.

    Attributes:
        beam_current_pa: beam current.
        blanked: no beam.
        optics: beam energy, convergence semi-angle and defocus.
        camera_length_m: effective camera length.
        shift_rad: (y, x), value of the control that moves the disk.
    """

    beam_current_pa: float
    blanked: bool
    optics: Optics
    camera_length_m: float
    shift_rad: tuple[float, float]

    @property
    def rad_per_px(self) -> float:
        """Angle of an unbinned pixel."""
        return RAD_PER_PX * 0.1 / self.camera_length_m


def camera_state(column: Column) -> CameraState:
    """The state of the instrument as the camera sees it."""
    beam = column.beam
    return CameraState(
        beam_current_pa=beam.current_pa,
        blanked=beam.blanked,
        optics=column.optics,
        camera_length_m=column.instrument.GetVal("CameraLength"),
        shift_rad=asked_shift(column),
    )


def asked_shift(column: Column) -> tuple[float, float]:
    """Value (y, x) of the control that moves the disk, rad."""
    has_control = (name for name in SHIFT_CONTROLS if column.controller.TryGetVal(f"{name}.x")[0])
    return column.point(next(has_control, SHIFT_CONTROLS[0]))


class DiskPosition:
    """Where the disk is on the camera: exactly where its control puts it, or as in a world of shift_world.

    A world begins with the disk off the middle, whatever the value of the control is.

    Args:
        settings: the instrument's; its camera's ``world`` and its seed choose the world.
    """

    def __init__(self, settings: InstrumentSettings) -> None:
        family = settings.camera.world
        self._rng = np.random.default_rng([settings.seed, 101])
        self._world = None if family is None else ShiftWorldState(draw_worlds(family, 1, self._rng))
        self._begin: tuple[float, float] | None = None
        self._last_s = time.monotonic()

    def next_frame(self, shift_rad: tuple[float, float], still_s: float = 0.0) -> tuple[float, float]:
        """Direction (y, x) of the disk in rad, from the middle of the camera, in the next frame.

        ``still_s``: for how long the control had not been moved when the frame was begun. After the time of two frames
        all of the last move has arrived, and is seen.
        """
        if self._world is None:
            return shift_rad
        now_s = time.monotonic()
        elapsed = min((now_s - self._last_s) / _FRAME_S, 1.0)
        self._last_s = now_s
        self._begin = self._begin or shift_rad
        move = (np.array(shift_rad) - self._begin) / _RAD_PER_UNIT - self._world.command[0]
        shown_px = self._world.step(move[None], draw_noise(1, self._rng), elapsed)
        for _ in range(int(min(still_s / _FRAME_S, 2.0))):
            shown_px = self._world.step(np.zeros((1, 2)), draw_noise(1, self._rng), 0.0)
        y, x = (shown_px[0] * (_WORLD_PX * RAD_PER_PX)).tolist()
        return y, x


class CameraSimulator(CameraDevice.CameraSimulatorLike):
    """Draws the frames of the camera from the state of the column.

    Attributes:
        clock: tells the time in which the disk follows its control, s; another one takes effect with a restart.
    """

    def __init__(self, column: Column, settings: InstrumentSettings, scan_device: ScanDevice) -> None:
        self._column = column
        self._scan_device = scan_device
        self._lock = threading.Lock()
        self.clock: collections.abc.Callable[[], float] = time.monotonic
        self.restart(settings)
        self._listener = column.controller.property_changed_event.listen(self._control_changed)

    def close(self) -> None:
        """Stop listening to the controls."""
        self._listener.close()

    def _control_changed(self, name: str) -> None:
        if name in SHIFT_CONTROLS:
            # The disk begins to move now, not with the next frame.
            self._shift.ask(asked_shift(self._column))

    def restart(self, settings: InstrumentSettings) -> None:
        """Begin again with these settings."""
        with self._lock:
            self._rng = np.random.default_rng([settings.seed, 100])
            self._settings = settings.camera
            self._contrast: SpecimenContrast | None = draw_contrast(settings.camera.in_beam, self._rng)
            self._position = DiskPosition(settings)
            self._shift = SettlingShift(
                asked_shift(self._column),
                settings.camera.shift_latency_s,
                settings.camera.shift_settle_s,
                self.clock,
            )

    def get_dimensional_calibrations(
        self, readout_area: Geometry.IntRect | None, binning_shape: Geometry.IntSize | None
    ) -> collections.abc.Sequence[Calibration.Calibration]:
        """Calibrations (y, x) in rad, zero at the centre of the sensor."""
        height, width = readout_area.size.as_tuple() if readout_area else (SENSOR_PX, SENSOR_PX)
        binning = binning_shape.height if binning_shape else 1
        scale = camera_state(self._column).rad_per_px
        return [Calibration.Calibration(-scale * n / 2, scale * binning, "rad") for n in (height, width)]

    def get_frame_data(
        self,
        readout_area: Geometry.IntRect,
        binning_shape: Geometry.IntSize,
        exposure_s: float,
        scan_context: stem_controller.ScanContext,
        probe_position: Geometry.FloatPoint | None,
    ) -> DataAndMetadata.DataAndMetadata:
        """A frame with the beam as it is now, where the scan device has put it."""
        binning = binning_shape.height
        still_s = self._shift.unchanged_s()
        self._scan_device.expose(exposure_s)
        with self._lock:
            frame = self._render(camera_state(self._column), exposure_s, binning, still_s)
        top, left = readout_area.top // binning, readout_area.left // binning
        height, width = readout_area.height // binning, readout_area.width // binning
        return DataAndMetadata.new_data_and_metadata(
            frame[top : top + height, left : left + width],
            dimensional_calibrations=self.get_dimensional_calibrations(readout_area, binning_shape),
        )

    def _render(self, state: CameraState, exposure_s: float, binning: int, still_s: float) -> ImageArray:
        """One frame in counts, shape (SENSOR_PX // binning, SENSOR_PX // binning), float32."""
        side = SENSOR_PX // binning
        rad_per_px = state.rad_per_px * binning
        self._shift.ask(state.shift_rad)  # of a controller that does not tell of its changes
        direction = self._position.next_frame(self._shift.now(), still_s)
        y, x = (angle / rad_per_px + side / 2 for angle in direction)
        camera = self._settings.model((side, side))
        potential = self._scan_device.microscope.specimen.potential
        mean: ImageArray | None = None
        if potential is None:
            radius = disk_radius_px(state.optics.convergence_mrad, rad_per_px * 1e3)
            mean = None if state.blanked else expected_disk((y, x), radius, camera, self._contrast)
            scale = electrons_per_px(state.beam_current_pa, exposure_s, radius)
        else:
            if not state.blanked:
                middle = y - 0.5, x - 0.5
                mean = potential.pattern(self._scan_device.probe_nm, state.optics, rad_per_px * 1e3, side, middle)
            scale = electrons(state.beam_current_pa, exposure_s * 1e6)
        return expose(mean, scale, camera, self._rng) * np.float32(COUNTS_PER_ELECTRON)


class Camera(CameraDevice.Camera):
    """The camera device.

    As part of the whole instrument it is Swift's "ronchigram" camera; beside another one it has a type of its own, so
    that it does not take the place of the other's cameras.
    """

    def __init__(self, column: Column, settings: InstrumentSettings, scan_device: ScanDevice) -> None:
        self.frames = CameraSimulator(column, settings, scan_device)
        camera_type = "adaptive_simulator" if scan_device.scan_device_is_secondary else "ronchigram"
        super().__init__(CAMERA_ID, camera_type, "Adaptive Simulator Camera", self.frames, column.instrument)

    @property
    def calibration_controls(self) -> collections.abc.Mapping[str, str | int | float]:
        """Calibrations in rad with the origin at the centre, which need no control of the instrument."""
        scale = self.frames.get_dimensional_calibrations(None, None)[0].scale
        axis: dict[str, typing.Any] = {}
        for name in ("x", "y"):
            axis |= {f"{name}_scale_value": scale, f"{name}_units_value": "rad", f"{name}_origin_override": "center"}
        return axis | {"intensity_units_value": "counts", "counts_per_electron_value": COUNTS_PER_ELECTRON}


class CameraModule(CameraDevice.CameraModule):
    """What is registered with Swift."""

    def __init__(self, stem_controller_id: str, camera: Camera, is_secondary: bool) -> None:
        super().__init__(stem_controller_id, camera, CameraDevice.CameraSettings(CAMERA_ID, base_exposure=0.05))
        self.priority = 5 if is_secondary else 20
