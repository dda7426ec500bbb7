"""Configs of trainings with other values of their fields; needs no PyTorch, so that help and refusals do not either."""

from __future__ import annotations

import dataclasses
import typing

from adaptive_core.errors import InvalidInputError

Config = typing.TypeVar("Config", bound=typing.Any)


def changed(name: str, config: Config, changes: dict[str, typing.Any]) -> Config:
    """A config, which is called ``name``, with other values of its fields; None leaves a field as it is.

    Raises:
        InvalidInputError: an unknown field, or negative minutes.
    """
    fields = {field.name for field in dataclasses.fields(config)}
    given = {field: value for field, value in changes.items() if value is not None}
    if unknown := sorted(given.keys() - fields):
        raise InvalidInputError(f"{name} has no field {unknown[0]!r}; it has {', '.join(sorted(fields))}.")
    if not given.get("minutes", 0) >= 0:
        raise InvalidInputError(f"The minutes of a training must not be negative, but are {given['minutes']}.")
    return dataclasses.replace(config, **given)
