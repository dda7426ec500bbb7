"""Train a generator that completes partial scans and predicts its own error.

``adaptive-scan train partial-scan --config generator --images DIR``

The universal generator is trained on many kinds of path, coverages and doses at once, so that it serves any policy and
completes a scan at every stage. Those of single static paths, and a denoiser of full rasters, go on from its weights.
The image is fitted by squared error in units of the truth ([-1, 1], as in Ede 2021, Eq. 13); the predicted variance by
the 90 % interval that follows from it, without a gradient into the image. Nothing is chosen by validation images; they
only appear in the learning curve and the scores.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import logging
import math
import pathlib

import numpy as np
import torch
from torch.nn import functional

from adaptive_core import model_card
from adaptive_core.errors import ModelError
from adaptive_core.model_library import LoadedModel, ModelLibrary
from adaptive_core.partial_scan import catalogue
from adaptive_core.partial_scan.calibration import INTERVAL_90
from adaptive_core.partial_scan.generator import OnnxGenerator
from adaptive_core.partial_scan.static_policy import STATIC_POLICIES
from adaptive_core.training.export import read_weights, to_onnx, with_half_weights, write_model
from adaptive_core.training.loop import Fitted, Schedule, cosine, fit
from adaptive_core.training.partial_scan import evaluate
from adaptive_core.training.partial_scan.data import (
    Recipe,
    TruthSource,
    held_out_truths,
    partial_batch,
    specimen_images,
)
from adaptive_core.training.partial_scan.generator_config import CONFIGS, PRODUCTS, GeneratorConfig
from adaptive_core.training.partial_scan.images import FloatImage, ImageSet, described, load_images
from adaptive_core.training.partial_scan.networks import SIZE_MULTIPLE, STEM_CHANNELS, Generator
from adaptive_core.training.partial_scan.paths import MIXTURES, random_path
from adaptive_core.training.partial_scan.scores import card_scores, scanned
from adaptive_core.training.partial_scan.sheets import draw_examples
from adaptive_core.training.partial_scan.walkers import walker_of
from adaptive_core.training.runs import RunFolder

logger = logging.getLogger(__name__)

__all__ = ["CONFIGS", "GeneratorConfig", "export", "generator_from_onnx", "loss", "train"]


def loss(
    network: Generator, truths: torch.Tensor, partial: torch.Tensor, mean: torch.Tensor, sd: torch.Tensor, weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of a batch and its mean squared error in units of the truth; ``truths`` has the shape (B, 1, H, W)."""
    image, log_variance = network(partial)
    standardised_error = image - (truths - mean) / sd
    mse = (standardised_error * sd).square().mean(dim=(1, 2, 3)).clamp(max=4.0)
    # Pinball loss: the 90 % interval of a normal error of this variance is to hold nine errors of ten (Koenker and
    # Bassett 1978). The likelihood would be ruled by the few largest errors, of which there are more than normal ones.
    excess = torch.log(standardised_error.detach().abs() + 1e-4) - 0.5 * log_variance - math.log(INTERVAL_90)
    interval = torch.maximum(0.9 * excess, -0.1 * excess).mean()
    # The root lets images that are nearly right count beside hopeless ones.
    return (mse + 1e-4).sqrt().mean() + weight * interval, mse.mean()


def train(
    config: GeneratorConfig, out: pathlib.Path, resume: bool = False, beside: pathlib.Path | None = None
) -> pathlib.Path:
    """Train, and export the model with its card. Returns the path of the ONNX file in ``out``.

    A run that it goes on from is made first, in a folder of its name within ``out``, unless it is there already or in
    a folder of ``beside``, by default that which ``out`` lies in.

    Raises:
        InvalidInputError: unusable images, or a folder with another run.
        ModelError: a model to go on from that is none.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    run = RunFolder(out, config)
    images = None if config.images is None else load_images(config.images, "train")
    held_out = None if config.images is None else load_images(config.images, "validation")
    checkpoint = run.open(resume)
    begun = _begun(config, out, images, out.parent if beside is None else beside)
    network = Generator(config.channels, config.blocks) if begun is None else generator_from_onnx(begun)
    network = network.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    rng = np.random.default_rng([config.seed, 0 if checkpoint is None else checkpoint["iteration"]])
    recipe = Recipe(
        MIXTURES[config.paths],
        config.doses,
        config.noise_free,
        config.misplaced,
        0.12 if config.paths == "any" else 0.0,
        None if config.policy is None else walker_of(str(config.policy), begun, MIXTURES[config.paths]),
        config.walks,
    )
    specimens = specimen_images(config.specimens)
    sources = [TruthSource(images, size, rng, specimens=specimens) for size in config.sizes_px]

    def step(network: Generator, _iteration: int, _progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        drawn = _truths(config, sources, rng)
        batch = (torch.from_numpy(drawn)[:, None], *partial_batch(drawn, rng, recipe))
        truths, partial, mean, sd = (part.to(config.device) for part in batch)
        partial = partial.contiguous(memory_format=torch.channels_last)
        with torch.autocast(partial.device.type, torch.bfloat16, enabled=config.bfloat16):
            total, mse = loss(network, truths, partial, mean, sd, config.error_weight)
        return total, {"training": float(mse.detach())}

    fitted = fit(
        network,
        run,
        checkpoint,
        Schedule(config.minutes, config.iterations, config.average, 0.5, config.validate_every_s),
        lambda iteration, progress: config.learning_rate * min(1, (iteration + 1) / config.warm_up) * cosine(progress),
        step,
        _validation(held_out, config, recipe),
    )
    return _export(fitted, config, run, images, held_out)


def _begun(
    config: GeneratorConfig, out: pathlib.Path, images: ImageSet | None, beside: pathlib.Path
) -> pathlib.Path | None:
    """The model that a training goes on from."""
    earlier = config.earlier
    if earlier is None:
        return None if config.initial is None else ModelLibrary().load(config.initial, "partial_scan_generator").path
    run = RunFolder(out / earlier.name, earlier)
    file_name = f"{PRODUCTS[earlier.paths].file_name}.onnx"
    found = (path for path in (run.path / file_name, *sorted(beside.glob(f"*/{file_name}"))) if path.exists())
    begun = next((path for path in found if _is_done_by(run, path, images)), None)
    if begun is None:
        logger.info("%s is trained first, for %.3g minutes, in %s", earlier.name, earlier.minutes, run.path)
        begun = train(earlier, run.path, True, beside)
    logger.info("%s goes on from %s", config.name, begun)
    return begun


def _is_done_by(run: RunFolder, path: pathlib.Path, images: ImageSet | None) -> bool:
    """Whether a model has all of a run's training, on the same images."""
    card = model_card.read_card(path.read_bytes())
    return card.trained_on == described(images) and run.is_done_by(card.training.get("config", {}))


def _truths(config: GeneratorConfig, sources: list[TruthSource], rng: np.random.Generator) -> FloatImage:
    weights = np.asarray(config.size_weights[: len(sources)])
    source = sources[rng.choice(len(sources), p=weights / weights.sum())]
    smallest_px = config.sizes_px[0]
    truths = source.draw(max(1, round(config.batch * (smallest_px / source.size_px) ** 2)))
    # Regions are not always square.
    height = int(rng.integers(smallest_px // SIZE_MULTIPLE, source.size_px // SIZE_MULTIPLE + 1)) * SIZE_MULTIPLE
    return truths[:, :height]


def _validation(
    held_out: ImageSet | None, config: GeneratorConfig, recipe: Recipe
) -> collections.abc.Callable[[Generator], dict[str, float]]:
    """Errors of a network on held-out images, scanned as for the training, and along static paths without noise."""
    if config.validation_crops == 0:
        return lambda _network: {}
    truths = held_out_truths(held_out, config.validation_crops)
    partial, mean, sd = partial_batch(truths, np.random.default_rng(3), recipe)
    names = ("spiral", "uniform-grid") if config.paths == "any" else (config.paths,)
    walks = {name: evaluate.static_positions(name, (96, 96), 400) for name in names if name in STATIC_POLICIES}

    @torch.no_grad()
    def figures(network: Generator) -> dict[str, float]:
        parts = [network(part.to(config.device))[0].cpu() for part in torch.split(partial, 16)]
        error = torch.cat(parts) * sd + mean - torch.from_numpy(truths)[:, None]
        complete = evaluate.torch_completion(network)
        return {
            "validation": float(error.square().mean()),
            **{name: float(evaluate.errors(complete, truths, path).mean()) for name, path in walks.items()},
        }

    return figures


def export(network: Generator) -> bytes:
    """The network as ONNX, with free height and width and weights of half precision."""
    free = {2: "H", 3: "W"}
    model = to_onnx(
        network,
        {"partial": torch.zeros(1, 2, 96, 96)},
        ("image", "log_variance"),
        {"partial": free, "image": free, "log_variance": free},
    )
    return with_half_weights(model)


def generator_from_onnx(path: pathlib.Path) -> Generator:
    """The network of an exported generator, with its weights. Raises ModelError if the file is no such export."""
    weights = read_weights(path)
    try:
        channels = tuple(len(weights[f"{name}.weight"]) for name in ("stem", "to_middle", "to_coarse"))
        blocks = tuple(
            sum(name.startswith(f"{part}.") and name.endswith(".first.weight") for name in weights)
            for part in ("encode_fine", "encode_middle", "centre")
        )
        network = Generator(channels, blocks)  # type: ignore[arg-type]
        # Generators of the first release saw fewer channels; what is new to them has no weight.
        stem = weights["stem.weight"]
        weights["stem.weight"] = functional.pad(stem, (0, 0, 0, 0, 0, STEM_CHANNELS - stem.shape[1]))
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{path.name} is not a generator that was trained here: {error}.") from error
    return network


def _export(
    fitted: Fitted[Generator],
    config: GeneratorConfig,
    run: RunFolder,
    images: ImageSet | None,
    held_out: ImageSet | None,
) -> pathlib.Path:
    product = PRODUCTS[config.paths]
    card = model_card.ModelCard(
        kind="partial_scan_generator",
        name=product.title,
        description=product.description,
        size_multiple=SIZE_MULTIPLE,
        values=model_card.STANDARDISED,
        trained_on=described(images),
        training={
            "config": run.config,
            "seed": config.seed,
            "command": f"adaptive-scan train partial-scan --config {config.name} --images DIR",
            "minutes": round(fitted.minutes, 1),
            "iterations": fitted.iterations,
        },
        licence="GPL-3.0-or-later",
        sources=("https://arxiv.org/abs/2004.02786", *(() if images is None else images.sources)),
    )
    path = run.path / f"{product.file_name}.onnx"
    network = fitted.network.cpu()
    model = export(network)
    # What is scored is what is shipped, with weights of half precision.
    generator = OnnxGenerator(LoadedModel(model_card.write_card(model, card), path))
    # The universal generator is judged by static paths alone.
    deciding = config.policy is not None and config.paths != "any"
    policy = catalogue.policy(str(config.policy), ModelLibrary()) if deciding else None
    if held_out is not None and config.scored_crops:
        scores = card_scores(generator, held_out, config.scored_crops, config.paths, policy)
        card = dataclasses.replace(card, scores=scores)
    truths = held_out_truths(held_out, 6, seed=2)
    rng = np.random.default_rng(2)
    if policy is not None:
        scans = scanned(truths, config.paths, None, policy=(policy, generator))
        walks = [np.concatenate([action.positions for action in scan.actions]) for scan in scans]
    elif config.paths == "any":
        walks = [evaluate.static_positions(name, (96, 96), 400) for name in (*evaluate.STATIC_PATHS, "spiral")]
    else:
        walks = [random_path(truth, dataclasses.replace(MIXTURES[config.paths], whole=1.0), rng) for truth in truths]
    dose = 10.0 if config.paths == "raster" else None
    draw_examples(run.path / "examples.png", network, truths, walks, dose)
    write_model(path, model_card.write_card(model, card))
    return path
