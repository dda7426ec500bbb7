"""The trace of an alignment as a data item of Swift, live while it runs: the last frame, with the way of the disk."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import typing

import numpy as np
from nion.data import Calibration, DataAndMetadata
from nion.instrumentation import Acquisition
from nion.swift import DocumentController
from nion.swift.model import DataItem, DisplayItem, Graphics

from adaptive_core.alignment.episode import AlignmentResult, AlignmentStep
from adaptive_core.ports import ImageArray
from nionswift_plugin.adaptive_scan.alignment_preparation import PreparedAlignment
from nionswift_plugin.adaptive_scan.background import Steps
from nionswift_plugin.adaptive_scan.data_items import METADATA_KEY, Metadata, show_items
from nionswift_plugin.adaptive_scan.live_items import LiveItems

TITLE = "Adaptive Scan (alignment)"
ROLE = "alignment"
GRAPHIC_ID = "adaptive_scan_alignment"
MOST_MOVES = 40
"""Moves that are drawn, and told in the metadata, at most: the last ones."""
_SHORT = 0.03
"""Moves of less than this part of the frame are drawn without an arrow, which would hide them."""
_DISK_COLOUR, _TARGET_COLOUR, _PATH_COLOUR = "#00FF00", "#FF4040", "#00FFFF"

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class _Sighting:
    """What is drawn of one frame; all in px of the frame."""

    disk_px: Point
    radius_px: float
    target_px: Point
    shape: tuple[int, int]


class TraceItem:
    """The data item of one alignment; one item of a project serves one alignment after the other.

    All but :meth:`push` belongs to the user interface's thread.
    """

    def __init__(self, document_controller: DocumentController.DocumentController, prepared: PreparedAlignment) -> None:
        self.data_item: DataItem.DataItem | None = None
        self._document_controller = document_controller
        self._document_model = document_controller.document_model
        self._prepared = prepared
        self._items = LiveItems(document_controller)
        self._moves: collections.deque[Metadata] = collections.deque(maxlen=MOST_MOVES)
        self._sightings: collections.deque[_Sighting] = collections.deque(maxlen=MOST_MOVES + 1)
        self._last: AlignmentStep | None = None

    def make(self) -> Steps:
        """Make the item, or take up that of an earlier alignment, and show it."""
        earlier = next((item for item in self._document_model.data_items if _is_trace(item)), None)
        if earlier is None:
            Acquisition.session_manager.begin_acquisition(self._document_model)
        blank = self._xdata(np.zeros(self._prepared.camera.shape, dtype=np.float32), None)
        self.data_item = self._items.make(ROLE, TITLE, blank, earlier)
        yield
        yield from show_items(self._document_controller, [self.data_item])

    def push(self, step: AlignmentStep, *, shown: bool) -> None:
        """Take note of a step, from any one thread, and show its frame if ``shown``."""
        self._last = step
        self._moves.append(
            {
                "frame": step.index,
                "seconds": round(step.seconds, 4),
                "disk_px": None if step.disk.centre_px is None else list(step.disk.centre_px),
                "state": step.disk.state.value,
                "control": list(step.control),
                "move": list(step.move),
            }
        )
        if step.disk.centre_px is not None:
            height, width = step.frame.shape
            self._sightings.append(
                _Sighting(step.disk.centre_px, step.disk.radius_px, step.target_px, (int(height), int(width)))
            )
        if shown:
            self._items.push(ROLE, self._xdata(step.frame, None))

    def draw(self) -> Steps:
        """Draw disk, target and path as they are now."""
        item = self.data_item
        sightings = list(self._sightings)
        if item is None or item._closed or not sightings:
            return
        display_item = typing.cast(DisplayItem.DisplayItem, self._document_model.get_display_item_for_data_item(item))
        lines: list[typing.Any] = []
        others: dict[type, typing.Any] = {}
        for graphic in list(display_item.graphics):
            if graphic.graphic_id == GRAPHIC_ID and isinstance(graphic, Graphics.LineGraphic):
                lines.append(graphic)
            elif graphic.graphic_id == GRAPHIC_ID:
                others[type(graphic)] = graphic
        last = sightings[-1]
        disk = others.get(Graphics.EllipseGraphic) or _add(display_item, Graphics.EllipseGraphic(), _DISK_COLOUR)
        y, x = _fraction(last.disk_px, last.shape)
        ry, rx = last.radius_px / last.shape[0], last.radius_px / last.shape[1]
        disk.bounds = ((y - ry, x - rx), (2 * ry, 2 * rx))
        target = others.get(Graphics.PointGraphic) or _add(display_item, Graphics.PointGraphic(), _TARGET_COLOUR)
        target.position = _fraction(last.target_px, last.shape)
        yield
        for index, (a, b) in enumerate(itertools.pairwise(sightings)):
            if index >= len(lines):
                lines.append(_add(display_item, Graphics.LineGraphic(), _PATH_COLOUR))
            vector = (_fraction(a.disk_px, a.shape), _fraction(b.disk_px, b.shape))
            if lines[index].vector != vector:
                lines[index].vector = vector
                lines[index].end_arrow_enabled = math.dist(*vector) > _SHORT
                yield
                if item._closed:
                    return
        for line in lines[len(sightings) - 1 :]:
            display_item.remove_graphic(line).close()
            yield

    def close(self, result: AlignmentResult | None) -> Steps:
        """Show the last frame with the figures of the alignment; the item is no longer live."""
        if self._last is not None:
            self._items.push(ROLE, self._xdata(self._last.frame, result))
        yield
        yield from self._items.close()

    def _xdata(self, frame: ImageArray, result: AlignmentResult | None) -> DataAndMetadata.DataAndMetadata:
        prepared = self._prepared
        source = prepared.camera.source
        figures: Metadata = {
            "role": ROLE,
            "policy": prepared.policy.name,
            "control": prepared.control,
            "tolerance_px": prepared.settings.tolerance_px,
            "target_px": None if prepared.settings.target_px is None else list(prepared.settings.target_px),
            "trace": list(self._moves),
        }
        if result is not None:
            figures |= {
                "finish_reason": result.reason.value,
                "error": result.message or None,
                "frames": result.frames,
                "residual_px": result.residual_px,
                "applied": list(result.applied),
                "seconds": result.seconds,
            }
        scale = prepared.mrad_per_px
        height, width = frame.shape
        calibrations = [
            Calibration.Calibration() if scale is None else Calibration.Calibration(-scale * size / 2, scale, "mrad")
            for size in (height, width)
        ]
        return DataAndMetadata.new_data_and_metadata(
            frame,
            intensity_calibration=Calibration.Calibration(units="counts"),
            dimensional_calibrations=calibrations,
            metadata={
                "hardware_source": {
                    "hardware_source_id": source.hardware_source_id,
                    "hardware_source_name": source.display_name,
                    "exposure": prepared.camera.parameters.exposure_ms * 1e-3,
                    "binning": prepared.camera.parameters.binning,
                },
                METADATA_KEY: figures,
            },
        )


def _is_trace(item: DataItem.DataItem) -> bool:
    return bool(item.metadata.get(METADATA_KEY, {}).get("role") == ROLE)


def _fraction(point: Point, shape: tuple[int, int]) -> Point:
    return point[0] / shape[0], point[1] / shape[1]


def _add(display_item: DisplayItem.DisplayItem, graphic: typing.Any, colour: str) -> typing.Any:
    graphic.graphic_id = GRAPHIC_ID
    graphic.stroke_color = colour
    graphic.is_position_locked = graphic.is_shape_locked = True
    display_item.add_graphic(graphic)
    return graphic
