"""A raster of a scan's region with the same device, to see how good a completion is."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import time
import typing

import numpy as np
from nion.instrumentation import scan_base

from adaptive_core import metrics
from adaptive_core.errors import DeviceDataError, DeviceError, DeviceTimeoutError, ScanCancelledError
from adaptive_core.ports import ImageArray
from nionswift_plugin.adaptive_scan.beam import make_beam
from nionswift_plugin.adaptive_scan.preparation import PreparedScan
from nionswift_plugin.adaptive_scan.swift_scanner import taking

_LONGER_S = 10.0
"""How much longer than its beam time a raster may take, with its flyback."""
_ABORT_S = 2.0
"""How long an aborted recording has to end, before it is left behind."""


@dataclasses.dataclass(frozen=True, eq=False)
class Verification:
    """A raster beside a completion.

    Attributes:
        raster: shape (height, width), float32.
        difference: completion less raster, shape (height, width), float32.
        rmse: root mean square of the difference, in detector units.
        psnr_db: peak signal-to-noise ratio by the raster's range; it holds the noise of the raster as well.
        ssim: structural similarity; None for images that are too small for it.
    """

    raster: ImageArray
    difference: ImageArray
    rmse: float
    psnr_db: float
    ssim: float | None

    @classmethod
    def of(cls, completion: ImageArray, raster: ImageArray) -> Verification:
        """Compare the two. Raises InvalidInputError if the raster holds nothing to compare with."""
        difference = np.asarray(completion - raster, dtype=np.float32)
        return cls(
            raster,
            difference,
            float(np.sqrt(np.mean(np.square(difference, dtype=np.float64)))),
            metrics.psnr_db(completion, raster),
            metrics.ssim(completion, raster) if min(raster.shape) >= 11 else None,
        )


def take_raster(prepared: PreparedScan, aborted: threading.Event) -> ImageArray:
    """Raster the region pixel by pixel, in the scan's first channel and with its dwell time; (height, width) float32.

    The live view is stopped, and the beam is blanked or parked afterwards, as after the scan.

    Raises:
        DeviceError: if the device fails.
        ScanCancelledError: if ``aborted`` is set meanwhile.
    """
    source, scanner = prepared.source, prepared.scanner
    region, setup = scanner.region, prepared.plan.setup
    parameters = region.raster_parameters(scanner.context)
    parameters.enabled_channel_indexes = [scanner.channels[0]]
    if source.is_recording:
        raise DeviceError(f"{scanner.device_id} is recording; the raster must wait until it has finished.")
    limit_s = _limit_s(source, parameters, setup.dwell_us)
    with taking(scanner.device_id):
        source.abort_playing(sync_timeout=5.0)
        beam = make_beam(source, prepared.settings.beam_settings(), region.waiting_position())
        beam.expose()
        try:
            return _record(source, parameters, scanner.channels[0], aborted, limit_s)
        except (AssertionError, OSError) as error:
            # Swift's acquisition tells time-outs by assertions.
            raise DeviceError(f"{scanner.device_id} could not raster the region: {error!r}") from error
        finally:
            beam.rest()


def _limit_s(source: scan_base.ScanHardwareSource, parameters: scan_base.ScanFrameParameters, dwell_us: float) -> float:
    height, width = parameters.scan_size.height, parameters.scan_size.width
    flyback = source.calculate_flyback_pixels(parameters)
    return 2 * height * (width + flyback) * dwell_us * 1e-6 + _LONGER_S


def _record(
    source: scan_base.ScanHardwareSource,
    parameters: scan_base.ScanFrameParameters,
    channel: int,
    aborted: threading.Event,
    limit_s: float,
) -> ImageArray:
    recording: concurrent.futures.Future[list[typing.Any]] = concurrent.futures.Future()

    def record() -> None:
        try:
            recording.set_result(list(source.record_immediate(parameters)))
        except BaseException as error:  # it belongs to the other thread
            recording.set_exception(error)

    # A device that hangs is left behind; a daemon does not keep Swift from quitting.
    threading.Thread(target=record, name="adaptive scan raster", daemon=True).start()
    deadline = time.monotonic() + limit_s
    while not _is_done(recording):
        if aborted.is_set():
            source.abort_recording()
            _is_done(recording, _ABORT_S)
            raise ScanCancelledError("The raster was aborted.")
        if time.monotonic() > deadline:
            source.abort_recording()
            raise DeviceTimeoutError(f"{source.display_name} did not finish the raster within {limit_s:.0f} s.")
    size = parameters.scan_size.height, parameters.scan_size.width
    for xdata in recording.result():
        if xdata is not None and xdata.metadata["hardware_source"].get("channel_index") == channel:
            raster = np.asarray(xdata.data, dtype=np.float32)
            if raster.shape == size and np.isfinite(raster).all():
                return raster
    raise DeviceDataError(f"{source.display_name} returned no raster of {size[0]} x {size[1]} px.")


def _is_done(future: concurrent.futures.Future[typing.Any], wait_s: float = 0.02) -> bool:
    return bool(concurrent.futures.wait([future], wait_s).done)
