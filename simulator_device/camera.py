"""The simulated instrument's camera, which shows the bright-field disk."""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import typing

import numpy as np
import numpy.typing as npt
from nion.data import Calibration, DataAndMetadata
from nion.device_kit import CameraDevice
from nion.instrumentation import stem_controller
from nion.utils import Geometry

from adaptive_core.dose import electrons
from simulator_device.instrument import SENSOR_PX, Column

CAMERA_ID = "adaptive_simulator_camera"
RAD_PER_PX = 0.4e-3  # at the camera length of 0.1 m, without binning
COUNTS_PER_ELECTRON = 8.0
PEDESTAL = 20.0
READ_NOISE = 2.0


@dataclasses.dataclass(frozen=True)
class CameraState:
    """What a frame of the camera depends on.

    Attributes:
        beam_current_pa: beam current.
        blanked: no beam.
        convergence_rad: convergence semi-angle.
        camera_length_m: effective camera length.
        diffraction_shift_rad: (y, x) of the disk from the centre of the camera.
    """

    beam_current_pa: float
    blanked: bool
    convergence_rad: float
    camera_length_m: float
    diffraction_shift_rad: tuple[float, float]

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
        convergence_rad=column.instrument.GetVal("ConvergenceAngle"),
        camera_length_m=column.instrument.GetVal("CameraLength"),
        diffraction_shift_rad=column.point("DiffractionShift"),
    )


def render_frame(
    state: CameraState, exposure_ms: float, binning: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """One frame of the camera in counts, shape (SENSOR_PX // binning, SENSOR_PX // binning), float32."""
    side = SENSOR_PX // binning
    axis = (np.arange(side) + 0.5) * binning - SENSOR_PX / 2
    centre_y, centre_x = (shift / state.rad_per_px for shift in state.diffraction_shift_rad)
    radius = state.convergence_rad / state.rad_per_px
    distance = np.hypot(axis[:, None] - centre_y, axis[None, :] - centre_x)
    disk = np.clip((radius - distance) / binning + 0.5, 0.0, 1.0)
    per_pixel = binning**2 / (math.pi * radius**2)
    beam = 0.0 if state.blanked else electrons(state.beam_current_pa, exposure_ms * 1e3)
    counts = rng.poisson(disk * (per_pixel * beam)) * COUNTS_PER_ELECTRON
    return np.asarray(counts + PEDESTAL + rng.normal(0.0, READ_NOISE, counts.shape), dtype=np.float32)


class CameraSimulator(CameraDevice.CameraSimulatorLike):
    """Draws the frames of the camera from the state of the column."""

    def __init__(self, column: Column, seed: int) -> None:
        self._column = column
        self._rng = np.random.default_rng([seed, 100])

    def close(self) -> None:
        """Nothing to release."""

    def restart(self, seed: int) -> None:
        """Restart the random numbers."""
        self._rng = np.random.default_rng([seed, 100])

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
        """A frame with the beam as it is now."""
        binning = binning_shape.height
        frame = render_frame(camera_state(self._column), exposure_s * 1e3, binning, self._rng)
        top, left = readout_area.top // binning, readout_area.left // binning
        height, width = readout_area.height // binning, readout_area.width // binning
        return DataAndMetadata.new_data_and_metadata(
            frame[top : top + height, left : left + width],
            dimensional_calibrations=self.get_dimensional_calibrations(readout_area, binning_shape),
        )


class Camera(CameraDevice.Camera):
    """The camera device.

    As part of the whole instrument it is Swift's "ronchigram" camera; beside another one it has a type of its own, so
    that it does not take the place of the other's cameras.
    """

    def __init__(self, column: Column, seed: int, is_secondary: bool) -> None:
        self.frames = CameraSimulator(column, seed)
        camera_type = "adaptive_simulator" if is_secondary else "ronchigram"
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
