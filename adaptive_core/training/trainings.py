"""Trainings as the cells of a sweep: each is one call of its loop's door; its figures are those of the card.

A cell has the keys of :func:`cells_of`. What is trained resumes from its checkpoint in the cell's folder.
"""

from __future__ import annotations

import collections.abc
import csv
import fnmatch
import importlib
import itertools
import pathlib
import typing

from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import LoadedModel
from adaptive_core.partial_scan.truths import load_images
from adaptive_core.training.configs import check_device

Cell = dict[str, typing.Any]

DOORS = {
    "partial-scan": "adaptive_core.training.partial_scan",
    "alignment": "adaptive_core.training.alignment.recipes",
    "ptychography": "adaptive_core.training.ptychography.recipes",
}
"""For each loop the module whose ``configured(config, **changes)`` checks and ``train(config, resume, out, **changes)``
trains a config by its name; it returns the path of the exported model."""


def cells_of(
    loop: str,
    configs: collections.abc.Sequence[str],
    seeds: collections.abc.Sequence[int],
    overrides: collections.abc.Mapping[str, collections.abc.Sequence[typing.Any]],
    minutes: float | None,
    images: pathlib.Path | None,
) -> list[Cell]:
    """Every combination of configs, seeds and values of fields, each checked against its config.

    A config may be a pattern such as "small-s1-*".

    Raises:
        InvalidInputError: an unknown config or field, a negative seed, or images that a loop does not take or cannot
            use.
    """
    if negative := [seed for seed in seeds if seed < 0]:
        raise InvalidInputError(f"A seed must not be negative, but is {negative[0]}.")
    cells: list[Cell] = []
    names = [name for pattern in configs for name in _matching(loop, pattern)]
    for config, seed, values in itertools.product(names, seeds, itertools.product(*overrides.values())):
        changes = {"seed": seed, **dict(zip(overrides, values, strict=True))}
        if minutes is not None:
            changes["minutes"] = minutes
        if images is not None:
            changes["images"] = str(images.resolve())
        cells.append({"loop": loop, "config": config, **changes})
        _configured(cells[-1])
    if images is not None:
        load_images(images, "train")  # refuses what cannot be learned from before any worker starts
    return cells


def check_devices(cells: collections.abc.Iterable[Cell]) -> None:
    """Raise InvalidInputError where a cell needs a GPU that this machine does not have."""
    for cell in cells:
        check_device(cell["config"], _configured(cell))


def earlier_cells(cells: collections.abc.Iterable[Cell]) -> list[Cell]:
    """What cells go on from and would each train by themselves: in the order of training, each once.

    Finished in the folder of the sweep they serve all cells; so each is as long as the longest that a cell asks for.
    """
    longest: dict[str, tuple[str, typing.Any]] = {}
    for cell in cells:
        chain = [_configured(cell)]
        while (earlier := getattr(chain[0], "earlier", None)) is not None:
            chain.insert(0, earlier)
        for config in chain[:-1]:
            if config.name not in longest or config.minutes > longest[config.name][1].minutes:
                longest[config.name] = (cell["loop"], config)
    return [_cell(loop, config) for loop, config in longest.values()]


def _cell(loop: str, config: typing.Any) -> Cell:
    own = _door(loop).configured(config.name)
    changes = {name: value for name, value in vars(config).items() if value != getattr(own, name)}
    plain = {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in changes.items()}
    return {"loop": loop, "config": config.name, "seed": config.seed, **plain}


def run_cell(cell: Cell, folder: pathlib.Path) -> Cell:
    """Train a cell in its folder; minutes and iterations, the end of its learning curve, and the scores of its card."""
    path = _door(cell["loop"]).train(cell["config"], resume=True, out=folder, **_typed(cell))
    figures: Cell = {}
    curve = path.parent / "curve.csv"
    if curve.exists():
        with curve.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        figures["curve"] = {name: float(value) for row in rows[-1:] for name, value in row.items() if value}
    if path.suffix == ".onnx":
        card = LoadedModel(path.read_bytes(), path).card
        figures["trained_minutes"] = card.training.get("minutes")
        for score in card.scores:
            name = score["dataset"].rsplit(", ", 1)[-1] + " " + score["metric"]
            figures[name] = {"value": score["value"], **score.get("baselines", {})}
    return figures


def _matching(loop: str, pattern: str) -> list[str]:
    """The configs of a loop that a pattern names; the pattern itself where it names none, to be refused by its loop."""
    configs = importlib.import_module(f"adaptive_core.training.{loop.replace('-', '_')}").CONFIGS
    return fnmatch.filter(configs, pattern) or [pattern]


def _configured(cell: Cell) -> typing.Any:
    return _door(cell["loop"]).configured(cell["config"], **_typed(cell))


def _typed(cell: Cell) -> Cell:
    """A cell's fields as the configs have them: paths, and tuples in place of the lists of JSON."""
    changes = {name: value for name, value in cell.items() if name not in ("loop", "config")}
    typed: Cell = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    if "images" in typed:
        typed["images"] = pathlib.Path(typed["images"])
    return typed


def _door(loop: str) -> typing.Any:
    if loop not in DOORS:
        raise InvalidInputError(f"There is no loop {loop!r} to train; there are {', '.join(DOORS)}.")
    return importlib.import_module(DOORS[loop])
