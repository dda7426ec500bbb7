"""A menu of the devices of one kind that Swift knows, one of which a setting names."""

from __future__ import annotations

import collections.abc
import typing

from nion.instrumentation import HardwareSource
from nion.utils import Observable

D = typing.TypeVar("D", bound=HardwareSource.HardwareSource)


class Owner(typing.Protocol):
    """Whose devices they are.

    Attributes:
        settings: name the chosen devices.
    """

    settings: typing.Any

    def change(self, **changes: typing.Any) -> None:
        """Change settings."""
        ...


class DeviceMenu(Observable.Observable, typing.Generic[D]):
    """Observable properties: ``names`` and ``index``; for the user interface's thread.

    Args:
        owner: holds the settings.
        setting: the one that holds Swift's identifier of the device; None is the first one.
        find: every device there is.
        reset: settings that go back to None with another device.
    """

    def __init__(
        self,
        owner: Owner,
        setting: str,
        find: collections.abc.Callable[[], list[D]],
        reset: collections.abc.Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._owner = owner
        self._setting = setting
        self._find = find
        self._reset = reset
        self._devices = find()
        self._changing = False

    @property
    def names(self) -> list[str]:
        """The lines of the menu."""
        return [device.display_name for device in self._devices]

    @property
    def index(self) -> int | None:
        """The chosen device, or the first where that is not there; None where there is nothing."""
        ids = [device.hardware_source_id for device in self._devices]
        chosen = getattr(self._owner.settings, self._setting)
        return ids.index(chosen) if chosen in ids else 0 if ids else None

    @index.setter
    def index(self, index: int | None) -> None:
        if index is not None and not self._changing and index != self.index:
            chosen = {self._setting: self._devices[index].hardware_source_id}
            self._owner.change(**chosen, **dict.fromkeys(self._reset))

    @property
    def chosen(self) -> D | None:
        """The chosen device; None where there is nothing."""
        index = self.index
        return None if index is None else self._devices[index]

    def update(self) -> None:
        """Devices came or went. A combo box answers new lines with the index that it had before."""
        self._devices = self._find()
        self._changing = True
        try:
            self.notify_property_changed("names")
        finally:
            self._changing = False
        self.settings_changed()

    def settings_changed(self) -> None:
        """The owner's settings may name another device now."""
        self.notify_property_changed("index")
