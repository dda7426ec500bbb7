"""A ptychographic scan as data items of Swift, live while it runs: phase, amplitude, positions and, where the truth is
known, the Fourier ring correlation with it."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import typing

import numpy as np
import numpy.typing as npt
from nion.data import Calibration, DataAndMetadata
from nion.instrumentation import Acquisition, scan_base
from nion.instrumentation import stem_controller as stem_controllers
from nion.swift import DocumentController
from nion.swift.model import DisplayItem

from adaptive_core.ports import ImageArray
from adaptive_core.ptychography import metrics
from adaptive_core.ptychography.object_grid import transfer
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.ptychography.scan_data import ScanData
from adaptive_core.scan_path import Positions
from nionswift_plugin.adaptive_scan.background import Steps
from nionswift_plugin.adaptive_scan.data_items import (
    METADATA_KEY,
    Frame,
    Metadata,
    free_suffix,
    item_title,
    show_items,
)
from nionswift_plugin.adaptive_scan.live_items import LiveItems
from nionswift_plugin.adaptive_scan.path_graphics import path_colours
from nionswift_plugin.adaptive_scan.path_picture import PathPicture
from nionswift_plugin.adaptive_scan.position_graphics import PositionGraphics
from nionswift_plugin.adaptive_scan.ptychography_preparation import PreparedPtychography

_DOT = 0.12
"""Radius of the dot of a position over the mean distance of positions."""
_LARGEST_DOT_PX = 4
_CROSS_COLOUR = "#ffe000"

PHASE, AMPLITUDE, POSITIONS, FRC = "phase", "amplitude", "positions", "FRC"
"""What a scan shows, in the order in which it takes free display panels."""


def region_frame(prepared: PreparedPtychography, shape: tuple[int, int]) -> Frame:
    """Calibrations and metadata of images of the region; it asks the instrument, which may take a while."""
    scan, scanner = prepared.scan, prepared.scanner
    parameters = scanner.region.raster_parameters(scanner.context)
    described: Metadata = {}
    scan_base.update_scan_metadata(described, scan.hardware_source_id, scan.display_name, parameters, None, {})
    instrument: Metadata = {}
    stem_controllers.update_instrument_properties(instrument, scan.stem_controller, scan.scan_device)
    calibration = prepared.plan.calibration
    how = {
        "device": scan.hardware_source_id,
        "camera": prepared.camera.hardware_source_id,
        "policy": prepared.policy.name,
        "positions_planned": prepared.plan.positions,
        "subsequences": prepared.plan.subsequences,
        "exposure_ms": scanner.setup.exposure_us * 1e-3,
        "calibration": dataclasses.asdict(calibration),
    }
    corner = scan_base.get_scan_calibrations(parameters)
    calibrations = tuple(
        Calibration.Calibration(each.offset, fov_A / 10 / side, "nm")
        for each, fov_A, side in zip(corner, calibration.fov_A, shape, strict=True)
    )
    return Frame(
        scan.hardware_source_id,
        typing.cast(tuple[Calibration.Calibration, Calibration.Calibration], calibrations),
        {"scan": described, "instrument": instrument, METADATA_KEY: how},
    )


class PtychographyItems(LiveItems):
    """The data items of one scan.

    All but :meth:`show` belongs to the user interface's thread.

    Args:
        document_controller: the window in which they are shown.
        prepared: the scan.

    Attributes:
        similarity: SSIM of the image that was shown last with the truth; None where that is not known.
        resolution_A: at which the correlation with the truth falls below one half; likewise.
    """

    def __init__(
        self, document_controller: DocumentController.DocumentController, prepared: PreparedPtychography
    ) -> None:
        super().__init__(document_controller)
        self.similarity: float | None = None
        self.resolution_A: float | None = None
        self._document_model = document_controller.document_model
        self._prepared = prepared
        self._pixel_A = prepared.image_pixel_A
        self._truth: ImageArray | None = None
        self._frame: Frame | None = None
        self._positions = np.zeros((0, 2))
        self._crosses: PositionGraphics | None = None

    def show(self, data: ScanData, image: Reconstruction, extra: Metadata, file: pathlib.Path | None = None) -> None:
        """Show an image and the positions that it was made of, from any one thread.

        Args:
            data: all patterns.
            image: made of them.
            extra: metadata beside those of the region.
            file: that holds the patterns, once there is one.
        """
        phase = image.phase(self._pixel_A)
        if self._frame is None:
            shape = (int(phase.shape[0]), int(phase.shape[1]))
            self._frame, self._truth = region_frame(self._prepared, shape), self._prepared.known_phase(shape)
        extra = {**extra, "file": None if file is None else str(file)}
        curve = None if self._truth is None else self._compare(phase, self._truth, extra)
        self.push(PHASE, self._frame.xdata(phase, PHASE, extra, units="rad"))
        self.push(AMPLITUDE, self._frame.xdata(image.amplitude(self._pixel_A), AMPLITUDE, extra, units=""))
        picture, scale = positions_picture(
            phase, data.positions_A / self._pixel_of(phase), self._prepared.plan.positions
        )
        self._positions = data.positions_A[-self._prepared.plan.part :] / self._prepared.plan.calibration.fov_A
        self.push(POSITIONS, self._frame.xdata(picture, POSITIONS, extra, scale=scale, units=""))
        if curve is not None:
            self.push(FRC, curve)

    def make_all(self) -> Steps:
        """Make the items of what was shown, live until :meth:`close`, and put them into display panels."""
        if not self.data_items:
            Acquisition.session_manager.begin_acquisition(self._document_model)
        suffix = free_suffix(self._document_model, PHASE)
        for role, first in list(self._latest.items()):
            if role not in self.data_items:
                self.make(role, f"{item_title(role)}{suffix}", first)
                yield
        yield from show_items(self._document_controller, list(self.data_items.values()))
        yield from self.draw()

    def draw(self) -> Steps:
        """Put crosses on the positions of the last sub-sequence."""
        item = self.data_items.get(POSITIONS)
        if item is None or item._closed:
            return
        if self._crosses is None:
            display_item = self._document_model.get_display_item_for_data_item(item)
            self._crosses = PositionGraphics(typing.cast(DisplayItem.DisplayItem, display_item), _CROSS_COLOUR)
        for _ in self._crosses.draw(self._positions):
            yield
            if item._closed:
                return

    def _compare(self, phase: ImageArray, truth: ImageArray, extra: Metadata) -> DataAndMetadata.DataAndMetadata:
        """Fourier ring correlation with the truth, in the largest square in the middle; its figures join ``extra``."""
        side = min(phase.shape)
        middle = tuple(slice((n - side) // 2, (n - side) // 2 + side) for n in phase.shape)
        # A phase has no offset: the ring of the mean says nothing.
        ours, true = (image[middle] - image[middle].mean() for image in (phase, truth))
        pixel_A = float(self._pixel_of(phase)[0])
        self.similarity = metrics.phase_ssim(ours, true)
        self.resolution_A = metrics.resolution_A(ours, true, pixel_A)
        extra |= {"ssim_truth": self.similarity, "resolution_A": self.resolution_A}
        frequency, correlation = metrics.fourier_ring_correlation(ours, true, pixel_A)
        # Beyond what the aperture lets through there is nothing to compare.
        seen = int(np.count_nonzero(transfer(self._prepared.plan.calibration, frequency) > 0))
        return DataAndMetadata.new_data_and_metadata(
            correlation[: seen + 1].astype(np.float32),
            dimensional_calibrations=[Calibration.Calibration(0.0, 10.0 * float(frequency[1]), "1/nm")],
            metadata={METADATA_KEY: dict(extra)},
        )

    def _pixel_of(self, phase: ImageArray) -> npt.NDArray[np.float64]:
        """Sides of a pixel in A; the region is divided into whole pixels."""
        return np.asarray(self._prepared.plan.calibration.fov_A) / phase.shape


def positions_picture(
    phase: ImageArray, positions_px: npt.NDArray[np.float64], planned: int
) -> tuple[npt.NDArray[np.uint8], int]:
    """The positions, coloured from the first to the last one planned, on the phase in grey; and px for one px of it.

    Args:
        phase: shape (height, width).
        positions_px: ``(y, x)``, shape (p, 2), in px of the phase.
        planned: number of positions of the whole scan.

    Returns:
        The picture (height, width, 3), uint8, in the order of Swift's bytes, and its scale.
    """
    size = int(phase.shape[0]), int(phase.shape[1])
    spacing_px = PathPicture.scale_of(size) * math.sqrt(phase.size / planned)
    drawn = PathPicture(
        size, planned, path_colours(), radius_px=round(min(max(_DOT * spacing_px, 1.0), _LARGEST_DOT_PX))
    )
    drawn.draw([Positions(positions_px)])
    low, high = np.percentile(phase, [1, 99])
    # Half of the brightness is left to the positions.
    grey = np.clip((phase - low) / max(high - low, 1e-30), 0.0, 1.0) * 160
    picture = np.repeat(grey.astype(np.uint8).repeat(drawn.scale, 0).repeat(drawn.scale, 1)[..., None], 3, axis=2)
    seen = drawn.image.any(axis=2)
    picture[seen] = drawn.image[seen]
    return picture, drawn.scale
