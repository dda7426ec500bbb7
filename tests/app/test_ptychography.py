"""An operator takes a ptychographic scan in the real Nion Swift."""

from __future__ import annotations

import collections.abc
import pathlib
import time

import numpy as np
import pytest
from swift_app import SwiftApp, Widget, read_project, wait_for

from adaptive_core.ptychography import scan_file
from nionswift_plugin.adaptive_scan.profile import SwiftHome
from nionswift_plugin.adaptive_scan.ptychography_settings import PtychographyChoices, PtychographyStore
from nionswift_plugin.adaptive_scan.settings import SIMULATOR_ID

pytestmark = pytest.mark.app

CAMERA = "adaptive_simulator_camera"
PANEL = "adaptive-scan-panel"
ROLES = ("phase", "amplitude", "positions", "FRC")


def prepare(home: SwiftHome) -> None:
    """Choose the simulated devices."""
    folder = home.folders.configuration
    PtychographyStore(folder).save(PtychographyChoices(device=SIMULATOR_ID, camera=CAMERA, exposure_ms=1.0))


def field(swift: SwiftApp, label: str) -> Widget:
    """A line of the panel."""
    return swift.beside(label, PANEL, "LineEditWidget")


def status(swift: SwiftApp, beginning: str) -> str | None:
    """The text of the panel that begins like this."""
    found = (w.text for w in swift.widgets(PANEL) if w.text and w.text.startswith(beginning))
    return next(found, None)


def items(swift: SwiftApp) -> dict[str, dict[str, object]]:
    """The data items of the last scan, by role."""
    found = swift.data_items()
    return {role: found[f"Adaptive Scan ({role})"] for role in ROLES if f"Adaptive Scan ({role})" in found}


def test_a_scan_from_the_panel(
    make_swift: collections.abc.Callable[[], SwiftApp], home: SwiftHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTIVE_SIMULATOR_WORLD", "none")
    prepare(home)
    with make_swift() as swift:
        wait_for(lambda: swift.widgets(PANEL), "the panel")
        swift.screenshot("1-start")
        swift.menu("Adaptive", "Simulated Specimen", "mos2")
        swift.open_section("Adaptive Ptychography", "Positions", PANEL)
        swift.type_into(field(swift, "Positions"), "60")
        swift.type_into(field(swift, "Exposure"), "1")
        swift.type_into(field(swift, "Defocus"), "8")
        wait_for(lambda: status(swift, "60 patterns of 1 ms on 2 "), "the prediction")
        swift.screenshot("2-panel")
        swift.click("Adaptive Ptychography", PANEL)
        wait_for(lambda: items(swift), "the first image")
        swift.screenshot("3-running")
        wait_for(lambda: status(swift, "Completed: 60 positions"), "the end of the scan")
        assert set(items(swift)) == set(ROLES)
        assert not any(item["live"] for item in items(swift).values())
        swift.screenshot("4-completed")
        swift.open_section("Optics and camera", "Semi-angle", PANEL)
        time.sleep(0.5)  # until it is painted
        swift.screenshot("5-optics")

        swift.type_into(field(swift, "Positions"), "5000")
        swift.menu("Adaptive", "Adaptive Ptychography")
        wait_for(lambda: status(swift, "1000 of 5000") or swift.find("Abort", PANEL, "PushButtonWidget"), "the scan")
    # Leaving the context has quit Swift in the middle of a scan, and looked for a traceback.
    saved = {item.title: item for item in read_project(home)}
    phase = saved["Adaptive Scan (phase)"]
    assert phase.data is not None
    assert phase.data.std() > 0.05
    assert [graphic["type"] for graphic in saved["Adaptive Scan (positions)"].graphics] == 12 * ["point-graphic"]
    how = phase.properties["metadata"]["adaptive_scan"]
    assert how["finish_reason"] == "COMPLETED"
    kept = scan_file.read_scan(pathlib.Path(how["file"]))
    assert kept.count == 60
    assert np.isfinite(kept.positions_A).all()
