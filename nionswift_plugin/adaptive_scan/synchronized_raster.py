"""Rasters among a list of positions, taken by Swift's synchronized acquisition: the camera clocks the scan."""

from __future__ import annotations

import collections.abc
import copy
import dataclasses
import itertools
import threading
import time
import typing

import numpy as np
import numpy.typing as npt
from nion.instrumentation import Acquisition, scan_base

from adaptive_core.errors import DeviceDataError, DeviceError, DeviceTimeoutError, ScanCancelledError
from adaptive_core.scan_path import FloatArray, Point
from nionswift_plugin.adaptive_scan.alignment_devices import SwiftDiskCamera
from nionswift_plugin.adaptive_scan.beam import Beam
from nionswift_plugin.adaptive_scan.scan_region import ScanRegion, context_parameters

RealArray = npt.NDArray[np.float32]

LEAST_POSITIONS = 32
"""Setting a synchronized acquisition up takes as long as some tens of single frames."""
_LARGEST_BYTES = 2**28
"""Of the frames of one acquisition; more rows are taken in several."""
_TOLERANCE_PX = 1e-3
_POLL_S = 0.02
_PATIENCE_S = 12.0
"""How much longer than for a single frame the next ones may take: Swift asks for them once a second."""
_STOP_S = 5.0
"""How long an acquisition may take to stop."""


@dataclasses.dataclass(frozen=True)
class Raster:
    """Evenly spaced rows of a list of positions, from left to right and from top to bottom.

    Attributes:
        first: index of its first position.
        rows, columns: number of positions.
        corner: top left position ``(y, x)`` in px of the region.
        step: distance of rows and of columns in px of the region.
    """

    first: int
    rows: int
    columns: int
    corner: Point
    step: Point

    @property
    def stop(self) -> int:
        """Index after its last position."""
        return self.first + self.rows * self.columns

    def sections(self, rows: int) -> collections.abc.Iterator[Raster]:
        """The same raster in parts of so many rows at most."""
        for row in range(0, self.rows, rows):
            corner = self.corner[0] + row * self.step[0], self.corner[1]
            count = min(rows, self.rows - row)
            yield dataclasses.replace(self, first=self.first + row * self.columns, rows=count, corner=corner)

    def parameters(
        self, region: ScanRegion, context: scan_base.ScanFrameParameters
    ) -> scan_base.ScanFrameParameters | None:
        """The subscan whose pixels are these positions; None if it would leave the field of view."""
        size = np.array([self.rows * self.step[0], self.columns * self.step[1]])
        low = np.array(self.corner) - np.array(self.step) / 2
        corners = low + size * np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
        fractions = region.to_fractions(corners)
        if (fractions < -1e-6).any() or (fractions > 1 + 1e-6).any():
            return None
        height, width = (size * region.pixel_context_px / np.array(region.context_px)).tolist()
        y, x = fractions.mean(0).tolist()
        parameters = context_parameters(context)
        parameters.subscan_pixel_size = self.rows, self.columns
        parameters.subscan_fractional_size = height, width
        parameters.subscan_fractional_center = y, x
        parameters.subscan_rotation = region.rotation_rad
        return parameters


def find_rasters(positions: FloatArray) -> list[Raster]:
    """The rasters of 32 positions or more, and of two rows or more, in a list (n, 2) of ``(y, x)``, in its order."""
    breaks = np.flatnonzero(np.abs(np.diff(positions[:, 0])) > _TOLERANCE_PX) + 1
    lines = [positions[i:j] for i, j in itertools.pairwise([0, *breaks.tolist(), len(positions)])]
    found, first = [], 0
    while lines:
        rows = _even_rows(lines)
        columns = len(lines[0])
        if rows > 1 and rows * columns >= LEAST_POSITIONS:
            (y, x), (bottom, right) = lines[0][0].tolist(), lines[rows - 1][-1].tolist()
            step = (bottom - y) / (rows - 1), (right - x) / (columns - 1)
            found.append(Raster(first, rows, columns, (y, x), step))
        first += rows * columns
        lines = lines[rows:]
    return found


def _even_rows(lines: collections.abc.Sequence[FloatArray]) -> int:
    """How many of the lines from the first one on are rows of one raster; 1 at least."""
    top = lines[0]
    if len(top) < 2 or len(lines) < 2:
        return 1
    steps, down = np.diff(top[:, 1]), lines[1][0, 0] - top[0, 0]
    if down <= 0 or steps.min() <= 0 or np.ptp(steps) > _TOLERANCE_PX:
        return 1
    rows = 1
    for line in lines[1:]:
        expected = top + np.array([rows * down, 0.0])
        if line.shape != top.shape or np.abs(line - expected).max() > _TOLERANCE_PX:
            break
        rows += 1
    return rows


class SynchronizedRasters:
    """Takes a frame of the camera at every position of a raster.

    Args:
        scan: the scan device as Swift knows it.
        camera: the camera.
        stopped: set from another thread to end an acquisition and refuse later ones.
    """

    def __init__(self, scan: scan_base.ScanHardwareSource, camera: SwiftDiskCamera, stopped: threading.Event) -> None:
        self._scan, self._camera, self._stopped = scan, camera, stopped

    def rows_at_once(self, columns: int) -> int:
        """How many rows an acquisition may have."""
        height, width = self._camera.shape
        return max(1, _LARGEST_BYTES // (4 * height * width * columns))

    def grab(self, parameters: scan_base.ScanFrameParameters, beam: Beam) -> collections.abc.Iterator[RealArray]:
        """The frames (height, width) of a subscan, row by row, once it has ended.

        Of one that failed or was cancelled those that were taken come first, and then the error.
        """
        source = self._camera.source
        channel = _Frames(source.hardware_source_id)
        settings = copy.deepcopy(self._camera.parameters)

        def acquire() -> object:
            # Swift's protocol leaves out that errors can be handled.
            return typing.cast(typing.Any, self._scan).grab_synchronized(
                data_channel=channel,
                scan_frame_parameters=parameters,
                camera=source,
                camera_frame_parameters=settings,
                error_handler=channel.errors.append,
            )

        beam.expose()
        try:
            failure = self._watch(acquire, channel)
        finally:
            beam.rest()
        yield from channel.frames
        if failure is not None:
            raise failure

    def _watch(self, acquire: collections.abc.Callable[[], object], channel: _Frames) -> Exception | None:
        """Have it carried out on a thread of its own, until it ends, stalls or is cancelled; what went wrong."""
        results: list[object] = []
        done = threading.Event()

        def work() -> None:
            try:
                results.append(acquire())
            except Exception as error:  # it belongs to the other thread
                channel.errors.append(error)
            done.set()

        threading.Thread(target=work, name="synchronized scan", daemon=True).start()
        name, timeout_s = self._camera.source.display_name, self._camera.timeout_s + _PATIENCE_S
        taken, since = 0, time.monotonic()
        while not done.wait(_POLL_S):
            if channel.taken > taken:
                taken, since = channel.taken, time.monotonic()
            stalled = time.monotonic() - since > timeout_s
            if self._stopped.is_set() or stalled:
                self._scan.grab_synchronized_abort()
                if not done.wait(_STOP_S):
                    return DeviceTimeoutError(f"The synchronized scan did not stop within {_STOP_S:g} s.")
                if not self._stopped.is_set():
                    return DeviceTimeoutError(f"{name} gave no frame within {timeout_s:.3g} s.")
        if self._stopped.is_set():
            return ScanCancelledError("The synchronized scan was stopped.")
        if channel.errors:
            return DeviceError(f"The synchronized scan failed: {channel.errors[0]!r}")
        return None if results and results[0] is not None else DeviceError("The synchronized scan was aborted.")


class _Frames(Acquisition.DataAndMetadataDataChannel):
    """Keeps the camera's frames and counts them as they come.

    Attributes:
        taken: number of valid frames.
        errors: what went wrong during the acquisition.
    """

    def __init__(self, camera_id: str) -> None:
        super().__init__()
        self.taken = 0
        self.errors: list[Exception] = []
        self._camera_id = camera_id
        self._channel: Acquisition.Channel | None = None

    def update_data(
        self,
        channel: Acquisition.Channel,
        source_data: npt.NDArray[typing.Any],
        source_slice: Acquisition.SliceType,
        dest_slice: slice,
        data_metadata: typing.Any,
    ) -> None:
        """Called by Swift with each part of the data; ``dest_slice`` counts all values."""
        super().update_data(channel, source_data, source_slice, dest_slice, data_metadata)
        if channel.segments[0] == self._camera_id:
            self._channel = channel
            height, width = data_metadata.data_shape[-2:]
            self.taken = max(self.taken, dest_slice.stop // (height * width))

    @property
    def frames(self) -> collections.abc.Iterator[RealArray]:
        """Those that were taken."""
        if self._channel is None:
            return
        data = self.get_data(self._channel).data
        for frame in data.reshape(-1, *data.shape[-2:])[: self.taken]:
            if not np.isfinite(frame).all():
                raise DeviceDataError(f"{self._camera_id} gave data that are no finite image.")
            yield np.array(frame, dtype=np.float32)
