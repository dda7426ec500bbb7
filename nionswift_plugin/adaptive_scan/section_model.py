"""What the panel's sections share: settings that are kept, texts that are typed, menus, and work in the background."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import pathlib
import threading
import typing

from nion.instrumentation import HardwareSource
from nion.swift import DocumentController
from nion.utils import Event, Observable

from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan.background import Background
from nionswift_plugin.adaptive_scan.device_menu import D, DeviceMenu
from nionswift_plugin.adaptive_scan.settings_store import SectionStore

REFRESH_S = 1.0
"""How often a section looks whether Swift's own settings have changed."""

S = typing.TypeVar("S")


class Session(typing.Protocol):
    """What a section runs, one at a time.

    Attributes:
        is_busy: whether it runs.
        property_changed_event: fires the name of an attribute that has changed.
    """

    is_busy: bool
    property_changed_event: Event.Event

    def say(self, line: str) -> None:
        """Tell the operator something."""
        ...

    def abort(self) -> None:
        """Stop what runs; returns at once."""
        ...

    def close(self) -> None:
        """End what runs and wait until the instrument is as it was."""
        ...


class SectionModel(Observable.Observable, typing.Generic[S]):
    """State of a section; for the user interface's thread. A subclass makes ``session`` and its menus.

    Every public attribute that a widget shows is an observable property.

    Args:
        document_controller: the window.
        store: keeps the settings.

    Attributes:
        settings: as they are.
        typed: texts that could not be read, with what is wrong with them, by the name of their property.
        is_visible: whether the operator can see the section.
    """

    action: typing.ClassVar[str]
    """What the button does while nothing runs."""
    shown_settings: typing.ClassVar[tuple[str, ...]]
    """Properties that show settings."""
    session: Session

    def __init__(self, document_controller: DocumentController.DocumentController, store: SectionStore[S]) -> None:
        super().__init__()
        self.settings: S = store.load()
        self.typed: dict[str, tuple[str, str]] = {}
        self.is_visible: collections.abc.Callable[[], bool] = lambda: True
        self.changing_menus = False
        self._document_controller = document_controller
        self._store = store
        self._closed = False
        self._post_lock = threading.Lock()
        self._background = Background(self._post)
        self._device_menus: list[DeviceMenu[typing.Any]] = []
        manager = HardwareSource.HardwareSourceManager()
        # An event lets go of a listener when nothing else holds it.
        self._listeners = [
            event.listen(self._devices_changed)
            for event in (manager.hardware_source_added_event, manager.hardware_source_removed_event)
        ]
        self._periodic = document_controller.add_periodic(REFRESH_S, self._poll)

    def close(self) -> None:
        """Stop what runs, wait until the instrument has been put back, and let go of everything."""
        with self._post_lock:
            self._closed = True
        self._periodic.close()
        self._background.close()
        self._store.save(self.settings)
        self.session.close()
        self._listeners.clear()

    def change(self, **changes: typing.Any) -> None:
        """Change settings and keep them."""
        settings = dataclasses.replace(typing.cast(typing.Any, self.settings), **changes)
        if settings != self.settings:
            self.settings = settings
            self._background.submit(
                "The settings", functools.partial(self._store.save, settings), lambda _: None, self.say
            )
            self.refresh()
            self._notify(*self.shown_settings)
            for menu in self._device_menus:
                menu.settings_changed()

    @property
    def button_text(self) -> str:
        """What the button would do."""
        return "Abort" if self.session.is_busy else self.action

    def start_or_abort(self) -> None:
        """What the button does."""
        if self.session.is_busy:
            self.session.abort()
        else:
            self.start()

    def start(self, **changes: typing.Any) -> None:
        """Begin with the settings, or with some of them changed for this time only.

        Raises InvalidInputError for a change to what is no choice. What else is wrong is told to the operator.
        """
        settings, message = dataclasses.replace(typing.cast(typing.Any, self.settings), **changes), self.typing_error
        if message is not None and not changes:
            self.say(message)
            return
        try:
            self._start(settings, changes)
        except InvalidInputError as error:
            self.say(str(error))

    def say(self, line: str) -> None:
        """Tell the operator something."""
        self.session.say(line)

    def ask_for_onnx(self) -> pathlib.Path | None:
        """Let the operator choose a model's file."""
        paths, _, _ = self._document_controller.get_file_paths_dialog("Load ONNX", "", "ONNX models (*.onnx)")
        return pathlib.Path(paths[0]) if paths else None

    def refresh(self) -> None:
        """Look again whether devices and settings fit together."""
        raise NotImplementedError

    @property
    def typing_error(self) -> str | None:
        """What is wrong with a text that has been typed."""
        return next((message for _, message in self.typed.values()), None)

    def update_devices(self) -> None:
        """Devices came or went."""
        for menu in self._device_menus:
            menu.update()
        self.refresh()

    def _start(self, settings: S, changes: collections.abc.Mapping[str, typing.Any]) -> None:
        """Begin with these settings, some of which are for this time only. Raises InvalidInputError."""
        raise NotImplementedError

    def _device_menu(
        self,
        setting: str,
        find: collections.abc.Callable[[], list[D]],
        reset: collections.abc.Sequence[str] = (),
    ) -> DeviceMenu[D]:
        """A menu that follows the settings and the devices; see :class:`DeviceMenu`."""
        menu = DeviceMenu(self, setting, find, reset)
        self._device_menus.append(menu)
        return menu

    def _devices_changed(self, _source: HardwareSource.HardwareSource) -> None:
        """A device came or went, on any thread."""
        self._post(self.update_devices)

    def _poll(self) -> None:
        if self.is_visible() and not self.session.is_busy:
            self.refresh()

    def _post(self, function: collections.abc.Callable[[], None]) -> None:
        """Have a function called on the user interface's thread, unless the window is closed by then."""

        def call() -> None:
            if not self._closed:
                function()

        with self._post_lock:
            if not self._closed:
                self._document_controller.queue_task(call)

    def _notify_menu(self, lines: str, index: str) -> None:
        """The lines of a menu have changed. A combo box answers new lines with the index that it had before."""
        self.changing_menus = True
        try:
            self._notify(lines)
        finally:
            self.changing_menus = False
        self._notify(index)

    def _notify(self, *names: str) -> None:
        for name in names:
            self.notify_property_changed(name)
