"""Each position set with the step of the papers' descent that suits it best."""

import dataclasses

import pytest

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import benchmark, own_step, protocols
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment

MOS2 = experiment("mos2")


def test_probes_that_crowd_want_a_shorter_step(monkeypatch):
    monkeypatch.setattr(own_step, "STEPS", (0.3, 1.0))
    tried = own_step.tune(MOS2, ["sparse_grid", "two_pass"], {}, 1)
    assert len(tried) == 4
    assert [row["ssim_truth"] for row in tried] == sorted((row["ssim_truth"] for row in tried), reverse=True)
    assert own_step.best(tried) == {"sparse_grid": 1.0, "two_pass": 0.3}
    with pytest.raises(InvalidInputError, match="1 region"):
        own_step.tune(MOS2, ["sparse_grid"], {}, 0)


def test_an_image_that_diverges_is_worth_nothing():
    settings = dataclasses.replace(MOS2, positions=20, subsequences=1)
    region = SimulatedRegion(settings, 1)
    data = protocols.scan(region, protocols.policies(None, 0)["sparse_grid"], 1.0, 0)
    assert own_step.ssim(data, 1e4, settings, region.truth()) == 0.0
    assert own_step.ssim(data, 0.03, settings, region.truth()) > 0.0


def test_gains_with_own_steps_are_over_the_grid_with_its_own(monkeypatch):
    asked = []

    def tune(_settings, sets, _learned):
        return [{"positions": name, "step": step, "ssim_truth": 1 - step} for step in (0.4, 0.5) for name in sets]

    def score(fixed, own):
        return {"truth": fixed, "resolution": 1.0, "full": None, "oversampling": 13.0, "own_step": own}

    def runner(_work, cells):
        asked.extend(cells)
        found = [{"sparse_grid": score(0.2, own), "halton": score(0.3, 0.4)} for own in (0.4, 0.5)]
        return [{"scores": {"1.0": one}} for one in found]

    monkeypatch.setattr(own_step, "tune", tune)
    result = benchmark.run("mos2", "paper", 2, [], 0, False, runner, sets=["halton"], with_own_steps=True)
    assert asked[0]["steps"] == {"sparse_grid": 0.4, "halton": 0.4}
    grid, halton = result["positions"]
    assert (grid["own_step"], grid["q_own_step_mean"]) == (0.4, 0)
    assert halton["q_truth_mean"] == pytest.approx(0.5)
    assert halton["ssim_own_step"] == pytest.approx(0.4)
    assert halton["q_own_step_mean"] == pytest.approx(-0.1)
    with pytest.raises(InvalidInputError, match="honest protocol has no step"):
        benchmark.run("mos2", "honest", 1, [], with_own_steps=True)


def test_a_region_is_scored_with_the_steps_of_its_cell():
    settings = dataclasses.replace(MOS2, positions=50, subsequences=2)
    cell = {
        "specimen": "mos2",
        "protocol": "paper",
        "positions": settings.positions,
        "subsequences": settings.subsequences,
        "learned": {},
        "full_data": False,
        "seed": 0,
        "sets": ["sparse_grid", "halton"],
        "steps": {"sparse_grid": 0.3, "halton": 0.5},
    }
    scores = benchmark.compare(cell, None)["scores"]["1.0"]
    assert scores["sparse_grid"]["own_step"] == scores["sparse_grid"]["truth"]
    assert scores["halton"]["own_step"] != scores["halton"]["truth"]


def test_steps_are_tuned_for_all_sets_and_shipped_policies(monkeypatch):
    monkeypatch.setattr(own_step, "tune", lambda _settings, sets, learned, regions: [*sets, *learned, regions])
    tried = benchmark.tune_steps("mos2", 3)
    assert {"sparse_grid", "two_pass", "defocused_sparse_grid"} <= set(tried)
    assert set(benchmark.shipped_policies("mos2")) <= set(tried)
    assert tried[-1] == 3
