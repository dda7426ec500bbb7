"""Settings of the panel's sections, kept over restarts of Swift: one JSON file, a member a section."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import json
import logging
import math
import os
import pathlib
import threading
import types
import typing

from adaptive_core.errors import InvalidInputError

logger = logging.getLogger(__name__)

FILE_NAME = "adaptive_scan.json"

Members = dict[str, typing.Any]
S = typing.TypeVar("S")

_lock = threading.Lock()
"""The sections write on threads of their own."""


class SectionStore(typing.Generic[S]):
    """Keeps a dataclass in Swift's configuration folder.

    The types of its fields may be bool, int, float, str and enumerations of them, or one of these and None.

    Args:
        folder: of the file; None keeps the settings for this session only.
        member: name of the section in the file.
        default: the settings as they are at first, an instance of the dataclass.
    """

    def __init__(self, folder: pathlib.Path | None, member: str, default: S) -> None:
        self._path = None if folder is None else folder / FILE_NAME
        self._member = member
        self._default = default
        self._types = typing.get_type_hints(type(default))

    def load(self) -> S:
        """The settings as they were last; what cannot be read has its default."""
        settings = self._default
        stored = read_members(self._path).get(self._member, {})
        for name, value in stored.items() if isinstance(stored, dict) else ():
            if name not in self._types:
                continue  # of another version
            try:
                changes = {name: _checked(self._types[name], value)}
                settings = dataclasses.replace(typing.cast(typing.Any, settings), **changes)
            except (TypeError, ValueError, InvalidInputError) as error:
                logger.warning("The setting %s in %s is ignored: %s", name, self._path, error)
        return settings

    def save(self, settings: S) -> None:
        """Write the settings; a folder that cannot be written is no reason to stop the operator."""
        write_member(self._path, self._member, dataclasses.asdict(typing.cast(typing.Any, settings)))


def read_members(path: pathlib.Path | None) -> Members:
    """What the file holds; nothing if it cannot be read."""
    if path is None or not path.exists():
        return {}
    try:
        members = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        logger.warning("The settings %s cannot be read: %s", path, error)
        return {}
    if not isinstance(members, dict):
        logger.warning("The settings %s are not understood.", path)
        return {}
    return members


def write_member(path: pathlib.Path | None, member: str, content: object) -> None:
    """Change one member of the file and keep the others; a failure is logged."""
    if path is None:
        return
    new = path.with_suffix(".new")
    with _lock:
        try:
            new.write_text(json.dumps({**read_members(path), member: content}, indent=1), "utf-8")
            os.replace(new, path)
        except OSError as error:
            logger.warning("The settings cannot be written to %s: %s", path, error)


def _checked(hint: typing.Any, value: typing.Any) -> typing.Any:
    """A value from the file as its field needs it. Raises TypeError or ValueError."""
    kinds: collections.abc.Sequence[typing.Any] = typing.get_args(hint) if isinstance(hint, types.UnionType) else [hint]
    if value is None and types.NoneType in kinds:
        return None
    expected = kinds[0]
    if issubclass(expected, enum.Enum):
        return expected(value)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not expected:
        raise TypeError(f"expected {expected.__name__}, found {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a finite number, found {value}")
    return value
