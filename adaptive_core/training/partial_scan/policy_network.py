"""The recurrent policy: values along the path in, direction of the next segment out, with a spatial memory.

What it sees is the last segment only. Its state therefore keeps, beside that of an LSTM (Ede 2021, section S1), coarse
maps of where the probe has been, what it saw there and how rough that was. Each of a fan of directions is judged by
what the maps hold along it. An untrained policy prefers what was not visited yet; training adds a judgement of
everything else.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from adaptive_core.training.partial_scan.paths import PROBES_PER_SEGMENT

MAP_CELLS = 20
_MAPS = 3
_SPREAD_CELLS = 1.2  # standard deviation of what a probe says about its surroundings
_FAN = 16  # directions that are judged
_LOOK = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # where along a direction, in segments
_FIRST = math.sqrt(0.5)  # both components of the first direction, as in the paper


class RecurrentPolicy(nn.Module):
    """Inputs and outputs of the model kind partial_scan_policy with the action "direction".

    The state (B, S), zeros at the start, holds the LSTM's two, the last position and direction, the length of a segment
    along both axes, the budget used, and the maps: for each of their cells the number of probes near it, and the sums
    of their values and of the squared differences between neighbours.
    """

    fan: torch.Tensor
    look: torch.Tensor
    cells: torch.Tensor
    steps: torch.Tensor

    def __init__(self, hidden: int = 96, judge: int = 48) -> None:
        super().__init__()
        self.sizes = [hidden, hidden, 7, _MAPS * MAP_CELLS**2]
        inputs = PROBES_PER_SEGMENT + 6
        self.gates = nn.Linear(inputs + hidden, 4 * hidden)
        self.context = nn.Linear(hidden + 1, judge)
        self.features = nn.Linear(_MAPS * len(_LOOK) + 4, judge)
        self.score = nn.Linear(judge, 1)
        with torch.no_grad():
            self.gates.bias.zero_()
            self.gates.bias[hidden : 2 * hidden] = 1.0  # forget little at the start (Ede 2021, section S1)
            self.score.weight.mul_(0.1)
        self.shyness = nn.Parameter(torch.tensor(3.0))
        self.inertia = nn.Parameter(torch.tensor(0.0))
        angles = torch.arange(_FAN) * (2 * math.pi / _FAN)
        self.register_buffer("fan", torch.stack([angles.sin(), angles.cos()], 1), persistent=False)
        self.register_buffer("look", torch.tensor(_LOOK)[:, None], persistent=False)
        self.register_buffer("cells", (torch.arange(MAP_CELLS) + 0.5) / MAP_CELLS * 2 - 1, persistent=False)
        self.register_buffer("steps", torch.arange(1, PROBES_PER_SEGMENT + 1)[:, None] / PROBES_PER_SEGMENT, False)

    @property
    def state_size(self) -> int:
        """Length S of the state."""
        return sum(self.sizes)

    def forward(
        self, values: torch.Tensor, position: torch.Tensor, remaining: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, P), (B, 2), (B, 1) and (B, S) to the direction (B, 2), of any length, and the new state (B, S)."""
        h, c, kept, memory = torch.split(state, self.sizes, dim=1)
        last, heading, length, used_before = torch.split(kept, [2, 2, 2, 1], dim=1)
        values, used = values.clamp(-5, 5), 1 - remaining
        moved = position - last
        begun = (moved.abs().sum(dim=1, keepdim=True) > 0).to(moved.dtype)
        # The first segment goes along both axes alike and so tells how long a segment is.
        length = torch.where(length.abs().sum(dim=1, keepdim=True) > 0, length, moved.abs() / _FIRST)
        maps = memory.view(-1, _MAPS, MAP_CELLS, MAP_CELLS) + begun[..., None, None] * self._seen(values, last, moved)
        # What is left, counted in segments as long as the last one.
        left = torch.log1p(remaining.clamp(min=0) / ((used - used_before).clamp(min=0) + 1e-3)) / 5
        inputs = torch.cat([values, position, heading, remaining, left, h], dim=1)
        i, f, g, o = torch.chunk(self.gates(inputs), 4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        judged = torch.softmax(self._judge(maps, position, heading, length, h, left), dim=1)
        direction = judged @ self.fan
        direction = begun * direction + (1 - begun) * _FIRST
        heading = direction * torch.rsqrt(direction.square().sum(dim=1, keepdim=True) + 1e-6)
        new = torch.cat([h, c, position, heading, length, used, maps.flatten(1)], dim=1)
        return direction, new

    def _falloff(self, positions: torch.Tensor) -> torch.Tensor:
        """Weights of the map's rows and of its columns, (B, n, 2, cells), around positions (B, n, 2)."""
        cells = (self.cells - positions[..., None]) * (MAP_CELLS / 2 / _SPREAD_CELLS)
        return torch.exp(-0.5 * cells * cells)

    def _seen(self, values: torch.Tensor, last: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
        """What the last segment adds to the maps, (B, maps, cells, cells)."""
        falloff = self._falloff(last[:, None] + self.steps * moved[:, None])
        rows, columns = falloff[:, :, 0], falloff[:, :, 1]
        change = torch.cat([values[:, :1] * 0, (values[:, 1:] - values[:, :-1]) ** 2], dim=1)
        facts = torch.stack([torch.ones_like(values), values, change], dim=1)
        # A product of matrices sums over the probes; facts weigh the rows.
        weighted = facts[..., None] * rows[:, None]
        return weighted.transpose(2, 3) @ columns[:, None]

    def _judge(
        self,
        maps: torch.Tensor,
        position: torch.Tensor,
        heading: torch.Tensor,
        length: torch.Tensor,
        h: torch.Tensor,
        left: torch.Tensor,
    ) -> torch.Tensor:
        """Scores of the fan's directions, (B, fan)."""
        reach = self.fan * length[:, None]
        end = position[:, None] + reach
        reach = torch.where((end < -1) | (end > 1), -reach, reach)
        points = position[:, None, None] + self.look * reach[:, :, None]
        falloff = self._falloff(points.clamp(-1, 1).flatten(1, 2))
        rows, columns = falloff[:, :, 0], falloff[:, :, 1]
        along = ((rows[:, None] @ maps) * columns[:, None]).sum(dim=3)  # (B, maps, fan * look)
        weight = along[:, :1]
        facts = torch.cat([torch.log1p(weight.clamp(min=0)), along[:, 1:] / (weight.clamp(min=0) + 0.3)], dim=1)
        facts = facts.view(-1, _MAPS, _FAN, len(_LOOK)).transpose(1, 2)
        visited = facts[:, :, 0]
        ahead = (self.fan * heading[:, None]).sum(dim=2, keepdim=True)
        aside = self.fan[:, :1] * heading[:, None, 1:] - self.fan[:, 1:] * heading[:, None, :1]
        after = torch.cat([ahead, aside, (position[:, None] + reach).abs()], dim=2)
        judged = (
            self.features(torch.cat([facts.flatten(2), after], dim=2)) + self.context(torch.cat([h, left], 1))[:, None]
        )
        score: torch.Tensor = self.score(torch.relu(judged))[:, :, 0]
        return 6 * score - self.shyness * visited[:, :, :4].sum(dim=2) + self.inertia * ahead[:, :, 0]
