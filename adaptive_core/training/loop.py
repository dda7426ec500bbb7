"""The training loop that every algorithm shares: schedule, running average of the weights, validation, checkpoints."""

from __future__ import annotations

import collections.abc
import copy
import dataclasses
import logging
import math
import time
import typing

import torch
from torch import nn

from adaptive_core.training.runs import RunFolder

logger = logging.getLogger(__name__)

Network = typing.TypeVar("Network", bound=nn.Module)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When a training ends and what it does at which time.

    Attributes:
        minutes: length of the training by :func:`training_clock`, interruptions not counted; whichever of this and
            ``iterations`` ends first.
        iterations: largest number of iterations.
        average: decay of the running average of the weights, which is what is used in the end.
        largest_gradient: norm to which gradients are cut.
        validate_every_s: time between two validations, with a checkpoint each.
        select: name of a figure of the validation; the averaged network with its lowest value is what is left in the
            end. None leaves the last one.
    """

    minutes: float
    iterations: int
    average: float = 0.999
    largest_gradient: float = 1.0
    validate_every_s: float = 180.0
    select: str | None = None

    def progress(self, iteration: int, elapsed_s: float) -> float:
        """From 0 to 1 at the end."""
        by_time = elapsed_s / (60 * self.minutes) if self.minutes > 0 else 1.0
        return min(1.0, max(by_time, iteration / self.iterations if self.iterations > 0 else 1.0))


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted(typing.Generic[Network]):
    """What a training leaves: the averaged network, and how long it took."""

    network: Network
    iterations: int
    minutes: float


def training_clock(device: torch.device) -> collections.abc.Callable[[], float]:
    """The clock, in seconds, by which trainings on a device are as long as they are.

    On a CPU it is the processor time of this process, all its threads together, which makes trainings comparable on a
    busy machine. The work of a GPU is not in that, so there it is the time of day.
    """
    return time.process_time if device.type == "cpu" else time.monotonic


def cosine(progress: float, final: float = 0.02) -> float:
    """Factor of the learning rate: 1 at progress 0, ``final`` at 1."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def fit(
    network: Network,
    run: RunFolder,
    checkpoint: dict[str, typing.Any] | None,
    schedule: Schedule,
    learning_rate: collections.abc.Callable[[int, float], float],
    step: collections.abc.Callable[[Network, int, float], tuple[torch.Tensor, dict[str, float]]],
    validate: collections.abc.Callable[[Network], dict[str, float]],
    groups: collections.abc.Callable[[Network], list[dict[str, typing.Any]]] | None = None,
) -> Fitted[Network]:
    """Train with Adam until the schedule ends.

    Args:
        network: to train; with ``checkpoint`` its state is replaced.
        run: takes checkpoints and the learning curve.
        checkpoint: where to go on, from ``run.open``; None starts from the beginning.
        schedule: lengths and intervals.
        learning_rate: for an iteration and the progress from 0 to 1.
        step: gives the loss of an iteration and figures for the learning curve, which shows their running means;
            always the same ones, NaN where there is none yet.
        validate: figures of the averaged network for the learning curve.
        groups: groups of parameters for Adam, each with ``scale``, its factor of the learning rate; by default all
            parameters in one.
    """
    average = copy.deepcopy(network)
    parameters = [{"params": list(network.parameters()), "scale": 1.0}] if groups is None else groups(network)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate(0, 0.0))
    iteration, earlier_s = 0, 0.0
    if checkpoint is not None:
        network.load_state_dict(checkpoint["network"])
        average.load_state_dict(checkpoint["average"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        iteration, earlier_s = int(checkpoint["iteration"]), float(checkpoint["elapsed_s"])
    best = None if checkpoint is None else checkpoint.get("best")
    lowest = math.inf if checkpoint is None else float(checkpoint.get("lowest", math.inf))
    means: dict[str, float] = {}
    clock = training_clock(next(network.parameters()).device)
    begin = clock() - earlier_s
    elapsed_s = validated_s = earlier_s
    was_finished = checkpoint is not None and schedule.progress(iteration, earlier_s) >= 1
    while True:
        progress = schedule.progress(iteration, elapsed_s)
        run.report(progress, iteration)
        if not was_finished and (progress >= 1 or elapsed_s - validated_s > schedule.validate_every_s):
            figures = validate(average)
            if schedule.select is not None and figures.get(schedule.select, math.inf) < lowest:
                lowest, best = figures[schedule.select], copy.deepcopy(average.state_dict())
            run.save(
                {
                    "network": network.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "iteration": iteration,
                    "elapsed_s": elapsed_s,
                    "best": best,
                    "lowest": lowest,
                }
            )
            run.log({"iteration": iteration, "seconds": elapsed_s, **means, **figures})
            validated_s = elapsed_s
        if progress >= 1:
            if best is not None:
                average.load_state_dict(best)
            return Fitted(average, iteration, elapsed_s / 60)
        for group in optimizer.param_groups:
            group["lr"] = group.get("scale", 1.0) * learning_rate(iteration, progress)
        loss, trained = step(network, iteration, progress)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(network.parameters(), schedule.largest_gradient)
        if norm.isfinite():
            optimizer.step()
        else:
            logger.warning("Iteration %d is left out: its gradient is not finite.", iteration)
        iteration += 1
        _average(average, network, min(schedule.average, (1 + iteration) / (10 + iteration)))
        for name, value in trained.items():
            before = means.get(name, math.nan)
            means[name] = value if math.isnan(before) else 0.99 * before + 0.01 * value
        elapsed_s = clock() - begin


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
    for statistics, newest in zip(average.buffers(), network.buffers(), strict=True):
        statistics.copy_(newest)
