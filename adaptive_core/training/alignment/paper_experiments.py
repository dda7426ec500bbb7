"""The experiments of Xu et al. (2022), one agent each, as a table and a picture of learning curves.

    python -m adaptive_core.training.alignment.paper_experiments --steps 6000

What has been learned already is in the folder and is not learned again.
"""

from __future__ import annotations

import argparse
import collections.abc
import csv
import dataclasses
import json
import logging
import pathlib
import typing

from matplotlib import figure

from adaptive_core.training.alignment.sac import CONFIGS, train

logger = logging.getLogger(__name__)

GROUPS: typing.Final = {
    "Reward (Fig. 7)": ("paper", "reward-non-informative", "reward-sparse"),
    "Tolerance, binned px (Fig. 6b)": ("tolerance-0", "tolerance-1", "tolerance-2", "paper", "tolerance-5"),
    "Binning (Fig. 6a, 5a)": ("paper", "binning-2", "binning-1", "binning-1-tolerance-0"),
    "Hidden layers (Fig. 8)": ("layers-16", "layers-32", "layers-64", "paper", "layers-256"),
    "Learning again, response 25 % smaller (Fig. 8)": ("relearn",),
}
"""Experiments that are compared with each other, by the paper's figure."""
_WINDOW = 25
"""Of the exponentially weighted mean, as in the paper."""


def run(name: str, steps: int, folder: pathlib.Path, seed: int = 0) -> list[dict[str, typing.Any]]:
    """Learn, unless the folder has it of so many steps; one log a learning period, as :func:`.sac.train` gives them."""
    path = folder / f"{name}.json"
    if path.exists():
        found: list[dict[str, typing.Any]] = json.loads(path.read_text("utf-8"))
        if found[0]["steps"] == steps:
            return found
    _, logs = train(dataclasses.replace(CONFIGS[name], steps=steps, relearn_steps=steps // 2, seed=seed))
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(logs) + "\n", encoding="utf-8")
    logger.info("%s: %s", name, {key: value for key, value in logs[-1].items() if key != "episodes"})
    return logs


def table(logs: collections.abc.Mapping[str, list[dict[str, typing.Any]]]) -> list[dict[str, typing.Any]]:
    """A row a learning period; the last quarter is what counts as learned."""
    rows = []
    for name, periods in logs.items():
        for again, log in enumerate(periods):
            mean, deviation = log["final_length"] or (None, None)
            rows.append(
                {
                    "experiment": name + (" again" if again else ""),
                    "steps": log["steps"],
                    "episodes": len(log["episodes"]),
                    "converged_step": log["converged_step"],
                    "final_success": log["final_success"],
                    "steps_an_episode": mean,
                    "deviation": deviation,
                    "rms_camera_px": log["final_rms_px"],
                    "cpu_minutes": log["cpu_minutes"],
                }
            )
    return rows


def draw(logs: collections.abc.Mapping[str, list[dict[str, typing.Any]]], path: pathlib.Path) -> None:
    """Steps and reward of an episode against the steps of learning, a row for each group of experiments."""
    picture = figure.Figure(figsize=(10.5, 2.4 * len(GROUPS)), layout="constrained")
    axes = picture.subplots(len(GROUPS), 2, sharex=True)
    for row, (title, names) in zip(axes, GROUPS.items(), strict=True):
        for name in names:
            for again, log in enumerate(logs.get(name, [])):
                steps = [episode["step"] for episode in log["episodes"]]
                for axis, quantity in zip(row, ("length", "reward"), strict=True):
                    values = [episode[quantity] for episode in log["episodes"]]
                    colour = "black" if name == "paper" else None  # the one that is in most rows
                    axis.plot(steps, _smooth(values), label=name + (" again" if again else ""), color=colour)
        row[0].set(ylabel="steps an episode", yscale="log")
        row[1].set(ylabel="reward of an episode", ylim=(-260, 130))
        row[1].axhline(0, color="0.7", linewidth=0.8)
        row[0].set_title(title, loc="left", fontsize=10)
        row[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    picture.savefig(path, dpi=90)


def _smooth(values: collections.abc.Sequence[float]) -> list[float]:
    smooth: list[float] = []
    for value in values:
        smooth.append(value if not smooth else smooth[-1] + 2 / (_WINDOW + 1) * (value - smooth[-1]))
    return smooth


def main(argv: collections.abc.Sequence[str] | None = None) -> pathlib.Path:
    """Command line of this file; returns the table, a CSV file beside the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = list(dict.fromkeys(name for names in GROUPS.values() for name in names))
    parser.add_argument("--only", nargs="+", choices=every, default=every, metavar="NAME")
    parser.add_argument("--steps", type=int, default=6000, help="of each learning period")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("training-runs") / "alignment-paper")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logs = {name: run(name, options.steps, options.out, options.seed) for name in options.only}
    rows = table(logs)
    path: pathlib.Path = options.out / "experiments.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    draw(logs, options.out / "experiments.png")
    return path


if __name__ == "__main__":
    main()
