"""``adaptive-scan train``: train a model; needs the extra ``train``, with PyTorch.

The training is imported by name, since nothing that runs on a microscope may depend on it.
"""

from __future__ import annotations

import argparse
import collections.abc
import contextlib
import importlib
import logging
import pathlib
import textwrap
import typing

from adaptive_core.errors import InvalidInputError

_TRAINING = "adaptive_core.training"
CLEAR = "\r\x1b[K"
"""Begins the line of a terminal anew."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    loops = parser.add_subparsers(dest="loop", metavar="LOOP", title="loops", required=True)
    partial_scan = loops.add_parser("partial-scan", help="train a generator or a policy of the partial scan")
    alignment = loops.add_parser("alignment", help="train a policy that centres the bright-field disk")
    ptychography = loops.add_parser("ptychography", help="train an encoder or a policy of adaptive ptychography")
    for package, loop in (("partial_scan", partial_scan), ("alignment", alignment), ("ptychography", ptychography)):
        # The names alone need no PyTorch.
        names = ", ".join(importlib.import_module(f"{_TRAINING}.{package}").CONFIGS)
        loop.epilog = textwrap.fill(f"configs: {names}", 100, break_on_hyphens=False)
        loop.formatter_class = argparse.RawDescriptionHelpFormatter
        loop.add_argument("--config", required=True, metavar="NAME", help="what to train, and how")
        loop.add_argument(
            "--minutes",
            type=float,
            metavar="M",
            help="length of the training: processor time on a CPU, by the clock on a GPU (default: the config's)"
            + "; what it goes on from is shortened by the same factor" * (package == "partial_scan"),
        )
        loop.add_argument("--out", type=pathlib.Path, metavar="DIR", help="folder of the run")
    partial_scan.add_argument("--images", type=pathlib.Path, metavar="DIR", help="real images to learn from")
    for loop in (partial_scan, ptychography):
        loop.add_argument("--device", metavar="NAME", help="cpu or cuda (default: the config's)")
    for loop in (partial_scan, alignment, ptychography):
        loop.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder")
    alignment.add_argument("--seed", type=int, metavar="N", help="of all random numbers (default: the config's)")


def run(options: argparse.Namespace) -> int:
    """Train and print the path of the model; how it goes is told on standard error."""
    if options.minutes is not None and not options.minutes > 0:
        raise InvalidInputError(f"--minutes must be positive, not {options.minutes}.")
    trainings = {
        "partial-scan": _train_partial_scan,
        "alignment": _train_alignment,
        "ptychography": _train_ptychography,
    }
    with _shown():
        path = trainings[options.loop](options)
    print(path)
    return 0


class _Progress(logging.StreamHandler[typing.TextIO]):
    """Shows each row of the learning curve as a line, and on a terminal how far the training is as a bar."""

    terminator = ""

    def format(self, record: logging.LogRecord) -> str:
        progress, is_terminal = getattr(record, "progress", None), self.stream.isatty()
        if progress is None:
            return f"{CLEAR if is_terminal else ''}{super().format(record)}\n"
        return f"\r[{'#' * round(40 * progress):.<40}] {progress:4.0%}  {super().format(record)}" if is_terminal else ""


@contextlib.contextmanager
def _shown() -> collections.abc.Iterator[None]:
    """What a training tells its log appears on standard error."""
    logger, handler = logging.getLogger(_TRAINING), _Progress()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _train_partial_scan(options: argparse.Namespace) -> pathlib.Path:
    path: pathlib.Path = training("partial_scan").train(
        options.config, options.images, options.minutes, options.resume, options.out, device=options.device
    )
    return path


def _train_alignment(options: argparse.Namespace) -> pathlib.Path:
    recipes = training("alignment.recipes")
    if options.config != recipes.HYBRID and (options.minutes is not None or options.resume):
        raise InvalidInputError(
            "The paper's agent learns for the steps of its config: it takes no --minutes and no --resume."
        )
    path: pathlib.Path = recipes.train(
        options.config, options.resume, options.out, minutes=options.minutes, seed=options.seed
    )
    return path


def _train_ptychography(options: argparse.Namespace) -> pathlib.Path:
    path: pathlib.Path = training("ptychography.recipes").train(
        options.config, options.minutes, options.resume, options.out, device=options.device
    )
    return path


def training(name: str) -> typing.Any:
    """A package or module of the training. Raises InvalidInputError where the packages that it needs are missing."""
    try:
        importlib.import_module("torch")
        return importlib.import_module(f"{_TRAINING}.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("adaptive_core"):
            raise
        raise InvalidInputError(
            f"Training needs the package {error.name}; install it with: pip install 'nionswift-adaptive-scan[train]' "
            "(in its repository: pip install '.[train]')."
        ) from error
