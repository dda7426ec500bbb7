"""A recurrent TD3 (Fujimoto et al. 2018) for partial scans: CRDPG with its modern remedies.

Beside :mod:`crdpg`: live networks that run through a whole sequence and learn by backpropagation through time what is
worth remembering, where the paper's take one step from the states of their targets; two critics, of whose target
predictions the worse one counts; target actions that are turned by clipped noise, so that critics stay smooth in them;
an actor and targets that move at every second iteration only; the remaining budget as an input; and errors relative to
those of the spiral on the same image, which takes out of the loss what is due to the image. From random weights the
first thousands of iterations go into learning not to stay in one place; here the actor begins by imitating a walk that
was made to avoid where it has been. Ede (2021) names several of these as future work.
"""

from __future__ import annotations

import dataclasses

import torch

from adaptive_core.training.partial_scan.actor_critic import Critic
from adaptive_core.training.partial_scan.crdpg import Crdpg, step_from
from adaptive_core.training.partial_scan.crdpg_config import CrdpgConfig
from adaptive_core.training.partial_scan.environment import Walker, turned
from adaptive_core.training.partial_scan.policy_network import RecurrentPolicy
from adaptive_core.training.partial_scan.recurrent_networks import Step, unroll


@dataclasses.dataclass(frozen=True)
class Td3Config(CrdpgConfig):
    """Arguments beyond CRDPG's.

    Attributes:
        smoothing_rad: standard deviation by which target actions are turned.
        smoothing_limit_rad: largest turn.
        actor_every: iterations from one step of actor and targets to the next.
        imitated: iterations at the start in which a walk that avoids where it has been makes the episodes, and the
            actor imitates it.
    """

    normalisation: str = "spiral"
    smoothing_rad: float = 0.2
    smoothing_limit_rad: float = 0.5
    actor_every: int = 2
    imitated: int = 300


class Td3(Crdpg):
    """The networks of one training by TD3."""

    critics = 2
    sees_remaining = True
    config: Td3Config

    @property
    def title(self) -> str:
        """Name of the policy, on its card and in menus."""
        return f"{self.config.network.upper()} walk, TD3"

    @property
    def file_name(self) -> str:
        """What the policy's file is called after partial_scan_policy_."""
        return "td3"

    def explorer(self, iteration: int) -> Walker:
        """Who walks in new episodes: at first an untrained :class:`RecurrentPolicy`, then the live actor."""
        return RecurrentPolicy().to(self.device) if iteration < self.config.imitated else super().explorer(iteration)

    def actor_loss(
        self,
        iteration: int,
        observation: torch.Tensor,
        chosen: torch.Tensor,
        replayed: torch.Tensor,
        states: torch.Tensor,
    ) -> torch.Tensor:
        """At first the cosine between replayed and chosen actions (B, T, 2), negative; then CRDPG's."""
        if iteration < self.config.imitated:
            return -(chosen * replayed).sum(dim=2).mean()
        return super().actor_loss(iteration, observation, chosen, replayed, states)

    def values_ahead(
        self, observation: torch.Tensor, actions: torch.Tensor, critic_states: list[torch.Tensor]
    ) -> torch.Tensor:
        """The worse of the two target critics' predictions (B, T) for turned target actions (B, T, 2)."""
        limit = self.config.smoothing_limit_rad
        angle = (self.config.smoothing_rad * torch.randn(actions.shape[:2], device=actions.device)).clamp(-limit, limit)
        inputs = Critic.inputs(observation, turned(actions, angle))
        critics = self._critics(self.target)
        predicted = [step_from(critic, inputs, states) for critic, states in zip(critics, critic_states, strict=True)]
        # Losses, not rewards: the worse prediction is the larger one.
        return torch.stack(predicted).amax(dim=0)

    def outputs(self, network: Step, inputs: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Outputs (B, T) or (B, T, 2) of a live network that runs through the sequence by itself."""
        return unroll(network, inputs, states.shape[2])[0].squeeze(-1)

    def moves_actor(self, iteration: int) -> bool:
        """Whether actor and targets move in this iteration."""
        return iteration % self.config.actor_every == 0
