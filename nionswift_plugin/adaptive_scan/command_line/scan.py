"""``adaptive-scan scan``: an adaptive scan through Swift's instruments, without a window."""

from __future__ import annotations

import argparse
import collections.abc
import contextlib
import pathlib
import signal
import time

from adaptive_core.errors import AdaptiveScanError, InvalidInputError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan import FinishReason
from nionswift_plugin.adaptive_scan.command_line.scan_report import Latencies, ScanReport, scan_report, write_picture
from nionswift_plugin.adaptive_scan.command_line.scan_request import (
    FoundScan,
    add_scan_arguments,
    find_scan,
    scan_request,
)
from nionswift_plugin.adaptive_scan.headless import headless_swift
from nionswift_plugin.adaptive_scan.preparation import Models
from nionswift_plugin.adaptive_scan.swift_folders import user_folders
from nionswift_plugin.adaptive_scan.swift_scanner import SwiftScanner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    add_scan_arguments(parser)
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="folder for the journal and summary.png")
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")


def run(options: argparse.Namespace) -> int:
    """Scan and report; 0 only if the scan was completed."""
    folders = user_folders()
    request = scan_request(options, folders.configuration)
    models = Models.load(request.settings, ModelLibrary([folders.models]))
    out = make_folder(options.out or folders.runs)
    with headless_swift(folders):
        report, failure = run_scan(find_scan(request, models), out, with_picture=options.out is not None)
    for line in [report.to_json()] if options.json else report.lines():
        print(line)
    if failure is not None:
        raise failure
    return 0 if report.finish_reason == FinishReason.COMPLETED else 1


def make_folder(folder: pathlib.Path) -> pathlib.Path:
    """Make a folder for results. Raises InvalidInputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error
    return folder


def run_scan(found: FoundScan, out: pathlib.Path, *, with_picture: bool) -> tuple[ScanReport, AdaptiveScanError | None]:
    """Carry out a scan and write its journal and picture; the report, and why it failed if it did."""
    prepared = found.prepared
    episode, journal = prepared.begin(out)
    latencies = Latencies()
    failure: AdaptiveScanError | None = None
    begin = time.perf_counter()
    with _interrupt_cancels(prepared.scanner):
        try:
            for step in episode.run():
                latencies.add(step)
        except AdaptiveScanError as error:
            failure = error
    seconds = time.perf_counter() - begin
    truth = found.truth()
    report = scan_report(
        found,
        episode.scan,
        episode.estimate,
        truth=truth,
        dose_e_per_A2=episode.dose_e_per_A2,
        latencies=latencies,
        seconds=seconds,
        finish_reason=episode.finish_reason or FinishReason.FAILED,
        journal=journal.path,
    )
    if with_picture:
        write_picture(
            out / "summary.png",
            size_px=prepared.plan.setup.size_px,
            actions=episode.scan.actions,
            estimate=episode.estimate,
            truth=truth,
            pixel_size_nm=prepared.plan.setup.pixel_size_nm,
            caption=report.lines(),
        )
    return report, failure


@contextlib.contextmanager
def _interrupt_cancels(scanner: SwiftScanner) -> collections.abc.Iterator[None]:
    """Ctrl+C, or the end of the session, ends the scan as cancelled, with everything put back and recorded."""
    before = {number: signal.signal(number, lambda *_: scanner.cancel()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
