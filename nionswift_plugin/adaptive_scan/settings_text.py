"""Properties of a section's model that show its settings: lines of text, menus and check boxes."""

from __future__ import annotations

import collections.abc
import math
import typing

from adaptive_core.errors import InvalidInputError

Changes = dict[str, typing.Any]


class HasSettings(typing.Protocol):
    """What the properties belong to.

    Attributes:
        settings: as they are.
        typed: texts that could not be read, with what is wrong with them, by the name of their property.
    """

    settings: typing.Any
    typed: dict[str, tuple[str, str]]

    def change(self, **changes: typing.Any) -> None:
        """Change settings."""
        ...

    def refresh(self) -> None:
        """Look again at settings and texts."""
        ...

    def notify_property_changed(self, name: str) -> None:
        """Tell the widgets."""
        ...


class SettingText:
    """A property that is the text of a setting; what cannot be read stays as it was typed, with a message.

    Args:
        read: the settings that a text changes. Raises InvalidInputError.
        write: the text of the settings.
    """

    def __init__(
        self,
        read: collections.abc.Callable[[typing.Any, str], Changes],
        write: collections.abc.Callable[[typing.Any], str],
    ) -> None:
        self._read = read
        self._write = write
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, model: HasSettings, owner: type) -> str:
        typed = model.typed.get(self._name)
        return self._write(model.settings) if typed is None else typed[0]

    def __set__(self, model: HasSettings, text: str | None) -> None:
        text = (text or "").strip()
        try:
            changes = self._read(model.settings, text)
        except InvalidInputError as error:
            model.typed[self._name] = text, str(error)
            model.refresh()
        else:
            model.typed.pop(self._name, None)
            model.change(**changes)
            model.refresh()
        model.notify_property_changed(self._name)


class SettingIndex:
    """A property that is the index of a setting's value in a menu of all of them."""

    def __init__(self, name: str, values: collections.abc.Sequence[typing.Any]) -> None:
        self._setting = name
        self._values = values

    def __get__(self, model: HasSettings, owner: type) -> int:
        return self._values.index(getattr(model.settings, self._setting))

    def __set__(self, model: HasSettings, index: int) -> None:
        model.change(**{self._setting: self._values[index]})


class SettingFlag:
    """A property that is a setting which is True or False."""

    def __init__(self, name: str) -> None:
        self._setting = name

    def __get__(self, model: HasSettings, owner: type) -> bool:
        return bool(getattr(model.settings, self._setting))

    def __set__(self, model: HasSettings, value: bool) -> None:
        model.change(**{self._setting: value})


def plain_text(name: str, *, optional: bool = False) -> SettingText:
    """The text of a setting; empty is None if it is optional."""

    def read(_settings: typing.Any, text: str) -> Changes:
        return {name: (text or None) if optional else text}

    return SettingText(read, lambda settings: getattr(settings, name) or "")


def number_text(
    name: str, what: str, read_number: collections.abc.Callable[[str, str], float], *, optional: bool = False
) -> SettingText:
    """The text of a setting that is a number; empty is None if it is optional."""

    def read(_settings: typing.Any, text: str) -> Changes:
        return {name: None if optional and not text else read_number(text, what)}

    return SettingText(read, lambda settings: write_number(getattr(settings, name)))


def write_number(value: float | None) -> str:
    """Empty for None."""
    return "" if value is None else f"{value:.10g}"


def whole_number(text: str, what: str) -> int:
    """Raises InvalidInputError unless the text is a positive whole number."""
    if not text.isdecimal() or int(text) < 1:
        raise InvalidInputError(f"{what} must be a positive whole number, not {text!r}.")
    return int(text)


def positive_number(text: str, what: str) -> float:
    """Raises InvalidInputError unless the text is a positive number."""
    value = _number(text)
    if not value > 0:
        raise InvalidInputError(f"{what} must be a positive number, not {text!r}.")
    return value


def number_from_zero(text: str, what: str) -> float:
    """Raises InvalidInputError unless the text is zero or a positive number."""
    value = _number(text)
    if not value >= 0:
        raise InvalidInputError(f"{what} must be zero or a positive number, not {text!r}.")
    return value


def _number(text: str) -> float:
    """Not a number for what is none, or infinite."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
