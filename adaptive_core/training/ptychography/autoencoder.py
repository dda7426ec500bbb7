"""Train the autoencoder that compresses intermediate reconstructions (Schloz et al. 2022, appendix A).

Deviations from the paper: one channel instead of two, random positions instead of recorded scans, any flips and turns
of the images, and a bank of reconstructions that is drawn once.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import time

import torch
from torch import Tensor

from adaptive_core.ptychography.experiments import experiment
from adaptive_core.training.ptychography.networks import SIZES, Autoencoder, standardised
from adaptive_core.training.ptychography.world import Patterns, World
from adaptive_core.training.runs import RunFolder

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Arguments of a run.

    Attributes:
        specimen: name of the experiment.
        size: "small" or "paper".
        iterations: of the optimiser, at most.
        minutes: of wall time, at most.
        batch: images of an iteration.
        learning_rate: of Adam.
        bank: reconstructions that are drawn, each once.
        regions: of the pool.
        seed: of everything.
        threads: of PyTorch.
        device: "cpu" or "cuda".
    """

    specimen: str = "mos2"
    size: str = "small"
    iterations: int = 4000
    minutes: float = 10.0
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
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    done, spent = 0, 0.0
    if checkpoint is not None:
        network.load_state_dict(checkpoint["network"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        done, spent = int(checkpoint["iterations"]), float(checkpoint["seconds"])
    generator = torch.Generator().manual_seed(config.seed + done)
    bank = reconstruction_bank(config, generator)
    began, losses = time.monotonic() - spent, []
    last = False
    while not last and done < config.iterations:
        chosen = torch.randint(len(bank), (config.batch,), generator=generator)
        images = _turned(bank[chosen].to(config.device), int(torch.randint(8, (), generator=generator)))
        loss = (network(images) - images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        done += 1
        elapsed = time.monotonic() - began
        last = done == config.iterations or elapsed > config.minutes * 60
        if last or done % 200 == 0:
            run.log({"iteration": done, "seconds": elapsed, "error": sum(losses) / len(losses)})
            losses = []
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            run.save({**state, "iterations": done, "seconds": elapsed})
    return network.cpu().eval()


@torch.no_grad()
def reconstruction_bank(config: AutoencoderConfig, generator: torch.Generator) -> Tensor:
    """Standardised images (bank, 1, h, h) of reconstructions from 50 to 250 random positions at various defoci."""
    settings = experiment(config.specimen)
    world = World(settings, range(config.regions), settings.electrons, device=config.device)
    pixels = SIZES[config.size].image_px
    part = settings.positions // settings.subsequences
    images: list[Tensor] = []
    while sum(map(len, images)) < config.bank:
        chosen = torch.randint(len(world), (config.batch,), generator=generator)
        defocus = torch.rand((), generator=generator) * 200
        patterns = Patterns()
        for _ in range(int(torch.randint(1, settings.subsequences + 1, (), generator=generator))):
            positions = torch.rand(config.batch, part, 2, generator=generator).to(config.device) * 2 - 1
            patterns = patterns.with_more(*world.measure(world.region(chosen), positions, defocus, None))
        images.append(standardised(world.images(world.reconstruct(patterns, 2), pixels)).cpu())
    return torch.cat(images)[: config.bank]


def _turned(images: Tensor, way: int) -> Tensor:
    """One of the eight symmetries of the square."""
    turned = torch.rot90(images, way % 4, (2, 3))
    return turned.transpose(2, 3) if way >= 4 else turned
