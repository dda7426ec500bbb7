"""A frame of the simulated scan device, measured slice by slice while it is scanned in real time."""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import time

import numpy as np
from nion.instrumentation import scan_base

from adaptive_core.scan_path import Point
from adaptive_core.simulation.faults import FaultKind
from adaptive_core.simulation.microscope import Beam, Exposure
from simulator_device.recent_frames import DataElement

SLICE_S = 0.005
"""The longest time for which a call of read_partial waits, and the beam's state is taken as constant."""
_SPIN_S = 150e-6
"""The operating system's sleep is later than asked for by up to this."""
_ROUNDING_US = 1e-3

ReadResult = tuple[
    collections.abc.Sequence[DataElement], bool, bool, tuple[tuple[int, int], tuple[int, int]], int | None, int
]
"""What read_partial returns: data, complete, bad, new area, frame number, pixels to skip."""


def wait_until(deadline_s: float) -> None:
    """Return at a time of ``time.perf_counter``, to within microseconds, leaving the processor to other threads."""
    while (remaining_s := deadline_s - time.perf_counter()) > 0:
        time.sleep(remaining_s - _SPIN_S if remaining_s > 1.5 * _SPIN_S else 0)


@dataclasses.dataclass(eq=False)
class Frame:
    """What is being scanned.

    Attributes:
        number: of the frame.
        exposure: what is measured.
        parameters: that were asked for.
        start_s: its begin, a time of ``time.perf_counter``.
        fault: what goes wrong with it.
        clocked: whether a camera says when the beam moves on.
        cancelled: whether it was ended.
    """

    number: int
    exposure: Exposure
    parameters: scan_base.ScanFrameParameters
    start_s: float
    fault: FaultKind | None
    clocked: bool
    cancelled: bool = False

    def __post_init__(self) -> None:
        parameters, exposure = self.parameters, self.exposure
        properties = parameters.as_dict()
        properties.pop("scan_path", None)
        self._properties: DataElement = properties | {
            "pixel_time_us": exposure.dwell_us,
            "line_time_us": exposure.elapsed_us(exposure.geometry.shape[1]).item(),
            "fov_nm": parameters.fov_nm,
            "center_x_nm": parameters.center_nm.x,
            "center_y_nm": parameters.center_nm.y,
            "rotation_deg": math.degrees(parameters.rotation_rad),
            "flyback_pixels": 0,
        }

    def position_nm(self, index: int) -> Point:
        """Where the beam is at a pixel; before the first and after the last one it stays there."""
        geometry = self.exposure.geometry
        pixel = min(max(index, 0), geometry.count - 1)
        y, x = geometry.positions_nm(pixel, pixel + 1)[0]
        return float(y), float(x)

    def expose(self, beam: Beam, clock_pixels: int) -> float:
        """Measure what the beam will pass in the next slice of time, while it does; the time at which it has."""
        now_s = time.perf_counter()
        if self.cancelled or self.fault is FaultKind.DROPPED_SEGMENT:
            return now_s
        if self.fault is FaultKind.TIME_OUT:
            return now_s + SLICE_S
        exposure = self.exposure
        if self.clocked:
            exposure.expose(min(clock_pixels, exposure.geometry.count), beam)
            return now_s + SLICE_S
        deadline_s = min(self.start_s + exposure.duration_us * 1e-6, now_s + SLICE_S)
        exposure.expose(exposure.count_at((deadline_s - self.start_s) * 1e6 + _ROUNDING_US), beam)
        return deadline_s

    def read(self, first_row: int) -> ReadResult:
        """The data so far; new are the rows from ``first_row`` on."""
        exposure = self.exposure
        rows, columns = exposure.geometry.shape
        data = exposure.data.reshape(len(exposure.channels), rows, columns)
        complete = exposure.done == exposure.geometry.count
        if complete and self.fault is FaultKind.SHORT_READ:
            data = data[:, : rows // 2] if rows > 1 else data[:, :, : columns // 2]
            rows, columns = data.shape[1:]
        if complete and self.fault is FaultKind.NAN:
            data[:, ::2, ::3] = np.nan
        elements = [
            {"data": data[k], "properties": self._properties | {"channel_id": channel}}
            for k, channel in enumerate(exposure.channels)
        ]
        if complete or self.cancelled:
            return elements, True, False, ((0, 0), (rows, columns)), self.number, 0
        row = exposure.done // columns
        return elements, False, False, ((first_row, 0), (row - first_row, columns)), self.number, row * columns
