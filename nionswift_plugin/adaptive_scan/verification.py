"""A raster of a scan's region with the same device, to see how good a completion is."""

from __future__ import annotations

import dataclasses

import numpy as np

from adaptive_core import metrics
from adaptive_core.errors import ScanCancelledError
from adaptive_core.ports import ImageArray
from nionswift_plugin.adaptive_scan.preparation import PreparedScan
from nionswift_plugin.adaptive_scan.swift_scanner import SwiftScanner

_LONGER_S = 10.0
"""How much longer than its beam time and its flyback a raster may take."""


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


def raster_scanner(prepared: PreparedScan) -> SwiftScanner:
    """The device of a scan, set up to raster its region in its first channel and with its dwell time.

    Raises InvalidInputError if that is not possible any more.
    """
    scanner = prepared.scanner
    height = prepared.plan.setup.size_px[0]
    flyback_px = prepared.source.calculate_flyback_pixels(scanner.region.raster_parameters(scanner.context))
    flyback_s = height * flyback_px * prepared.plan.setup.dwell_us * 1e-6
    return SwiftScanner(
        prepared.source,
        scanner.region,
        parameters=scanner.context,
        channels=scanner.channels[:1],
        beam=prepared.settings.beam_settings(),
        restart_view=prepared.settings.restart_view,
        timeout_s=_LONGER_S + 2 * flyback_s,
    )


def take_raster(scanner: SwiftScanner) -> ImageArray:
    """Raster the region pixel by pixel, (height, width) float32; the beam is blanked or parked afterwards.

    Raises:
        DeviceError: if the device fails.
        ScanCancelledError: if the scanner is cancelled meanwhile.
    """
    try:
        with scanner.session():
            return np.asarray(scanner.raster()[0])
    except ScanCancelledError as error:
        raise ScanCancelledError("The raster was aborted.") from error
