"""Train the scanning policy of Schloz et al.: supervised initialisation, then multi-agent REINFORCE (Eqs. 6-9).

Every probe position is an agent with a Gaussian policy around the network's output. The reward is the phase of the
final reconstruction in the agent's Voronoi cell ("voronoi") or all of it ("shared"); gamma is 0. Beyond the papers, it
may be the similarity of a good reconstruction with the truth ("quality"), divided among the cells of the means.

Deviations from the papers, all by configuration or stated here:

* the first sub-sequence is the network's answer to zeros, trained by the supervised part to be the given one;
* ``draws``: the reward of an agent counts against its mean over several episodes of the same region;
* everything is simulated, in the small window of the binned detector (see :mod:`world`);
* the step of the rewarded descent shrinks where probes crowd (:data:`world.STABLE`): with the papers' fixed one images
  diverge there;
* a run may start from a policy that was trained by gradients (:mod:`guided`) and not from a sequence;
* what the policy sees is the weighted reconstruction with warm start, what it is rewarded for is ``reward``.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import typing

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import positions as fixed
from adaptive_core.ptychography import protocols
from adaptive_core.ptychography.experiments import Experiment, experiment
from adaptive_core.ptychography.reconstruction import ROP_STEP, intermediate_binning
from adaptive_core.training.loop import Schedule, cosine, fit
from adaptive_core.training.ptychography.credit import CREDITS
from adaptive_core.training.ptychography.networks import SIZES, Autoencoder, ScanPolicy, standardised
from adaptive_core.training.ptychography.world import VALIDATION_SEED, Patterns, World, generator_at, similarity_map
from adaptive_core.training.runs import RunFolder

logger = logging.getLogger(__name__)


class Initialisation(typing.Protocol):
    """What the supervised initialisation needs of a config; see :class:`ReinforceConfig`."""

    @property
    def first(self) -> str: ...
    @property
    def supervised(self) -> int: ...
    @property
    def supervised_learning_rate(self) -> float: ...
    @property
    def batch(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class ReinforceConfig:
    """Arguments of a run.

    Attributes:
        specimen: name of the experiment.
        size: "small" or "paper".
        first: "sparse_grid" (2023) or "halton" (2022), the sequence of the supervised initialisation.
        supervised: iterations of the initialisation.
        iterations: of REINFORCE, at most.
        minutes: of the training after it, at most.
        batch: episodes of an iteration.
        learning_rate: of Adam in REINFORCE (paper: 1e-5 in the text, 1e-6 in Table II).
        supervised_learning_rate: of Adam in the initialisation.
        sigma: of an agent's Gaussian, as a fraction of the region (paper: 0.0125).
        credit: "voronoi" or "shared".
        reward: the phase by the papers' gradient descent ("rop") or by a weighted one ("weighted"), or "quality": the
            local SSIM of the final image, at the defocus and in the batches and epochs of :data:`protocols.TUNED`.
        draws: episodes of each region of an iteration; above 1 an agent's reward counts against its mean over them.
        dose: electrons a pattern, as a fraction of the paper's.
        regions: of the pool.
        seed: of everything.
        threads: of PyTorch.
        device: "cpu" or "cuda".
    """

    specimen: str = "mos2"
    size: str = "small"
    first: str = "sparse_grid"
    supervised: int = 400
    iterations: int = 2000
    minutes: float = 60.0
    batch: int = 12
    learning_rate: float = 3e-4
    supervised_learning_rate: float = 1e-3
    sigma: float = 0.0125
    credit: str = "voronoi"
    reward: str = "rop"
    draws: int = 3
    dose: float = 1.0
    regions: int = 192
    seed: int = 0
    threads: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        for value, allowed in ((self.first, FIRST), (self.credit, CREDITS), (self.reward, REWARDS)):
            if value not in allowed:
                raise InvalidInputError(f"Expected one of {', '.join(sorted(allowed))}, not {value!r}.")
        if self.draws < 1 or self.batch % self.draws:
            raise InvalidInputError(f"A batch of {self.batch} episodes cannot hold {self.draws} of each region.")
        if self.reward == "quality" and (self.specimen, self.dose) not in protocols.TUNED:
            raise InvalidInputError(
                f"No final image is tuned for {self.specimen} at {self.dose:g} of the papers' dose."
            )

    @property
    def defocus_A(self) -> float:
        """Of all patterns: what the rewarded reconstruction wants; the papers' is in focus."""
        return protocols.TUNED[self.specimen, self.dose].defocus_A or 0.0 if self.reward == "quality" else 0.0


REWARDS = ("rop", "weighted", "quality")
FIRST: dict[str, typing.Callable[[int, fixed.Region], npt.NDArray[np.float64]]] = {
    "sparse_grid": fixed.sparse_grid,
    "halton": fixed.halton,
}


def target_sequence(settings: Experiment, first: str) -> Tensor:
    """Positions of the initialisation (t, p, 2) in [-1, 1], sub-sequence by sub-sequence, in the sequence's order."""
    whole = FIRST[first](settings.positions, (2.0, 2.0)) - 1
    return torch.tensor(whole, dtype=torch.float32).view(settings.subsequences, -1, 2)


@dataclasses.dataclass(frozen=True, eq=False)
class Episode:
    """A batch of episodes.

    Attributes:
        means: of the agents' policies (b, t, p, 2).
        actions: positions taken, in [-1, 1], of the same shape.
        patterns: what was measured there.
    """

    means: Tensor
    actions: Tensor
    patterns: Patterns


def play(
    world: World,
    potentials: Tensor,
    encoder: Autoencoder,
    policy: ScanPolicy,
    sigma: float,
    generator: torch.Generator,
    through: bool = False,
    defocus_A: float = 0.0,
) -> Episode:
    """Scan every region of a batch; ``sigma`` in units of [-1, 1], 0 for the means themselves.

    With ``through`` the patterns are differentiable by the means. ``defocus_A`` is that of the instrument.
    """
    sets, part = len(potentials), policy.positions
    code = potentials.new_zeros(sets, policy.size.code)
    state = potentials.new_zeros(sets, policy.state_size)
    action = potentials.new_zeros(sets, part, 2)
    focus = potentials.new_tensor(defocus_A)
    patterns, image = Patterns(), None
    means, actions = [], []
    for left in reversed(range(world.settings.subsequences)):
        mean, state = policy(code, action.detach(), state)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        action = ((mean if through else mean.detach()) + sigma * noise).clamp(-1, 1)
        with torch.set_grad_enabled(through and torch.is_grad_enabled()):
            patterns = patterns.with_more(*world.measure(potentials, action, focus, generator))
        if left:
            with torch.no_grad():
                image = world.reconstruct(patterns, 1, image)
                code = encoder.encode(standardised(world.images(image, policy.size.image_px)))
        means.append(mean)
        actions.append(action)
    return Episode(torch.stack(means, 1), torch.stack(actions, 1), patterns)


@torch.no_grad()
def rewards(
    world: World, chosen: Tensor, episode: Episode, config: ReinforceConfig, generator: torch.Generator
) -> Tensor:
    """Reward of every agent (b, t * p) in episodes of the chosen regions (b,)."""
    places = episode.actions
    if config.reward == "quality":
        # Cells that move with the actions reward probes for leaving where the image is bad: it gets worse there.
        places = episode.means
        earned = quality(world, chosen, episode, config, generator)
        # Else a large cell earned more than a good one.
        earned = earned - earned.mean()
    else:
        rop = config.reward == "rop"
        image = world.rop(episode.patterns, ROP_STEP) if rop else world.reconstruct(episode.patterns, 3)
        earned = world.images(image, 96)
    positions = places.flatten(1, 2).detach().cpu().numpy()
    divide = CREDITS[config.credit]
    each = [divide(place, one) for place, one in zip(positions, earned[:, 0].cpu().numpy(), strict=True)]
    return torch.from_numpy(np.stack(each)).to(episode.actions.device)


def quality(
    world: World, chosen: Tensor, episode: Episode, config: ReinforceConfig, generator: torch.Generator
) -> Tensor:
    """Local SSIM (b, 1, h, h) of the tuned final images of the chosen regions (b,) with the truth."""
    settings, tuned = world.settings, protocols.TUNED[config.specimen, config.dose]
    batches = -(-settings.positions // tuned.batch)
    image = world.reconstruct(world.dealt(episode.patterns, batches, generator), tuned.epochs)
    pixels = round(settings.fov_A / settings.pixel_A)
    return similarity_map(world.images(image, pixels), world.images(world.truth(chosen), pixels))


def phase_at_probes(episode: Episode, truth: Tensor) -> float:
    """Mean of the true phases (b, 1, h, h) at the positions, over their mean."""
    places = episode.actions.flatten(1, 2)[:, :, None].flip(-1)
    under = torch.nn.functional.grid_sample(truth, places, align_corners=False, padding_mode="border")
    return float(under.mean() / truth.mean())


def reinforce_loss(episode: Episode, reward: Tensor, sigma: float, draws: int) -> Tensor:
    """Loss whose gradient is that of Eq. 8, one term for each agent, gamma = 0.

    ``draws`` successive episodes are of one region; see :class:`ReinforceConfig`.
    """
    log_likelihood = -(episode.actions - episode.means).square().sum(-1).flatten(1) / (2 * sigma**2)
    if draws > 1:
        groups = reward.view(-1, draws, reward.shape[1])
        reward = (groups - groups.mean(1, keepdim=True)).flatten(0, 1)
    # The scale of the reward is arbitrary.
    reward = reward / reward.std().clamp(min=1e-12)
    return -(log_likelihood * reward).sum(1).mean()


def train(
    config: ReinforceConfig,
    encoder: Autoencoder,
    folder: pathlib.Path,
    resume: bool = False,
    start: ScanPolicy | None = None,
) -> ScanPolicy:
    """Train, resume or finish a run in ``folder``; returns the policy, in evaluation mode on the CPU.

    ``start`` is the policy to start from; without one, that is what the supervised initialisation makes.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    settings = experiment(config.specimen)
    run = RunFolder(folder, config)
    checkpoint = run.open(resume)
    encoder = encoder.to(config.device).eval().requires_grad_(False)
    policy = ScanPolicy(SIZES[config.size], settings.positions // settings.subsequences).to(config.device)
    electrons = settings.electrons * config.dose
    binning = intermediate_binning(settings.calibration(), config.defocus_A)
    world = World(settings, range(config.regions), electrons, binning, config.device)
    held_out = range(VALIDATION_SEED, VALIDATION_SEED + config.batch)
    unseen = World(settings, held_out, electrons, binning, config.device)
    sigma = 2 * config.sigma
    if start is not None:
        policy.load_state_dict(start.state_dict())
    elif checkpoint is None:
        supervise(config, world, encoder, policy)

    def step(policy: ScanPolicy, iteration: int, _progress: float) -> tuple[Tensor, dict[str, float]]:
        generator = generator_at(config.seed, iteration, config.device)
        regions = torch.randint(len(world), (config.batch // config.draws,), generator=generator, device=config.device)
        chosen = regions.repeat_interleave(config.draws)
        episode = play(world, world.region(chosen), encoder, policy, sigma, generator, defocus_A=config.defocus_A)
        reward = rewards(world, chosen, episode, config, generator)
        return reinforce_loss(episode, reward, sigma, config.draws), {"reward": float(reward.sum(1).mean())}

    @torch.no_grad()
    def validate(policy: ScanPolicy) -> dict[str, float]:
        """Of the means: reward or SSIM, phase under the probes over its mean, and how much regions differ."""
        chosen = torch.arange(len(unseen), device=config.device)
        generator = generator_at(config.seed, 0, config.device)
        episode = play(unseen, unseen.region(chosen), encoder, policy, 0.0, generator, defocus_A=config.defocus_A)
        truth = unseen.images(unseen.truth(chosen), 96)
        if config.reward == "quality":
            reached = {"unseen_ssim": float(quality(unseen, chosen, episode, config, generator).mean())}
        else:
            found = rewards(unseen, chosen, episode, config, generator)
            reached = {"unseen_reward": float(found.sum(1).mean())}
        return {
            **reached,
            "phase_at_probes": phase_at_probes(episode, truth),
            "adaptation": float((episode.means - episode.means.mean(0)).std()),
        }

    fitted = fit(
        policy,
        run,
        checkpoint,
        Schedule(config.minutes, config.iterations, average=0.98, largest_gradient=10.0, validate_every_s=30.0),
        lambda _iteration, progress: config.learning_rate * cosine(progress),
        step,
        validate,
    )
    return fitted.network.cpu().eval()


def supervise(config: Initialisation, world: World, encoder: Autoencoder, policy: ScanPolicy) -> None:
    """Fit the policy's means to the initial sequence (Eq. 9), on what it sees when that sequence is scanned."""
    optimizer = torch.optim.Adam(policy.parameters(), config.supervised_learning_rate)
    target = target_sequence(world.settings, config.first).to(config.device)
    generator = torch.Generator(config.device).manual_seed(config.seed)
    sets = config.batch
    codes = _codes_of(world, encoder, target, policy, generator, sets)
    for _ in range(config.supervised):
        state = target.new_zeros(sets, policy.state_size)
        action = target.new_zeros(sets, policy.positions, 2)
        loss = target.new_zeros(())
        for t, wanted in enumerate(target):
            mean, state = policy(codes[t], action, state)
            loss = loss + (mean - wanted).square().sum((1, 2)).mean()
            action = wanted.expand(sets, -1, -1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    error = float(loss.detach()) / target[..., 0].numel()
    logger.info("supervised initialisation: mean squared error %.3g of a position", error)


@torch.no_grad()
def _codes_of(
    world: World, encoder: Autoencoder, target: Tensor, policy: ScanPolicy, generator: torch.Generator, sets: int
) -> list[Tensor]:
    chosen = torch.arange(sets, device=target.device) % len(world)
    potentials = world.region(chosen)
    codes, patterns, image = [target.new_zeros(sets, policy.size.code)], Patterns(), None
    for wanted in target[:-1]:
        places = wanted.expand(sets, -1, -1)
        patterns = patterns.with_more(*world.measure(potentials, places, target.new_zeros(()), generator))
        image = world.reconstruct(patterns, 1, image)
        codes.append(encoder.encode(standardised(world.images(image, policy.size.image_px))))
    return codes
