"""Training of the generator and of the policies of the adaptive partial scan (Ede 2021).

One file an algorithm, :mod:`generator` and :mod:`path_gradient`; each has one dataclass of arguments and is a command
of its own. :func:`train` is the door to all of them.
"""

from __future__ import annotations

import dataclasses
import pathlib

from adaptive_core.errors import InvalidInputError

CONFIGS = ("generator", "path-gradient")
"""Names of what can be trained; a policy needs a generator first."""


def train(
    config_name: str,
    images: pathlib.Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    out: pathlib.Path | None = None,
) -> pathlib.Path:
    """Train by the config of this name and return the path of the exported model.

    Args:
        config_name: one of CONFIGS.
        images: folder of real images; None trains on procedural images only.
        minutes: length of the training; None takes the config's.
        resume: go on from the checkpoint in ``out``.
        out: folder of the run, ``training-runs/CONFIG`` if None.

    Raises:
        InvalidInputError: an unknown config, unusable images, or a folder that holds another run.
    """
    from adaptive_core.training.partial_scan import generator, path_gradient

    if config_name not in CONFIGS:
        raise InvalidInputError(f"There is no config {config_name!r}; there are {', '.join(CONFIGS)}.")
    if minutes is not None and not minutes >= 0:
        raise InvalidInputError(f"The minutes of a training must not be negative, but are {minutes}.")
    folder = pathlib.Path("training-runs") / config_name if out is None else out
    if config_name == "generator":
        settings = generator.GeneratorConfig(images=images)
        if minutes is not None:
            settings = dataclasses.replace(settings, minutes=minutes)
        return generator.train(settings, folder, resume)
    walk = path_gradient.PathGradientConfig(images=images)
    if minutes is not None:
        walk = dataclasses.replace(walk, minutes=minutes)
    return path_gradient.train(walk, folder, resume)
