"""``adaptive-scan sweep``: many trainings at once, on this machine or on a dask cluster; needs the extra ``train``."""

from __future__ import annotations

import argparse
import json
import pathlib
import typing

from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan.command_line.train import training

LOOPS: typing.Final = ("partial-scan", "alignment", "ptychography")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("loop", choices=LOOPS, help="what is trained")
    parser.add_argument(
        "--config",
        nargs="+",
        required=True,
        metavar="NAME",
        help="configs, as of the command train; NAME may be a pattern such as small-s1-*",
    )
    parser.add_argument("--seed", nargs="+", type=int, default=[0], metavar="N", help="random seeds (default: 0)")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        dest="fields",
        metavar="FIELD=V1,V2",
        help="values of a field of the configs; with several fields, every combination",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="length of each training, as of the command train (default: the config's)",
    )
    parser.add_argument("--images", type=pathlib.Path, metavar="DIR", help="real images to learn from")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a dask cluster that sees the same folders")
    where.add_argument("--jobs", type=int, metavar="N", help="trainings at once on this machine (default: its cores)")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR", help="a folder for each training")


def run(options: argparse.Namespace) -> int:
    """Train whatever is not trained yet in the folder, and print the table of all."""
    if options.minutes is not None and not options.minutes > 0:
        raise InvalidInputError(f"--minutes must be positive, not {options.minutes}.")
    fields = dict(map(_field, options.fields))
    trainings, sweep = training("trainings"), training("sweep")
    cells = trainings.cells_of(options.loop, options.config, options.seed, fields, options.minutes, options.images)
    waiting = sweep.unfinished(cells, options.out)
    if options.scheduler is None:
        trainings.check_devices(waiting)
    for part in (*([cell] for cell in trainings.earlier_cells(waiting)), cells):
        rows = sweep.run_cells(
            trainings.run_cell, part, options.out, options.scheduler, options.jobs, sweep.progress_bar
        )
    print(sweep.printed_table(rows))
    return 0


def _field(text: str) -> tuple[str, list[typing.Any]]:
    """Name and values of ``FIELD=V1,V2``; the values are JSON, or words."""
    name, separator, values = text.partition("=")
    if not (name.isidentifier() and separator and values):
        raise InvalidInputError(f"--set takes FIELD=V1,V2, not {text!r}.")
    try:
        return name, list(json.loads(f"[{values}]"))
    except json.JSONDecodeError:
        return name, values.split(",")
