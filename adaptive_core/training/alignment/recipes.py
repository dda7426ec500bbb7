"""What can be trained for the alignment, by name: the hybrid policy, and the experiments of the paper's agent."""

from __future__ import annotations

import pathlib
import typing

from adaptive_core.errors import InvalidInputError
from adaptive_core.training.alignment import hybrid, sac
from adaptive_core.training.configs import changed

HYBRID = "hybrid"


def configured(name: str, **changes: typing.Any) -> hybrid.HybridConfig | sac.SacConfig:
    """The config of this name with other values of its fields. Raises InvalidInputError for an unknown name or field.

    The paper's agent learns for a number of steps, not of minutes.
    """
    if name == HYBRID:
        return changed(name, hybrid.HybridConfig(), changes)
    if name not in sac.CONFIGS:
        raise InvalidInputError(f"There is no config {name!r}; there are {', '.join([HYBRID, *sorted(sac.CONFIGS)])}.")
    return changed(name, sac.CONFIGS[name], changes)


def train(name: str, resume: bool = False, out: pathlib.Path | None = None, **changes: typing.Any) -> pathlib.Path:
    """Train by the config of this name; the path of the model, or the folder of an agent that learnt again.

    The hybrid policy can be resumed; the paper's agent starts again.
    """
    config = configured(name, **changes)
    folder = pathlib.Path("training-runs") / f"alignment-{name}" if out is None else out
    if isinstance(config, hybrid.HybridConfig):
        return hybrid.train(config, folder, resume)
    return sac.run(config, folder)
