"""Trains the hybrid policy by back-propagation through the differentiable simulator and exports it to ONNX.

    adaptive-scan train alignment --config hybrid

No reward is designed and no microscope is needed: the loss is the logarithm of the true distance, which the simulator
knows, plus a penalty for the edge of the screen and the cost of an alignment that stops when the policy is sure, less
the likelihood of what was measured and of where the disk really went, so that the policy's doubt is honest. World C is
never trained on.
"""

from __future__ import annotations

import argparse
import collections.abc
import dataclasses
import json
import logging
import math
import pathlib
import typing

import numpy as np
import torch
from torch import nn

from adaptive_core.alignment.policy import LONGEST_MOVE
from adaptive_core.model_card import ModelCard
from adaptive_core.simulation.shift_world import HALF_SCREEN_PX, ShiftWorlds, draw_worlds
from adaptive_core.training.alignment.belief import STATE_SIZE, Answer, BeliefPolicy
from adaptive_core.training.alignment.export import export_policy
from adaptive_core.training.alignment.torch_world import TorchNoise, TorchWorldState
from adaptive_core.training.alignment.trials import MOST_FRAMES, SUCCESS_PX, run_trials, score
from adaptive_core.training.loop import Schedule, cosine, fit
from adaptive_core.training.runs import RunFolder

MODEL_NAME = "alignment_hybrid.onnx"
_VALIDATION_SEED = 10**6
_SOFT_MISS_PX, _SOFT_SEEN_PX, _SOFT_LOG_CHANCE = 0.08, 0.08, 0.5
"""Widths of the soft edges of a miss and of the stop rule, through which gradients pass."""


@dataclasses.dataclass(frozen=True)
class HybridConfig:
    """How the policy is trained.

    Attributes:
        iterations: of the optimiser, at most.
        minutes: of the training, at most.
        worlds: number of worlds an iteration.
        ideal_share: part of them that is of world A; the others are of world B.
        frames: length of an episode.
        learning_rate: of Adam, falling with a cosine.
        floor_px: distances below this are as good as zero.
        miss_px, miss_weight: a distance beyond ``miss_px`` after six frames costs this much a px.
        edge, edge_weight: a position beyond this part of the half screen costs this much a half screen.
        evidence_weight: of the log density of the measurements, and of the true positions after the moves.
        stop_weight: of the cost of an alignment in frames.
        miss_limit, seen: the alignment stops when a miss is at most so probable, and the last frame shows the disk
            within this part of the tolerance.
        miss_frames, square_frames: what a stop beyond the tolerance, and a square px at the stop, cost in frames.
        sigma_error: the disk finder's own estimate of its noise is wrong by this factor (standard deviation of the
            log).
        known_share: part of the worlds whose Jacobian is known up to ``known_error``, as from an earlier alignment.
        average: decay of the running average of the weights.
        validation: number of worlds of each family that scores are taken on during the training.
    """

    iterations: int = 1000
    minutes: float = 60.0
    worlds: int = 128
    ideal_share: float = 0.45
    frames: int = 14
    learning_rate: float = 5e-3
    floor_px: float = 0.3
    miss_px: float = 0.75
    miss_weight: float = 3.0
    edge: float = 0.88
    edge_weight: float = 24.0
    evidence_weight: float = 0.2
    stop_weight: float = 1.0
    miss_limit: float = 0.0015
    seen: float = 0.7
    miss_frames: float = 60.0
    square_frames: float = 10.0
    sigma_error: float = 0.2
    known_share: float = 0.1
    known_error: float = 0.05
    average: float = 0.995
    validation: int = 400
    seed: int = 3


def train(config: HybridConfig, out: pathlib.Path, resume: bool = False) -> pathlib.Path:
    """Train, or go on from the checkpoint in the folder; returns the path of the model there.

    Raises InvalidInputError if the folder holds another run.
    """
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)
    run = RunFolder(out, config)
    checkpoint = run.open(resume)

    def step(policy: BeliefPolicy, iteration: int, _progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        # A training that is resumed sees the same worlds as one that never stopped.
        rng = np.random.default_rng([config.seed, iteration])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        loss = _loss(policy, config, rng, generator)
        return loss, {"loss": loss.item()}

    fitted = fit(
        BeliefPolicy(),
        run,
        checkpoint,
        Schedule(config.minutes, config.iterations, config.average, validate_every_s=60.0),
        lambda iteration, progress: config.learning_rate * min(1.0, (iteration + 1) / 20) * cosine(progress, 0.01),
        step,
        _validation(config),
    )
    training = {
        "config": run.config,
        "seed": config.seed,
        "command": "adaptive-scan train alignment --config hybrid",
        "iterations": fitted.iterations,
        "minutes": round(fitted.minutes, 1),
        "parameters": sum(p.numel() for p in fitted.network.parameters()),
    }
    (out / "config.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
    write_model(fitted.network, training, out / MODEL_NAME)
    return out / MODEL_NAME


def _validation(config: HybridConfig) -> collections.abc.Callable[[BeliefPolicy], dict[str, float]]:
    def validate(policy: BeliefPolicy) -> dict[str, float]:
        figures: dict[str, float] = {}
        for family in ("A", "B"):
            found = score(run_trials(policy, family, config.validation, _VALIDATION_SEED))
            figures |= {f"{name}_{family}": found[name] for name in ("frames_mean", "missed", "rms_px")}
        return figures

    return validate


def _loss(
    policy: BeliefPolicy, config: HybridConfig, rng: np.random.Generator, generator: torch.Generator
) -> torch.Tensor:
    worlds = _mixed_worlds(config, rng)
    count = worlds.count
    state = TorchWorldState(worlds)
    belief = torch.zeros(count, STATE_SIZE)
    limits = torch.tensor([[-1.0, -1.0, 1.0, 1.0]]).repeat(count, 1) * HALF_SCREEN_PX
    known = _known_jacobians(state.jacobian, config, generator)
    tolerance, largest_move = torch.full((count, 1), SUCCESS_PX), torch.full((count, 1), LONGEST_MOVE)
    shown = state.true_px
    loss, going = torch.zeros(count), torch.ones(count)
    for frame in range(config.frames):
        error = shown + state.centre_px * torch.randn(count, 2, generator=generator)
        sigma = state.centre_px * torch.exp(config.sigma_error * torch.randn(count, 1, generator=generator))
        begins = frame == 0
        answer = policy(error, sigma, limits, known, tolerance, largest_move, belief, begins)
        belief = answer.state
        shown = state.step(answer.move, TorchNoise.draw(count, generator))
        distance2 = state.true_px.square().sum(-1).clamp_max(9e6)
        loss = loss + torch.log((distance2 + config.floor_px**2).sqrt() / config.floor_px)
        beyond = torch.relu(state.true_px.abs() / HALF_SCREEN_PX - config.edge).clamp_max(2.0).sum(-1)
        likelihood = answer.log_evidence.clamp_min(-15.0) + _log_density(answer, state.true_px).clamp_min(-15.0)
        loss = loss + config.edge_weight * beyond - config.evidence_weight * likelihood
        stops = going * _stop_chance(answer, error, sigma, config)
        misses = torch.sigmoid(((distance2 + 1e-6).sqrt() - SUCCESS_PX) / _SOFT_MISS_PX)
        loss = loss + config.stop_weight * (
            going + stops * (config.miss_frames * misses + config.square_frames * distance2.clamp_max(4.0))
        )
        going = going - stops
        if frame >= 5:
            miss = torch.relu((distance2 + 1e-6).sqrt() - config.miss_px).clamp_max(2.0)
            loss = loss + config.miss_weight * miss
    # Who has not stopped by now takes all the frames that there are.
    loss = loss + config.stop_weight * (MOST_FRAMES - config.frames) * going
    return torch.where(torch.isfinite(loss), loss, torch.zeros_like(loss)).mean() / config.frames


def _log_density(answer: Answer, true_px: torch.Tensor) -> torch.Tensor:
    """Log density (n,), 1/px^2, of the mixture that the policy expects where the disk went."""
    square = (true_px[:, None] - answer.ahead_px).square().sum(-1)
    each = torch.log(answer.weight + 1e-12) - square / answer.variance_px2 - torch.log(math.pi * answer.variance_px2)
    return torch.logsumexp(each, -1)


def _stop_chance(answer: Answer, error: torch.Tensor, sigma: torch.Tensor, config: HybridConfig) -> torch.Tensor:
    """(n,), the stop rule with soft edges: the frame shows the disk inside, and a miss is improbable."""
    room = config.seen * SUCCESS_PX + sigma[:, 0] - (error.square().sum(-1) + 1e-6).sqrt()
    sure = math.log(config.miss_limit) - torch.log(answer.miss_chance[:, 0] + 1e-6)
    return torch.sigmoid(room / _SOFT_SEEN_PX) * torch.sigmoid(sure / _SOFT_LOG_CHANCE)


def _mixed_worlds(config: HybridConfig, rng: np.random.Generator) -> ShiftWorlds:
    ideal = round(config.ideal_share * config.worlds)
    parts = [draw_worlds("A", ideal, rng), draw_worlds("B", config.worlds - ideal, rng)]
    names = [field.name for field in dataclasses.fields(ShiftWorlds)]
    return ShiftWorlds(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _known_jacobians(jacobian: torch.Tensor, config: HybridConfig, generator: torch.Generator) -> torch.Tensor:
    """(n, 4), zeros where it is not known."""
    size = (jacobian.square().sum((-1, -2), keepdim=True) / 2).sqrt()
    remembered = jacobian + config.known_error * size * torch.randn(jacobian.shape, generator=generator)
    is_known = torch.rand(len(jacobian), 1, generator=generator) < config.known_share
    return torch.where(is_known, remembered.flatten(1), torch.zeros(1))


class ExportedPolicy(nn.Module):
    """The policy with the inputs and outputs of an ``alignment_policy``."""

    def __init__(self, policy: BeliefPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(
        self,
        error_px: torch.Tensor,
        sigma_px: torch.Tensor,
        limits_px: torch.Tensor,
        known_jacobian: torch.Tensor,
        tolerance_px: torch.Tensor,
        largest_move: torch.Tensor,
        state: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """move, estimate_px, miss_chance, jacobian, state_out."""
        answer = self.policy(error_px, sigma_px, limits_px, known_jacobian, tolerance_px, largest_move, state)
        return answer.move, answer.estimate_px, answer.miss_chance, answer.jacobian, answer.state


def write_model(
    policy: BeliefPolicy,
    training: dict[str, typing.Any],
    path: pathlib.Path,
    scores: tuple[dict[str, typing.Any], ...] = (),
) -> None:
    """Export the policy with its card."""
    card = ModelCard(
        kind="alignment_policy",
        name="Hybrid",
        description=(
            "Learns how the shift moves the disk while it centres it: a bank of filters over rotation, mirror, gain, "
            "backlash, creep, drift and stale frames, its weights trained through the simulator. Needs no calibration."
        ),
        observes=("sigma_px", "limits_px", "known_jacobian", "tolerance_px", "largest_move"),
        trained_on="Simulated worlds A and B (adaptive_core.simulation.shift_world); never on C",
        training=training,
        scores=scores,
        licence="GPL-3.0-or-later",
        sources=(
            "Xu, Kumar & LeBeau (2022), https://doi.org/10.1017/S1431927622012193",
            "Haarnoja et al. (2016), Backprop KF, https://arxiv.org/abs/1605.07148",
        ),
    )
    inputs = ["error_px", "sigma_px", "limits_px", "known_jacobian", "tolerance_px", "largest_move", "state"]
    outputs = ["move", "estimate_px", "miss_chance", "jacobian", "state_out"]
    half = HALF_SCREEN_PX
    example = (
        torch.tensor([[100.0, -50.0]]),
        torch.tensor([[0.1]]),
        torch.tensor([[-half, -half, half, half]]),
        torch.zeros(1, 4),
        torch.ones(1, 1),
        torch.full((1, 1), LONGEST_MOVE),
        torch.zeros(1, STATE_SIZE),
    )
    export_policy(ExportedPolicy(policy).eval(), example, inputs, outputs, card, path)


def main(argv: collections.abc.Sequence[str] | None = None) -> pathlib.Path:
    """Command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("training-runs") / "alignment-hybrid")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder")
    for name in ("iterations", "worlds", "validation", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(HybridConfig, name))
    parser.add_argument("--minutes", type=float, default=HybridConfig.minutes)
    arguments = vars(parser.parse_args(argv))
    out, resume = arguments.pop("out"), arguments.pop("resume")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    return train(HybridConfig(**arguments), out, resume)


if __name__ == "__main__":
    main()
