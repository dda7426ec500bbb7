"""The torch twin of :mod:`adaptive_core.simulation.shift_world`: the same worlds, differentiable in the moves."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from adaptive_core.simulation.shift_world import HALF_SCREEN_PX, JITTER_PX, FrameNoise, ShiftWorlds


@dataclasses.dataclass(frozen=True, eq=False)
class TorchNoise:
    """What chance does in one frame: (n, 2) standard normals and (n,) uniforms."""

    actuation: torch.Tensor
    jitter: torch.Tensor
    stale: torch.Tensor

    @classmethod
    def draw(cls, count: int, generator: torch.Generator) -> TorchNoise:
        """The noise of one frame of n worlds."""
        return cls(
            torch.randn(count, 2, generator=generator),
            torch.randn(count, 2, generator=generator),
            torch.rand(count, generator=generator),
        )

    @classmethod
    def of(cls, noise: FrameNoise, dtype: torch.dtype) -> TorchNoise:
        """The same noise as the numpy world's."""
        return cls(*(torch.from_numpy(np.asarray(a)).to(dtype) for a in (noise.actuation, noise.jitter, noise.stale)))


class TorchWorldState:
    """The present state of n worlds; see :class:`adaptive_core.simulation.shift_world.ShiftWorldState`."""

    def __init__(self, worlds: ShiftWorlds, dtype: torch.dtype = torch.float32) -> None:
        def tensor(array: object) -> torch.Tensor:
            return torch.from_numpy(np.asarray(array)).to(dtype)

        self.jacobian = tensor(worlds.jacobian)
        self.actuation = tensor(worlds.actuation)[:, None]
        self.creep = tensor(worlds.creep)[:, None]
        self.stale = tensor(worlds.stale)
        self.drift_px = tensor(worlds.drift_px)
        self.centre_px = tensor(worlds.centre_px)[:, None]
        self.true_px = tensor(worlds.start_px)
        self.command = torch.zeros_like(self.true_px)
        self.on_screen = torch.ones(len(self.true_px), dtype=torch.bool)
        self._engaged = self.command
        self._creeping_px = self.command
        gain = (self.jacobian.square().sum((-1, -2)) / 2).sqrt()
        self._play = (tensor(worlds.backlash_px) / gain)[:, None]

    def step(self, move: torch.Tensor, noise: TorchNoise) -> torch.Tensor:
        """Move the control by ``move`` (n, 2) and let one frame pass; returns the positions shown, (n, 2) px."""
        self.command = self.command + move
        engaged = torch.maximum(torch.minimum(self._engaged, self.command + self._play), self.command - self._play)
        actuated = (engaged - self._engaged) * (1 + self.actuation * noise.actuation)
        moved = (self.jacobian @ actuated[..., None])[..., 0] + JITTER_PX * noise.jitter
        before = self.true_px
        self.true_px = before + (1 - self.creep) * moved + self._creeping_px + self.drift_px
        self._engaged = engaged
        self._creeping_px = self.creep * moved
        self.on_screen = self.on_screen & (self.true_px.detach().abs().amax(-1) < HALF_SCREEN_PX)
        return torch.where((noise.stale < self.stale)[:, None], before, self.true_px)
