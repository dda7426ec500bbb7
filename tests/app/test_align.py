"""An operator centres the bright-field disk in the real Nion Swift."""

from __future__ import annotations

import collections.abc
import contextlib
import json
import re
import statistics

import pytest
from quiet_clock import QuietClock
from swift_app import SwiftApp, read_project, wait_for

from nionswift_plugin.adaptive_scan.alignment_settings import AlignmentChoices, AlignmentStore
from nionswift_plugin.adaptive_scan.profile import SwiftHome

pytestmark = pytest.mark.app

CAMERA = "adaptive_simulator_camera"
PANEL = "adaptive-scan-panel"
TITLE = "Adaptive Scan (alignment)"


def prepare(home: SwiftHome, exposure_ms: float = 20.0) -> None:
    """Choose the simulator's camera, and its exposure in Swift's camera settings."""
    folder = home.folders.configuration
    AlignmentStore(folder).save(AlignmentChoices(camera=CAMERA))
    frame = {
        "exposure_ms": exposure_ms,
        "exposure": exposure_ms / 1000,
        "binning": 1,
        "processing": None,
        "integration_count": 1,
        "active_masks": [],
    }
    settings = {
        "settings": [frame] * 3,
        "current_settings_index": 0,
        "current_settings": frame,
        "record_settings": frame,
    }
    (folder / f"{CAMERA}_config.json").write_text(json.dumps(settings), "utf-8")


Section = collections.abc.Callable[[str], contextlib.AbstractContextManager[SwiftApp]]


@pytest.fixture
def section(
    make_swift: collections.abc.Callable[[], SwiftApp], home: SwiftHome, monkeypatch: pytest.MonkeyPatch
) -> Section:
    """Opens Swift with the panel's section, on a simulated microscope in a world."""

    @contextlib.contextmanager
    def opened(world: str) -> collections.abc.Iterator[SwiftApp]:
        monkeypatch.setenv("ADAPTIVE_SIMULATOR_WORLD", world)
        prepare(home)
        with make_swift() as swift:
            swift.open_section("Align BF Disk", "Control", PANEL)
            yield swift

    return opened


def status(swift: SwiftApp, beginning: str) -> str | None:
    """The text of the panel that begins like this."""
    found = (w.text for w in swift.widgets(PANEL) if w.text and w.text.startswith(beginning))
    return next(found, None)


def test_a_click_centres_the_disk_in_world_b(section: Section, home: SwiftHome) -> None:
    with section("B") as swift:
        swift.screenshot("before")
        seconds = []
        for click in range(3):
            clock = QuietClock(swift.ask("process"))
            swift.click("Align", PANEL)
            line = wait_for(lambda: status(swift, "Centred: "), "the disk to be centred")
            found = re.match(r"Centred: (\d+) frames in ([\d.]+) s, ([\d.]+) px", line)
            assert found is not None, line
            # Swift's own time, from the click to the result.
            seconds.append(clock.quiet_s(float(found[2])))
            wait_for(lambda: swift.data_items().get(TITLE, {}).get("live") is False, "the trace")
            swift.screenshot(f"aligned-{click + 1}")
            assert int(found[1]) <= 15
            assert float(found[3]) < 1.0
            swift.click("Undo", PANEL)
            wait_for(lambda: status(swift, "Undone: "), "the shift to go back")
        assert statistics.median(seconds) < 2.0, seconds
        swift.menu("Adaptive", "Align BF Disk")
        wait_for(lambda: status(swift, "Centred: "), "the disk to be centred from the menu")
    item = next(item for item in read_project(home) if item.title == TITLE)
    assert item.data is not None
    assert item.data.ndim == 2
    assert item.properties["metadata"]["adaptive_scan"]["finish_reason"] == "aligned"


def test_the_centre_of_a_detector_and_a_line_in_the_console(section: Section) -> None:
    with section("none") as swift:
        swift.choose(swift.beside("Target", PANEL, "ComboBoxWidget"), "Centre of a detector")
        wait_for(lambda: swift.find("Detector", PANEL), "the name of the detector's control")
        swift.type_into_console("stem_controller.SetVal('DetectorCentre.x', 0.02)")
        swift.click("Align", PANEL)
        line = wait_for(lambda: status(swift, "Centred: "), "the disk to be centred on the detector")
        moved = re.search(r"CAperture changed by \(y, x\) = \((\S+), (\S+)\)", line)
        assert moved is not None, line
        assert float(moved[1]) == pytest.approx(0.0, abs=0.5e-3)
        assert float(moved[2]) == pytest.approx(0.02, abs=0.5e-3)
        swift.screenshot("detector")
        swift.click("Undo", PANEL)
        wait_for(lambda: status(swift, "Undone: "), "the shift to go back")
        swift.type_into_console(
            "from nionswift_plugin.adaptive_scan import console; console.align(target='centre', tolerance=0.5)"
        )
        wait_for(lambda: status(swift, "Centred: "), "the disk to be centred from the console")


def test_quitting_while_the_disk_is_kept_centred(
    make_swift: collections.abc.Callable[[], SwiftApp], home: SwiftHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTIVE_SIMULATOR_WORLD", "A")
    prepare(home)
    with make_swift() as swift:
        swift.open_section("Align BF Disk", "Control", PANEL)
        swift._click_at(wait_for(lambda: swift.find("Continuous", PANEL), "the check box").centre)
        swift.click("Align", PANEL)
        wait_for(lambda: status(swift, "On target: "), "the disk to be centred")
        assert swift.find("Abort", PANEL, "PushButtonWidget") is not None
        swift.screenshot("continuous")
    # Leaving the context has quit Swift and looked for a traceback.
    assert any(item.title == TITLE and item.data is not None for item in read_project(home))
    with make_swift() as swift:
        swift.open_section("Align BF Disk", "Control", PANEL)
        box = wait_for(lambda: swift.find("Continuous", PANEL), "the check box")
        assert box.checked
        swift.choose(swift.beside("Target", PANEL, "ComboBoxWidget"), "Centre of a detector")
        title = wait_for(lambda: swift.find("Settings of the control", PANEL), "the limits")
        swift._click_at((title.rectangle[0] - 10, title.centre[1]))
        wait_for(lambda: swift.find("Max. shift", PANEL), "the limits to be shown")
        swift.screenshot("limits")


def test_quitting_in_the_middle_puts_the_shift_back(
    make_swift: collections.abc.Callable[[], SwiftApp], home: SwiftHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTIVE_SIMULATOR_WORLD", "B")
    prepare(home, exposure_ms=700.0)
    with make_swift() as swift:
        swift.open_section("Align BF Disk", "Control", PANEL)
        swift.click("Align", PANEL)
        wait_for(lambda: status(swift, "Moving: "), "the first move")
        swift.click("Abort", PANEL)
        wait_for(lambda: status(swift, "Aborted after "), "the alignment to stop")
        assert swift.log.count("putting the shift back to (0.0, 0.0)") == 1
        swift.click("Align", PANEL)
        wait_for(lambda: status(swift, "Moving: "), "the first move")
    assert swift.log.count("putting the shift back to (0.0, 0.0)") == 2
