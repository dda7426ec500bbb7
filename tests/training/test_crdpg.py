"""Recurrent deterministic policy gradients: each part against the paper's equations, and every config for a moment."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from tiny_config import SMALL

from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import LoadedModel
from adaptive_core.training import partial_scan
from adaptive_core.training.partial_scan import compare_policies, crdpg_training, evaluate
from adaptive_core.training.partial_scan.crdpg import Crdpg, OutlierLimit, new_generator
from adaptive_core.training.partial_scan.crdpg_config import CrdpgConfig
from adaptive_core.training.partial_scan.paper_configs import SMALL_S1, TABLE_S1, small_name
from adaptive_core.training.partial_scan.paper_generator import PaperGenerator, completion_loss, decayed_rate, sobel
from adaptive_core.training.partial_scan.policy_network import RecurrentPolicy
from adaptive_core.training.partial_scan.replay import Replay
from adaptive_core.training.partial_scan.td3 import Td3, Td3Config


def _learner(algorithm=Crdpg, config_type=CrdpgConfig, **changes):
    torch.manual_seed(0)
    config = config_type(**{**SMALL, **changes})
    return algorithm(config, new_generator(config))


@pytest.mark.parametrize("name", [name for name in crdpg_training.CONFIGS if name not in SMALL_S1])
def test_every_config_trains_and_exports(name, tmp_path, image_folder, tiny_generator):
    config = dataclasses.replace(crdpg_training.CONFIGS[name], images=image_folder, **SMALL)
    if config.generator is not None:
        config = dataclasses.replace(config, generator=str(tiny_generator))
    path = crdpg_training.train(config, tmp_path)
    model = LoadedModel(path.read_bytes(), path)
    assert model.card.training["command"].endswith(f"--config {name} --images DIR")
    assert model.card.training["iterations"] == 2
    if config.network == "spiral":
        assert model.card.kind == "partial_scan_generator"
        return
    actor = {"lstm": "LSTM", "dnc": "DNC"}[config.network]
    assert model.card.name.startswith(actor)
    assert ("remaining" in model.card.observes) == (name == "td3")
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert rows[0] == "iteration,seconds,training,critic,validation,validation_sd"
    assert all(math.isfinite(float(value)) for value in rows[-1].split(","))


@pytest.mark.parametrize("network", ["lstm", "spiral"])
def test_episodes_count_electrons_where_a_dose_is_given(network):
    learner = _learner(network=network, doses=(4.0, 4.0))
    learner.collect(torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 96, 96)).astype(np.float32)), 0, 0.0)
    counts = 4 * (0.1 + 0.45 * (learner.replay.sample(2)["values"] + 1))
    np.testing.assert_allclose(counts, counts.round(), atol=1e-4)
    assert 1 < float(counts.mean()) < 3.4  # 2.2 electrons where the truth is 0
    with pytest.raises(
        InvalidInputError, match=r"doses must be two positive numbers, the lowest first, not \(30\.0, 1\.0\)"
    ):
        CrdpgConfig(doses=(30.0, 1.0))


def test_every_row_of_table_s1_is_a_config_with_its_changes_only():
    assert len(TABLE_S1) == 32
    base = CrdpgConfig()
    for name, row in TABLE_S1.items():
        config = crdpg_training.CONFIGS[name]
        assert partial_scan.CONFIGS[name] == "crdpg_training"
        changed = {f.name for f in dataclasses.fields(base) if getattr(config, f.name) != getattr(base, f.name)}
        assert changed - {"name"} <= set(row.changes)
        assert all(getattr(config, key) == value for key, value in row.changes.items())


def test_small_rows_keep_what_the_row_varies():
    base = crdpg_training.CONFIGS["small-s1-lstm"]
    assert {small_name(row) for row in TABLE_S1.values()} == set(SMALL_S1)
    assert small_name(TABLE_S1["table-s1-live-actions"]) == "small-s1-lstm"
    for row in TABLE_S1.values():
        config = crdpg_training.CONFIGS[small_name(row)]
        changed = {f.name for f in dataclasses.fields(base) if getattr(config, f.name) != getattr(base, f.name)}
        assert changed - {"name"} == set(row.changes)
        if "replay" in row.changes:
            assert config.replay / base.replay == row.changes["replay"] / CrdpgConfig.replay


def test_a_generator_that_predicts_no_error_has_a_sheet(tmp_path):
    crdpg_training.train(
        dataclasses.replace(crdpg_training.CONFIGS["table-s1-spiral"], **{**SMALL, "examples": 1}), tmp_path
    )
    assert (tmp_path / "examples.png").stat().st_size > 1000


def test_training_resumes_and_refuses_another_config(tmp_path, tiny_generator):
    config = dataclasses.replace(crdpg_training.CONFIGS["crdpg-lstm"], **{**SMALL, "generator": str(tiny_generator)})
    crdpg_training.train(config, tmp_path)
    before = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["learner"]
    with pytest.raises(InvalidInputError, match="holds a training run already"):
        crdpg_training.train(config, tmp_path)
    other = dataclasses.replace(config, discount=0.9)
    with pytest.raises(InvalidInputError, match=r"has discount = 0\.97, not 0\.9"):
        crdpg_training.train(other, tmp_path, resume=True)
    crdpg_training.train(dataclasses.replace(config, iterations=3), tmp_path, resume=True)
    after = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert after["iteration"] == 3
    assert after["learner"]["replay"]["added"] >= before["replay"]["added"]
    moved = {name: (after["learner"]["target"][name] - value).abs().max() for name, value in before["target"].items()}
    # One step of a target that moves by a hundredth of what its live network did.
    assert 0 < max(moved.values()) < 1e-3


def test_a_checkpoint_restores_the_learner():
    first = _learner()
    truths = torch.rand(2, 96, 96) * 2 - 1
    first.collect(truths, 0, 0.0)
    first.update(0, 0.0)
    second = _learner(seed=5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for learner in (first, second):
        torch.manual_seed(1)
        learner.update(1, 0.1)
    for name, value in first.live.state_dict().items():
        torch.testing.assert_close(second.live.state_dict()[name], value)
    torch.testing.assert_close(
        second.generator.state_dict()["layers.0.0.weight"], first.generator.state_dict()["layers.0.0.weight"]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "gru"}, "network must be one of lstm, dnc, spiral, not 'gru'"),
        ({"generator_loss": "l1"}, "generator_loss must be one of"),
        ({"warm_up": 9}, "between 1 and the replay's 4, not 9"),
        ({"generator_rate": 0.0}, "must not be frozen"),
        ({"normalisation": "spiral"}, "need a frozen generator"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        CrdpgConfig(**{**SMALL, **changes})


def test_whole_fields_need_images(tmp_path):
    with pytest.raises(InvalidInputError, match="Whole fields need a folder of images"):
        crdpg_training.train(CrdpgConfig(field="full", **SMALL), tmp_path)


def test_whole_fields_show_the_shorter_side():
    image = np.arange(200 * 300, dtype=np.float32).reshape(200, 300)
    small = crdpg_training.scaled_down(image, 96)
    assert small.shape == (96, 144)
    assert small.mean() == pytest.approx(image.mean(), rel=1e-3)


@pytest.mark.parametrize("supervision", ["full", "start", "none"])
def test_targets_of_the_critic_are_the_papers(supervision):
    learner = _learner(supervision=supervision, discount=0.5, edge_penalty=0.1)
    learner.typical = 2.0
    losses, ahead = torch.tensor([4.0]), torch.tensor([[7.0, 3.0, 5.0]])
    over_edge = torch.tensor([[0.0, 1.0, 0.0]])
    reinforced = np.array([0 + 0.5 * 3, 0.1 + 0.5 * 5, 2.0])
    supervised = np.array([0.05 + 0.25 * 2, 0.1 + 0.5 * 2, 2.0])
    alpha = {"full": 1.0, "start": 0.5, "none": 0.0}[supervision]
    found = learner._aims({"over_edge": over_edge}, losses, ahead, progress=0.05)
    np.testing.assert_allclose(found[0], alpha * supervised + (1 - alpha) * reinforced, rtol=1e-6)
    assert over_edge[0, 2] == 0  # the replayed episode is as it was


def test_targets_follow_softly():
    learner = _learner(target_decay=0.9)
    before = [p.clone() for p in learner.target.parameters()]
    with torch.no_grad():
        for live in learner.live.parameters():
            live.add_(1.0)
    learner._follow()
    for target, old in zip(learner.target.parameters(), before, strict=True):
        torch.testing.assert_close(target, old + 0.1)


def test_a_replayed_action_gives_the_slope_there():
    """With live actions equal to the replayed ones both ways to descend agree."""
    slopes = []
    for actions in ("live", "replayed"):
        learner = _learner(actions=actions)
        torch.manual_seed(3)
        observation, chosen = torch.randn(2, 3, 40), torch.randn(2, 3, 2, requires_grad=True)
        states = torch.zeros(2, 3, learner.live["critic0"].state_size)
        loss = learner.actor_loss(0, observation, chosen, chosen.detach(), states)
        slopes.append(torch.autograd.grad(loss, chosen)[0])
    assert slopes[0].abs().max() > 0
    torch.testing.assert_close(*slopes)


class _GoingUp:
    """Losses that grow with the mean height of the path, whatever the image shows."""

    def _completion_losses(self, _values, positions, _truths):
        return positions[..., 0].mean(dim=1) / 96


class _CrdpgUp(_GoingUp, Crdpg):
    pass


class _Td3Up(_GoingUp, Td3):
    pass


@pytest.mark.parametrize(
    ("algorithm", "config_type"), [(_CrdpgUp, CrdpgConfig), (_Td3Up, Td3Config)], ids=["crdpg", "td3"]
)
def test_actor_learns_what_the_loss_asks_for(algorithm, config_type, tiny_generator):
    learner = _learner(
        algorithm,
        config_type,
        generator=str(tiny_generator),
        generator_rate=0.0,
        normalisation="mean",
        hidden=16,
        segments=4,
        batch=16,
        replay=200,
        target_decay=0.9,
        edge_penalty=0.0,
        actor_rate=5e-3,
        critic_rate=5e-3,
        supervision="full",
        noise_rad=0.5,
        **({"imitated": 0} if algorithm is _Td3Up else {}),
    )
    truths = torch.zeros(16, 96, 96)

    def height():
        with torch.no_grad():
            return float(learner.walk(truths, 0.0).positions[..., 0].mean())

    before = height()
    for iteration in range(100):
        if iteration % 2 == 0:
            learner.collect(truths, iteration, 0.0)
        learner.update(iteration, 0.0)
    assert height() < before - 8


def test_td3_takes_the_worse_prediction():
    learner = _learner(Td3, Td3Config, normalisation="mean", smoothing_rad=0.0)
    observation, actions = torch.randn(2, 3, 41), torch.randn(2, 3, 2)
    states = [torch.zeros(2, 3, critic.state_size) for critic in learner._critics(learner.target)]
    ahead = learner.values_ahead(observation, actions, states)
    single = [Crdpg.values_ahead(learner, observation, actions, states)]
    learner.target["critic0"], learner.target["critic1"] = learner.target["critic1"], learner.target["critic0"]
    single.append(Crdpg.values_ahead(learner, observation, actions, states))
    torch.testing.assert_close(ahead, torch.maximum(*single))
    assert (ahead > single[0]).any()
    assert (ahead > single[1]).any()


def test_outliers_count_as_three_deviations():
    limit = OutlierLimit(decay=0.9)
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):
        limit(torch.randn(1000, generator=rng) + 10)
    losses = torch.cat([torch.randn(999, generator=rng) + 10, torch.tensor([100.0])]).requires_grad_()
    limited = limit(losses)
    (slope,) = torch.autograd.grad(limited.sum(), losses)
    # The outlier itself raises the deviations a little.
    assert 13 < float(limited[-1].detach()) < 14.5
    assert float(slope[-1]) == pytest.approx(float(limited[-1].detach()) / 100, rel=1e-5)
    assert (slope[:-1] == 1).float().mean() > 0.99


def test_replay_keeps_the_newest_and_can_be_stored():
    replay = Replay(5)
    for start in (0, 3, 6):
        replay.add({"number": torch.arange(start, start + 3), "square": torch.arange(start, start + 3) ** 2})
    seen = replay.sample(400)
    assert set(seen["number"].tolist()) == {4, 5, 6, 7, 8}
    assert (seen["square"] == seen["number"] ** 2).all()
    again = Replay(5)
    again.load_state_dict(replay.state_dict())
    again.add({"number": torch.tensor([9]), "square": torch.tensor([81])})
    assert set(again.sample(400)["number"].tolist()) == {5, 6, 7, 8, 9}


def test_rate_of_the_generator_is_cyclic_and_decays():
    progress = np.linspace(0, 1, 9 * 20 + 1)
    plain = np.array([decayed_rate(p, cyclic=False) for p in progress])
    cyclic = np.array([decayed_rate(p, cyclic=True) for p in progress])
    assert plain[0] == cyclic[0] == 1
    assert plain[-1] == pytest.approx(0.75**5)
    np.testing.assert_allclose((cyclic / plain)[::20], 1.0, atol=1e-6)
    np.testing.assert_allclose((cyclic / plain)[10::20], 0.2, atol=1e-6)


def test_losses_of_the_generator():
    rng = np.random.default_rng(0)
    truth = rng.uniform(-1, 1, (2, 12, 14)).astype(np.float32)
    image = truth + rng.normal(0, 0.2, truth.shape).astype(np.float32)
    error = image - truth
    squared, pair = error**2, (torch.from_numpy(image), torch.from_numpy(truth))
    np.testing.assert_allclose(completion_loss(*pair), squared.mean(axis=(1, 2)), rtol=1e-5)
    regions = [scipy.ndimage.uniform_filter(s, 5)[2:-2, 2:-2].max() for s in squared]
    np.testing.assert_allclose(completion_loss(*pair, "maximum-region"), regions, rtol=1e-4)
    slopes = [sum((scipy.ndimage.sobel(e, axis, mode="mirror") ** 2).mean() for axis in (0, 1)) for e in error]
    np.testing.assert_allclose(completion_loss(*pair, "sobel"), squared.mean(axis=(1, 2)) + slopes, rtol=1e-4)
    assert sobel(pair[0]).shape == (2, 2, 12, 14)
    assert completion_loss(pair[0] + 50, pair[1]).tolist() == [4.0, 4.0]


def test_papers_generator_has_its_size():
    network = PaperGenerator()
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert len(convolutions) == 3 + 5 * 3 + 2 + 2
    with torch.no_grad():
        assert network(torch.zeros(1, 2, 96, 96))[0].shape == (1, 1, 96, 96)


def test_scans_turn_with_their_images():
    from adaptive_core.training.partial_scan.crdpg import _turned
    from adaptive_core.training.partial_scan.scans import sample_nearest

    truths, positions = torch.rand(2, 96, 96), torch.rand(2, 50, 2) * 110 - 7
    values = sample_nearest(truths, positions)
    for seed in range(12):
        torch.manual_seed(seed)
        turned, moved = _turned(truths, positions, 96)
        torch.testing.assert_close(sample_nearest(turned, moved), values)


def test_comparison_of_trainings(tmp_path, image_folder, tiny_generator, capsys):
    runs = [tmp_path / name for name in ("crdpg-lstm", "td3")]
    for run in runs:
        config = dataclasses.replace(crdpg_training.CONFIGS[run.name], **{**SMALL, "generator": str(tiny_generator)})
        crdpg_training.train(config, run)
    arguments = ["--images", str(image_folder), "--generator", str(tiny_generator), "--crops", "2", "--runs"]
    compare_policies.main([*arguments, *map(str, runs), "--cards", "--picture", str(tmp_path / "curves.png")])
    result = json.loads(capsys.readouterr().out)
    assert set(result["static"]) == set(evaluate.STATIC_PATHS)
    for figures in result["policies"].values():
        assert figures["ratio_to_spiral"] == pytest.approx(figures["mse_mean"] / result["static"]["spiral"])
        assert figures["policy_of_another"] > 0
        assert figures["decision_ms"] > 0
    (score,) = compare_policies.policy_of(runs[0]).model.card.scores
    assert score["value"] == pytest.approx(result["policies"]["crdpg-lstm"]["mse_mean"], abs=1e-5)
    assert set(score["baselines"]) == {*evaluate.STATIC_PATHS, "policy_of_another"}
    assert (tmp_path / "curves.png").stat().st_size > 1000
    with pytest.raises(InvalidInputError, match="must hold one policy"):
        compare_policies.policy_of(tmp_path)


def test_td3_begins_by_imitation(tiny_generator):
    changes = {"hidden": 32, "segments": 8, "batch": 16, "replay": 64, "target_decay": 0.8, "actor_every": 1}
    changes |= {"generator": str(tiny_generator), "generator_rate": 0.0, "actor_rate": 5e-3}
    learner = _learner(Td3, Td3Config, **changes)
    truths = torch.rand(16, 96, 96) * 2 - 1
    for iteration in range(60):
        if iteration % 4 == 0:
            learner.collect(truths, iteration, 0.0)
        learner.update(iteration, 0.0)
    assert isinstance(learner.explorer(299), RecurrentPolicy)
    assert learner.explorer(300) is learner.live["actor"]
    with torch.no_grad():
        walk = learner.walk(truths, 0.0)
        taught = learner.walk(truths, 0.0, RecurrentPolicy())
    # The second direction, the first that is chosen, is the teacher's on any image.
    assert float((walk.directions[:, 1] * taught.directions[:, 1]).sum(dim=1).mean()) > 0.9
