"""Where the operator wants to scan: the whole field of view, Swift's subscan, or a rectangle on an image."""

from __future__ import annotations

import collections.abc
import typing

from nion.instrumentation import HardwareSource, scan_base
from nion.swift import DocumentController
from nion.swift.model import Graphics

from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan.preparation import Place
from nionswift_plugin.adaptive_scan.settings import RegionKind


def scan_sources() -> list[scan_base.ScanHardwareSource]:
    """The scan devices, those that stand beside another one last, and else by name."""
    sources = [
        typing.cast(scan_base.ScanHardwareSource, source)
        for source in HardwareSource.HardwareSourceManager().hardware_sources
        if source.features.get("is_scanning", False) and hasattr(source, "scan_device")
    ]
    return sorted(sources, key=lambda source: (bool(source.scan_device.scan_device_is_secondary), source.display_name))


def scan_source(device: str | None) -> scan_base.ScanHardwareSource:
    """The scan device of this identifier, by default the first one. Raises InvalidInputError."""
    sources = [source for source in scan_sources() if device in (None, source.hardware_source_id)]
    if not sources:
        raise InvalidInputError(f"There is no scan device {device}." if device else "There is no scan device.")
    return sources[0]


def chosen_place(
    kind: RegionKind,
    source: scan_base.ScanHardwareSource,
    document_controller: DocumentController.DocumentController,
) -> Place:
    """The place that is chosen now; for the user interface's thread. Raises InvalidInputError where there is none."""
    parameters = source.get_current_frame_parameters()
    if kind is RegionKind.SUBSCAN:
        region = source.subscan_region
        if not source.subscan_enabled or region is None:
            raise InvalidInputError("Swift's subscan is off; switch it on in the scan panel, or choose another region.")
        rotation_rad = float(source.stem_controller.subscan_rotation)
        return Place(parameters, (region.center.y, region.center.x), (region.height, region.width), rotation_rad)
    if kind is RegionKind.RECTANGLE:
        return _rectangle(source, document_controller, parameters)
    return Place(parameters)


def _rectangle(
    source: scan_base.ScanHardwareSource,
    document_controller: DocumentController.DocumentController,
    parameters: scan_base.ScanFrameParameters,
) -> Place:
    display_item = document_controller.selected_display_item
    graphics = [] if display_item is None else _selected_rectangles(display_item.selected_graphics)
    data_item = None if display_item is None else display_item.data_item
    if data_item is None or len(graphics) != 1:
        raise InvalidInputError("Draw a rectangle on a scan of the whole field of view, and select it.")
    context = source.get_frame_parameters_from_metadata(data_item.metadata)
    scan = data_item.metadata.get("scan", {})
    if context is None or scan.get("hardware_source_id") != source.hardware_source_id:
        raise InvalidInputError(f"The selected rectangle is not on a scan of {source.display_name}.")
    if context.subscan_pixel_size is not None:
        raise InvalidInputError("The selected rectangle is on a part of the field of view; draw it on a whole scan.")
    # Where the image was taken is where its rectangle is; all else is as it is set now.
    context.pixel_time_us = parameters.pixel_time_us
    rectangle = graphics[0]
    return Place(
        context,
        (rectangle.center.y, rectangle.center.x),
        (rectangle.size.height, rectangle.size.width),
        float(rectangle.rotation),
    )


def _selected_rectangles(
    graphics: collections.abc.Iterable[Graphics.Graphic],
) -> list[Graphics.RectangleGraphic]:
    return [graphic for graphic in graphics if isinstance(graphic, Graphics.RectangleGraphic)]
