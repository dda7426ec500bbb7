"""Actor and critic of recurrent deterministic policy gradients (Ede 2021, section S1)."""

from __future__ import annotations

import math

import torch
from torch import nn

from adaptive_core.errors import InvalidInputError
from adaptive_core.training.partial_scan.environment import unit
from adaptive_core.training.partial_scan.paths import PROBES_PER_SEGMENT, SEGMENT_PX
from adaptive_core.training.partial_scan.recurrent_networks import DeepLstm, Dnc, Recurrent, linear

NETWORKS = ("lstm", "dnc")
_FIRST = math.sqrt(0.5)  # both components of the first direction, which is fixed
_TRAINED_SIZE_PX = 96
_SEGMENTS = _TRAINED_SIZE_PX / 2 / SEGMENT_PX  # half a region in segments: positions are given in segment lengths


def recurrent(name: str, inputs: int, hidden: int = 128, projection: int = 0) -> Recurrent:
    """A network by its name in NETWORKS. Raises InvalidInputError for another."""
    if name == "lstm":
        return DeepLstm(inputs, hidden, projection)
    if name == "dnc" and not projection:
        return Dnc(inputs, hidden)
    raise InvalidInputError(f"There is no recurrent network {name!r} with projection {projection}.")


def _tiled(pair: torch.Tensor) -> torch.Tensor:
    """A pair (..., 2) repeated to as many numbers as a segment has values, so that it weighs as much."""
    return torch.cat([pair] * (PROBES_PER_SEGMENT // 2), dim=-1)


class Actor(nn.Module):
    """Chooses the direction of each segment; the first one is fixed, towards a corner.

    It sees the values of the last segment and, tiled to as many numbers, the position at its end. State: that of the
    recurrent network, and 1 once the first segment has been chosen.
    """

    def __init__(self, network: str = "lstm", hidden: int = 128, projection: int = 0, remaining: bool = False) -> None:
        super().__init__()
        self.core = recurrent(network, 2 * PROBES_PER_SEGMENT + remaining, hidden, projection)
        self.head = linear(self.core.output_size, 2, bias=False)
        self.sees_remaining = remaining

    @property
    def state_size(self) -> int:
        """Length S of the state."""
        return self.core.state_size + 1

    def observation(self, values: torch.Tensor, position: torch.Tensor, remaining: torch.Tensor) -> torch.Tensor:
        """What the recurrent network sees of values (..., P), position (..., 2) and remaining budget (..., 1)."""
        parts = [values.clamp(-5, 5), _tiled(position * _SEGMENTS)]
        return torch.cat([*parts, remaining] if self.sees_remaining else parts, dim=-1)

    def act(self, observation: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map observations (B, I) and the state (B, S) to unit directions (B, 2) and the next state."""
        memory, begun = state[:, :-1], state[:, -1:]
        out, memory = self.core(observation, memory)
        direction = begun * unit(self.head(out)) + (1 - begun) * _FIRST
        return direction, torch.cat([memory, torch.ones_like(begun)], dim=1)

    def forward(
        self, values: torch.Tensor, position: torch.Tensor, remaining: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and outputs of the model kind partial_scan_policy: direction (B, 2) and next state (B, S)."""
        return self.act(self.observation(values, position, remaining), state)


class Critic(nn.Module):
    """Predicts the losses to come of an action, from the same observation as the actor and the action, tiled."""

    def __init__(self, network: str = "lstm", hidden: int = 128, projection: int = 0, remaining: bool = False) -> None:
        super().__init__()
        self.core = recurrent(network, 3 * PROBES_PER_SEGMENT + remaining, hidden, projection)
        self.head = linear(self.core.output_size, 1, bias=False)

    @property
    def state_size(self) -> int:
        """Length S of the state."""
        return self.core.state_size

    @staticmethod
    def inputs(observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """One tensor of observations (..., I) and actions (..., 2)."""
        return torch.cat([observation, _tiled(action)], dim=-1)

    def forward(self, inputs: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map inputs (B, I) and the state (B, S) to the predicted loss (B, 1) and the next state."""
        out, state = self.core(inputs, state)
        return self.head(out), state
