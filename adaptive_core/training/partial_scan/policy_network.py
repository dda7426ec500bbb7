"""The recurrent policy: values along the path in, direction of the next segment out, with a spatial memory.

What it sees is the last segment only. Its state therefore keeps, beside that of a deep LSTM with skips (Ede 2021,
section S1), a coarse map of where the probe has been and what it saw there.
"""

from __future__ import annotations

import torch
from torch import nn

from adaptive_core.training.partial_scan.paths import PROBES_PER_SEGMENT

MAP_CELLS = 16


class LstmCell(nn.Module):
    """A long short-term memory cell whose forget gate starts biased by 1 (Ede 2021, section S1)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + hidden, 4 * hidden)
        with torch.no_grad():
            self.gates.bias.zero_()
            self.gates.bias[hidden : 2 * hidden] = 1.0

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map the input (B, inputs) and the state (B, hidden) twice to the new state."""
        i, f, g, o = torch.chunk(self.gates(torch.cat([x, h], 1)), 4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class RecurrentPolicy(nn.Module):
    """Inputs and outputs of the model kind partial_scan_policy with the action "direction".

    The state (B, S), zeros at the start, holds the two LSTM layers, the last position, the budget used and the map: for
    each of its cells the number of probes near it and the sum of their values.
    """

    cells: torch.Tensor
    steps: torch.Tensor

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.hidden = hidden
        self.map_size = 2 * MAP_CELLS**2
        self.sizes = [hidden] * 4 + [3, self.map_size]
        self.read = nn.Sequential(
            nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU()
        )
        self.read_out = nn.Linear(4 * MAP_CELLS**2, hidden)
        features = PROBES_PER_SEGMENT + 6 + hidden
        self.first = LstmCell(features, hidden)
        self.second = LstmCell(features + hidden, hidden)
        self.head = nn.Linear(2 * hidden, 2)
        self.register_buffer("cells", (torch.arange(MAP_CELLS) + 0.5) / MAP_CELLS * 2 - 1, persistent=False)
        self.register_buffer("steps", torch.arange(1, PROBES_PER_SEGMENT + 1) / PROBES_PER_SEGMENT, persistent=False)

    @property
    def state_size(self) -> int:
        """Length S of the state."""
        return sum(self.sizes)

    def forward(
        self, values: torch.Tensor, position: torch.Tensor, remaining: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, P), (B, 2), (B, 1) and (B, S) to the direction (B, 2), of any length, and the new state (B, S)."""
        h1, c1, h2, c2, last, memory = torch.split(state, self.sizes, dim=1)
        used = 1 - remaining
        moved = position - last[:, :2]
        memory = memory + self._written(values, last[:, :2], moved)
        weight, total = memory.view(-1, 2, MAP_CELLS, MAP_CELLS).chunk(2, dim=1)
        weight = weight.clamp(min=0)
        here = self._near(position[:, None]).sum(dim=1, keepdim=True)
        seen = torch.cat([weight / (weight + 1), total / (weight + 1), here, torch.ones_like(here)], dim=1)
        read = torch.relu(self.read_out(self.read(seen).flatten(1)))
        # What is left, counted in segments as long as the last one.
        left = torch.log1p(remaining.clamp(min=0) / ((used - last[:, 2:]).clamp(min=0) + 1e-3)) / 5
        x = torch.cat([values.clamp(-5, 5), position, 2 * moved, remaining, left, read], dim=1)
        h1, c1 = self.first(x, h1, c1)
        h2, c2 = self.second(torch.cat([x, h1], 1), h2, c2)
        direction = self.head(torch.cat([h1, h2], 1))
        return direction, torch.cat([h1, c1, h2, c2, position, used, memory], 1)

    def _near(self, positions: torch.Tensor) -> torch.Tensor:
        """Weights of map cells, (B, n, cells, cells), that fall off over a cell from positions (B, n, 2)."""
        falloff = torch.exp(-0.5 * ((self.cells - positions[..., None]) * (MAP_CELLS / 2)) ** 2)
        return falloff[..., 0, :, None] * falloff[..., 1, None, :]

    def _written(self, values: torch.Tensor, last: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
        """What the last segment adds to the map, (B, 2 * cells^2); nothing before the first."""
        has_moved = (moved.abs().sum(dim=1, keepdim=True) > 0).to(moved.dtype)
        positions = last[:, None] + self.steps[:, None] * moved[:, None]
        offset = (self.cells - positions[..., None]) * (MAP_CELLS / 2)  # (B, P, 2, cells)
        rows, columns = torch.exp(-0.5 * offset**2).unbind(dim=2)
        # A product of matrices sums over the probes; values weigh the rows of the second map.
        weight = rows.transpose(1, 2) @ columns
        total = (rows * values.clamp(-5, 5)[..., None]).transpose(1, 2) @ columns
        return torch.cat([weight.flatten(1), total.flatten(1)], 1) * has_moved
