"""Run a training by recurrent deterministic policy gradients: data, schedule, checkpoints, and the models it leaves."""

from __future__ import annotations

import dataclasses
import pathlib
import typing

import numpy as np
import torch
from PIL import Image
from torch import nn

from adaptive_core import model_card
from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.training.export import to_onnx, write_model
from adaptive_core.training.loop import Schedule, training_clock
from adaptive_core.training.partial_scan import generator as universal
from adaptive_core.training.partial_scan import policy_export
from adaptive_core.training.partial_scan.crdpg import Crdpg, new_generator
from adaptive_core.training.partial_scan.crdpg_config import CrdpgConfig
from adaptive_core.training.partial_scan.data import TruthSource, held_out_truths
from adaptive_core.training.partial_scan.environment import completed
from adaptive_core.training.partial_scan.images import ImageSet, described, load_images
from adaptive_core.training.partial_scan.networks import SIZE_MULTIPLE
from adaptive_core.training.partial_scan.paper_configs import SMALL_S1, TABLE_S1
from adaptive_core.training.partial_scan.paper_generator import SIZE_MULTIPLE as PAPER_SIZE_MULTIPLE
from adaptive_core.training.partial_scan.paper_generator import PaperGenerator
from adaptive_core.training.partial_scan.sheets import draw_examples
from adaptive_core.training.partial_scan.td3 import Td3, Td3Config
from adaptive_core.training.runs import RunFolder

_AFFORDABLE: dict[str, typing.Any] = {
    "generator": "partial_scan_generator",
    "generator_rate": 0.0,
    "minutes": 5.0,
    "replay": 4000,
    "warm_up": 512,
    "repeats": 8,
    "target_decay": 0.99,
    "validate_every_s": 30.0,
}
"""What differs from the paper so that minutes on one core suffice: a trained, frozen generator and shorter averages."""

CONFIGS: dict[str, CrdpgConfig] = {
    # Supervised to the end: in so few iterations the critic's own predictions are no targets, and the walk that was
    # learned is lost when they become ones.
    "crdpg-lstm": CrdpgConfig(name="crdpg-lstm", supervision="full", **_AFFORDABLE),
    "crdpg-dnc": CrdpgConfig(name="crdpg-dnc", network="dnc", supervision="full", **_AFFORDABLE),
    "td3": Td3Config(name="td3", supervised_part=2.0, **_AFFORDABLE),
    **{name: CrdpgConfig(name=name, **row.changes) for name, row in TABLE_S1.items()},
    **{name: CrdpgConfig(name=name, **changes) for name, changes in SMALL_S1.items()},
}


def train(config: CrdpgConfig, out: pathlib.Path, resume: bool = False) -> pathlib.Path:
    """Train, and export the policy, and the generator unless it was frozen, with their cards.

    Returns the path of the policy's ONNX file in ``out``, or of the generator's where only that was trained.

    Raises:
        InvalidInputError: unusable images or generator, or a folder with another run.
    """
    torch.set_num_threads(config.threads)
    run = RunFolder(out, config)
    images, held_out = _images(config, "train"), _images(config, "validation")
    torch.manual_seed(config.seed)
    begun = None if config.generator is None else ModelLibrary().load(config.generator, "partial_scan_generator").path
    generator = new_generator(config) if begun is None else universal.generator_from_onnx(begun)
    learner = (Td3 if isinstance(config, Td3Config) else Crdpg)(config, generator)
    checkpoint = run.open(resume)
    iteration, earlier_s = 0, 0.0
    if checkpoint is not None:
        learner.load_state_dict(checkpoint["learner"])
        iteration, earlier_s = int(checkpoint["iteration"]), float(checkpoint["elapsed_s"])
        torch.manual_seed(config.seed + iteration)
    source = TruthSource(images, config.size_px, np.random.default_rng([config.seed, iteration]))
    validation = (
        torch.from_numpy(held_out_truths(held_out, config.validation_crops)) if config.validation_crops else None
    )
    schedule = Schedule(config.minutes, config.iterations, validate_every_s=config.validate_every_s)
    means: dict[str, float] = {}
    clock = training_clock(learner.device)
    begin = clock() - earlier_s
    elapsed_s = validated_s = earlier_s
    while True:
        progress = schedule.progress(iteration, elapsed_s)
        run.report(progress, iteration)
        while progress < 1 and (len(learner.replay) < config.warm_up or iteration % config.repeats == 0):
            count = min(config.batch, config.replay)
            learner.collect(torch.from_numpy(source.draw(count)), iteration, progress)
            if len(learner.replay) >= config.warm_up:
                break
        if progress >= 1 or elapsed_s - validated_s > config.validate_every_s:
            figures = {} if validation is None else validation_figures(learner, validation)
            run.save({"learner": learner.state_dict(), "iteration": iteration, "elapsed_s": elapsed_s})
            run.log({"iteration": iteration, "seconds": elapsed_s, **means, **figures})
            validated_s = elapsed_s
        if progress >= 1:
            break
        for name, value in learner.update(iteration, progress).items():
            means[name] = value if name not in means else 0.99 * means[name] + 0.01 * value
        iteration += 1
        elapsed_s = clock() - begin
    training = {
        "config": run.config,
        "seed": config.seed,
        "command": f"adaptive-scan train partial-scan --config {config.name} --images DIR",
        "minutes": round(elapsed_s / 60, 1),
        "iterations": iteration,
    }
    return _export(learner, begun, run, training, images, held_out)


def _images(config: CrdpgConfig, split: str) -> ImageSet | None:
    """Images of a split, scaled down to the region's size where whole fields are asked for."""
    if config.images is None:
        if config.field == "full":
            raise InvalidInputError("Whole fields need a folder of images.")
        return None
    images = load_images(config.images, split)
    if config.field == "crop":
        return images
    groups = {name: tuple(scaled_down(i, config.size_px) for i in group) for name, group in images.groups.items()}
    return dataclasses.replace(images, groups=groups)


def scaled_down(image: np.ndarray[typing.Any, np.dtype[np.float32]], side_px: int) -> typing.Any:
    """The image (H, W) with ``side_px`` on its shorter side."""
    scale = side_px / min(image.shape)
    width, height = (max(side_px, round(length * scale)) for length in image.shape[::-1])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


@torch.no_grad()
def validation_figures(learner: Crdpg, truths: torch.Tensor) -> dict[str, float]:
    """Mean and standard deviation over truths (B, H, W) of the squared error along the policy's paths."""
    learner.generator.eval()
    errors = []
    for batch in torch.split(truths.to(learner.device), 25):
        walk = learner.walk(batch, 0.0)
        size_px = (batch.shape[1], batch.shape[2])
        image = completed(learner.generator, walk.values, walk.positions, size_px, nearest=True)
        errors.append((image - batch).square().mean(dim=(1, 2)))
    learner.generator.train(learner.generator_optimizer is not None)
    each = torch.cat(errors)
    return {"validation": float(each.mean()), "validation_sd": float(each.std(correction=0))}


def _export(
    learner: Crdpg,
    begun: pathlib.Path | None,
    run: RunFolder,
    training: dict[str, typing.Any],
    images: ImageSet | None,
    held_out: ImageSet | None,
) -> pathlib.Path:
    """Write what was trained; ``begun`` is the file of the generator that it began with."""
    config = learner.config
    network = learner.generator.cpu().eval()
    generator = run.path / "generator.onnx" if begun is None or learner.generator_optimizer else begun
    if generator != begun:
        write_model(generator, _generator_model(network, training, images))
    learner.target.cpu()
    if config.examples:
        truths = held_out_truths(held_out, config.examples, seed=2, size_px=config.size_px)
        with torch.no_grad():
            walk = learner.walk(torch.from_numpy(truths), 0.0)
        draw_examples(run.path / "examples.png", network, truths, list(walk.positions.numpy().astype(np.float64)))
    if config.network == "spiral":
        return generator
    card = policy_export.card_of(
        learner.title,
        "Walks from the centre in connected segments, each chosen from what it saw along the ones before.",
        training,
        images,
        learner.sees_remaining,
    )
    actor = learner.actor
    onnx = policy_export.policy_onnx(actor, actor.state_size, learner.sees_remaining)
    path = run.path / f"partial_scan_policy_{learner.file_name}.onnx"
    return policy_export.write_scored(path, onnx, card, generator, held_out, config.scored_crops)


def _generator_model(network: nn.Module, training: dict[str, typing.Any], images: ImageSet | None) -> bytes:
    is_paper = isinstance(network, PaperGenerator)
    card = model_card.ModelCard(
        kind="partial_scan_generator",
        name="Paper's generator" if is_paper else "Cooperating generator",
        description="Completes partial scans; trained together with a policy.",
        size_multiple=PAPER_SIZE_MULTIPLE if is_paper else SIZE_MULTIPLE,
        values=model_card.STANDARDISED,
        trained_on=described(images),
        training=training,
        licence="GPL-3.0-or-later",
        sources=(policy_export.PAPER, *(() if images is None else images.sources)),
    )
    if is_paper:
        free = {2: "H", 3: "W"}
        example = {"partial": torch.zeros(1, 2, 96, 96)}
        onnx = to_onnx(network, example, ("image",), {"partial": free, "image": free})
    else:
        onnx = universal.export(typing.cast(typing.Any, network))
    return model_card.write_card(onnx, card)
