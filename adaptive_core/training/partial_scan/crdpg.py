"""Train an actor by cooperative recurrent deterministic policy gradients (CRDPG; Ede 2021, algorithm 1).

Episodes are replayed by target networks, whose states feed the live ones: a live network takes one step from the state
that its slowly moving target has reached. The critic learns to predict the losses to come, the actor descends it, and
the generator, unless it is frozen, learns to complete the replayed scans. :mod:`crdpg_training` runs it, and
docs/partial_scan_paper.md lists every deviation from the paper.
"""

from __future__ import annotations

import copy
import math
import typing

import torch
from torch import nn

from adaptive_core import static_path
from adaptive_core.training.partial_scan.actor_critic import Actor, Critic
from adaptive_core.training.partial_scan.crdpg_config import CrdpgConfig
from adaptive_core.training.partial_scan.environment import Rollout, Walker, completed, rollout, walked
from adaptive_core.training.partial_scan.paper_generator import PaperGenerator, completion_loss, decayed_rate
from adaptive_core.training.partial_scan.paths import PROBES_PER_SEGMENT
from adaptive_core.training.partial_scan.recurrent_networks import Step, unroll
from adaptive_core.training.partial_scan.replay import Replay, Sequences

Update = dict[str, float]


class OutlierLimit:
    """Adaptive learning rate clipping: losses beyond 3 standard deviations count as much as those at 3 (Ede 2020)."""

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        self.moments: torch.Tensor | None = None

    def __call__(self, losses: torch.Tensor) -> torch.Tensor:
        """Losses (B,), outliers scaled down; their gradients shrink likewise."""
        found = losses.detach()
        new = torch.stack([found.mean(), found.square().mean()])
        self.moments = new if self.moments is None else self.decay * self.moments + (1 - self.decay) * new
        mean, square = self.moments
        most = mean + 3 * (square - mean**2).clamp(min=0).sqrt()
        limited: torch.Tensor = losses * (most / found.clamp(min=1e-12)).clamp(max=1.0)
        return limited


class Crdpg:
    """The networks of one training and what an iteration does to them.

    Args:
        config: the arguments.
        generator: completes partial scans (B, 2, H, W); its first output is the image.
    """

    critics = 1
    sees_remaining = False

    def __init__(self, config: CrdpgConfig, generator: nn.Module) -> None:
        self.config = config
        self.device = torch.device(config.device)
        self.generator = generator.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator_optimizer: torch.optim.Optimizer | None = None
        if config.generator_rate:
            self.generator_optimizer = torch.optim.Adam(
                generator.parameters(), config.generator_rate, weight_decay=config.generator_decay
            )
        else:
            generator.requires_grad_(False).eval()
        self.replay = Replay(config.replay)
        self.typical: float | None = None  # running mean of the generator's losses
        self.limits = {name: OutlierLimit() for name in ("critic", "generator")}
        self.live, self.target = nn.ModuleDict(), nn.ModuleDict()
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        if config.network != "spiral":
            self._build()

    def _build(self) -> None:
        config = self.config
        shape = (config.network, config.hidden, config.projection, self.sees_remaining)
        self.live["actor"] = Actor(*shape)
        for i in range(self.critics):
            self.live[f"critic{i}"] = Critic(*shape)
        self.live.to(self.device)
        self.target = copy.deepcopy(self.live).requires_grad_(False)
        critics = [parameter for critic in self._critics(self.live) for parameter in critic.parameters()]
        self.optimizers = {
            "actor": torch.optim.Adam(self.live["actor"].parameters(), config.actor_rate),
            "critic": torch.optim.Adam(critics, config.critic_rate),
        }

    def _critics(self, networks: nn.ModuleDict) -> list[Critic]:
        return [typing.cast(Critic, networks[f"critic{i}"]) for i in range(self.critics)]

    @property
    def title(self) -> str:
        """Name of the policy, on its card and in menus."""
        return f"{self.config.network.upper()} walk, CRDPG"

    @property
    def file_name(self) -> str:
        """What the policy's file is called after partial_scan_policy_."""
        return self.config.network

    @property
    def actor(self) -> Actor:
        """The target actor: the running average of the live one, which is what is validated and exported."""
        return typing.cast(Actor, self.target["actor"])

    def walk(
        self, truths: torch.Tensor, noise_rad: float, walker: Walker | None = None, dose: torch.Tensor | None = None
    ) -> Rollout:
        """Episodes on truths (B, H, W): those of a walker, by default the target actor, or static spirals.

        ``dose``, shape (B, 1), is that of :func:`environment.rollout`.
        """
        config = self.config
        if config.network == "spiral":
            return self._spirals(truths, dose)
        return rollout(walker or self.actor, truths, config.segments, noise_rad, dose, nearest=True)

    def _spirals(self, truths: torch.Tensor, dose: torch.Tensor | None = None) -> Rollout:
        path = static_path.spiral((truths.shape[1], truths.shape[2]), self.config.segments * PROBES_PER_SEGMENT)
        return walked(truths, torch.from_numpy(path).float().to(truths.device), dose)

    @torch.no_grad()
    def collect(self, truths: torch.Tensor, iteration: int, progress: float) -> None:
        """Add new episodes on truths (B, H, W) to the replay."""
        truths = truths.to(self.device)
        walker = self.explorer(iteration) if self.optimizers else None
        dose = None
        if self.config.doses is not None:
            low, high = map(math.log, self.config.doses)
            dose = torch.empty(len(truths), 1, device=self.device).uniform_(low, high).exp()
        walk = self.walk(truths, self.config.noise_rad * (1 - progress), walker, dose)
        sequences = {"ends": walk.ends, "observed": walk.observed, "directions": walk.directions}
        sequences["over_edge"] = walk.over_edge.float()
        if self.generator_optimizer is None:
            # A frozen generator makes the same completion each time.
            loss = self._completion_losses(walk.values, walk.positions, truths)
            if self.config.normalisation == "spiral":
                rival = self._spirals(truths)
                loss = 2 * loss / (loss + self._completion_losses(rival.values, rival.positions, truths))
            sequences["loss"] = loss
        else:
            sequences |= {"values": walk.values, "positions": walk.positions, "truths": truths.half()}
        self.replay.add({name: values.cpu() for name, values in sequences.items()})

    def explorer(self, _iteration: int) -> Walker:
        """Who walks in new episodes: the live actor."""
        return typing.cast(Actor, self.live["actor"])

    def _completion_losses(self, values: torch.Tensor, positions: torch.Tensor, truths: torch.Tensor) -> torch.Tensor:
        size_px = (truths.shape[1], truths.shape[2])
        image = completed(self.generator, values, positions, size_px, self.config.bfloat16, nearest=True)
        return completion_loss(image, truths, self.config.generator_loss)

    def update(self, iteration: int, progress: float) -> Update:
        """One iteration on a batch of replayed episodes. Returns figures for the learning curve."""
        batch = {name: values.to(self.device) for name, values in self.replay.sample(self.config.batch).items()}
        losses = batch["loss"] if self.generator_optimizer is None else self._update_generator(batch, progress)
        mean = float(losses.mean())
        decay = self.config.normalisation_decay
        self.typical = mean if self.typical is None else decay * self.typical + (1 - decay) * mean
        figures = {"training": mean}
        if self.optimizers:
            figures |= self._update_policy(batch, losses, iteration, progress)
        return figures

    def _update_generator(self, batch: Sequences, progress: float) -> torch.Tensor:
        """Teach the generator the replayed scans (Eq. 8). Returns its losses before (B,)."""
        config, optimizer = self.config, typing.cast(torch.optim.Optimizer, self.generator_optimizer)
        for group in optimizer.param_groups:
            group["lr"] = config.generator_rate * decayed_rate(progress, config.generator_cyclic)
        truths, positions = _turned(batch["truths"].float(), batch["positions"], config.size_px)
        losses = self._completion_losses(batch["values"], positions, truths)
        optimizer.zero_grad()
        self.limits["generator"](losses).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return losses.detach()

    def _update_policy(self, batch: Sequences, losses: torch.Tensor, iteration: int, progress: float) -> Update:
        actor = typing.cast(Actor, self.live["actor"])
        observation = self._observation(batch)
        inputs = Critic.inputs(observation, batch["directions"])
        with torch.no_grad():
            actions, actor_states = unroll(self.actor.act, observation, self.actor.state_size)
            critics = self._critics(self.target)
            critic_states = [unroll(critic, inputs, critic.state_size)[1] for critic in critics]
            ahead = self.values_ahead(observation, actions, critic_states)
            aims = self._aims(batch, losses, ahead, progress)
        wrong = sum(
            (self.outputs(critic, inputs, states) - aims).square().mean(dim=1)
            for critic, states in zip(self._critics(self.live), critic_states, strict=True)
        )
        critic_loss = 0.5 * self.limits["critic"](typing.cast(torch.Tensor, wrong)).mean()
        self._descend("critic", critic_loss)
        if self.moves_actor(iteration):
            chosen = self.outputs(actor.act, observation, actor_states)
            loss = self.actor_loss(iteration, observation, chosen, batch["directions"], critic_states[0])
            self._descend("actor", loss)
            self._follow()
        return {"critic": float(critic_loss.detach())}

    def values_ahead(
        self, observation: torch.Tensor, actions: torch.Tensor, critic_states: list[torch.Tensor]
    ) -> torch.Tensor:
        """What the target critic predicts for the target actor's actions (B, T, 2) at each step, (B, T)."""
        return step_from(self.target["critic0"], Critic.inputs(observation, actions), critic_states[0])

    def outputs(self, network: Step, inputs: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Outputs (B, T) or (B, T, 2) of a live network; ``states`` (B, T, S) are those of its target.

        A live network takes one step from each of them, so that all steps are one batch.
        """
        return step_from(network, inputs, states)

    def moves_actor(self, _iteration: int) -> bool:
        """Whether actor and targets move in this iteration."""
        return True

    def _observation(self, batch: Sequences) -> torch.Tensor:
        """What actor and critic see at each step, (B, T, I)."""
        steps = batch["directions"].shape[1]
        position = batch["ends"][:, :-1] / self.config.size_px * 2 - 1
        remaining = 1 - torch.arange(steps, device=self.device)[None, :, None] / steps
        return self.actor.observation(batch["observed"], position, remaining.expand(len(position), -1, -1))

    def _aims(self, batch: Sequences, losses: torch.Tensor, ahead: torch.Tensor, progress: float) -> torch.Tensor:
        """Targets of the critic at each step, (B, T) (Eqs. 15-20)."""
        config = self.config
        steps = config.edge_penalty * batch["over_edge"]
        steps[:, -1] += losses if config.normalisation == "none" else losses / typing.cast(float, self.typical)
        following = torch.cat([ahead[:, 1:], torch.zeros_like(ahead[:, :1])], dim=1)
        reinforced = steps + config.discount * following
        if config.supervision == "none":
            return reinforced
        supervised, total = [], torch.zeros_like(losses)
        for loss in steps.flip(1).unbind(dim=1):
            total = loss + config.discount * total
            supervised.append(total)
        alpha = 1.0 if config.supervision == "full" else max(0.0, 1 - progress / config.supervised_part)
        return (1 - alpha) * reinforced + alpha * torch.stack(supervised[::-1], dim=1)

    def actor_loss(
        self,
        _iteration: int,
        observation: torch.Tensor,
        chosen: torch.Tensor,
        replayed: torch.Tensor,
        states: torch.Tensor,
    ) -> torch.Tensor:
        """The loss of the actor (Eq. 22): what the critic predicts of its actions ``chosen`` (B, T, 2)."""
        critic = self.live["critic0"]
        if self.config.actions == "live":
            return step_from(critic, Critic.inputs(observation, chosen), states).mean()
        # As in RDPG: the critic's slope at the replayed action, times the live action's dependence on the actor.
        at = replayed.clone().requires_grad_()
        (slope,) = torch.autograd.grad(step_from(critic, Critic.inputs(observation, at), states).mean(), at)
        return (slope * chosen).sum()

    def _descend(self, name: str, loss: torch.Tensor) -> None:
        self.live.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[name].step()

    @torch.no_grad()
    def _follow(self) -> None:
        for target, live in zip(self.target.parameters(), self.live.parameters(), strict=True):
            target.lerp_(live, 1 - self.config.target_decay)

    def state_dict(self) -> dict[str, typing.Any]:
        """Everything that a checkpoint needs."""
        optimizers = {**self.optimizers, "generator": self.generator_optimizer}
        return {
            "live": self.live.state_dict(),
            "target": self.target.state_dict(),
            "generator": self.generator.state_dict() if self.generator_optimizer else {},
            "optimizers": {name: kept.state_dict() for name, kept in optimizers.items() if kept is not None},
            "replay": self.replay.state_dict(),
            "typical": self.typical,
            "limits": {name: limit.moments for name, limit in self.limits.items()},
        }

    def load_state_dict(self, state: dict[str, typing.Any]) -> None:
        """Go on from a checkpoint of the same config."""
        self.live.load_state_dict(state["live"])
        self.target.load_state_dict(state["target"])
        if self.generator_optimizer is not None:
            self.generator.load_state_dict(state["generator"])
            self.generator_optimizer.load_state_dict(state["optimizers"]["generator"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.replay.load_state_dict(state["replay"])
        self.typical = state["typical"]
        for name, limit in self.limits.items():
            moments = state["limits"][name]
            limit.moments = None if moments is None else moments.to(self.device)


def new_generator(config: CrdpgConfig) -> PaperGenerator:
    """The paper's generator, untrained."""
    return PaperGenerator(config.channels, config.blocks)


def step_from(network: Step, inputs: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Outputs (B, T, O), or (B, T) of a critic, of one step from each of the states (B, T, S)."""
    out: torch.Tensor = network(inputs.flatten(0, 1), states.flatten(0, 1))[0]
    return out.view(*inputs.shape[:2], -1).squeeze(-1)


def _turned(truths: torch.Tensor, positions: torch.Tensor, size_px: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Truths (B, H, H) and positions (B, N, 2) flipped and turned alike, each batch one of the eight ways."""
    flips = [axis for axis in (0, 1) if torch.rand(()) < 0.5]
    truths = truths.flip([axis + 1 for axis in flips])
    positions = positions.clone()
    positions[..., flips] = size_px - positions[..., flips]
    if torch.rand(()) < 0.5:
        return truths.transpose(1, 2), positions.flip(-1)
    return truths, positions
