"""An operator at the panel of the real application: scan, abort, quit, crash."""

from __future__ import annotations

import collections.abc
import pathlib

import numpy as np
import pytest
from swift_app import SavedItem, SwiftApp, Widget, read_project, wait_for

from adaptive_core.journal_reader import Journal, read_journal
from nionswift_plugin.adaptive_scan.profile import SwiftHome

pytestmark = pytest.mark.app

PANEL = "adaptive-scan-panel"
MakeSwift = collections.abc.Callable[[], SwiftApp]


def choice(swift: SwiftApp, label: str) -> Widget:
    """A menu of the panel."""
    return swift.beside(label, PANEL, "ComboBoxWidget")


def field(swift: SwiftApp, label: str) -> Widget:
    """A line of the panel."""
    return swift.beside(label, PANEL, "LineEditWidget")


def wait_for_status(swift: SwiftApp, beginning: str, timeout_s: float = 30.0) -> str:
    """The line of the panel that begins like this, as soon as it is there."""

    def status() -> str | None:
        texts = (widget.text or "" for widget in swift.widgets(PANEL))
        return next((text for text in texts if text.startswith(beginning)), None)

    return wait_for(status, f"the status {beginning!r}", timeout_s)


def begin_long_scan(swift: SwiftApp) -> None:
    """Begin a scan that takes minutes, and wait until something is shown of it."""
    swift.choose(choice(swift, "Policy"), "Random segments")
    swift.type_into(field(swift, "Budget"), "20000")
    swift.type_into(field(swift, "Dwell"), "500")
    swift.click("Adaptive Scan", PANEL)
    wait_for(lambda: swift.data_items().get("Adaptive Scan (measured)", {}).get("graphics"), "a part of the path")


def journals(home: SwiftHome) -> list[Journal]:
    """What the runs of the project have left, in the order of their beginning."""
    return [read_journal(path) for path in sorted(home.project_path.parent.rglob("*.h5"))]


def results(home: SwiftHome) -> dict[str, SavedItem]:
    """The saved data items of adaptive scans, by title."""
    return {item.title: item for item in read_project(home) if item.title.startswith("Adaptive Scan (")}


def check_saved(home: SwiftHome, size: tuple[int, int]) -> dict[str, SavedItem]:
    """The saved results of a scan of this size, which must be complete, calibrated and say how they were made."""
    items = results(home)
    measured, completed, path = (items[f"Adaptive Scan ({role})"] for role in ("measured", "completed", "path"))
    for item in (measured, completed):
        assert item.data is not None
        assert item.data.shape == size
        assert item.properties["intensity_calibration"]["units"] == "counts"
    assert path.data is not None
    assert path.data.any()
    for item in (measured, completed, path):
        assert [calibration["units"] for calibration in item.properties["dimensional_calibrations"]] == ["nm", "nm"]
        how = item.properties["metadata"]["adaptive_scan"]
        assert how["device"] == "adaptive_simulator_scan"
        assert pathlib.Path(how["journal"]).is_file()
        assert {"policy", "generator"} <= how["models"].keys()
    seen = np.isfinite(measured.data)
    assert 0 < seen.sum() < seen.size
    assert np.isfinite(completed.data).all()
    assert completed.data.std() > 0
    assert measured.graphics
    return items


def test_scan_from_the_panel(make_swift: MakeSwift, home: SwiftHome) -> None:
    with make_swift() as swift:
        wait_for(lambda: swift.widgets(PANEL), "the panel, which is shown at the first start")
        assert choice(swift, "Device").text == "Adaptive Simulator Scan"
        swift.screenshot("1-panel")

        swift.menu("Adaptive", "Policies", "Spiral")
        wait_for(lambda: choice(swift, "Policy").text == "Spiral", "the policy of the menu in the panel")
        wait_for(lambda: choice(swift, "Generator").text == "Completion of spirals", "the generator of the policy")
        swift.choose(choice(swift, "Policy"), "Predicted error")
        wait_for(lambda: choice(swift, "Generator").text == "Universal completion", "the generator of the policy")
        wait_for_status(swift, "400 probes")
        swift.click("Adaptive Scan", PANEL)
        status = wait_for_status(swift, "Completed: ")
        assert status.startswith("Completed: 400 probes, 4.34 %")
        assert not any(item["live"] for item in swift.data_items().values())
        swift.screenshot("2-completed")

        swift.click("Continue", PANEL)
        assert wait_for_status(swift, "Completed: 800 probes")
        swift.screenshot("3-continued")
        swift.click("Verify", PANEL)
        wait_for_status(swift, "Against a raster: ")
        swift.screenshot("4-verified")
        assert "torch" not in swift.ask("modules")

    items = check_saved(home, (96, 96))
    assert len(items["Adaptive Scan (measured)"].graphics) == 40
    assert {"Adaptive Scan (uncertainty)", "Adaptive Scan (raster)", "Adaptive Scan (difference)"} <= items.keys()
    first, second = journals(home)
    assert first.finish_reason == second.finish_reason == "COMPLETED"
    assert len(first.entries) == 20


def test_another_vendors_device(make_swift: MakeSwift, home: SwiftHome) -> None:
    with make_swift() as swift:
        wait_for(lambda: swift.widgets(PANEL), "the panel")
        swift.choose(choice(swift, "Device"), "uSim Scan")
        swift.choose(choice(swift, "Policy"), "Spiral")
        swift.click("Adaptive Scan", PANEL)
        wait_for_status(swift, "Completed: 400 probes")
        swift.screenshot("completed")
    how = results(home)["Adaptive Scan (completed)"].properties["metadata"]["adaptive_scan"]
    assert how["device"] == "usim_scan_device"


def test_abort_keeps_what_was_measured(make_swift: MakeSwift, home: SwiftHome) -> None:
    with make_swift() as swift:
        wait_for(lambda: swift.widgets(PANEL), "the panel")
        begin_long_scan(swift)
        swift.screenshot("1-running")
        swift.click("Abort", PANEL)
        # It takes less than 0.5 s, which a test of the panel measures; a busy machine shows it later.
        assert "completed" in wait_for_status(swift, "Aborted. ", timeout_s=5)
        assert swift.find("Adaptive Scan", PANEL, "PushButtonWidget")
        swift.screenshot("2-aborted")
    check_saved(home, (96, 96))
    (journal,) = journals(home)
    assert journal.finish_reason == "CANCELLED"

    with make_swift() as swift:
        wait_for(lambda: swift.widgets(PANEL), "the panel, which is shown again after a restart")
        wait_for(lambda: choice(swift, "Policy").text == "Random segments", "the policy that was chosen last")
        assert (field(swift, "Budget").text, field(swift, "Dwell").text) == ("20000", "500")
        assert swift.data_items().keys() >= results(home).keys()


def test_quit_while_a_scan_runs(make_swift: MakeSwift, home: SwiftHome) -> None:
    with make_swift() as swift:
        wait_for(lambda: swift.widgets(PANEL), "the panel")
        begin_long_scan(swift)
        swift.quit()
    check_saved(home, (96, 96))
    (journal,) = journals(home)
    assert journal.finish_reason == "CANCELLED"


def test_crash_while_a_scan_runs(make_swift: MakeSwift, home: SwiftHome) -> None:
    with make_swift() as swift:
        wait_for(lambda: swift.widgets(PANEL), "the panel")
        begin_long_scan(swift)
        shown = swift.data_items()["Adaptive Scan (measured)"]["graphics"]
        swift.kill()
    (journal,) = journals(home)
    assert journal.finish_reason is None
    assert len(journal.entries) >= shown
    assert all(np.isfinite(entry.values).all() for entry in journal.entries)

    with make_swift() as swift:
        swift.menu("Adaptive", "Show Panel")
        wait_for(lambda: swift.widgets(PANEL), "the panel")
        swift.screenshot("restarted")
