"""Scores of generators and policies on images that they were never trained on, for learning curves and cards.

The mean squared error is in units of truths in [-1, 1]; the scan samples the blurred truth without noise. The full
comparison is ``adaptive-scan benchmark partial-scan`` (:mod:`adaptive_core.partial_scan.benchmark`).
"""

from __future__ import annotations

import collections.abc
import typing

import numpy as np
import numpy.typing as npt
import torch

from adaptive_core.partial_scan.benchmark.classical import Biharmonic
from adaptive_core.partial_scan.benchmark.scan import Spending, adapt, follow, plan_for
from adaptive_core.partial_scan.generator import Generator as ScanGenerator
from adaptive_core.partial_scan.generator import InterpolatingGenerator, OnnxGenerator
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.static_policy import StaticPolicy
from adaptive_core.scan_path import FloatArray, Size
from adaptive_core.training.partial_scan.images import FloatImage, ImageSet, validation_crops
from adaptive_core.training.partial_scan.networks import Generator
from adaptive_core.training.partial_scan.paths import PAPER_COVERAGE, PROBES_PER_SEGMENT

STATIC_PATHS = ("spiral", "serpentine", "uniform-grid", "halton", "random-segments")
Completion = collections.abc.Callable[[PartialImage], npt.NDArray[typing.Any]]
"""Completes a partial scan, (height, width) in detector units."""
Errors = npt.NDArray[np.float64]


def static_positions(name: str, size_px: Size, probes: int, seed: int = 1) -> FloatArray:
    """Positions, shape (probes, 2) px, of one of STATIC_PATHS; ``seed`` is that of the random ones."""
    return StaticPolicy(name).positions(plan_for(None, size_px, _clean(probes), seed))


def _clean(probes: int) -> Spending:
    """A scan without noise, whose pixel size does not matter."""
    return Spending(probes, None, 1.0)


def torch_completion(network: Generator) -> Completion:
    """A network as a completion of regions whose sides are multiples of the network's."""
    device = next(network.parameters()).device

    @torch.no_grad()
    def complete(scan: PartialImage) -> npt.NDArray[typing.Any]:
        partial = torch.from_numpy(scan.model_input()).to(device)
        image: npt.NDArray[typing.Any] = network(partial)[0][0, 0].cpu().numpy()
        mean, sd = scan.scale()
        return np.asarray(image * sd + mean)

    return complete


def linear(scan: PartialImage) -> npt.NDArray[typing.Any]:
    """Linear interpolation, the product's own completion without learning."""
    return InterpolatingGenerator("linear").complete(scan).image


def thin_plate(scan: PartialImage) -> npt.NDArray[typing.Any]:
    """Thin-plate spline (biharmonic) through the measured pixels."""
    return Biharmonic().complete(scan).image


def measured(truth: FloatImage, positions: FloatArray) -> PartialImage:
    """A scan of the truth, shape (H, W), at the positions, shape (n, 2) px, without noise."""
    inside = np.clip(positions, 0, truth.shape)
    return follow(inside, truth, _clean(len(positions)), 0).scan


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
    """Where a policy goes on the truth, shape (n, 2) px, by the scan loop itself."""
    probes = segments * (policy.model.card.probes_per_segment or PROBES_PER_SEGMENT)
    return adapt(policy, generator, truth, _clean(probes), 0).positions


def probes_of(size_px: Size) -> int:
    """Number of probes at the paper's coverage, in whole segments."""
    return round(size_px[0] * size_px[1] * PAPER_COVERAGE / PROBES_PER_SEGMENT) * PROBES_PER_SEGMENT


def policy_scores(
    policy: OnnxPolicy, generator: OnnxGenerator, images: ImageSet, crops: int, size_px: int = 96
) -> tuple[dict[str, typing.Any], ...]:
    """For a model card: the error along the policy's paths, beside those of static paths and of its own shuffled."""
    truths, _ = validation_crops(images, size_px, crops, seed=1)
    size, probes = (size_px, size_px), probes_of((size_px, size_px))

    def complete(scan: PartialImage) -> npt.NDArray[typing.Any]:
        return generator.complete(scan).image

    walks = [policy_positions(policy, generator, truth, probes // PROBES_PER_SEGMENT) for truth in truths]
    score = {
        "dataset": f"{len(truths)} validation crops, {size_px} x {size_px} px",
        "metric": "MSE in [-1, 1]",
        "value": _mean(errors(complete, truths, walks)),
        "baselines": {
            **{name: _mean(errors(complete, truths, static_positions(name, size, probes))) for name in STATIC_PATHS},
            "policy_of_another": _mean(errors(complete, truths, walks[-1:] + walks[:-1])),
        },
        "probes": probes,
    }
    return (score,)


def _mean(values: Errors) -> float:
    return round(float(values.mean()), 5)
