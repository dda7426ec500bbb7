"""Scores of generators and policies on images that they were never trained on.

``python -m adaptive_core.training.partial_scan.evaluate --images DIR`` prints one JSON object: for each size the mean
squared error, in units of truths in [-1, 1], of each path with the same number of probes, completed by the shipped
generator and by plain interpolation. The scan samples the blurred truth without noise. "policy_of_another" is the check
that adaptivity itself helps: the same policy's paths, chosen while it looked at another specimen.
"""

from __future__ import annotations

import argparse
import collections.abc
import json
import pathlib
import typing

import numpy as np
import numpy.typing as npt
import scipy.interpolate
import torch

from adaptive_core import static_path
from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan.generator import Generator as ScanGenerator
from adaptive_core.partial_scan.generator import InterpolatingGenerator, OnnxGenerator
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.plan import Budget, ScanPlan
from adaptive_core.partial_scan.policy import Observation
from adaptive_core.ports import ScannerSetup
from adaptive_core.scan_path import FloatArray, Positions, Size, rasterize
from adaptive_core.training.partial_scan.images import FloatImage, ImageSet, load_images, validation_crops
from adaptive_core.training.partial_scan.networks import Generator
from adaptive_core.training.partial_scan.paths import PAPER_COVERAGE, PROBES_PER_SEGMENT

STATIC_PATHS = ("spiral", "serpentine", "uniform-grid", "halton", "random-segments")
Completion = collections.abc.Callable[[PartialImage], npt.NDArray[typing.Any]]
"""Completes a partial scan, (height, width) in detector units."""
Errors = npt.NDArray[np.float64]


def static_positions(name: str, size_px: Size, probes: int, seed: int = 1) -> FloatArray:
    """Positions, shape (probes, 2) px, of one of STATIC_PATHS; ``seed`` chooses the random segments."""
    if name == "random-segments":
        return static_path.random_segments(size_px, probes, seed)
    path: collections.abc.Callable[[Size, int], FloatArray] = {
        "spiral": static_path.spiral,
        "serpentine": static_path.serpentine,
        "uniform-grid": static_path.uniform_grid,
        "halton": static_path.halton,
    }[name]
    return path(size_px, probes)


def torch_completion(network: Generator) -> Completion:
    """A network as a completion of regions whose sides are multiples of the network's."""

    @torch.no_grad()
    def complete(scan: PartialImage) -> npt.NDArray[typing.Any]:
        image: npt.NDArray[typing.Any] = network(torch.from_numpy(scan.model_input()))[0][0, 0].numpy()
        mean, sd = scan.scale()
        return np.asarray(image * sd + mean)

    return complete


def linear(scan: PartialImage) -> npt.NDArray[typing.Any]:
    """Linear interpolation, the product's own completion without learning."""
    return InterpolatingGenerator("linear").complete(scan).image


def thin_plate(scan: PartialImage) -> npt.NDArray[typing.Any]:
    """Thin-plate spline (biharmonic) through the measured pixels; local, through 60 neighbours, for large scans."""
    mask = scan.measured
    spline = scipy.interpolate.RBFInterpolator(
        np.argwhere(mask), scan.image()[mask], neighbors=60 if mask.sum() > 1000 else None
    )
    return np.asarray(spline(np.argwhere(np.ones_like(mask))).reshape(mask.shape))


def measured(truth: FloatImage, positions: FloatArray) -> PartialImage:
    """A scan of the truth, shape (H, W), at the positions, shape (n, 2) px, without noise."""
    scan = PartialImage((truth.shape[0], truth.shape[1]))
    scan.add(Positions(positions), truth[rasterize(positions, scan.size_px)][None])
    return scan


def errors(
    complete: Completion, truths: FloatImage, positions: FloatArray | collections.abc.Sequence[FloatArray]
) -> Errors:
    """Mean squared error of each truth, shape (n, H, W) in [-1, 1], scanned without noise along its positions.

    ``positions`` is one path for all truths, or one for each.
    """
    walks = [positions] * len(truths) if isinstance(positions, np.ndarray) else positions
    return np.array(
        [
            np.square(complete(measured(truth, walk)).astype(np.float64) - truth).mean()
            for truth, walk in zip(truths, walks, strict=True)
        ]
    )


def policy_positions(policy: OnnxPolicy, generator: ScanGenerator, truth: FloatImage, segments: int) -> FloatArray:
    """Where a policy goes on the truth, shape (n, 2) px: the scan loop's own decisions, without a device."""
    size_px = (truth.shape[0], truth.shape[1])
    plan = policy.plan(ScanPlan(ScannerSetup(size_px, None, 1.0, ("truth",)), Budget(segments=segments)))
    run, scan = policy.start(plan, generator), PartialImage(size_px)
    for segment in range(segments):
        estimate = generator.complete(scan) if run.needs_estimate and scan.probes else None
        action = run.decide(Observation(scan, estimate, plan.remaining(segment, scan.probes, 0.0)))
        scan.add(action, truth[rasterize(action.positions, size_px)][None])
    return np.concatenate([action.positions for action in scan.actions])


def probes_of(size_px: Size) -> int:
    """Number of probes at the paper's coverage, in whole segments."""
    return round(size_px[0] * size_px[1] * PAPER_COVERAGE / PROBES_PER_SEGMENT) * PROBES_PER_SEGMENT


def policy_scores(
    policy: OnnxPolicy, generator: OnnxGenerator, images: ImageSet, crops: int, size_px: int = 96
) -> tuple[dict[str, typing.Any], ...]:
    """For a model card: the error along the policy's paths, beside those of static paths and of its own shuffled."""
    result = compare(policy, generator, images, size_px, crops)
    value = result["mse"].pop("policy")
    score = {
        "dataset": f"{crops} validation crops, {size_px} x {size_px} px",
        "metric": "MSE in [-1, 1]",
        "value": value,
        "baselines": result["mse"],
        "probes": result["probes"],
    }
    return (score,)


def compare(
    policy: OnnxPolicy | None, generator: OnnxGenerator, images: ImageSet, size_px: int, crops: int, seed: int = 1
) -> dict[str, typing.Any]:
    """Errors of every path at the same number of probes, all completed by the same generator."""
    truths, _ = validation_crops(images, size_px, crops, seed)
    size, probes = (size_px, size_px), probes_of((size_px, size_px))

    def complete(scan: PartialImage) -> npt.NDArray[typing.Any]:
        return generator.complete(scan).image

    mse = {name: _mean(errors(complete, truths, static_positions(name, size, probes))) for name in STATIC_PATHS}
    if policy is not None:
        walks = [policy_positions(policy, generator, truth, probes // PROBES_PER_SEGMENT) for truth in truths]
        mse["policy"] = _mean(errors(complete, truths, walks))
        mse["policy_of_another"] = _mean(errors(complete, truths, walks[-1:] + walks[:-1]))
    return {"size_px": size_px, "probes": probes, "crops": len(truths), "mse": mse}


def _mean(values: Errors) -> float:
    return round(float(values.mean()), 5)


def main(argv: collections.abc.Sequence[str] | None = None) -> None:
    """Command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--generator", default="partial_scan_generator", help="name or path")
    parser.add_argument("--policy", default="partial_scan_policy_recurrent", help="name or path; none for no policy")
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 256])
    parser.add_argument("--crops", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    library = ModelLibrary()
    generator = OnnxGenerator(library.load(arguments.generator))
    policy = None if arguments.policy == "none" else OnnxPolicy(library.load(arguments.policy))
    images = load_images(arguments.images, "validation")
    results = [
        # A larger region costs its area, so that fewer of them take the same time.
        compare(policy, generator, images, size, max(1, round(arguments.crops * (96 / size) ** 2)), arguments.seed)
        for size in arguments.sizes
    ]
    print(json.dumps({"generator": generator.name, "policy": policy and policy.name, "results": results}))


if __name__ == "__main__":
    main()
