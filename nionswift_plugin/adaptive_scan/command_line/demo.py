"""``adaptive-scan demo``: an adaptive scan in Swift without a window, as the panel makes it.

It leaves what an operator of the panel would have: a project of Swift with the results as data items, and the journal.
"""

from __future__ import annotations

import argparse
import pathlib
import time
import typing

from nion.swift import Application, DocumentController

from adaptive_core.errors import DeviceError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan import FinishReason
from nionswift_plugin.adaptive_scan.acquisition import Outcome
from nionswift_plugin.adaptive_scan.command_line.scan_report import Latencies, scan_report, write_picture
from nionswift_plugin.adaptive_scan.command_line.scan_request import (
    FoundScan,
    add_scan_arguments,
    find_scan,
    scan_request,
)
from nionswift_plugin.adaptive_scan.headless import headless_swift
from nionswift_plugin.adaptive_scan.preparation import Models
from nionswift_plugin.adaptive_scan.profile import SwiftHome, make_swift_home
from nionswift_plugin.adaptive_scan.scan_session import ScanSession

_PERIOD_S = 0.02
"""How often Swift's main loop has its turn."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    add_scan_arguments(parser)
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="DIR",
        required=True,
        help="folder for the project, the journal and summary.png",
    )


def run(options: argparse.Namespace) -> int:
    """Scan in a project of Swift; 0 only if the scan was completed."""
    home = make_swift_home(options.out)
    request = scan_request(options, home.folders.configuration)
    models = Models.load(request.settings, ModelLibrary([home.folders.models]))
    with headless_swift(home.folders) as application:
        window = _open_project(application)
        found = find_scan(request, models)
        begin = time.perf_counter()
        outcome = _scan(window, found, home)
        lines = _report(found, outcome, home, time.perf_counter() - begin)
    print(*lines, f"Project: {home.project_path}", sep="\n")
    if outcome.error is not None:
        raise DeviceError(outcome.error)
    return 0 if outcome.reason is FinishReason.COMPLETED else 1


def _open_project(application: Application.Application) -> DocumentController.DocumentController:
    """Open the last project, as Swift does when it starts."""
    application.start()
    return typing.cast(DocumentController.DocumentController, application.windows[0])


def _scan(window: DocumentController.DocumentController, found: FoundScan, home: SwiftHome) -> Outcome:
    """Scan as the panel does, Swift's main loop running meanwhile."""
    session = ScanSession(window, window.queue_task, home.directory)
    session.start(lambda: found.prepared)
    while session.is_busy:
        window.periodic()
        time.sleep(_PERIOD_S)
    session.close()
    window.periodic()
    if session.outcome is None:
        raise DeviceError(session.status)
    return session.outcome


def _report(found: FoundScan, outcome: Outcome, home: SwiftHome, seconds: float) -> list[str]:
    """The lines of the report; the picture is written as well."""
    scan, journal, truth = outcome.scan, outcome.journal, found.truth()
    if scan is None or journal is None:
        return [f"{outcome.reason}: nothing was measured"]
    report = scan_report(
        found,
        scan,
        outcome.estimate,
        truth=truth,
        dose_e_per_A2=outcome.progress.dose_e_per_A2 if outcome.progress else None,
        latencies=Latencies(),
        seconds=seconds,
        finish_reason=outcome.reason,
        journal=journal,
    )
    setup = found.prepared.plan.setup
    picture = write_picture(
        home.directory / "summary.png",
        size_px=setup.size_px,
        actions=scan.actions,
        estimate=outcome.estimate,
        truth=truth,
        pixel_size_nm=setup.pixel_size_nm,
        caption=report.lines(),
    )
    return [*report.lines(), f"Journal: {journal}", f"Picture: {picture}"]
