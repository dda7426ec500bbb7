"""Benchmarks of probe positions, their controls, stopping and tuning, at a size of seconds."""

import dataclasses
import statistics
import time

import numpy as np
import pytest

from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.ptychography import (
    benchmark,
    benchmark_stopping,
    controls,
    episode,
    metrics,
    positions,
    protocols,
)
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.policy import Move, Observation, OnnxPolicy, PtychographyPlan, StoppingPolicy
from adaptive_core.ptychography.stand_ins import SimulatedScanner

MOS2 = experiment("mos2")
SMALL = dataclasses.replace(MOS2, positions=40, subsequences=2)
SHIPPED = "ptychography_adaptive_dwcnt"


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_benchmark_compares_all_sets(protocol):
    result = benchmark.run("mos2", protocol, 1, [], full_data=False, positions=50, subsequences=2)
    rows = result["positions"]
    assert {row["positions"] for row in rows} >= {"sparse_grid", "halton", "random", "two_pass"}
    assert {row["positions"] for row in rows if row["adaptive"]} == {"two_pass"}
    for row in rows:
        assert row["ssim_full"] is None
        assert (row["q_truth_mean"] == 0) == (row["positions"] == "sparse_grid")
    doses = {round(1.34e5 / 5 * dose) for dose in protocols.DOSES[protocol]}
    assert {round(row["dose_e_per_A2"]) for row in rows} == doses
    learned = [{**row, "positions": "learned.onnx"} for row in rows if row["positions"] == "halton"]
    scores = benchmark.card_scores({**result, "models": {"learned.onnx": ""}, "positions": rows + learned})
    assert [score["value"] for score in scores] == [round(row["ssim_truth"], 4) for row in learned]
    for score in scores:
        assert score["baselines"].keys() >= {"sparse_grid", "halton", "random", "two_pass"}


def _score(truth):
    return {"truth": truth, "resolution": 1.0, "full": None, "oversampling": 13.0}


def test_benchmark_takes_any_number_of_positions_and_keeps_what_was_done():
    asked = []

    def runner(_work, cells):
        asked.extend(cells)
        return [{"scores": {"1.0": {"sparse_grid": _score(0.5)}}}] * len(cells)

    result = benchmark.run("mos2", "paper", 3, [], 7, False, runner, positions=60, subsequences=3, sets=["halton"])
    assert [cell["seed"] for cell in asked] == [7, 8, 9]
    assert asked[0]["sets"] == ["sparse_grid", "halton"]
    assert (result["positions"][0]["count"], result["subsequences"]) == (60, 3)
    with pytest.raises(InvalidInputError, match="protocol"):
        benchmark.run("mos2", "none", 1)
    with pytest.raises(InvalidInputError, match="1 region"):
        benchmark.run("mos2", "paper", 0)
    with pytest.raises(InvalidInputError, match="not spiral"):
        benchmark.run("mos2", "paper", 1, sets=["spiral"])
    with pytest.raises(InvalidInputError, match="1 job"):
        benchmark.in_processes(0)


def test_both_protocols_compare_the_policies_that_ship_for_a_material():
    cards = {entry.card.name: entry.card for entry in ModelLibrary().list("ptychography_policy")}
    for specimen in ("mos2", "mos2_crystal", "dwcnt"):
        found = benchmark.shipped_policies(specimen)
        assert found
        assert {cards[name].training["specimen"].partition("_")[0] for name in found} == {specimen.partition("_")[0]}


def test_gains_over_controls_are_taken_region_by_region():
    def runner(_work, cells):
        return [
            {
                "scores": {
                    "0.1": {
                        "sparse_grid": _score(0.4),
                        controls.NARROW: _score(0.5),
                        SHIPPED: _score(0.5 * factor),
                        controls.control_name(SHIPPED, controls.MEAN): _score(0.5),
                        controls.control_name(SHIPPED, controls.ELSEWHERE): _score(0.25 * factor),
                    }
                }
            }
            for cell, factor in zip(cells, (1.1, 1.3), strict=True)
        ]

    result = benchmark.run("dwcnt", "honest", 2, [SHIPPED], 0, False, runner, with_controls=True)
    gains = {row["control"]: row["q_truth_mean"] for row in result["looking"]}
    expected = {controls.MEAN: 0.2, controls.ELSEWHERE: 1.0, controls.NARROW: 0.2}
    assert gains == pytest.approx(expected)
    assert {row["positions"] for row in result["positions"] if row["adaptive"]} == {SHIPPED}


class _Follower:
    """Goes to the atoms that it sees."""

    name = "Follower"

    def start(self, plan):
        return _FollowerRun(plan)


class _FollowerRun:
    def __init__(self, plan):
        self.plan, self.left = plan, plan.subsequences

    def decide(self, observation):
        if not self.left:
            return None
        self.left -= 1
        if observation.image is None:
            return Move(positions.sparse_grid(self.plan.part, self.plan.calibration.fov_A), 60.0)
        return Move(positions.found_atoms(observation.image, self.plan.part), 60.0)


def test_controls_do_not_look():
    region = SimulatedRegion(SMALL, 1_000_003)
    follower = _Follower()
    without = controls.without_looking(follower, region, 1.0, 3)
    own = protocols.scan(region, follower, 1.0, 3)
    other = protocols.scan(SimulatedRegion(SMALL, 1_000_004), follower, 1.0, 3)
    repeated = protocols.scan(region, without[controls.ELSEWHERE], 1.0, 3)
    np.testing.assert_allclose(repeated.positions_A, other.positions_A)
    np.testing.assert_allclose(repeated.defocus_of_each(), 60.0)
    mean = protocols.scan(region, without[controls.MEAN], 1.0, 3)
    np.testing.assert_allclose(mean.positions_A[:20], own.positions_A[:20])
    # Of eight regions with different atoms the mean lies near the middle.
    middle = SMALL.fov_A / 2
    assert np.abs(mean.positions_A[20:] - middle).mean() < np.abs(own.positions_A[20:] - middle).mean()


def test_a_narrow_grid_stays_where_the_tube_is():
    dwcnt = dataclasses.replace(experiment("dwcnt"), positions=60, subsequences=5)
    policy = controls.narrow_grid(dwcnt, 60.0)
    run = policy.start(PtychographyPlan(dwcnt.calibration(), 60, 5))
    places = np.concatenate([run.decide(Observation(None, None)).positions_A for _ in range(5)])
    assert len(places) == 60
    assert np.ptp(places[:, 0]) > 0.8 * dwcnt.fov_A
    assert np.abs(places[:, 1] - dwcnt.fov_A / 2).max() < controls.NARROW_WIDTH_A["dwcnt"] / 2
    assert controls.narrow_grid(MOS2, 60.0) is None


def test_scans_of_the_stopping_benchmark_end_where_a_stopping_policy_ends_them():
    settings = dataclasses.replace(MOS2, positions=100, subsequences=5)
    region = SimulatedRegion(settings, 1_000_000)
    course = benchmark_stopping.course(region, "halton", 1.0, 0)
    assert course.quality[-1] > course.quality[0]
    defocus_A = protocols.TUNED["mos2", 1.0].defocus_A
    for similarity in (0.3, 0.999):
        policy = StoppingPolicy(protocols.policies(defocus_A, 0)["halton"], similarity)
        scanner = SimulatedScanner(region, settings.electrons, 0)
        steps = list(episode.run(scanner, policy, episode.make_plan(scanner, 100, 5)))
        assert len(steps) == course.length(similarity)
    assert course.length(0.999) == 5
    assert course.length(0.3) < 5


def test_what_stopping_spends_and_gives():
    first = benchmark_stopping.Course(np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.0, 0.9, 0.95, 0.99]))
    second = benchmark_stopping.Course(np.array([0.2, 0.4, 0.5, 0.6]), np.array([0.0, 0.5, 0.6, 0.9]))
    found = benchmark_stopping.stopped([first, second], 0.9)
    assert (found["share"], found["share_lowest"], found["share_highest"]) == (0.75, 0.5, 1.0)
    assert found["ssim"] == pytest.approx((0.4 + 0.6) / 2)
    assert found["ssim_fixed"] == pytest.approx((0.6 + 0.5) / 2)
    assert found["ssim_whole"] == pytest.approx(0.7)
    with pytest.raises(InvalidInputError, match="1 region"):
        benchmark_stopping.run(regions=0)


def test_tuning_lists_what_was_tried_the_best_first(monkeypatch):
    monkeypatch.setattr(protocols, "TUNING_DEFOCUS_A", (0.0, 120.0))
    monkeypatch.setattr(protocols, "TUNING_PARTS", (4,))
    monkeypatch.setattr(protocols, "TUNING_EPOCHS", 2)
    tried = protocols.tune("mos2", 1.0, 1)
    assert {row["defocus_A"] for row in tried} == {0.0, 105.0, 120.0, 135.0}  # finer around the best
    scores = [row["ssim_truth"] for row in tried]
    assert scores == sorted(scores, reverse=True)
    assert tried[-1]["defocus_A"] == 0.0  # in focus 250 probes do not cover the region
    assert all(row["epochs"] == 2 for row in tried)
    region = SimulatedRegion(MOS2, protocols.TUNING_SEED)
    best = protocols.Tuned(tried[0]["defocus_A"], 63, 2)
    data = protocols.scan(region, protocols.policies(best.defocus_A, 0)["sparse_grid"], 1.0, 0)
    again = protocols.final_image(data, best).phase(MOS2.pixel_A)
    assert metrics.phase_ssim(again, region.truth()) == pytest.approx(scores[0])
    with pytest.raises(InvalidInputError, match="1 region"):
        protocols.tune("mos2", 1.0, 0)


def test_a_prediction_takes_at_most_2_ms_of_a_processor():
    """Encoder and policy in onnxruntime; the aim of the product is the same 2 ms, measured 0.7 ms."""
    policy = OnnxPolicy.load(ModelLibrary(), SHIPPED)
    rng = np.random.default_rng(0)

    def inputs(model):
        shapes = {name: [int(n or 1) for n in shape] for name, shape in model.input_shapes.items()}
        return {name: rng.random(shape, np.float32) for name, shape in shapes.items()}

    image, other = inputs(policy.encoder), inputs(policy.model)
    seconds = []
    for _ in range(100):
        began = time.thread_time()
        other["code"] = policy.encoder.run(**image)["code"]
        policy.model.run(**other)
        seconds.append(time.thread_time() - began)
    assert statistics.median(seconds) <= 2e-3
