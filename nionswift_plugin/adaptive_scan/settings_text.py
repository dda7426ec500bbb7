"""Settings as lines of text that an operator types."""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import typing

from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan.settings import BudgetKind, PartialScanSettings

Changes = dict[str, typing.Any]


class HasSettings(typing.Protocol):
    """What a :class:`SettingText` belongs to.

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


def read_size(_settings: PartialScanSettings, text: str) -> Changes:
    """Empty keeps the pixels of Swift's scan settings."""
    return {"size_px": _whole_number(text, "The size in px") if text else None}


def write_size(settings: PartialScanSettings) -> str:
    return _written(settings.size_px)


def read_dwell(_settings: PartialScanSettings, text: str) -> Changes:
    """Empty takes Swift's dwell time."""
    return {"dwell_us": _positive_number(text, "The dwell time") if text else None}


def write_dwell(settings: PartialScanSettings) -> str:
    return _written(settings.dwell_us)


def read_stop(_settings: PartialScanSettings, text: str) -> Changes:
    """Empty never stops early."""
    return {"stop_error": _positive_number(text, "The predicted error") if text else None}


def write_stop(settings: PartialScanSettings) -> str:
    return _written(settings.stop_error)


def read_beam(settings: PartialScanSettings, text: str) -> Changes:
    """A current in pA, or the name of a control."""
    dataclasses.replace(settings, beam_current=text).beam_settings()
    return {"beam_current": text}


def write_beam(settings: PartialScanSettings) -> str:
    return settings.beam_current


def read_budget(settings: PartialScanSettings, text: str) -> Changes:
    """What the number means is for ``settings.budget`` to say; a coverage is in percent."""
    if settings.budget is BudgetKind.SEGMENTS:
        return {"segments": _whole_number(text, "The number of segments")}
    if settings.budget is BudgetKind.DOSE:
        return {"dose_e_per_A2": _positive_number(text, "The dose")}
    percent = _positive_number(text.rstrip("% "), "The coverage")
    if percent > 100:
        raise InvalidInputError(f"The coverage must be at most 100 %, not {percent:g} %.")
    return {"coverage": percent / 100}


def write_budget(settings: PartialScanSettings) -> str:
    if settings.budget is BudgetKind.SEGMENTS:
        return str(settings.segments)
    return _written(settings.dose_e_per_A2 if settings.budget is BudgetKind.DOSE else 100 * settings.coverage)


def _written(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def _whole_number(text: str, what: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InvalidInputError(f"{what} must be a positive whole number, not {text!r}.")
    return int(text)


def _positive_number(text: str, what: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InvalidInputError(f"{what} must be a positive number, not {text!r}.")
    return value
