"""Examples of a policy on regions never trained on, and learning curves with the divided and the shared reward.

``python -m adaptive_core.training.ptychography.pictures RUN ... --out PNG`` draws the second from folders of runs.
"""

from __future__ import annotations

import argparse
import collections.abc
import csv
import json
import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adaptive_core.model_library import ModelLibrary
from adaptive_core.ptychography import metrics, protocols
from adaptive_core.ptychography.benchmark_reconstruction import BENCHMARK_SEED
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.policy import OnnxPolicy

REGIONS = 3


def draw_examples(policy: pathlib.Path, specimen: str, protocol: str, target: pathlib.Path) -> None:
    """Write a PNG: for three regions the truth with the positions, and both images, at the protocol's first dose."""
    settings, dose = experiment(specimen), protocols.DOSES[protocol][0]
    learned = OnnxPolicy.load(ModelLibrary(), str(policy))
    figure = Figure(figsize=(9.6, 3.3 * REGIONS + 0.5), layout="constrained")
    spent = metrics.dose_e_per_A2(settings.positions, settings.electrons * dose, (settings.fov_A, settings.fov_A))
    figure.suptitle(f"{learned.name}: {specimen}, {spent:.3g} e/A$^2$, {protocol} protocol", fontsize=11)
    for row, axes in enumerate(figure.subplots(REGIONS, 3)):
        seed = BENCHMARK_SEED + row
        region = SimulatedRegion(settings, seed)
        truth = region.truth()
        limits = (float(np.quantile(truth, 0.001)), float(np.quantile(truth, 0.999)))

        def show(axis: Axes, image: metrics.Image, title: str, limits: tuple[float, float] = limits) -> None:
            side = settings.fov_A / 10
            axis.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], extent=(0, side, side, 0))
            axis.set_title(title, fontsize=10)
            axis.set(xticks=[0, side], yticks=[0, side])
            axis.tick_params(labelsize=8)

        show(axes[0], truth, "truth, positions by sub-sequence (nm)")
        places = protocols.scan(region, learned, dose, row).positions_A / 10
        number = np.repeat(np.arange(settings.subsequences), settings.positions // settings.subsequences)
        axes[0].scatter(places[:, 1], places[:, 0], c=number, s=5, cmap="autumn", linewidths=0)
        for axis, name in ((axes[1], learned.name), (axes[2], protocols.BASELINE)):
            own = learned if name == learned.name else None
            image = protocols.image(region, name, protocol, dose, own, row).phase(settings.pixel_A)
            title = "this policy" if own else "sparse grid"
            show(axis, image, f"{title}: SSIM {metrics.phase_ssim(image, truth):.3f}")
    figure.savefig(target, dpi=90)


def draw_credit(runs: collections.abc.Sequence[pathlib.Path], target: pathlib.Path) -> None:
    """Write a PNG after Fig. 6a: the phase that each run's policy gathers in unseen regions, iteration by iteration.

    The undivided reward gives every position the whole phase, the divided one its own cell's; both are drawn as the
    phase of the whole image over the number of positions. All curves end where the shortest does.
    """
    curves = {}
    for run in runs:
        arguments = json.loads((run / "config.json").read_text())["arguments"]
        with (run / "curve.csv").open(newline="", encoding="utf-8") as stream:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
        shares = experiment(arguments["specimen"]).positions if arguments["credit"] == "shared" else 1
        curves[arguments["credit"]] = rows, shares
    last = min(rows[-1]["iteration"] for rows, _ in curves.values())
    figure = Figure(figsize=(8.4, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for label, (rows, shares) in curves.items():
        shown = [row for row in rows if row["iteration"] <= last]
        iterations = [row["iteration"] for row in shown]
        left.plot(iterations, [row["unseen_reward"] / shares for row in shown], marker=".", label=label)
        right.plot(iterations, [row["phase_at_probes"] for row in shown], marker=".", label=label)
    left.set(xlabel="iteration", ylabel="phase of the image / positions (rad)", title="Reward in unseen regions")
    right.set(xlabel="iteration", ylabel="over the mean phase", title="Phase under the probes")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(title="reward")
    figure.savefig(target, dpi=110)


def main(words: collections.abc.Sequence[str] | None = None) -> None:
    """The command of this module."""
    parser = argparse.ArgumentParser(description="Draw learning curves with the divided and the shared reward.")
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="PNG")
    options = parser.parse_args(words)
    draw_credit(options.runs, options.out)


if __name__ == "__main__":
    main()
