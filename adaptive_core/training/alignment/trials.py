"""Many alignments of a policy at once, without camera images: its scores while it learns, and what a stop rule does."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from adaptive_core.alignment.policy import LONGEST_MOVE, SEEN, miss_limit
from adaptive_core.simulation.shift_world import HALF_SCREEN_PX, draw_worlds
from adaptive_core.training.alignment.belief import STATE_SIZE, BeliefPolicy
from adaptive_core.training.alignment.torch_world import TorchNoise, TorchWorldState

MOST_FRAMES = 20
SUCCESS_PX = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Trials:
    """What happened in n alignments that nobody stopped; (frames, n), px.

    Attributes:
        seen: distance that the frame shows.
        sigma: its uncertainty, each axis.
        miss: bound on the chance that the move that the policy makes then leaves the disk outside of the tolerance.
        distance: true distance after that move.
        on_screen: whether the disk has never left the screen by then.
    """

    seen: Tensor
    sigma: Tensor
    miss: Tensor
    distance: Tensor
    on_screen: Tensor


@torch.no_grad()
def run_trials(policy: BeliefPolicy, family: str, count: int, seed: int) -> Trials:
    """Alignments in worlds of the family; they depend on nothing but policy and seed."""
    worlds = draw_worlds(family, count, np.random.default_rng(seed))
    generator = torch.Generator().manual_seed(seed)
    state, belief = TorchWorldState(worlds), torch.zeros(count, STATE_SIZE)
    limits = torch.tensor([[-1.0, -1.0, 1.0, 1.0]]).repeat(count, 1) * HALF_SCREEN_PX
    tolerance, largest_move = torch.full((count, 1), SUCCESS_PX), torch.full((count, 1), LONGEST_MOVE)
    shown, rows = state.true_px, []
    not_known = torch.zeros(count, 4)
    for frame in range(MOST_FRAMES):
        error = shown + state.centre_px * torch.randn(count, 2, generator=generator)
        begins = frame == 0
        answer = policy(error, state.centre_px, limits, not_known, tolerance, largest_move, belief, begins)
        belief = answer.state
        shown = state.step(answer.move, TorchNoise.draw(count, generator))
        distance = state.true_px.norm(dim=-1)
        rows.append((error.norm(dim=-1), state.centre_px[:, 0], answer.miss_chance[:, 0], distance, state.on_screen))
    return Trials(*(torch.stack(column) for column in zip(*rows, strict=True)))


def score(trials: Trials) -> dict[str, float]:
    """What the benchmark (:mod:`adaptive_core.alignment.benchmark`) would say with the policies' stop rule:
    ``frames_mean``, ``frames_p95``, ``missed``, a fraction, and ``rms_px``."""
    limits = torch.tensor([miss_limit(frame + 1) for frame in range(MOST_FRAMES)])[:, None]
    stops = (trials.seen < SEEN * SUCCESS_PX + trials.sigma) & (trials.miss < limits)
    stopped, first = stops.any(0), stops.to(torch.int64).argmax(0)
    each = torch.arange(stops.shape[1])
    distance = trials.distance[first, each]
    success = stopped & (distance < SUCCESS_PX) & trials.on_screen[first, each]
    frames = torch.where(success, first + 1, MOST_FRAMES).double()
    return {
        "frames_mean": float(frames.mean()),
        "frames_p95": float(torch.quantile(frames, 0.95, interpolation="higher")),
        "missed": float(1 - success.double().mean()),
        "rms_px": float(distance[stopped].square().mean().sqrt()),
    }
