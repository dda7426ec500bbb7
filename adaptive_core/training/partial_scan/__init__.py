"""Training of the generators and of the policies of the adaptive partial scan (Ede 2021).

One file an algorithm; each has one dataclass of arguments, a table CONFIGS of them by name, and a function ``train``.
:func:`train` is the door to all of them.
"""

from __future__ import annotations

import importlib
import pathlib
import typing

from adaptive_core.errors import InvalidInputError
from adaptive_core.training.configs import changed, check_device
from adaptive_core.training.partial_scan.paper_configs import SMALL_S1, TABLE_S1

CONFIGS = {
    "generator": "generator",
    "generator-further": "generator",
    "generator-spiral": "generator",
    "generator-serpentine": "generator",
    "generator-uniform-grid": "generator",
    "generator-halton": "generator",
    "generator-random-segments": "generator",
    "generator-blue-noise": "generator",
    "generator-refinement": "generator",
    "generator-recurrent": "generator",
    "denoiser": "generator",
    "generator-uniform-grid-large": "generator",
    "generator-halton-large": "generator",
    "generator-blue-noise-large": "generator",
    "generator-refinement-large": "generator",
    "path-gradient": "path_gradient",
    "crdpg-lstm": "crdpg_training",
    "crdpg-dnc": "crdpg_training",
    "td3": "crdpg_training",
    **dict.fromkeys((*TABLE_S1, *SMALL_S1), "crdpg_training"),
}
"""Name of each config and the module that has it; a policy is trained with the shipped generator, or one that is named.
"""


def configured(config_name: str, **changes: typing.Any) -> typing.Any:
    """The config of this name, with fields replaced; None leaves a field as it is.

    Raises:
        InvalidInputError: an unknown config or field, or a bad value.
    """
    return changed(config_name, _module(config_name).CONFIGS[config_name], changes)


def _module(config_name: str) -> typing.Any:
    if config_name not in CONFIGS:
        raise InvalidInputError(f"There is no config {config_name!r}; there are {', '.join(CONFIGS)}.")
    return importlib.import_module(f"{__name__}.{CONFIGS[config_name]}")


def train(
    config_name: str,
    images: pathlib.Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    out: pathlib.Path | None = None,
    seed: int | None = None,
    **changes: typing.Any,
) -> pathlib.Path:
    """Train by the config of this name, after what it goes on from, and return the path of the exported model.

    Args:
        config_name: one of CONFIGS.
        images: folder of real images; None trains on procedural images only.
        minutes: length of the training; None takes the config's. What it goes on from is shortened by the same factor.
        resume: go on from the checkpoint in ``out``.
        out: folder of the run, ``training-runs/CONFIG`` if None; a finished run beside it serves to go on from.
        seed: of all random numbers; None takes the config's.
        changes: other fields of the config.

    Raises:
        InvalidInputError: an unknown config or field, a GPU that is needed and missing, unusable images, or a folder
            that holds another run.
    """
    config = configured(config_name, images=images, minutes=minutes, seed=seed, **changes)
    check_device(config_name, config)
    folder = pathlib.Path("training-runs") / config_name if out is None else out
    path: pathlib.Path = _module(config_name).train(config, folder, resume)
    return path
