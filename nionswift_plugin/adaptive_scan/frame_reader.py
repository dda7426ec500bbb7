"""Reading one frame from a scan device, and making sure that it is the one that was asked for."""

from __future__ import annotations

import collections.abc
import threading
import time
import typing

import numpy as np
import numpy.typing as npt
from nion.instrumentation import scan_base

from adaptive_core.errors import DeviceDataError, DeviceError, ScanCancelledError
from nionswift_plugin.adaptive_scan.beam import Beam

_POLL_S = 0.0002
"""How often a device that is not ready is asked again."""

Frame = npt.NDArray[np.float32]
"""Values of one row, shape (channels, probes), or of a raster, (channels, rows, columns); float32."""


class FrameReader:
    """Has a scan device scan frames.

    Args:
        source: the scan device as Swift knows it.
        channels: indexes of the recorded channels, in the order of the values.
        stopped: set from another thread to end a frame and refuse later ones.
    """

    def __init__(
        self, source: scan_base.ScanHardwareSource, channels: tuple[int, ...], stopped: threading.Event
    ) -> None:
        self._source = source
        self._channels = channels
        self._names = [source.scan_device.get_channel_name(index) for index in channels]
        self._device_id = source.scan_device.scan_device_id
        self._stopped = stopped

    def cancelled(self) -> ScanCancelledError:
        """What is raised once the scan was stopped."""
        return ScanCancelledError(f"The scan on {self._device_id} was cancelled.")

    def read(self, beam: Beam, parameters: scan_base.ScanFrameParameters, shape: tuple[int, int]) -> Frame:
        """Set up, start and read one frame of ``shape``; values (channels, rows, columns).

        The beam is ready for it no longer than needed.
        """
        device = self._source.scan_device
        self._raise_if_cancelled()
        while device.is_scanning:
            # A device may need a moment to see that its last frame has ended.
            self._raise_if_taken()
            time.sleep(_POLL_S)
            self._raise_if_cancelled()
        device.set_frame_parameters(parameters)
        complete, bad, skip = False, False, 0
        first_row, last_row = shape[0], 0
        try:
            beam.expose()
            asked = device.start_frame(False)
            answered: int | None = asked
            while not (complete or bad):
                elements, complete, bad, area, answered, skip = device.read_partial(answered, skip)
                (top, left), (height, width) = area
                if height:
                    # A device may tell of all rows that are valid, or only of those that are new.
                    first_row, last_row = min(first_row, top), max(last_row, top + height)
                # A cancelled device may call its half-filled frame complete.
                self._raise_if_cancelled()
                if not complete:
                    time.sleep(_POLL_S)
        finally:
            beam.rest()
            if not complete:
                device.cancel()
            device.stop()
        self._raise_if_taken()
        if answered not in (asked, None):
            raise DeviceDataError(
                f"{self._device_id} answered with the frame {answered} instead of {asked}; the command was lost."
            )
        if bad:
            raise DeviceDataError(f"{self._device_id} reported a bad frame.")
        return self._values(elements, ((first_row, left), (last_row - first_row, width)), shape)

    def _values(
        self,
        elements: collections.abc.Sequence[collections.abc.Mapping[str, typing.Any]],
        area: tuple[tuple[int, int], tuple[int, int]],
        shape: tuple[int, int],
    ) -> Frame:
        """The valid part of a frame, in the order of the channels, without flyback; shape (channels, *shape)."""
        data = {int(element["properties"]["channel_id"]): np.atleast_2d(element["data"]) for element in elements}
        (top, left), (height, width) = area
        values = np.empty((len(self._channels), *shape), dtype=np.float32)
        for plane, index, name in zip(values, self._channels, self._names, strict=True):
            if index not in data:
                raise DeviceDataError(f"{self._device_id} returned no data of the channel {name}.")
            valid = data[index][top : top + height, left : left + width]
            if valid.shape != shape:
                raise DeviceDataError(
                    f"{self._device_id} returned {valid.shape} values of {data[index].shape}, not {shape}."
                )
            plane[:] = valid
        if not np.isfinite(values).all():
            raise DeviceDataError(
                f"{self._device_id} returned {np.count_nonzero(~np.isfinite(values))} values that are not finite."
            )
        return values

    def _raise_if_taken(self) -> None:
        if self._source.is_playing:
            raise DeviceError(f"The live view of {self._device_id} was started during the adaptive scan.")

    def _raise_if_cancelled(self) -> None:
        if self._stopped.is_set():
            raise self.cancelled()
