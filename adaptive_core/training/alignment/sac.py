"""Soft actor-critic on the environment of Xu et al. (2022), by stable-baselines3, and its export to ONNX.

    adaptive-scan train alignment --config paper

The experiments of the paper are the names in :data:`CONFIGS`. ``relearn`` goes on with the paper's agent after the
response has become 25 % smaller. For learning on an instrument, call :func:`train` with ``stage=PortStage(camera,
shift, ...)``.
"""

from __future__ import annotations

import argparse
import collections.abc
import dataclasses
import json
import pathlib
import time
import typing

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback

from adaptive_core.alignment.policy import NOMINAL_GAIN_PX, SCREEN_PX
from adaptive_core.model_card import ModelCard
from adaptive_core.training.alignment.export import export_policy
from adaptive_core.training.alignment.paper_env import DiskStage, PaperConfig, PaperEnv, SimulatedStage

MODEL_NAME = "alignment_sac.onnx"


@dataclasses.dataclass(frozen=True)
class SacConfig:
    """One learning period.

    Attributes:
        environment: the task.
        layers: sizes of the hidden layers of actor and critics; tanh.
        steps: length of the learning period.
        relearn_scale: the agent learns for another ``relearn_steps`` with the response times this; None for no second
            period.
    """

    environment: PaperConfig = dataclasses.field(default_factory=PaperConfig)
    layers: tuple[int, ...] = (128, 128)
    steps: int = 20_000
    seed: int = 0
    relearn_scale: float | None = None
    relearn_steps: int = 5_000


CONFIGS: typing.Mapping[str, SacConfig] = {
    "paper": SacConfig(),
    **{f"reward-{name}": SacConfig(PaperConfig(reward=name)) for name in ("non-informative", "sparse")},
    **{f"tolerance-{value}": SacConfig(PaperConfig(tolerance=value)) for value in (0, 1, 2, 5)},
    **{f"binning-{value}": SacConfig(PaperConfig(binning=value)) for value in (1, 2)},
    "binning-1-tolerance-0": SacConfig(PaperConfig(binning=1, tolerance=0)),
    **{f"layers-{size}": SacConfig(layers=(size, size)) for size in (16, 32, 64, 256)},
    "relearn": SacConfig(relearn_scale=0.75),
    "instrument": SacConfig(PaperConfig(start_range=0.5), steps=6_000),
    "smoke": SacConfig(steps=300),
}
"""The paper's experiments by name; "instrument" has its limited range of starts."""


class EpisodeLog(BaseCallback):
    """Keeps a record of each episode: the step at which it ended, its length, its reward and whether the goal was
    reached."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[dict[str, typing.Any]] = []
        self._length = 0
        self._reward = 0.0

    def _on_step(self) -> bool:
        self._length += 1
        self._reward += float(self.locals["rewards"][0])
        if self.locals["dones"][0]:
            info = self.locals["infos"][0]
            self.episodes.append(
                {
                    "step": float(self.num_timesteps),
                    "length": float(self._length),
                    "reward": self._reward,
                    "success": float(info.get("success", False)),
                    "error_px": info.get("error_px"),
                }
            )
            self._length, self._reward = 0, 0.0
        return True


def train(
    config: SacConfig, stage: DiskStage | None = None
) -> tuple[stable_baselines3.SAC, list[dict[str, typing.Any]]]:
    """Learn; returns the agent and one log a learning period (:func:`summarise`)."""
    torch.set_num_threads(1)
    environment: gymnasium.Env[typing.Any, typing.Any] = PaperEnv(config.environment, stage)
    agent = stable_baselines3.SAC(
        "MlpPolicy",
        environment,
        gamma=0.99,
        policy_kwargs={"net_arch": list(config.layers), "activation_fn": torch.nn.Tanh},
        seed=config.seed,
        device="cpu",
    )
    logs = [_learn(agent, config.steps)]
    if config.relearn_scale is not None:
        changed = dataclasses.replace(config.environment, step_scale=config.relearn_scale)
        agent.set_env(PaperEnv(changed, stage))
        logs.append(_learn(agent, config.relearn_steps))
    return agent, logs


def _learn(agent: stable_baselines3.SAC, steps: int) -> dict[str, typing.Any]:
    log = EpisodeLog()
    began, cpu = time.monotonic(), time.process_time()
    agent.learn(steps, callback=log, reset_num_timesteps=True)
    return summarise(log.episodes, steps) | {
        "minutes": round((time.monotonic() - began) / 60, 2),
        "cpu_minutes": round((time.process_time() - cpu) / 60, 2),
        "episodes": log.episodes,
    }


def summarise(episodes: list[dict[str, typing.Any]], steps: int) -> dict[str, typing.Any]:
    """The paper's figures of a learning period.

    ``converged_step``: first step from which on every 1000 steps end 90 % of their episodes at the goal, or None.
    ``final_length``: mean and standard deviation of the successful episodes' steps in the last quarter.
    """
    ends = np.array([episode["step"] for episode in episodes])
    success = np.array([episode["success"] for episode in episodes])
    lengths = np.array([episode["length"] for episode in episodes])
    windows = []
    for start in range(0, steps, 1000):
        inside = (ends > start) & (ends <= start + 1000)
        windows.append(float(success[inside].mean()) if inside.any() else 0.0)
    good = [i for i in range(len(windows)) if min(windows[i:]) >= 0.9]
    last = (ends > 0.75 * steps) & (success > 0)
    # An instrument does not tell where the disk truly is.
    errors = [e["error_px"] for e, used in zip(episodes, last, strict=True) if used and e["error_px"] is not None]
    return {
        "steps": steps,
        "success_by_1000_steps": [round(value, 3) for value in windows],
        "converged_step": 1000 * good[0] if good else None,
        "final_length": [round(float(lengths[last].mean()), 2), round(float(lengths[last].std()), 2)]
        if last.any()
        else None,
        "final_success": round(float(success[ends > 0.75 * steps].mean()), 4) if (ends > 0.75 * steps).any() else 0.0,
        "final_rms_px": round(float(np.sqrt(np.mean(np.square(errors)))), 2) if errors else None,
    }


class ExportedActor(torch.nn.Module):
    """The agent's deterministic action behind the signature of an ``alignment_policy``.

    It sees the disk as the paper's agent does, in whole binned px from its goal; its move is scaled to policy units.
    """

    def __init__(self, agent: stable_baselines3.SAC, config: PaperConfig) -> None:
        super().__init__()
        self.latent = agent.actor.latent_pi
        self.mean = agent.actor.mu
        self.observation_px = config.scale * SCREEN_PX / config.screen_px
        self.step_size = config.step_size
        self.action = config.action_px * SCREEN_PX / config.screen_px / NOMINAL_GAIN_PX

    def forward(self, error_px: torch.Tensor) -> torch.Tensor:
        """Move (1, 2) for an error (1, 2), both ``(y, x)``."""
        binned = torch.round(error_px / self.observation_px)
        y, x = binned[:, :1], binned[:, 1:]
        zero = [(value.abs() < 0.5).to(error_px.dtype) for value in (x, y)]
        seen = torch.cat([torch.ones_like(x) * self.step_size, x, y, *zero], -1)
        action = torch.tanh(self.mean(self.latent(seen)))
        return torch.cat([action[:, 1:], action[:, :1]], -1) * self.action


def evaluate(
    agent: stable_baselines3.SAC, config: PaperConfig, episodes: int = 200, seed: int = 1
) -> dict[str, typing.Any]:
    """Deterministic episodes in the agent's own environment."""
    environment = PaperEnv(config, SimulatedStage(config))
    lengths, successes, errors = [], [], []
    for episode in range(episodes):
        observation, _ = environment.reset(seed=seed if episode == 0 else None)
        done, steps = False, 0
        info: dict[str, typing.Any] = {}
        while not done:
            action, _ = agent.predict(observation, deterministic=True)
            observation, _, done, _, info = environment.step(action)
            steps += 1
        successes.append(bool(info["success"]))
        if info["success"]:
            lengths.append(steps)
            errors.append(info["error_px"])
    return {
        "success": float(np.mean(successes)),
        "steps_mean": round(float(np.mean(lengths)), 2) if lengths else None,
        "steps_sd": round(float(np.std(lengths)), 2) if lengths else None,
        "rms_px": round(float(np.sqrt(np.mean(np.square(errors)))), 2) if errors else None,
    }


def run(config: SacConfig, out: pathlib.Path) -> pathlib.Path:
    """Learn as a config says; writes its figures into the folder and returns the path of the agent's model there, or
    the folder where the agent has learnt again, which is not exported."""
    agent, logs = train(config)
    scores = evaluate(agent, config.environment)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n", encoding="utf-8")
    (out / "log.json").write_text(json.dumps({"periods": logs, "evaluation": scores}) + "\n", encoding="utf-8")
    _plot(logs, out / "curve.png")
    if config.relearn_scale is not None:
        return out
    write_model(agent, config, logs[0], scores, out / MODEL_NAME)
    return out / MODEL_NAME


def main(argv: collections.abc.Sequence[str] | None = None) -> pathlib.Path:
    """Command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="paper", choices=sorted(CONFIGS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("training-runs") / "alignment-sac")
    options = parser.parse_args(argv)
    return run(dataclasses.replace(CONFIGS[options.config], seed=options.seed), options.out)


def write_model(
    agent: stable_baselines3.SAC,
    config: SacConfig,
    log: dict[str, typing.Any],
    scores: dict[str, typing.Any],
    path: pathlib.Path,
) -> None:
    """Export the agent with its card."""
    card = ModelCard(
        kind="alignment_policy",
        name="SAC agent (Xu et al. 2022)",
        description=(
            "The paper's agent, re-created. It knows one rotation and gain of the shift only; other instruments need "
            "about 20 minutes of learning. Its tolerance is about 12 px of a 1024 px screen."
        ),
        trained_on="The paper's linear simulation: rotation 30 degrees, no mirror, fixed gain",
        training={
            "algorithm": "soft actor-critic, stable-baselines3",
            "command": "adaptive-scan train alignment --config paper",
            "seed": config.seed,
            "steps": config.steps,
            "cpu_minutes": log["cpu_minutes"],
            "converged_step": log["converged_step"],
        },
        scores=(
            {"dataset": "the paper's environment", "metric": "success", "value": scores["success"]},
            {
                "dataset": "the paper's environment",
                "metric": "steps an episode",
                "value": scores["steps_mean"],
                "baselines": {"paper": 21.4},
            },
        ),
        licence="GPL-3.0-or-later",
        sources=("Xu, Kumar & LeBeau (2022), https://doi.org/10.1017/S1431927622012193",),
    )
    module = ExportedActor(agent, config.environment).eval()
    export_policy(module, (torch.zeros(1, 2),), ["error_px"], ["move"], card, path)


def _plot(logs: list[dict[str, typing.Any]], path: pathlib.Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2 * len(logs)), layout="constrained")
    axes = np.atleast_2d(figure.subplots(len(logs), 2))
    for row, log in zip(axes, logs, strict=True):
        steps = [episode["step"] for episode in log["episodes"]]
        for axis, name in zip(row, ("length", "reward"), strict=True):
            values = np.array([episode[name] for episode in log["episodes"]])
            smooth = values.copy()
            for i in range(1, len(values)):
                smooth[i] = smooth[i - 1] + 2 / 26 * (values[i] - smooth[i - 1])
            axis.plot(steps, values, ".", color="0.8", markersize=2)
            axis.plot(steps, smooth)
            axis.set(xlabel="step", ylabel={"length": "steps an episode", "reward": "reward of an episode"}[name])
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
