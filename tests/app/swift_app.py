"""The real Nion Swift under a virtual display, driven with mouse and keyboard and looked at from outside."""

from __future__ import annotations

import collections.abc
import dataclasses
import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import typing

import numpy as np
import numpy.typing as npt
import PIL.Image
from nion.swift.model import Profile

from nionswift_plugin.adaptive_scan.profile import SwiftHome

Json = typing.Any
Answer = typing.TypeVar("Answer")

WINDOW_SIZE = (1600, 1200)
START_TIMEOUT_S = 120.0
QUIT_TIMEOUT_S = 60.0
EARLY_THUMBNAIL = re.compile(
    r"Event Fire Traceback(?:(?!Event Fire).)*?in thumbnail_updated\n(?:(?!Event Fire).)*? in _update_child\n"
    r"(?:(?!Event Fire).)*?^ValueError: GridFlowItemCanvasItem(?:(?!Event Fire).)*? is not in list$",
    re.DOTALL | re.MULTILINE,
)
"""Nion UI inserts a row before it notes it; a thumbnail that is ready in between is told of, and shown with the row."""


def wait_for(question: collections.abc.Callable[[], Answer | None], what: str, timeout_s: float = 60.0) -> Answer:
    """The first answer that is true; fails with ``what`` when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s:g} s for {what}")


@dataclasses.dataclass(frozen=True)
class Widget:
    """A visible widget of Swift.

    Attributes:
        place: id of the panel, or title of the window, that it is in.
        kind: class of Nion's user interface, for example PushButtonWidget.
        text: label, title or current item.
        items: of a combo box.
        rectangle: x, y, width, height on the screen in px.
    """

    place: str
    kind: str
    text: str | None
    items: tuple[str, ...] | None
    enabled: bool
    checked: bool | None
    rectangle: tuple[int, int, int, int]

    @property
    def centre(self) -> tuple[int, int]:
        """x, y on the screen in px."""
        x, y, width, height = self.rectangle
        return x + width // 2, y + height // 2


@dataclasses.dataclass(frozen=True, eq=False)
class SavedItem:
    """A data item as it lies in a project's folder: its properties, its data and the graphics drawn on it."""

    title: str
    properties: dict[str, Json]
    data: npt.NDArray[typing.Any] | None
    graphics: tuple[dict[str, Json], ...]


class VirtualDisplay:
    """Xvfb on a display of its own choice."""

    def __init__(self) -> None:
        read_end, write_end = os.pipe()
        width, height = WINDOW_SIZE
        self._process = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write_end), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"],
            pass_fds=[write_end],
            stderr=subprocess.DEVNULL,
        )
        os.close(write_end)
        with open(read_end, encoding="ascii") as stream:
            self.name = f":{stream.readline().strip()}"
        assert self.name != ":", "Xvfb did not start"

    def close(self) -> None:
        """End the display."""
        self._process.terminate()
        self._process.wait(QUIT_TIMEOUT_S)


class SwiftApp:
    """One run of Nion Swift.

    Leaving the context quits Swift as a user does and checks that it ended by itself, without a traceback in its log.
    """

    def __init__(self, home: SwiftHome, display: VirtualDisplay, pictures: pathlib.Path) -> None:
        self.home = home
        self.log_path = home.directory / "swift.log"
        self._pictures = pictures
        self._display = display
        self._socket_path = home.directory / "observer"
        self._environment = {
            **home.environment(os.environ),
            "DISPLAY": display.name,
            "OMP_NUM_THREADS": "1",
            "SWIFT_OBSERVER_SOCKET": str(self._socket_path),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SwiftApp:
        self._socket_path.unlink(missing_ok=True)
        application = pathlib.Path(__file__).with_name("observed_swift.py")
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nion.swift.command", "--app", str(application)],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(lambda: "Welcome to Nion Swift" in self.log, f"Swift to start:\n{self.log}", START_TIMEOUT_S)
            wait_for(lambda: self.ask("widgets"), "Swift to show its widgets")
            wait_for(self._fill_display, "Swift's window to fill the display")
            wait_for(lambda: self._picture().std() > 5, "Swift to paint its window")
        except BaseException:
            self.screenshot("failed-start")
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.screenshot("failed")
            self.kill()
        elif self.is_running:
            self.quit()

    @property
    def log(self) -> str:
        """All that Swift has printed."""
        return self.log_path.read_text("utf-8", errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether Swift is there."""
        return self._process is not None and self._process.poll() is None

    def ask(self, question: str) -> Json:
        """An answer of the observer, see observed_swift.py; None while no window is open."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self._socket_path))
            connection.sendall(question.encode() + b"\n")
            with connection.makefile("rb") as stream:
                reply = json.loads(stream.readline())
        assert "error" not in reply, reply["error"]
        return reply["answer"]

    def widgets(self, place: str | None = None) -> list[Widget]:
        """The visible widgets, all or those of one panel or window."""
        answers = self.ask("widgets") or []
        widgets = [
            Widget(**{**a, "items": a["items"] and tuple(a["items"]), "rectangle": tuple(a["rectangle"])})
            for a in answers
        ]
        return [w for w in widgets if place is None or w.place == place]

    def find(self, text: str, place: str | None = None, kind: str | None = None) -> Widget | None:
        """The first widget with this text."""
        found = (w for w in self.widgets(place) if w.text == text and kind in (None, w.kind))
        return next(found, None)

    def beside(self, label: str, place: str, kind: str) -> Widget:
        """The widget of a kind in the row that a label begins."""
        widgets = self.widgets(place)
        row = next(w for w in widgets if w.text == label and w.kind == "LabelWidget").centre[1]
        return next(w for w in widgets if w.kind == kind and abs(w.centre[1] - row) < w.rectangle[3] // 2)

    def data_items(self) -> dict[str, Json]:
        """Title, shape, live state and number of graphics of each data item, by title."""
        return {item["title"]: item for item in self.ask("data_items") or []}

    def click(self, text: str, place: str | None = None) -> None:
        """Press the push button with this text as soon as it is enabled."""

        def enabled_button() -> Widget | None:
            button = self.find(text, place, "PushButtonWidget")
            return button if button and button.enabled else None

        self._click_at(wait_for(enabled_button, f"an enabled button {text!r}").centre)

    def type_into(self, field: Widget, text: str) -> None:
        """Replace the text of a line and leave it with the return key."""
        self._click_at(field.centre)
        self._keys("ctrl+a")
        self._xdotool("type", "--delay", "20", text)
        self._keys("Return")

    def open_section(self, title: str, content: str, place: str) -> None:
        """Open a section of a panel, unless it is; ``content`` is a text in it."""

        def resting_label() -> Widget | None:
            # What is filled in above it while Swift starts moves it away from under the mouse.
            label = self.find(title, place)
            time.sleep(0.5)
            return label if label is not None and self.find(title, place) == label else None

        label = wait_for(resting_label, f"the section {title!r} to stay where it is")
        if self.find(content, place) is None:
            self._click_at((label.rectangle[0] - 10, label.centre[1]))
            wait_for(lambda: self.find(content, place), f"the section {title!r} to open")

    def type_into_console(self, line: str) -> None:
        """Have Swift's Python console do a line; the main window is in front again afterwards."""
        self._keys("ctrl+k")
        console = wait_for(lambda: self._windows("Python Console"), "the Python console")[0]
        self._xdotool("windowfocus", "--sync", console, "type", "--delay", "10", line)
        self._keys("Return")
        window = self._windows("^Nion Swift .* - ")[0]
        self._xdotool("windowraise", window, "windowfocus", window)

    def choose(self, combo_box: Widget, item: str) -> None:
        """Choose an item from a combo box with the mouse and the keyboard."""
        assert combo_box.items is not None, f"no combo box: {combo_box}"
        self._click_at(combo_box.centre)
        time.sleep(0.3)
        self._keys("Home", *["Down"] * combo_box.items.index(item), "Return")

        def chosen() -> bool:
            return any(w.rectangle == combo_box.rectangle and w.text == item for w in self.widgets(combo_box.place))

        wait_for(chosen, f"{item!r} to be chosen")

    def menu(self, *titles: str) -> None:
        """Choose a menu item by its titles, for example ``menu("Adaptive", "Policies", "spiral")``."""
        bar = [menu["title"] for menu in self.ask("menus")]
        self._click_at((15, 10))
        time.sleep(0.3)
        self._keys(*["Right"] * bar.index(titles[0]))
        for depth in range(1, len(titles)):
            time.sleep(0.3)  # a menu may build its items as it is about to show
            # Separators and disabled items are passed over.
            items = [i for i in self._menu_items(titles[:depth]) if i is not None and i.get("enabled", True)]
            index = [i["title"] for i in items].index(titles[depth])
            last = depth == len(titles) - 1
            self._keys("Home", *["Down"] * index, "Return" if last else "Right")
        time.sleep(0.2)

    def _menu_items(self, titles: tuple[str, ...]) -> list[Json]:
        items: list[Json] = self.ask("menus")
        for title in titles:
            items = next(i["items"] for i in items if i is not None and i["title"] == title)
        return items

    def screenshot(self, name: str) -> pathlib.Path:
        """Keep a picture of the whole display."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        path = self._pictures / f"{name}.png"
        subprocess.run(["import", "-window", "root", str(path)], env=self._environment, check=True)
        return path

    def quit(self) -> None:
        """Quit with the keyboard; fails when Swift stays, or has printed a traceback."""
        assert self._process is not None
        self._keys("ctrl+q")
        try:
            self._process.wait(QUIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.screenshot("failed-quit")
            self.kill()
            raise AssertionError(f"Swift did not quit in {QUIT_TIMEOUT_S:g} s:\n{self.log}") from None
        self.check_log()

    def check_log(self) -> None:
        """Fail on a traceback or a crash in the log."""
        # Swift offers remote calls on a fixed port; that another Swift on this machine has it is no fault of ours.
        expected = int("Address already in use" in self.log)
        assert EARLY_THUMBNAIL.sub("", self.log).count("Traceback") == expected, self.log
        for sign in ("Segmentation fault", "terminate called", "QThread: Destroyed"):
            assert sign not in self.log, self.log

    def kill(self) -> None:
        """End Swift at once, as a crash would."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _fill_display(self) -> bool:
        """Place the main window; True once it stays where it was put (Swift restores its own place as it starts)."""
        window = self._windows("^Nion Swift .* - ")[0]
        geometry = self._xdotool("getwindowgeometry", "--shell", window)
        width, height = WINDOW_SIZE
        if all(line in geometry.split() for line in ("X=0", "Y=0", f"WIDTH={width}", f"HEIGHT={height}")):
            return True
        self._xdotool("windowmove", window, "0", "0", "windowsize", window, str(width), str(height))
        time.sleep(0.2)
        return False

    def _windows(self, name: str) -> list[str]:
        """Ids of the visible windows whose titles match a regular expression."""
        command = ["xdotool", "search", "--onlyvisible", "--name", name]
        found = subprocess.run(command, env=self._environment, check=False, stdout=subprocess.PIPE, text=True)
        return found.stdout.split()

    def _picture(self) -> npt.NDArray[np.uint8]:
        command = ["import", "-window", "root", "-depth", "8", "ppm:-"]
        shot = subprocess.run(command, env=self._environment, check=True, capture_output=True).stdout
        return np.asarray(PIL.Image.open(io.BytesIO(shot)))

    def _click_at(self, place: tuple[int, int]) -> None:
        x, y = place
        assert 0 <= x < WINDOW_SIZE[0], f"x = {x} is off the screen"
        assert 0 <= y < WINDOW_SIZE[1], f"y = {y} is off the screen"
        self._xdotool("mousemove", str(x), str(y), "click", "1")

    def _keys(self, *keys: str) -> None:
        if keys:
            self._xdotool("key", "--delay", "40", *keys)

    def _xdotool(self, *arguments: str) -> str:
        command = ["xdotool", *arguments]
        return subprocess.run(
            command, env=self._environment, check=True, stdout=subprocess.PIPE, text=True, timeout=30
        ).stdout


def read_project(home: SwiftHome) -> list[SavedItem]:
    """The data items of a project as they lie on disk, in the order of the project."""
    reference = Profile.IndexProjectReference()
    reference.project_path = home.project_path
    storage = reference.make_storage(None)
    assert storage is not None, f"no project in {home.project_path}"
    storage.load_properties()
    try:
        display_items = storage.get_storage_properties().get("display_items", [])
        graphics: dict[str, list[dict[str, Json]]] = {}
        for display_item in display_items:
            for channel in display_item["display_data_channels"]:
                graphics.setdefault(channel["data_item_reference"], []).extend(display_item.get("graphics", []))
        items = []
        for handler in storage.find_data_items():
            properties = handler.read_properties()
            items.append(
                SavedItem(
                    title=properties.get("title", ""),
                    properties=properties,
                    data=handler.read_data(),
                    graphics=tuple(graphics.get(properties["uuid"], [])),
                )
            )
        return items
    finally:
        storage.close()
