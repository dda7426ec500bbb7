"""Compare trainings of walking policies: their learning curves in one picture, their scores on the same crops.

``python -m adaptive_core.training.partial_scan.compare_policies --images DIR --runs DIR DIR --picture curves.png``

prints one JSON object: for each run the mean and the standard deviation of the squared error in [-1, 1] on validation
crops, its ratio to the spiral's, the error with the paths that the policy chose for another specimen, and the time of a
decision. All paths have the same number of probes, no noise and the same generator.
"""

from __future__ import annotations

import argparse
import collections.abc
import csv
import dataclasses
import json
import pathlib
import time
import typing

import matplotlib.figure
import numpy as np

from adaptive_core import model_card
from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import LoadedModel, ModelLibrary
from adaptive_core.partial_scan.generator import OnnxGenerator
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.training.export import write_model
from adaptive_core.training.partial_scan import evaluate
from adaptive_core.training.partial_scan.images import FloatImage, load_images, validation_crops
from adaptive_core.training.partial_scan.paths import PROBES_PER_SEGMENT

_LEVELS = ("spiral", "serpentine", "random-segments")  # connected paths, or parts of them
_MEASURED_STEPS = 200


def policy_of(run: pathlib.Path) -> OnnxPolicy:
    """The policy that a training left in its folder. Raises InvalidInputError if there is not exactly one."""
    found = list(run.glob("partial_scan_policy_*.onnx"))
    if len(found) != 1:
        raise InvalidInputError(f"{run} must hold one policy, partial_scan_policy_*.onnx, but holds {len(found)}.")
    return OnnxPolicy(LoadedModel(found[0].read_bytes(), found[0]))


def scores(policy: OnnxPolicy, generator: OnnxGenerator, truths: FloatImage, spiral: float) -> dict[str, float]:
    """Errors of a policy on truths (n, H, W) in [-1, 1], beside the mean error of the spiral."""
    segments = evaluate.probes_of((truths.shape[1], truths.shape[2])) // PROBES_PER_SEGMENT
    walks = [evaluate.policy_positions(policy, generator, truth, segments) for truth in truths]
    own = evaluate.errors(_completion(generator), truths, walks)
    another = evaluate.errors(_completion(generator), truths, walks[-1:] + walks[:-1])
    return {
        "mse_mean": float(own.mean()),
        "mse_sd": float(own.std()),
        "ratio_to_spiral": float(own.mean() / spiral),
        "policy_of_another": float(another.mean()),
        "decision_ms": decision_ms(policy),
    }


def scored(
    policy: OnnxPolicy, figures: collections.abc.Mapping[str, float], static: dict[str, float], crops: int
) -> bytes:
    """The policy's model with these scores on its card."""
    score = {
        "dataset": f"{crops} validation crops, 96 x 96 px",
        "metric": "MSE in [-1, 1]",
        "value": round(figures["mse_mean"], 5),
        "baselines": {
            **{name: round(level, 5) for name, level in static.items()},
            "policy_of_another": round(figures["policy_of_another"], 5),
        },
        "probes": evaluate.probes_of((96, 96)),
    }
    card = dataclasses.replace(policy.model.card, scores=(score,))
    return model_card.write_card(policy.model.path.read_bytes(), card)


def _completion(generator: OnnxGenerator) -> evaluate.Completion:
    return lambda scan: generator.complete(scan).image


def decision_ms(policy: OnnxPolicy) -> float:
    """Median time of one decision of the model."""
    shapes = policy.model.input_shapes
    inputs = {name: np.zeros([side or 1 for side in shapes[name]], np.float32) for name in policy.model.input_names}
    times = []
    for _ in range(_MEASURED_STEPS):
        begin = time.perf_counter()
        policy.model.run(**inputs)
        times.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(times))


def draw_curves(
    curves: collections.abc.Mapping[str, pathlib.Path],
    levels: collections.abc.Mapping[str, float],
    target: pathlib.Path,
) -> None:
    """Draw the validation error of each learning curve (CSV) against the time, and the levels of static paths."""
    figure = matplotlib.figure.Figure(figsize=(8.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, path in curves.items():
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        axes.plot(*([float(row[key]) / unit for row in rows] for key, unit in _AXES), marker=".", label=name)
    styles = ("--", ":", "-.")
    for (name, level), style in zip(levels.items(), styles, strict=False):
        axes.axhline(level, color="0.3", linestyle=style, linewidth=1, label=name)
    axes.set(xlabel="training / minutes of one core", ylabel="MSE in [-1, 1], held-out crops", yscale="log")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3, which="both")
    for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis("{x:.2f}")
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(target, dpi=110)


_AXES = (("seconds", 60.0), ("validation", 1.0))


def main(argv: collections.abc.Sequence[str] | None = None) -> None:
    """Command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=pathlib.Path, nargs="+", required=True, help="folders of trainings")
    parser.add_argument("--generator", default="partial_scan_generator", help="name or path")
    parser.add_argument("--crops", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cards", action="store_true", help="write the scores on the cards of the policies")
    parser.add_argument("--picture", type=pathlib.Path, help="PNG file for the learning curves")
    arguments = parser.parse_args(argv)
    policies = {run.name: policy_of(run) for run in arguments.runs}
    generator = OnnxGenerator(ModelLibrary().load(arguments.generator))
    truths, _ = validation_crops(load_images(arguments.images, "validation"), 96, arguments.crops, arguments.seed)
    size_px = (truths.shape[1], truths.shape[2])
    result: dict[str, typing.Any] = {"generator": generator.name, "crops": len(truths), "static": {}, "policies": {}}
    for name in evaluate.STATIC_PATHS:
        positions = evaluate.static_positions(name, size_px, evaluate.probes_of(size_px))
        result["static"][name] = float(evaluate.errors(_completion(generator), truths, positions).mean())
    for name, policy in policies.items():
        result["policies"][name] = scores(policy, generator, truths, result["static"]["spiral"])
    if arguments.picture is not None:
        levels = {name: result["static"][name] for name in _LEVELS}
        draw_curves({run.name: run / "curve.csv" for run in arguments.runs}, levels, arguments.picture)
    if arguments.cards:
        for name, policy in policies.items():
            model = scored(policy, result["policies"][name], result["static"], len(truths))
            write_model(policy.model.path, model)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
