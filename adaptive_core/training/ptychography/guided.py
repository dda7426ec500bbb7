"""Train the papers' policy by the gradient of the image's quality, through the physics, before REINFORCE.

The loss is 1 - SSIM of the papers' own reconstruction against the true potential, differentiated by the probe positions
through the diffraction patterns and every iteration of the descent: what an agent gains by moving need not be found by
trial. What the policy sees is what it sees in a scan, and is not differentiated. It begins with the supervised
initialisation of the papers.
"""

from __future__ import annotations

import dataclasses
import pathlib

import torch
from torch import Tensor

from adaptive_core.ptychography.experiments import experiment
from adaptive_core.ptychography.reconstruction import ROP_STEP
from adaptive_core.training.loop import Schedule, cosine, fit
from adaptive_core.training.ptychography import reinforce
from adaptive_core.training.ptychography.networks import SIZES, Autoencoder, ScanPolicy
from adaptive_core.training.ptychography.world import VALIDATION_SEED, World, generator_at, similarity
from adaptive_core.training.runs import RunFolder


@dataclasses.dataclass(frozen=True)
class GuidedConfig:
    """Arguments of a run.

    Attributes:
        specimen: name of the experiment.
        size: "small" or "paper".
        first: as in REINFORCE, the sequence of the supervised initialisation.
        supervised: iterations of the initialisation.
        supervised_learning_rate: of Adam in it.
        iterations: by the gradient, at most.
        minutes: by the gradient, at most.
        batch: regions of an iteration.
        learning_rate: of Adam, at first.
        regions: of the pool.
        seed: of everything.
        threads: of PyTorch.
        device: "cpu" or "cuda".
    """

    specimen: str = "mos2"
    size: str = "small"
    first: str = "sparse_grid"
    supervised: int = 400
    supervised_learning_rate: float = 1e-3
    iterations: int = 2000
    minutes: float = 9.0
    batch: int = 6
    learning_rate: float = 1e-3
    regions: int = 600
    seed: int = 0
    threads: int = 1
    device: str = "cpu"


def train(config: GuidedConfig, encoder: Autoencoder, folder: pathlib.Path, resume: bool = False) -> ScanPolicy:
    """Train, resume or finish a run in ``folder``; returns the policy, in evaluation mode on the CPU."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    settings = experiment(config.specimen)
    run = RunFolder(folder, config)
    checkpoint = run.open(resume)
    encoder = encoder.to(config.device).eval().requires_grad_(False)
    policy = ScanPolicy(SIZES[config.size], settings.positions // settings.subsequences).to(config.device)
    world = World(settings, range(config.regions), settings.electrons, device=config.device)
    held_out = range(VALIDATION_SEED, VALIDATION_SEED + 2 * config.batch)
    unseen = World(settings, held_out, settings.electrons, device=config.device)
    if checkpoint is None:
        reinforce.supervise(config, world, encoder, policy)

    def quality(
        regions: World, chosen: Tensor, policy: ScanPolicy, iteration: int
    ) -> tuple[Tensor, reinforce.Episode, Tensor]:
        generator = generator_at(config.seed, iteration, config.device)
        episode = reinforce.play(regions, regions.region(chosen), encoder, policy, 0.0, generator, through=True)
        truth = regions.images(regions.truth(chosen), round(settings.fov_A / settings.pixel_A))
        image = regions.images(regions.rop(episode.patterns, ROP_STEP), truth.shape[-1])
        return similarity(image, truth).mean(), episode, truth

    def step(policy: ScanPolicy, iteration: int, _progress: float) -> tuple[Tensor, dict[str, float]]:
        generator = generator_at(config.seed, iteration)
        chosen = torch.randint(len(world), (config.batch,), generator=generator).to(config.device)
        found, _, _ = quality(world, chosen, policy, iteration)
        return 1 - found, {"training_ssim": float(found.detach())}

    @torch.no_grad()
    def validate(policy: ScanPolicy) -> dict[str, float]:
        found, episode, truth = quality(unseen, torch.arange(len(unseen), device=config.device), policy, 0)
        return {"unseen_ssim": float(found), "phase_at_probes": reinforce.phase_at_probes(episode, truth)}

    fitted = fit(
        policy,
        run,
        checkpoint,
        Schedule(config.minutes, config.iterations, average=0.98, validate_every_s=30.0),
        lambda _iteration, progress: config.learning_rate * cosine(progress),
        step,
        validate,
    )
    return fitted.network.cpu().eval()
