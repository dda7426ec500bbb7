"""Train a layout, its defocus and what adapts it for the quality of the *good* reconstruction, through the physics.

The loss is 1 - SSIM of the weighted reconstruction against the true potential, differentiated through the diffraction
patterns, their (Gaussian) noise and every epoch of the reconstruction, by the probe positions and the defocus. What the
policy sees is not differentiated. No reward is needed, and no credit assignment.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import pathlib
import time

import numpy as np
import torch
from torch import Tensor

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import metrics
from adaptive_core.ptychography import positions as fixed
from adaptive_core.ptychography.experiments import Experiment, experiment
from adaptive_core.training.loop import cosine
from adaptive_core.training.ptychography.networks import SIZES, Autoencoder, LayoutPolicy, standardised
from adaptive_core.training.ptychography.world import Patterns, World, similarity
from adaptive_core.training.runs import RunFolder

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PathwiseConfig:
    """Arguments of a run.

    Attributes:
        specimen: name of the experiment.
        size: "small" or "paper".
        iterations: of the optimiser, at most.
        minutes: of wall time, at most.
        batch: regions of an iteration.
        layout_rate: of Adam for the layout, in units of half the region; like the next one it decays to the end.
        learning_rate: of Adam for the networks.
        defocus_A: to start from.
        adapt: let the network look and change the layout; without it only layout and defocus are trained, faster.
        layout: checkpoint of an earlier run, whose layout and defocus are the start; empty for the sparse grid.
        doses: as fractions of the paper's; an iteration takes one of them.
        epochs: of the reconstruction that is differentiated.
        binning: of the detector.
        regions: of the pool.
        seed: of everything.
        threads: of PyTorch.
        device: "cpu" or "cuda".
    """

    specimen: str = "mos2"
    size: str = "small"
    iterations: int = 1000
    minutes: float = 60.0
    batch: int = 2
    layout_rate: float = 0.01
    learning_rate: float = 3e-4
    defocus_A: float = 130.0
    adapt: bool = True
    layout: str = ""
    doses: tuple[float, ...] = (0.1, 0.1, 1.0)
    epochs: int = 5
    binning: int = 2
    regions: int = 128
    seed: int = 0
    threads: int = 1
    device: str = "cpu"


def interleaved_layout(settings: Experiment) -> Tensor:
    """The sparse grid (t, p, 2) in [-1, 1], dealt so that every sub-sequence covers the region."""
    whole = torch.tensor(fixed.sparse_grid(settings.positions, (2.0, 2.0)) - 1, dtype=torch.float32)
    return torch.stack([whole[k :: settings.subsequences] for k in range(settings.subsequences)])


def log_dose(settings: Experiment, fraction: float) -> float:
    """What the policy is told of the dose."""
    fov = (settings.fov_A, settings.fov_A)
    return math.log10(metrics.dose_e_per_A2(settings.positions, settings.electrons * fraction, fov))


def play(
    world: World,
    potentials: Tensor,
    encoder: Autoencoder | None,
    policy: LayoutPolicy,
    dose: float,
    generator: torch.Generator,
) -> Patterns:
    """Scan every region of a batch; the patterns are differentiable by the policy's parameters.

    Without an encoder the policy sees nothing but zeros.
    """
    sets = len(potentials)
    code = potentials.new_zeros(sets, policy.inner.size.code)
    state = potentials.new_zeros(sets, policy.state_size)
    places = potentials.new_zeros(sets, policy.positions, 2)
    patterns, image = Patterns(), None
    for _ in range(world.settings.subsequences):
        places, defocus_A, state = policy(code, places, potentials.new_full((sets, 1), dose), state)
        patterns = patterns.with_more(*world.measure(potentials, places, defocus_A[0, 0], generator))
        if encoder is None:
            continue
        with torch.no_grad():
            image = world.reconstruct(patterns, 1, image)
            code = encoder.encode(standardised(world.images(image, policy.inner.size.image_px)))
        places = places.detach()
    return patterns


def train(
    config: PathwiseConfig, encoder: Autoencoder | None, folder: pathlib.Path, resume: bool = False
) -> LayoutPolicy:
    """Train, resume or finish a run in ``folder``; returns the policy, in evaluation mode on the CPU."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    settings = experiment(config.specimen)
    run = RunFolder(folder, config)
    checkpoint = run.open(resume)
    if config.adapt != (encoder is not None):
        raise InvalidInputError("An adaptive policy needs an encoder, and only an adaptive one.")
    if encoder is not None:
        encoder = encoder.to(config.device).eval().requires_grad_(False)
    policy = LayoutPolicy(SIZES[config.size], interleaved_layout(settings), config.defocus_A).to(config.device)
    if config.layout:
        earlier = torch.load(config.layout, weights_only=True)["policy"]
        names = ("layout", "layout_by_dose", "defocus")
        policy.load_state_dict({name: earlier[name] for name in names}, strict=False)
    own = {policy.layout, policy.layout_by_dose, policy.defocus}
    rates = (config.layout_rate, 2 * config.layout_rate, config.learning_rate)
    optimizer = torch.optim.Adam(
        [
            {"params": [policy.layout, policy.layout_by_dose], "lr": rates[0]},
            {"params": [policy.defocus], "lr": rates[1]},
            {"params": [p for p in policy.parameters() if p not in own], "lr": rates[2]},
        ]
    )
    done, spent = 0, 0.0
    if checkpoint is not None:
        policy.load_state_dict(checkpoint["policy"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        done, spent = int(checkpoint["iterations"]), float(checkpoint["seconds"])
    world = World(settings, range(config.regions), settings.electrons, config.binning, config.device)
    generator = torch.Generator(config.device).manual_seed(config.seed + done)
    began = time.monotonic() - spent
    qualities: dict[float, list[float]] = {dose: [] for dose in config.doses}
    last = False
    while not last and done < config.iterations:
        progress = max(done / config.iterations, (time.monotonic() - began) / (60 * config.minutes))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * cosine(min(1.0, progress))
        fraction = config.doses[done % len(config.doses)]
        world.electrons = settings.electrons * fraction
        chosen = torch.randint(len(world), (config.batch,), generator=generator, device=config.device)
        patterns = play(world, world.region(chosen), encoder, policy, log_dose(settings, fraction), generator)
        pixels = round(settings.fov_A / settings.pixel_A)
        image = world.images(world.reconstruct(patterns, config.epochs), pixels)
        quality = similarity(image, world.images(world.truth(chosen), pixels)).mean()
        optimizer.zero_grad()
        (1 - quality).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(policy.inner.parameters(), 1.0)
        optimizer.step()
        done += 1
        qualities[fraction].append(float(quality.detach()))
        elapsed = time.monotonic() - began
        last = done == config.iterations or elapsed > config.minutes * 60
        if last or done % 30 == 0:
            means = {f"ssim_at_{dose:g}": float(np.mean(values or [np.nan])) for dose, values in qualities.items()}
            defocus = {"defocus_A": 100 * float(policy.defocus[0].detach())}
            run.log({"iteration": done, "seconds": elapsed, **means, **defocus})
            qualities = {dose: [] for dose in config.doses}
            state = {"policy": policy.state_dict(), "optimizer": optimizer.state_dict()}
            run.save({**state, "iterations": done, "seconds": elapsed})
    return policy.cpu().eval()
