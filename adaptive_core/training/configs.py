"""Configs of trainings with other values of their fields; needs no PyTorch, so that help and refusals do not either.

Only the check for a GPU asks PyTorch.
"""

from __future__ import annotations

import dataclasses
import re
import typing

from adaptive_core.errors import InvalidInputError

Config = typing.TypeVar("Config", bound=typing.Any)


def changed(name: str, config: Config, changes: dict[str, typing.Any]) -> Config:
    """A config, which is called ``name``, with other values of its fields; None leaves a field as it is.

    Raises:
        InvalidInputError: an unknown field, negative minutes, or a device of another kind than CPU and NVIDIA GPU.
    """
    fields = {field.name for field in dataclasses.fields(config)}
    given = {field: value for field, value in changes.items() if value is not None}
    if unknown := sorted(given.keys() - fields):
        raise InvalidInputError(f"{name} has no field {unknown[0]!r}; it has {', '.join(sorted(fields))}.")
    if not given.get("minutes", 0) >= 0:
        raise InvalidInputError(f"The minutes of a training must not be negative, but are {given['minutes']}.")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(given.get("device", "cpu"))):
        raise InvalidInputError(
            f"device must be cpu or cuda, or a GPU by its number as cuda:1, not {given['device']!r}."
        )
    return dataclasses.replace(config, **given)


def check_device(name: str, config: typing.Any) -> None:
    """Raise InvalidInputError where a config, which is called ``name``, needs a GPU that this machine does not have."""
    kind, _, index = getattr(config, "device", "cpu").partition(":")
    if kind == "cpu":
        return
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= found:
        raise InvalidInputError(
            f"The config {name} needs an NVIDIA GPU (device {config.device}); PyTorch finds {found or 'none'}."
        )
