"""The plug-in as Swift loads it: the panel and the menu of a window, and the actions for the console."""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib
import threading
import types
import typing

import pytest
import tiny_models
from nion.ui import TestUI, UserInterface
from panel_tools import Opened, set_scan
from swift_context import Swift

from adaptive_core.errors import InvalidInputError
from nionswift_plugin import adaptive_scan
from nionswift_plugin.adaptive_scan import console, panel
from nionswift_plugin.adaptive_scan.partial_scan_model import Folders

QUICK: dict[str, typing.Any] = {"policy": "random-segments", "generator": "nearest-interpolation"}


@dataclasses.dataclass
class Application:
    """What the plug-in registers with."""

    handlers: list[typing.Any] = dataclasses.field(default_factory=list)

    def get_api(self, **_: str) -> typing.Any:
        return types.SimpleNamespace(application=types.SimpleNamespace(_application=self))

    def register_menu_handler(self, handler: typing.Any) -> None:
        self.handlers.append(handler)

    def unregister_menu_handler(self, handler: typing.Any) -> None:
        self.handlers.remove(handler)


@pytest.fixture
def opened(
    swift_simulator: Swift, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> collections.abc.Iterator[Opened]:
    """The plug-in's panel and menu in a window."""
    set_scan(swift_simulator.scan)
    folders = Folders(None, tmp_path / "models", tmp_path / "journals")
    monkeypatch.setattr(panel, "folders_of", lambda _: folders)
    window = swift_simulator.document_controller
    application = Application()
    monkeypatch.setattr(console, "_open_windows", lambda: [window])
    # Swift's user interface for tests cannot do what the real one can.
    monkeypatch.setattr(TestUI.Menu, "remove_action", lambda menu, action: menu._item_removed(action))
    extension = adaptive_scan.AdaptiveScanExtension(application)
    assert window.workspace_controller is not None
    window.workspace_controller.create_panels([adaptive_scan.PANEL_ID])
    for handler in application.handlers:
        handler(window)
    opened = Opened(swift_simulator, typing.cast(typing.Any, window.find_dock_panel(adaptive_scan.PANEL_ID)), folders)
    swift_simulator.pump(lambda: opened.model.models.menu.policies)
    yield opened
    extension.close()
    assert not application.handlers


def menu(opened: Opened) -> UserInterface.Menu:
    """The menu "Adaptive" as it is shown."""
    menu = opened.swift.document_controller.get_or_create_menu("adaptive_scan_menu", "Adaptive", "window_menu")
    menu.about_to_show()
    return menu


def action(opened: Opened, title: str) -> typing.Any:
    return next(item for item in menu(opened).get_menu_actions() if item.title == title)


def policies(opened: Opened) -> list[typing.Any]:
    """The items of the sub-menu as it is shown."""
    sub_menu = next(item.sub_menu for item in menu(opened).items if item.sub_menu is not None)
    sub_menu.about_to_show()
    return list(sub_menu.get_menu_actions())


def test_the_actions_are_enabled_as_they_make_sense(opened: Opened) -> None:
    def enabled() -> set[str]:
        return {item.title for item in menu(opened).get_menu_actions() if item.enabled} - {
            "Align BF Disk",
            "Adaptive Ptychography",
        }

    always = {"Show Panel", "Unblank Beam"}
    assert enabled() == always | {"Adaptive Scan"}
    opened.model.change(**QUICK, segments=300, dwell_us=500.0)
    action(opened, "Adaptive Scan").callback()
    assert enabled() == {"Show Panel", "Abort"}
    opened.swift.pump(lambda: opened.session.progress_percent > 0)
    action(opened, "Abort").callback()
    opened.run()
    assert opened.session.status.startswith("Aborted")
    assert enabled() == always | {"Adaptive Scan", "Continue", "Verify"}
    opened.model.change(segments=2)
    action(opened, "Continue").callback()
    opened.run()
    action(opened, "Verify").callback()
    assert opened.session.is_busy
    opened.session.abort()
    opened.run()


def test_the_policies_are_a_sub_menu_with_a_check_mark(opened: Opened) -> None:
    assert [item.title for item in policies(opened)] == opened.model.models.policy_titles
    next(item for item in policies(opened) if item.title == "Halton").callback()
    assert opened.model.settings.policy == "halton"
    assert [item.title for item in policies(opened) if item.checked] == ["Halton"]
    opened.folders.models.mkdir()
    (opened.folders.models / "mine.onnx").write_bytes(tiny_models.direction_policy())
    opened.swift.pump(lambda: "Tiny policy" in [item.title for item in policies(opened)])
    assert [item.title for item in policies(opened) if item.checked] == ["Halton"]


def test_a_specimen_is_put_into_the_simulated_instrument(opened: Opened) -> None:
    simulator = opened.swift.simulator
    assert simulator is not None
    sub_menu = next(item.sub_menu for item in menu(opened).items if item.title == "Simulated Specimen")
    sub_menu.about_to_show()
    sub_menu.about_to_show()
    assert tuple(item.title for item in sub_menu.get_menu_actions()) == simulator.names
    assert opened.swift.scan.get_current_frame_parameters().fov_nm != 2.3
    next(item for item in sub_menu.get_menu_actions() if item.title == "dwcnt").callback()
    assert opened.swift.scan.get_current_frame_parameters().fov_nm == 2.3


def test_one_line_in_the_console_is_a_scan(opened: Opened) -> None:
    console.adaptive_scan(policy="spiral", generator="nearest-interpolation", segments=10)
    assert opened.session.is_busy
    opened.run()
    assert console.result()["finish_reason"] == "COMPLETED"
    assert console.result()["probes"] == 200
    console.continue_scan(**QUICK, segments=5)
    opened.run()
    assert console.result()["probes"] == 300
    console.adaptive_scan(**QUICK, coverage=0.02)
    opened.run()
    assert console.result()["coverage"] == pytest.approx(0.02, rel=0.01)
    console.verify()
    opened.run()
    assert "Against a raster" in console.result()["status"]
    console.complete_channels()
    opened.run()
    assert console.settings() == opened.model.settings
    assert console.settings().segments == 20
    assert {"spiral", "halton"} <= set(console.policies())
    assert "linear-interpolation" in console.generators()


def test_the_console_can_abort(opened: Opened) -> None:
    console.adaptive_scan(**QUICK, segments=300, dwell_us=500.0)
    opened.swift.pump(lambda: opened.session.progress_percent > 0)
    console.abort()
    opened.run()
    assert console.result()["finish_reason"] == "CANCELLED"


def test_a_script_can_wait(opened: Opened) -> None:
    results: list[dict[str, typing.Any]] = []

    def script() -> None:
        console.adaptive_scan(window=opened.swift.document_controller, **QUICK, segments=3)
        results.append(console.wait(20.0))

    thread = threading.Thread(target=script)
    thread.start()
    opened.swift.pump(lambda: not thread.is_alive())
    assert results[0]["probes"] == 60


def test_bad_lines_are_refused(opened: Opened) -> None:
    with pytest.raises(InvalidInputError, match="There is no setting 'segment'"):
        console.adaptive_scan(segment=3)
    with pytest.raises(InvalidInputError, match="Give one of segments, coverage and dose"):
        console.adaptive_scan(segments=3, coverage=0.1)
    with pytest.raises(InvalidInputError, match="is for scripts"):
        console.wait()
    console.adaptive_scan(policy="nothing")
    opened.run()
    assert "no model named 'nothing'" in console.result()["status"]


def test_without_a_window_there_is_a_message() -> None:
    with pytest.raises(InvalidInputError, match="no open window"):
        console.result()
