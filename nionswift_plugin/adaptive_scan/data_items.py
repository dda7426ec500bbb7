"""The results of a scan as data items of Swift, live while it runs: measured, completed, uncertainty and path."""

from __future__ import annotations

import collections.abc
import copy
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
from nion.swift.model import DataItem, DisplayItem, DocumentModel

from adaptive_core.partial_scan import Estimate
from adaptive_core.ports import ImageArray
from adaptive_core.scan_path import Action
from nionswift_plugin.adaptive_scan.background import Steps
from nionswift_plugin.adaptive_scan.live_items import LiveItems
from nionswift_plugin.adaptive_scan.path_graphics import PathGraphics, path_colours
from nionswift_plugin.adaptive_scan.path_picture import PathPicture
from nionswift_plugin.adaptive_scan.preparation import PreparedScan

MEASURED, COMPLETED, UNCERTAINTY, PATH = "measured", "completed", "uncertainty", "path"
ROLES = (COMPLETED, MEASURED, PATH, UNCERTAINTY)
"""What a scan shows, in the order in which it takes free display panels."""

RASTER, DIFFERENCE = "raster", "difference"
"""What a verification shows."""
_PAIRS = {RASTER: MEASURED, DIFFERENCE: UNCERTAINTY, MEASURED: RASTER, UNCERTAINTY: DIFFERENCE}
"""Results that take each other's places, so that a completion and its verification are seen side by side."""

METADATA_KEY = "adaptive_scan"

_LIFT = 0.3
"""Low values are shown by this fraction of the contrast above the black of pixels without a value."""

Metadata = dict[str, typing.Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """What all results of a region have in common: calibrations and metadata, as Swift's own scans have them."""

    device: str
    calibrations: tuple[Calibration.Calibration, Calibration.Calibration]
    metadata: Metadata

    @classmethod
    def of(cls, prepared: PreparedScan, journal: pathlib.Path | None) -> Frame:
        """The frame of a scan; it asks the instrument for its state, which may take a while."""
        source, scanner = prepared.source, prepared.scanner
        parameters = scanner.region.raster_parameters(scanner.context)
        scan: Metadata = {}
        scan_base.update_scan_metadata(scan, source.hardware_source_id, source.display_name, parameters, None, {})
        instrument: Metadata = {}
        stem_controllers.update_instrument_properties(instrument, source.stem_controller, source.scan_device)
        how = {
            "device": source.hardware_source_id,
            "plan": prepared.plan.to_dict(),
            "models": {part: dataclasses.asdict(record) for part, record in prepared.models.records().items()},
            "journal": None if journal is None else str(journal),
        }
        return cls(
            source.hardware_source_id,
            scan_base.get_scan_calibrations(parameters),
            {"scan": scan, "instrument": instrument, METADATA_KEY: how},
        )

    def xdata(
        self,
        data: npt.NDArray[typing.Any],
        channel: str,
        extra: Metadata,
        *,
        scale: float = 1.0,
        units: str = "counts",
        is_brief: bool = False,
    ) -> DataAndMetadata.DataAndMetadata:
        """Data with calibrations and metadata.

        Args:
            data: values in px.
            channel: name of the channel that they were measured in.
            extra: metadata to be added.
            scale: how many px of the data are one px of the region.
            units: of the values.
            is_brief: leaves most of the metadata out; Swift copies them several times whenever anything changes.
        """
        metadata: Metadata = {METADATA_KEY: {}} if is_brief else copy.deepcopy(self.metadata)
        metadata[METADATA_KEY].update(extra)
        metadata["hardware_source"] = {"hardware_source_id": self.device, "channel_name": channel}
        return DataAndMetadata.new_data_and_metadata(
            data,
            intensity_calibration=Calibration.Calibration(units=units),
            dimensional_calibrations=[
                Calibration.Calibration(each.offset, each.scale / scale, each.units) for each in self.calibrations
            ],
            metadata=metadata,
        )


class ResultItems(LiveItems):
    """The data items of one scan: made as it starts, finished as it ends.

    All but :meth:`show` belongs to the user interface's thread.

    Args:
        document_controller: the window in which they are shown.
        prepared: the scan.
        frame: its calibrations and metadata.
        earlier: the items of the scan that is continued, which go on in these.

    Attributes:
        is_made: whether all of them are there.
    """

    def __init__(
        self,
        document_controller: DocumentController.DocumentController,
        prepared: PreparedScan,
        frame: Frame,
        earlier: ResultItems | None = None,
    ) -> None:
        super().__init__(document_controller)
        self.is_made = False
        self._document_model = document_controller.document_model
        self._prepared = prepared
        self._frame = frame
        self._earlier = {} if earlier is None else earlier.data_items
        self._channel = prepared.plan.setup.channels[0]
        self._picture = PathPicture(prepared.plan.setup.size_px, prepared.plan.probes, path_colours())
        self._graphics: PathGraphics | None = None

    def make_all(self) -> Steps:
        """Make the items with what was shown so far, live until :meth:`close`, and put them into display panels."""
        plan = self._prepared.plan
        Acquisition.session_manager.begin_acquisition(self._document_model)
        suffix = free_suffix(self._document_model, COMPLETED)
        blank = self._xdata(np.full(plan.setup.size_px, np.nan, dtype=np.float32), {}, is_brief=True)
        for role in ROLES:
            predicted = self._prepared.models.generator.predicts_error
            if role in self.data_items or (role == UNCERTAINTY and not predicted):
                continue
            earlier = self._earlier.get(role)
            item = self.make(role, f"{item_title(role)}{suffix}", blank, earlier)
            if item is not earlier and role == UNCERTAINTY:
                self._display_item(item).display_data_channels[0].color_map_id = "magma"
            elif item is not earlier and role == MEASURED:
                self._set_contrast(item)
            yield
        self.is_made = True
        measured = self._display_item(self.data_items[MEASURED])
        segments = math.ceil(plan.probes / plan.probes_per_segment)
        self._graphics = PathGraphics(measured, plan.setup.size_px, plan.probes, segments)
        yield from show_items(self._document_controller, list(self.data_items.values()))

    def show(
        self,
        measured: ImageArray,
        estimate: Estimate | None,
        actions: collections.abc.Sequence[Action],
        extra: Metadata,
        is_final: bool,
    ) -> None:
        """Show what is new, from any one thread.

        Args:
            measured: mean measured value of each pixel, NaN elsewhere.
            estimate: a new completion, None if there is none.
            actions: every action so far.
            extra: metadata beside those of the frame.
            is_final: whether this is the end; only then are all metadata given.
        """
        brief = {"is_brief": not is_final}
        self.push(MEASURED, self._xdata(measured, extra, **brief))
        if self._picture.draw(actions) or is_final:
            picture = self._picture.image.copy()
            self.push(PATH, self._xdata(picture, extra, scale=self._picture.scale, units="", **brief))
        if estimate is not None:
            self.push(COMPLETED, self._xdata(estimate.image, extra, **brief))
            if estimate.error is not None:
                self.push(UNCERTAINTY, self._xdata(estimate.error, extra, **brief))

    def draw(self, actions: collections.abc.Sequence[Action]) -> Steps:
        """Draw what is new of the path as graphics, and set the contrast."""
        item = self.data_items.get(MEASURED)
        if item is None or item._closed or self._graphics is None:
            return
        self._set_contrast(item)
        self._graphics.add(actions)
        for _ in self._graphics.draw():
            yield
            if item._closed:
                return

    def _xdata(self, data: npt.NDArray[typing.Any], extra: Metadata, **options: typing.Any) -> typing.Any:
        return self._frame.xdata(data, self._channel, extra, **options)

    def _set_contrast(self, item: DataItem.DataItem) -> None:
        """Swift's automatic contrast does not know about pixels without a value, from which low ones must stand out."""
        data = item.data
        known = None if data is None else data[np.isfinite(data)]
        if known is not None and known.size:
            low, high = np.percentile(known, [1, 99]).tolist()
            self._display_item(item).display_data_channels[0].display_limits = low - _LIFT * (high - low), high

    def _display_item(self, item: DataItem.DataItem) -> DisplayItem.DisplayItem:
        """How an item is displayed; every data item of a project has that."""
        return typing.cast(DisplayItem.DisplayItem, self._document_model.get_display_item_for_data_item(item))


def item_title(role: str) -> str:
    """The title of a result."""
    return f"Adaptive Scan ({role})"


def free_suffix(document_model: DocumentModel.DocumentModel, role: str) -> str:
    """What to append to titles, so that results of an earlier scan can be told apart: nothing, " 2", " 3", ..."""
    titles = {item.title for item in document_model.data_items}
    number, suffix = 1, ""
    while f"{item_title(role)}{suffix}" in titles:
        number += 1
        suffix = f" {number}"
    return suffix


def show_items(
    document_controller: DocumentController.DocumentController, items: collections.abc.Sequence[DataItem.DataItem]
) -> Steps:
    """Show items that are not shown yet where earlier results of their kind are, else in empty panels.

    The first one, if there is no such place for it, takes the selected panel.
    """
    for number, item in enumerate(items):
        workspace = document_controller.workspace_controller
        if workspace is None or item._closed:
            continue
        panels = list(workspace.display_panels)
        if any(panel.data_item is item for panel in panels):
            continue
        kind = _kind(item)
        places = [panel for panel in panels if panel.data_item is not None and _kind(panel.data_item) == kind]
        places += [panel for panel in panels if panel.is_result_panel]
        places += [p for p in panels if p.data_item is not None and _kind(p.data_item) == _SHARED_PLACES.get(kind)]
        if number == 0:
            places += [panel for panel in (document_controller.selected_display_panel, *panels) if panel is not None]
        if places:
            display_item = document_controller.document_model.get_display_item_for_data_item(item)
            places[0].set_display_panel_display_item(display_item)
            yield


def _kind(item: DataItem.DataItem) -> str:
    """The title of a result without its number."""
    return item.title.rstrip(" 0123456789") if METADATA_KEY in item.metadata else str(item.uuid)


_SHARED_PLACES = {item_title(one): item_title(other) for one, other in _PAIRS.items()}
