"""Train a layout, its defocus and what adapts it for the quality of the *good* reconstruction, through the physics.

The loss is 1 - SSIM of the final image, by the tuned reconstruction of the honest protocol, against the true potential.
It is differentiated through the diffraction patterns and every epoch, by the probe positions and the defocus. What the
policy sees is not differentiated. No reward is needed, and no credit assignment.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import typing

import torch
from torch import Tensor

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import metrics, protocols
from adaptive_core.ptychography import positions as fixed
from adaptive_core.ptychography.experiments import Experiment, experiment
from adaptive_core.training.loop import Schedule, cosine, fit
from adaptive_core.training.ptychography.networks import SIZES, Autoencoder, LayoutPolicy, standardised
from adaptive_core.training.ptychography.world import VALIDATION_SEED, Patterns, World, generator_at, similarity
from adaptive_core.training.runs import RunFolder


@dataclasses.dataclass(frozen=True)
class PathwiseConfig:
    """Arguments of a run.

    Attributes:
        specimen: name of the experiment.
        size: "small" or "paper".
        iterations: of the optimiser, at most.
        minutes: of the training, at most.
        batch: regions of an iteration.
        layout_rate: of Adam for the layout, in units of half the region; like the next one it decays to the end.
        learning_rate: of Adam for the networks.
        defocus_A: to start from.
        width: of the sparse grid to start from, as a fraction of the region's.
        adapt: let the network look and change the layout; without it only layout and defocus are trained, faster.
        doses: as fractions of the paper's, those of :data:`protocols.TUNED`; an iteration takes one of them.
        through: batch and epochs of the reconstruction at each of the doses; empty for the tuned ones.
        binning: of the detector.
        regions: of the pool.
        validation: regions that are never trained on.
        seed: of everything.
        threads: of PyTorch.
        device: "cpu" or "cuda".
    """

    specimen: str = "mos2"
    size: str = "small"
    iterations: int = 1000
    minutes: float = 60.0
    batch: int = 1
    layout_rate: float = 0.01
    learning_rate: float = 3e-4
    defocus_A: float = 130.0
    width: float = 1.0
    adapt: bool = True
    doses: tuple[float, ...] = (0.1, 0.1, 1.0)
    through: tuple[tuple[int, int], ...] = ()
    binning: int = 2
    regions: int = 128
    validation: int = 8
    seed: int = 0
    threads: int = 1
    device: str = "cpu"


def interleaved_layout(settings: Experiment, width: float = 1.0) -> Tensor:
    """The sparse grid (t, p, 2) in [-1, 1], drawn together across, dealt so that every sub-sequence covers it."""
    whole = torch.tensor(fixed.sparse_grid(settings.positions, (2.0, 2 * width)), dtype=torch.float32)
    whole = whole - torch.tensor([1.0, width])
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

    Without an encoder nothing is adapted.
    """
    sets = len(potentials)
    planned = potentials.new_full((sets, 1), dose)
    code = potentials.new_zeros(sets, policy.inner.size.code)
    state = potentials.new_zeros(sets, policy.state_size)
    places = potentials.new_zeros(sets, policy.positions, 2)
    patterns, image = Patterns(), None
    left = world.settings.subsequences
    for step in torch.eye(left, device=world.device):
        left -= 1
        if encoder is None:
            places, defocus_A = policy.placed(step.expand(sets, -1), planned)
        else:
            places, defocus_A, state = policy(code, places, planned, state)
        patterns = patterns.with_more(*world.measure(potentials, places, defocus_A[0, 0], generator))
        if encoder is not None and left:
            with torch.no_grad():
                image = world.reconstruct(patterns, 1, image)
                code = encoder.encode(standardised(world.images(image, policy.inner.size.image_px)))
            places = places.detach()
    return patterns


def train(
    config: PathwiseConfig,
    encoder: Autoencoder | None,
    folder: pathlib.Path,
    resume: bool = False,
    start: LayoutPolicy | None = None,
) -> LayoutPolicy:
    """Train, resume or finish a run in ``folder``; returns the policy, in evaluation mode on the CPU.

    Args:
        config: arguments.
        encoder: what an adaptive policy looks through.
        folder: of the run.
        resume: go on from its checkpoint.
        start: policy whose layout and defocus are the start; None for the sparse grid.
    """
    if config.adapt != (encoder is not None):
        raise InvalidInputError("An adaptive policy needs an encoder, and only an adaptive one.")
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    if config.through and len(config.through) != len(config.doses):
        raise InvalidInputError(f"{len(config.doses)} doses need as many reconstructions, not {len(config.through)}.")
    settings = experiment(config.specimen)
    tuned = [protocols.TUNED[config.specimen, dose] for dose in config.doses]
    through = config.through or tuple((each.batch, each.epochs) for each in tuned)
    run = RunFolder(folder, config)
    checkpoint = run.open(resume)
    if encoder is not None:
        encoder = encoder.to(config.device).eval().requires_grad_(False)
    policy = LayoutPolicy(SIZES[config.size], interleaved_layout(settings, config.width), config.defocus_A).to(
        config.device
    )
    if start is not None:
        # Its networks are untrained, and so the same as the new ones.
        policy.load_state_dict(start.state_dict())
    world = World(settings, range(config.regions), settings.electrons, config.binning, config.device)
    held_out = range(VALIDATION_SEED, VALIDATION_SEED + config.validation)
    unseen = World(settings, held_out, settings.electrons, config.binning, config.device)

    def step(policy: LayoutPolicy, iteration: int, _progress: float) -> tuple[Tensor, dict[str, float]]:
        generator = generator_at(config.seed, iteration, config.device)
        turn = iteration % len(config.doses)
        chosen = torch.randint(len(world), (config.batch,), generator=generator, device=config.device)
        found = quality(world, chosen, encoder, policy, config.doses[turn], through[turn], generator).mean()
        return 1 - found, {"training_ssim": float(found.detach())}

    @torch.no_grad()
    def validate(policy: LayoutPolicy) -> dict[str, float]:
        figures = {"defocus_A": 100 * float(policy.defocus[0])}
        for dose, final in sorted(set(zip(config.doses, through, strict=True))):
            generator = generator_at(config.seed, 0, config.device)
            found = [
                quality(unseen, chosen, encoder, policy, dose, final, generator).mean()
                for chosen in torch.split(torch.arange(len(unseen), device=config.device), config.batch)
            ]
            figures[f"unseen_ssim_at_{dose:g}"] = float(torch.stack(found).mean())
        return figures

    def groups(policy: LayoutPolicy) -> list[dict[str, typing.Any]]:
        """Layout and defocus are in other units than the weights of the networks, and learn at other rates."""
        relative = config.layout_rate / config.learning_rate
        return [
            {"params": [policy.layout, policy.layout_by_dose, policy.frame], "scale": relative},
            {"params": [policy.defocus], "scale": 2 * relative},
            {"params": [*policy.inner.parameters(), *policy.frame_head.parameters()], "scale": 1.0},
        ]

    fitted = fit(
        policy,
        run,
        checkpoint,
        Schedule(config.minutes, config.iterations, average=0.98, validate_every_s=60.0),
        lambda _iteration, progress: config.learning_rate * cosine(progress),
        step,
        validate,
        groups,
    )
    return fitted.network.cpu().eval()


def quality(
    world: World,
    chosen: Tensor,
    encoder: Autoencoder | None,
    policy: LayoutPolicy,
    fraction: float,
    through: tuple[int, int],
    generator: torch.Generator,
) -> Tensor:
    """SSIM (b,) of the images of regions that a policy scanned at a fraction of the paper's dose.

    ``through``: batch and epochs of the reconstruction.
    """
    settings, (batch, epochs) = world.settings, through
    world.electrons = settings.electrons * fraction
    patterns = play(world, world.region(chosen), encoder, policy, log_dose(settings, fraction), generator)
    pixels = round(settings.fov_A / settings.pixel_A)
    patterns = world.dealt(patterns, round(settings.positions / batch), generator)
    image = world.images(world.reconstruct(patterns, epochs), pixels)
    return similarity(image, world.images(world.truth(chosen), pixels))
