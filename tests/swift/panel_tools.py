"""What the tests of the panel share."""

from __future__ import annotations

import dataclasses
import pathlib
import time
import typing

from nion.instrumentation import scan_base
from nion.swift.model import DataItem
from quiet_clock import QuietClock
from swift_context import Swift

from nionswift_plugin.adaptive_scan import PANEL_ID
from nionswift_plugin.adaptive_scan.panel import AdaptiveScanPanel
from nionswift_plugin.adaptive_scan.partial_scan_model import Folders, PartialScanModel
from nionswift_plugin.adaptive_scan.scan_session import ScanSession

QUICK: dict[str, typing.Any] = {"policy": "random-segments", "generator": "nearest-interpolation"}
MEASURED, COMPLETED, PATH = (f"Adaptive Scan ({role})" for role in ("measured", "completed", "path"))


@dataclasses.dataclass
class Opened:
    """A panel in a window of Swift.

    Attributes:
        slowest_call_s: the longest time for which Swift's main loop was kept busy by one round.
    """

    swift: Swift
    panel: AdaptiveScanPanel
    folders: Folders
    slowest_call_s: float = 0.0

    @property
    def model(self) -> PartialScanModel:
        return self.panel.partial_scan

    @property
    def session(self) -> ScanSession:
        return self.model.session

    def run(self, timeout_s: float = 300.0) -> float:
        """Let Swift's main loop run until nothing is going on; the time in s that it takes on a quiet machine."""
        clock, end_s = QuietClock(), time.perf_counter() + timeout_s
        while self.session.is_busy:
            assert time.perf_counter() < end_s, self.session.status
            self.round()
        return clock.elapsed_s

    def round(self) -> None:
        """One round of Swift's main loop."""
        begin = time.thread_time()
        self.swift.document_controller.periodic()
        self.slowest_call_s = max(self.slowest_call_s, time.thread_time() - begin)
        time.sleep(0.005)

    def scan(self, **changes: typing.Any) -> float:
        """A scan with these settings changed; the time in s that it takes on a quiet machine."""
        self.model.start(**changes)
        return self.run()

    def item(self, title: str) -> DataItem.DataItem:
        """The data item with this title."""
        return next(item for item in self.swift.document_model.data_items if item.title == title)

    def titles(self) -> list[str]:
        """Titles of all data items of ours."""
        return sorted(i.title for i in self.swift.document_model.data_items if i.title.startswith("Adaptive Scan ("))

    def how(self, title: str) -> dict[str, typing.Any]:
        """The metadata that say how a data item was made."""
        return dict(self.item(title).metadata["adaptive_scan"])


def open_panel(swift: Swift, directory: pathlib.Path) -> Opened:
    """The panel, its models read and its prediction made."""
    folders = Folders(directory / "configuration", directory / "models", directory / "journals")
    folders.configuration.mkdir(exist_ok=True)
    panel = AdaptiveScanPanel(swift.document_controller, PANEL_ID, {}, folders)
    opened = Opened(swift, panel, folders)
    swift.pump(lambda: opened.model.models.menu.policies and opened.model.prediction)
    return opened


def set_scan(source: scan_base.ScanHardwareSource, size_px: tuple[int, int] = (96, 96), dwell_us: float = 10.0) -> None:
    """Swift's own scan settings."""
    parameters = source.get_current_frame_parameters()
    parameters.pixel_size = size_px
    parameters.pixel_time_us = dwell_us
    source.set_current_frame_parameters(parameters)
    source.set_record_frame_parameters(parameters)
