"""Train the autoencoder that compresses intermediate reconstructions (Schloz et al. 2022, appendix A).

Deviations from the paper: one channel instead of two, random positions instead of recorded scans, any flips and turns
of the images, and a bank of reconstructions that is drawn once.
"""

from __future__ import annotations

import dataclasses
import pathlib

import torch
from torch import Tensor

from adaptive_core.ptychography.experiments import experiment
from adaptive_core.training.loop import Schedule, cosine, fit
from adaptive_core.training.ptychography.networks import SIZES, Autoencoder, standardised
from adaptive_core.training.ptychography.world import VALIDATION_SEED, Patterns, World, generator_at
from adaptive_core.training.runs import RunFolder


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Arguments of a run.

    Attributes:
        specimen: name of the experiment.
        size: "small" or "paper".
        iterations: of the optimiser, at most.
        minutes: of the training, at most.
        batch: images of an iteration.
        learning_rate: of Adam, at first.
        bank: reconstructions that are drawn, each once.
        regions: of the pool.
        seed: of everything.
        threads: of PyTorch.
        device: "cpu" or "cuda".
    """

    specimen: str = "mos2"
    size: str = "small"
    iterations: int = 4000
    minutes: float = 5.0
    batch: int = 24
    learning_rate: float = 1e-3
    bank: int = 480
    regions: int = 96
    seed: int = 0
    threads: int = 1
    device: str = "cpu"


def train(config: AutoencoderConfig, folder: pathlib.Path, resume: bool = False) -> Autoencoder:
    """Train, resume or finish a run in ``folder``; returns the network, in evaluation mode on the CPU."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    run = RunFolder(folder, config)
    checkpoint = run.open(resume)
    network = Autoencoder(SIZES[config.size]).to(config.device)
    bank = reconstruction_bank(config, range(config.regions), config.bank)
    held_out = range(VALIDATION_SEED, VALIDATION_SEED + min(config.regions, 16))
    unseen = reconstruction_bank(config, held_out, min(config.bank, 48)).to(config.device)

    def error(network: Autoencoder, images: Tensor) -> Tensor:
        difference: Tensor = network(images) - images
        return difference.square().mean()

    def step(network: Autoencoder, iteration: int, _progress: float) -> tuple[Tensor, dict[str, float]]:
        generator = generator_at(config.seed, iteration)
        chosen = torch.randint(len(bank), (config.batch,), generator=generator)
        images = _turned(bank[chosen].to(config.device), int(torch.randint(8, (), generator=generator)))
        loss = error(network, images)
        return loss, {"training": float(loss.detach())}

    def validate(network: Autoencoder) -> dict[str, float]:
        with torch.no_grad():
            return {"unseen_regions": float(error(network.eval(), unseen))}

    fitted = fit(
        network,
        run,
        checkpoint,
        Schedule(config.minutes, config.iterations, average=0.99, validate_every_s=20.0),
        lambda _iteration, progress: config.learning_rate * cosine(progress),
        step,
        validate,
    )
    return fitted.network.cpu().eval()


@torch.no_grad()
def reconstruction_bank(config: AutoencoderConfig, seeds: range, count: int) -> Tensor:
    """Standardised images (count, 1, h, h) of reconstructions from 1 to all sub-sequences at random positions.

    Every batch of regions has a defocus of its own, up to 200 A.
    """
    settings = experiment(config.specimen)
    world = World(settings, seeds, settings.electrons, device=config.device)
    pixels, part = SIZES[config.size].image_px, settings.positions // settings.subsequences
    generator = torch.Generator().manual_seed(config.seed)
    images: list[Tensor] = []
    while sum(map(len, images)) < count:
        chosen = torch.randint(len(world), (min(config.batch, count),), generator=generator)
        defocus = torch.rand((), generator=generator) * 200
        patterns = Patterns()
        for _ in range(int(torch.randint(1, settings.subsequences + 1, (), generator=generator))):
            positions = torch.rand(len(chosen), part, 2, generator=generator).to(config.device) * 2 - 1
            patterns = patterns.with_more(*world.measure(world.region(chosen), positions, defocus, None))
        images.append(standardised(world.images(world.reconstruct(patterns, 2), pixels)).cpu())
    return torch.cat(images)[:count]


def _turned(images: Tensor, way: int) -> Tensor:
    """One of the eight symmetries of the square."""
    turned = torch.rot90(images, way % 4, (2, 3))
    return turned.transpose(2, 3) if way >= 4 else turned
