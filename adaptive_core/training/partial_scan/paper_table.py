"""Table S1 of Ede (2021) beside a sweep over its small configs, as Markdown, and its learning curves beside figure 4.

``adaptive-scan sweep partial-scan --config 'small-s1-*' --seed 1 --images DIR --out SWEEP``, and then
``python -m adaptive_core.training.partial_scan.paper_table SWEEP --picture curves.png``
"""

from __future__ import annotations

import argparse
import collections.abc
import csv
import json
import pathlib
import statistics
import typing

import matplotlib.figure
import matplotlib.ticker

from adaptive_core.errors import InvalidInputError
from adaptive_core.training.partial_scan.paper_configs import TABLE_S1, Row, small_name
from adaptive_core.training.sweep import RESULT

FIGURE_4 = {
    "4a: networks": ("spiral", "lstm", "dnc"),
    "4b: fields and losses": (
        "full-gradient-loss",
        "full-no-gradient-loss",
        "crop-gradient-loss",
        "crop-no-gradient-loss",
    ),
    "4c: normalisation of losses": ("no-loss-normalisation", "loss-normalisation"),
    "4d: actions": ("true-actions", "true-actions-doubled-noise", "live-actions"),
}
"""The panels of the paper's figure 4, and their rows of the table without the "table-s1-"."""

Runs = collections.abc.Mapping[str, collections.abc.Sequence[pathlib.Path]]


def runs_of(sweep: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The folders of finished trainings by the name of their config. Raises InvalidInputError if there are none."""
    runs: dict[str, list[pathlib.Path]] = {}
    for result in sorted(sweep.glob(f"*/{RESULT}")):
        cell = json.loads(result.read_text(encoding="utf-8"))["cell"]
        runs.setdefault(cell["config"], []).append(result.parent)
    if not runs:
        raise InvalidInputError(f"{sweep} holds no finished training of a sweep.")
    return runs


def curve_of(run: pathlib.Path) -> list[dict[str, float]]:
    """The learning curve of a run, a dict for each validation."""
    with (run / "curve.csv").open(newline="", encoding="utf-8") as stream:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)]


def markdown(runs: Runs) -> str:
    """Rows of the table: figure, experiment, published, ours (mean and SD over crops, a seed each), minutes, config.

    All errors are ten times the mean squared error in [-1, 1], as published. A row that was not run has a dash.
    """
    lines = ["| figure | experiment | published | ours | min | config | what differs |", "|---" * 7 + "|"]
    for row in TABLE_S1.values():
        name = small_name(row)
        ends = [curve_of(run)[-1] for run in runs.get(name, ())]
        ours = ", ".join(f"{10 * end['validation']:.2f} ± {10 * end['validation_sd']:.2f}" for end in ends) or "-"
        minutes = f"{statistics.mean(end['seconds'] for end in ends) / 60:.1f}" if ends else "-"
        published = f"{row.mean:.3f} ± {row.sd:.3f}"
        cells = (row.figure, row.label, published, ours, minutes, f"`{name}`", _differences(row))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _differences(row: Row) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.changes.items()) or "the defaults"


def draw(runs: Runs, target: pathlib.Path) -> None:
    """Draw learning curves as in figure 4, with the published errors as dashed lines, into the PNG file ``target``."""
    figure = matplotlib.figure.Figure(figsize=(9.5, 6.5), layout="constrained")
    for axis, (title, names) in zip(figure.subplots(2, 2, sharex=True).flat, FIGURE_4.items(), strict=True):
        for i, name in enumerate(names):
            row = TABLE_S1[f"table-s1-{name}"]
            colour = f"C{i}"
            axis.axhline(row.mean, color=colour, linestyle="--", linewidth=0.8)
            for number, run in enumerate(runs.get(small_name(row), ())):
                curve = curve_of(run)
                points = ([point["iteration"] for point in curve], [10 * point["validation"] for point in curve])
                axis.plot(*points, marker=".", color=colour, label=None if number else row.label)
        axis.set(title=title, yscale="log")
        axis.grid(alpha=0.3, which="both")
        axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:.1f}")
        axis.yaxis.set_minor_formatter("")
        axis.legend(fontsize=8)
    figure.supxlabel("iteration")
    figure.supylabel("10 x MSE in [-1, 1], held-out images")
    figure.savefig(target, dpi=100)


def main(argv: collections.abc.Sequence[str] | None = None) -> None:
    """Command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=pathlib.Path, help="folder of the sweep")
    parser.add_argument("--picture", type=pathlib.Path, help="PNG file for the learning curves")
    arguments: typing.Any = parser.parse_args(argv)
    runs = runs_of(arguments.sweep)
    if arguments.picture is not None:
        draw(runs, arguments.picture)
    print(markdown(runs))


if __name__ == "__main__":
    main()
