"""Arguments of the training of generators: the universal one, those of single paths, and the denoiser."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import typing

from adaptive_core.errors import InvalidInputError
from adaptive_core.training.partial_scan.data import DOSE_RANGE, check_doses


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Arguments of the training.

    Attributes:
        name: of this config, one of CONFIGS.
        images: folder of real images; None trains on procedural images only.
        minutes: length of the training; the learning rate decays over it. What it goes on from is shortened alike.
        iterations: largest number of iterations.
        initial: what to go on from: the name of one of CONFIGS, which is trained first, or the name or file of a model;
            None for random weights, of ``channels`` and ``blocks``.
        paths: name of the mixture of paths, one of MIXTURES.
        policy: name or ONNX file of a policy that makes a part of the scans, with the completions of ``initial``; None
            for random paths only.
        walks: the size of that part.
        doses: electrons that a probe detects where the truth is 1, from lowest to highest.
        noise_free: fraction of scans without shot noise.
        misplaced: fraction of scans with errors of the probe positions.
        specimens: number of seeds of each built-in specimen that is trained on beside the images.
        seed: of the network's initial weights, data and paths.
        learning_rate: highest learning rate of Adam, reached after ``warm_up`` iterations.
        batch: scans an iteration at 96 x 96 px; larger ones come in proportionally smaller batches.
        sizes_px: sides of the training truths.
        size_weights: relative odds of the sizes, in their order.
        channels, blocks: of the network.
        error_weight: weight of the loss of the predicted error.
        average: decay of the running average of the weights, which is what is exported.
        validate_every_s: time between two validations and checkpoints.
        validation_crops: number of validation crops during training; 0 for none.
        scored_crops: number of validation crops for the scores on the card; 0 for none.
        bfloat16: mixed precision, several times faster on processors that have matrix units for it.
        device: of PyTorch, "cpu" or "cuda"; scans are made, and policies decide, on the CPU.
        threads: of PyTorch.
    """

    name: str = "generator"
    images: pathlib.Path | None = None
    minutes: float = 45.0
    iterations: int = 1_000_000
    initial: str | None = None
    paths: str = "any"
    policy: str | pathlib.Path | None = None
    walks: float = 0.25
    doses: tuple[float, float] = DOSE_RANGE
    noise_free: float = 0.5
    misplaced: float = 0.1
    specimens: int = 2
    seed: int = 1
    learning_rate: float = 1.5e-3
    warm_up: int = 300
    batch: int = 16
    sizes_px: tuple[int, ...] = (96, 160, 224)
    size_weights: tuple[float, ...] = (0.82, 0.12, 0.06)
    channels: tuple[int, int, int] = (32, 64, 128)
    blocks: tuple[int, int, int] = (2, 2, 3)
    error_weight: float = 0.04
    average: float = 0.999
    validate_every_s: float = 180.0
    validation_crops: int = 100
    scored_crops: int = 300
    bfloat16: bool = True
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        check_doses(self.doses)
        if len(self.sizes_px) > len(self.size_weights):
            raise InvalidInputError(f"{len(self.sizes_px)} sizes need as many size_weights, not {self.size_weights}.")

    @property
    def earlier(self) -> GeneratorConfig | None:
        """The training that this one goes on from, with its images, threads and device; None if it needs no training.

        It is as much shorter than its own config as this one is, and scored on as many crops fewer.
        """
        if self.initial not in CONFIGS:
            return None
        earlier, own = CONFIGS[self.initial], CONFIGS.get(self.name, self)
        part = min(1.0, self.minutes / own.minutes)
        return dataclasses.replace(
            earlier,
            minutes=part * earlier.minutes,
            scored_crops=math.ceil(part * earlier.scored_crops),
            images=self.images,
            device=self.device,
            threads=self.threads,
        )


class Product(typing.NamedTuple):
    """What a training leaves: the stem of its file, and the title and description on its card."""

    file_name: str
    title: str
    description: str


PRODUCTS = {
    "any": Product(
        "partial_scan_generator",
        "Universal completion",
        "Completes partial scans along any path, removes shot noise and predicts its error.",
    ),
    "raster": Product(
        "partial_scan_denoiser", "Denoiser", "Removes the shot noise of whole rasters and predicts its error."
    ),
    **{
        name: Product(
            f"partial_scan_generator_{name.replace('-', '_')}",
            f"Completion of {noun}",
            f"Completes partial scans along {noun}, removes shot noise and predicts its error.",
        )
        for name, noun in {
            "spiral": "spirals",
            "serpentine": "serpentines",
            "uniform-grid": "uniform grids",
            "halton": "Halton sequences",
            "random-segments": "random segments",
            "blue-noise": "blue noise",
            "refinement": "refined positions",
            "recurrent": "the recurrent walk",
        }.items()
    },
}
"""By the name of the mixture of paths."""


def _of_path(paths: str, **changes: typing.Any) -> GeneratorConfig:
    """The same number of iterations for each path; how long they take depends on what scans it."""
    common: dict[str, typing.Any] = {
        "name": f"generator-{paths}",
        "initial": "generator-further",
        "paths": paths,
        "minutes": 15.0,
        "iterations": 950,
        "misplaced": 0.0,
        "learning_rate": 4e-4,
        "warm_up": 50,
        "average": 0.995,
        "validate_every_s": 60.0,
    }
    return GeneratorConfig(**(common | changes))


CONFIGS = {
    "generator": GeneratorConfig(),
    "generator-further": GeneratorConfig(
        name="generator-further",
        initial="generator",
        minutes=14.0,
        learning_rate=5e-4,
        warm_up=100,
        seed=2,
        validate_every_s=120.0,
    ),
    "generator-spiral": _of_path("spiral"),
    "generator-serpentine": _of_path("serpentine"),
    "generator-uniform-grid": _of_path("uniform-grid"),
    "generator-halton": _of_path("halton"),
    "generator-random-segments": _of_path("random-segments"),
    "generator-blue-noise": _of_path("blue-noise"),
    "generator-refinement": _of_path("refinement", policy="refinement", walks=0.4),
    "generator-recurrent": _of_path("recurrent", policy="partial_scan_policy_recurrent", walks=0.8),
    "denoiser": _of_path(
        "raster", name="denoiser", iterations=1200, doses=(0.3, 300.0), noise_free=0.02, learning_rate=8e-4
    ),
}
# Single positions are also what large regions are scanned with.
CONFIGS |= {
    f"generator-{paths}-large": dataclasses.replace(
        CONFIGS[f"generator-{paths}"],
        name=f"generator-{paths}-large",
        minutes=14.0,
        iterations=1_000_000,
        sizes_px=(96, 256, 512),
        size_weights=(0.4, 0.35, 0.25),
        average=0.998,
        validate_every_s=120.0,
    )
    for paths in ("uniform-grid", "halton", "blue-noise", "refinement")
}
"""The universal generator, and further from its weights; and, on from those, one for each kind of path, which some have
for large regions as well."""
