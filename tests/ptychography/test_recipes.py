"""What can be trained by name, and the reward by the quality of the final image."""

import csv
import dataclasses

import numpy as np
import pytest
import torch

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import positions, protocols
from adaptive_core.ptychography.experiments import experiment
from adaptive_core.training import ptychography
from adaptive_core.training.ptychography import datasets, networks, recipes, reinforce, world

MOS2 = experiment("mos2")
TINY = networks.NetworkSize(32, (4, 4), 16)


@pytest.fixture
def _quick_images(monkeypatch):
    monkeypatch.setitem(networks.SIZES, "tiny", TINY)
    monkeypatch.setattr(protocols, "TUNED", {("mos2", 0.1): protocols.Tuned(120.0, 125, 2)})


def test_names_need_no_pytorch():
    assert set(ptychography.CONFIGS) == set(recipes.RECIPES)


@pytest.mark.parametrize("name", ["paper", "autoencoder-paper"])
def test_a_training_for_a_gpu_is_refused_without_one(name, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidInputError, match=r"^The config [a-z-]*paper needs an NVIDIA GPU"):
        recipes.train(name, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_what_a_gpu_training_needs_is_checked_too(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidInputError, match="The config autoencoder-paper needs"):
        recipes.train("paper", out=tmp_path / "runs", device="cpu")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--regions", "0"), "--regions must be 1 or more, not 0"),
        (("--positions", "-3"), "--positions must be 1 or more, not -3"),
        (("--seed", "-1"), "--seed must be 0 or more, not -1"),
        (("--dose", "0"), "--dose must be positive, not 0.0"),
    ],
)
def test_bad_data_sets_are_refused_before_a_folder_is_made(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        datasets.main([*words, "--out", str(tmp_path / "data")])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)
    assert not (tmp_path / "data").exists()


def test_the_local_similarity_has_the_image_s_shape_and_mean():
    rng = np.random.default_rng(0)
    a, b = torch.from_numpy(rng.normal(size=(2, 1, 40, 44)).astype(np.float32).cumsum(-1))
    found = world.similarity_map(a[None], b[None])
    assert found.shape == (1, 1, 40, 44)
    assert found[..., 5:-5, 5:-5].mean() == pytest.approx(float(world.similarity(a[None], b[None])), rel=1e-5)


@pytest.mark.usefixtures("_quick_images")
def test_positions_in_the_good_part_of_the_image_earn_more():
    config = reinforce.ReinforceConfig(reward="quality", dose=0.1, batch=2, draws=1)
    assert config.defocus_A == 120
    small = world.World(MOS2, range(2), MOS2.electrons, 2)
    place = positions.halton(250, (2.0, 2.0)) - 1
    place[:240, 0] = (place[:240, 0] - 1) / 2  # few probes in the lower half
    place[240:, 0] = (place[240:, 0] + 1) / 2
    there = torch.tensor(place, dtype=torch.float32).view(1, 5, 50, 2).expand(2, -1, -1, -1)
    chosen, patterns = torch.arange(2), world.Patterns()
    for part in there.unbind(1):
        patterns = patterns.with_more(*small.measure(small.region(chosen), part, torch.tensor(config.defocus_A), None))
    episode = reinforce.Episode(there, there, patterns)
    generator = torch.Generator().manual_seed(0)
    reward = reinforce.rewards(small, chosen, episode, config, generator)
    assert reward.shape == (2, 250)
    assert float(reward.sum()) == pytest.approx(0, abs=1e-3 * float(reward.abs().sum()))
    assert reward[:, :240].mean() > 0 > reward[:, 240:].mean()
    shared = reinforce.rewards(small, chosen, episode, dataclasses.replace(config, credit="shared"), generator)
    assert torch.equal(shared, shared[:, :1].expand(-1, 250))


@pytest.mark.usefixtures("_quick_images")
def test_a_policy_learns_by_the_quality_of_the_final_image(tmp_path):
    config = reinforce.ReinforceConfig(
        size="tiny", reward="quality", dose=0.1, supervised=2, iterations=1, batch=2, draws=2, regions=2
    )
    reinforce.train(config, networks.Autoencoder(TINY).eval(), tmp_path)
    with (tmp_path / "curve.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert 0 < float(rows[-1]["unseen_ssim"]) < 1
    with pytest.raises(InvalidInputError, match=r"No final image is tuned for mos2 at 0\.3"):
        dataclasses.replace(config, dose=0.3)
