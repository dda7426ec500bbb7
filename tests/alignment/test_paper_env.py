"""The paper's environment and agent."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("stable_baselines3")

from gymnasium.utils.env_checker import check_env
from instruments import LinearInstrument

from adaptive_core.errors import InvalidInputError
from adaptive_core.training.alignment import paper_experiments, sac
from adaptive_core.training.alignment.paper_env import REWARDS, PaperConfig, PaperEnv, PortStage, SimulatedStage


@pytest.mark.parametrize(
    "config",
    [PaperConfig(), *(PaperConfig(reward=r) for r in REWARDS), *(PaperConfig(binning=b) for b in (1, 2))],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasium_accepts_the_environment(config: PaperConfig) -> None:
    check_env(PaperEnv(config), skip_render_check=True)


def place(environment: PaperEnv, y: float, x: float) -> None:
    """Start an episode with the disk at this place, observation px from the goal."""
    environment.reset(seed=0)
    config = environment.config
    environment.stage.disk_px = (np.array([y, x]) + config.goal) * config.scale
    environment._distance = float(np.hypot(y, x))


def towards(environment: PaperEnv, y: float, x: float) -> np.ndarray:
    """The action that moves the disk by (y, x) observation px."""
    config = environment.config
    move = np.linalg.solve(environment.stage._matrix, np.array([y, x]) * config.scale) / config.action_px
    return move[::-1].astype(np.float32)


QUIET = {"actuation_noise": 0.0}


@pytest.mark.parametrize(
    ("reward", "nearer", "further"),
    [("informative", 1 - 45 / 128, -1 - 55 / 128), ("non-informative", 1.0, -1.0), ("sparse", 0.0, 0.0)],
)
def test_rewards_of_a_step(reward: str, nearer: float, further: float) -> None:
    environment = PaperEnv(PaperConfig(reward=reward, **QUIET))
    for move, expected in ((-5, nearer), (5, further)):
        place(environment, 50, 0)
        _, value, terminated, _, _ = environment.step(towards(environment, move, 0))
        assert value == pytest.approx(expected)
        assert not terminated


def test_goal_edge_and_step_limit_end_the_episode() -> None:
    environment = PaperEnv(PaperConfig(step_limit=3, **QUIET))
    place(environment, 6, 0)
    observation, value, terminated, _, info = environment.step(towards(environment, -4, 0))
    assert (value, terminated, info["success"]) == (100.0, True, True)
    np.testing.assert_array_equal(observation, [100, 0, 2, 1, 0])
    place(environment, 110, 0)
    _, value, terminated, _, info = environment.step(towards(environment, 9, 0))
    assert (value, terminated, info["success"], info["lost"]) == (-100.0, True, False, True)
    place(environment, 60, 0)
    results = [environment.step(np.zeros(2, np.float32)) for _ in range(3)]
    assert [result[2] for result in results] == [False, False, True]
    assert results[-1][1] == -100.0


@pytest.mark.parametrize("changes", [{"binning": 3}, {"reward": "none"}, {"step_limit": 0}, {"start_range": 2.0}])
def test_nonsense_is_refused(changes) -> None:
    with pytest.raises(InvalidInputError):
        PaperConfig(**changes)


def test_the_response_shrinks_with_the_camera_length() -> None:
    full, less = (SimulatedStage(PaperConfig(step_scale=s, **QUIET)) for s in (1.0, 0.75))
    for stage in (full, less):
        stage.reset(np.zeros(2), np.random.default_rng(0))
        stage.move(np.array([10.0, 0.0]))
    np.testing.assert_allclose(less.disk_px, 0.75 * full.disk_px)


def test_it_runs_on_a_camera_and_a_shift_and_puts_the_shift_back() -> None:
    instrument = LinearInstrument()
    stage = PortStage(instrument, instrument, 0.0025, 1040.0, largest_move=1.5, radius_px=20.0)
    environment = PaperEnv(PaperConfig(start_range=0.4), stage)
    environment.reset(seed=1)
    for _ in range(5):
        observation, _, terminated, _, _ = environment.step(environment.action_space.sample())
        assert observation in environment.observation_space
        if terminated:
            environment.reset()
    moved = np.array(instrument.history) - instrument.home
    assert np.abs(moved).max() <= 1.5 + 1e-9
    stage.close()
    assert instrument.is_home


def test_the_experiments_of_the_paper_have_names() -> None:
    for name in ("paper", "reward-sparse", "tolerance-0", "binning-1", "layers-16", "relearn", "instrument"):
        assert name in sac.CONFIGS
    assert sac.CONFIGS["relearn"].relearn_scale == 0.75


def test_the_experiments_become_a_table_and_a_picture(tmp_path) -> None:
    words = ["--only", "paper", "relearn", "--steps", "150", "--out", str(tmp_path)]
    lines = paper_experiments.main(words).read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["experiment", "paper", "relearn", "relearn again"]
    assert (tmp_path / "experiments.png").stat().st_size > 1000
    (tmp_path / "paper.json").write_text((tmp_path / "relearn.json").read_text())
    assert paper_experiments.main(words).read_text().count("again") == 2  # nothing is learned twice
    assert paper_experiments.run("paper", 60, tmp_path)[0]["steps"] == 60  # but of another length


def test_a_smoke_training_writes_a_log_and_a_model_that_acts_like_the_agent(tmp_path) -> None:
    from adaptive_core.alignment.policy import OnnxAlignmentPolicy, Sight
    from adaptive_core.model_library import LoadedModel

    path = sac.run(sac.CONFIGS["smoke"], tmp_path)
    assert path == tmp_path / "alignment_sac.onnx"
    log = json.loads((tmp_path / "log.json").read_text())
    assert log["periods"][0]["steps"] == 300
    assert (tmp_path / "curve.png").stat().st_size > 1000
    agent, _ = sac.train(sac.CONFIGS["smoke"])
    config = PaperConfig()
    sac.write_model(agent, sac.CONFIGS["smoke"], log["periods"][0], log["evaluation"], path)
    run = OnnxAlignmentPolicy(LoadedModel(path.read_bytes(), path)).start()
    error = np.array([80.0, -40.0])
    move = run.decide(Sight(error, 0.1, np.array([-512.0, -512.0, 512.0, 512.0]))).move
    dy, dx = np.round(error * 1040 / 1024 / config.scale)
    action, _ = agent.predict(np.array([100, dx, dy, 0, 0], np.float32), deterministic=True)
    np.testing.assert_allclose(move, action[::-1] * config.action_px * 1024 / 1040 / 512, atol=1e-5)


def test_convergence_is_the_step_from_which_on_it_succeeds() -> None:
    episodes = [
        {"step": 100.0 * i, "length": 100.0, "reward": 0.0, "success": float(i > 25), "error_px": 5.0}
        for i in range(1, 81)
    ]
    figures = sac.summarise(episodes, 8000)
    assert figures["converged_step"] == 3000
    assert figures["final_length"] == [100.0, 0.0]
    assert figures["final_rms_px"] == 5.0
