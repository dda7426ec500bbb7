"""Learned policies and generators in the loop, with tiny models whose answers are known."""

import dataclasses
import math

import numpy as np
import pytest
import tiny_models
from fake_scanner import FakeScanner, wavy_image
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_core.choices import default_choice
from adaptive_core.errors import InvalidInputError, ModelError
from adaptive_core.model_library import LoadedModel, ModelLibrary
from adaptive_core.partial_scan import Budget, Episode, FinishReason, Observation, PartialImage, ScanPlan, catalogue
from adaptive_core.partial_scan.generator import OnnxGenerator
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy, step_in_direction
from adaptive_core.scan_path import Segment, inside


def loaded(content, tmp_path):
    return LoadedModel(content, tiny_models.save(tmp_path, "model.onnx", content))


@pytest.fixture
def generator(tmp_path):
    return OnnxGenerator(loaded(tiny_models.generator(), tmp_path))


def plan(budget=None, size_px=(96, 96), **changes):
    scanner = FakeScanner(wavy_image(size_px))
    return ScanPlan(scanner.setup, budget or Budget(segments=20), **changes)


def run(policy, generator, size_px=(96, 96), segments=20):
    scanner = FakeScanner(wavy_image(size_px))
    episode = Episode(scanner, policy, generator, policy.plan(ScanPlan(scanner.setup, Budget(segments=segments))))
    list(episode.run())
    return episode


def test_a_walk_begins_at_the_centre_and_each_segment_where_the_last_one_ended(tmp_path, generator):
    episode = run(OnnxPolicy(loaded(tiny_models.direction_policy(), tmp_path)), generator)
    assert episode.finish_reason is FinishReason.COMPLETED
    path = np.concatenate([[(48.0, 48.0)], *(action.positions for action in episode.scan.actions)])
    np.testing.assert_allclose(np.hypot(*np.diff(path, axis=0).T), math.sqrt(2))
    first = episode.scan.actions[0].positions
    np.testing.assert_allclose(first[0] - 48, np.array([0.6, 0.8]) * math.sqrt(2))
    assert inside(path, (96, 96)).all()


@settings(deadline=None)
@given(st.tuples(st.floats(0, 96), st.floats(0, 130)), st.floats(0, 2 * math.pi), st.floats(0.01, 100))
def test_a_step_never_leaves_the_region_and_reflects_only_what_must_be(start, angle, length):
    direction = length * np.array([math.sin(angle), math.cos(angle)])
    step = step_in_direction(np.array(start), direction, plan(size_px=(96, 130)))
    assert inside(step.positions, (96, 130)).all()
    unit = np.array([math.sin(angle), math.cos(angle)])
    end = np.array(start) + unit * 20 * math.sqrt(2)
    moved = (np.array(step.end) - start) / (20 * math.sqrt(2))
    must = (end < 0) | (end > (96, 130))
    np.testing.assert_allclose(moved, np.where(must, -unit, unit), atol=1e-9)


def test_a_free_segment_spans_the_region_from_minus_one_to_one(tmp_path, generator):
    policy = OnnxPolicy(loaded(tiny_models.segment_policy((-1, -0.5, 0, 1)), tmp_path))
    episode = run(policy, generator, size_px=(96, 128), segments=3)
    assert isinstance(episode.scan.actions[0], Segment)
    np.testing.assert_allclose(episode.scan.actions[0].positions[[0, -1]], [(0, 32), (48, 128)])
    # This model mirrors the segment once the remaining budget has fallen below a half.
    np.testing.assert_allclose(episode.scan.actions[2].positions[[0, -1]], [(96, 96), (48, 0)])


def test_what_a_model_asks_for_outside_moves_to_the_edge(tmp_path, generator):
    policy = OnnxPolicy(loaded(tiny_models.segment_policy((-1.5, 0, 0.5, 7)), tmp_path))
    episode = run(policy, generator, segments=1)
    np.testing.assert_allclose(episode.scan.actions[0].positions[[0, -1]], [(0, 48), (72, 96)])


def test_a_batch_of_positions_gets_a_fresh_estimate_before_each_decision(tmp_path, generator):
    policy = OnnxPolicy(loaded(tiny_models.positions_policy(16), tmp_path))
    scanner = FakeScanner(wavy_image((90, 100)))
    episode = Episode(scanner, policy, generator, policy.plan(ScanPlan(scanner.setup, Budget(segments=3))))
    estimates = [step.estimate for step in episode.run()]
    assert [estimate and estimate.probes for estimate in estimates] == [None, 16, 32]
    first = episode.scan.actions[0].positions
    np.testing.assert_allclose((first / (45, 50) - 1)[[0, -1]], [(-0.2, -0.2), (0.2, 0.2)], atol=1e-6)


def test_the_recurrent_state_is_carried_and_each_run_begins_anew(tmp_path, generator):
    content = tiny_models.nan_policy(after=5)
    policy = OnnxPolicy(loaded(content, tmp_path))
    for _ in range(2):
        # The model counts in its state and answers NaN at its sixth decision.
        scanner = FakeScanner()
        episode = Episode(scanner, policy, generator, ScanPlan(scanner.setup, Budget(segments=20)))
        with pytest.raises(ModelError, match="Tiny NaN policy: the output direction is not finite"):
            list(episode.run())
        assert episode.segments == 5
        assert episode.finish_reason is FinishReason.FAILED
        assert np.isfinite(episode.estimate.image).all()


def test_a_continued_scan_carries_the_state_on(tmp_path, generator):
    policy = OnnxPolicy(loaded(tiny_models.nan_policy(after=5), tmp_path))
    scanner = FakeScanner()
    first = Episode(scanner, policy, generator, ScanPlan(scanner.setup, Budget(segments=3)))
    list(first.run())
    second = Episode(scanner, policy, generator, ScanPlan(scanner.setup, Budget(segments=9)), scan=first.scan)
    with pytest.raises(ModelError):
        list(second.run())
    assert second.segments == 5


def test_values_are_standardised_by_what_was_measured(tmp_path):
    seen = []

    class Recording(LoadedModel):
        def run(self, **arrays):
            seen.append(arrays["values"])
            return super().run(**arrays)

    content = tiny_models.direction_policy()
    model = Recording(content, tiny_models.save(tmp_path, "p.onnx", content))
    seen.clear()
    scan = PartialImage((96, 96))
    policy_run = OnnxPolicy(model).start(plan(), None)
    action = policy_run.decide(Observation(scan, None, 1.0))
    values = np.linspace(1000, 1010, 20, dtype=np.float32)[None]
    scan.add(action, values)
    policy_run.decide(Observation(scan, None, 0.95))
    assert not seen[0].any()
    np.testing.assert_allclose(seen[1][0], (values[0] - values.mean()) / values.std(), rtol=1e-4, atol=1e-4)


def test_a_generator_works_at_any_size_and_in_detector_units(generator):
    image = wavy_image((99, 131))
    scan = PartialImage((99, 131))
    positions = np.random.default_rng(0).uniform(0, (99, 131), (500, 2))
    from adaptive_core.scan_path import Positions, rasterize

    scan.add(Positions(positions), image[:, *rasterize(positions, (99, 131))])
    estimate = generator.complete(scan)
    assert estimate.image.shape == (99, 131)
    # This model gives the measured pixels back.
    np.testing.assert_allclose(estimate.image[scan.measured], image[0][scan.measured], rtol=1e-4)
    _, deviation = scan.scale()
    np.testing.assert_allclose(estimate.error[scan.measured], deviation * math.exp(-0.5), rtol=1e-4)
    np.testing.assert_allclose(estimate.error[~scan.measured], deviation, rtol=1e-4)


def test_a_generator_that_answers_nan_only_during_the_scan_loses_nothing(tmp_path):
    generator = OnnxGenerator(loaded(tiny_models.nan_generator(when_measured=True), tmp_path))
    policy = OnnxPolicy(loaded(tiny_models.direction_policy(), tmp_path / "policy"))
    scanner = FakeScanner(wavy_image((64, 64)))
    plan_ = ScanPlan(scanner.setup, Budget(coverage=1.0))
    from adaptive_core.partial_scan.static_policy import StaticPolicy

    episode = Episode(scanner, StaticPolicy("uniform-grid"), generator, plan_, display_interval_s=1e9)
    with pytest.raises(ModelError, match="Tiny NaN generator: the output image is not finite"):
        list(episode.run())
    assert episode.finish_reason is FinishReason.FAILED
    assert episode.scan.probes == 64 * 64
    assert policy.name == "Tiny policy"


def test_a_policy_is_refused_where_it_was_not_trained_to_be(tmp_path, generator):
    policy = OnnxPolicy(loaded(tiny_models.direction_policy(), tmp_path))
    with pytest.raises(InvalidInputError, match="trained for 20 probes a segment, not 10"):
        policy.start(plan(probes_per_segment=10), generator)
    with pytest.raises(InvalidInputError, match=r"trained for 1\.41421 px between probes, not 2"):
        policy.start(plan(probe_spacing_px=2.0), generator)
    with pytest.raises(InvalidInputError, match="at least 57 px a side"):
        policy.start(plan(size_px=(96, 48)), generator)
    with pytest.raises(
        ModelError, match="expected a model of the kind partial_scan_generator, found partial_scan_policy"
    ):
        OnnxGenerator(policy.model)
    with pytest.raises(
        ModelError, match="expected a model of the kind partial_scan_policy, found partial_scan_generator"
    ):
        OnnxPolicy(generator.model)


def test_the_plan_takes_the_segments_that_a_policy_was_trained_for(tmp_path):
    card = dataclasses.asdict(tiny_models.POLICY_CARD)
    assert card["probes_per_segment"] == 20
    policy = OnnxPolicy(loaded(tiny_models.direction_policy(probes_per_segment=12, probe_spacing_px=2.0), tmp_path))
    changed = policy.plan(plan())
    assert (changed.probes_per_segment, changed.probe_spacing_px) == (12, 2.0)


def test_the_catalogue_lists_models_with_refused_ones_beside_built_in_ones(tmp_path):
    folder = tmp_path / "mine"
    tiny_models.save(folder, "a_policy.onnx", tiny_models.direction_policy())
    tiny_models.save(folder, "a_generator.onnx", tiny_models.generator())
    tiny_models.save(folder, "broken.onnx", b"no model")
    library = ModelLibrary([folder], shipped=tmp_path / "none")
    choices = {choice.title: choice for choice in catalogue.policies(library)}
    assert choices["Tiny policy"].usable
    assert choices["Predicted error"].model is None
    assert not choices["broken"].usable
    assert "Tiny generator" not in choices
    for choice in choices.values():
        if choice.usable:
            assert catalogue.policy(choice.name, library).name
    for choice in catalogue.generators(library):
        if choice.usable:
            assert catalogue.generator(choice.name, library).name
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        catalogue.policy(choices["broken"].name, library)
    with pytest.raises(ModelError, match="no model named 'nonsense'"):
        catalogue.policy("nonsense", library)
    assert default_choice(catalogue.policies(library), "absent").title == "Refinement"


def test_a_policy_is_completed_by_its_own_generator(tmp_path):
    tiny_models.save(tmp_path, "partial_scan_denoiser.onnx", tiny_models.generator(name="My denoiser"))
    for name in ("", "_spiral", "_lstm"):
        tiny_models.save(tmp_path, f"partial_scan_generator{name}.onnx", tiny_models.generator(name=f"Mine {name}"))
    choices = catalogue.generators(ModelLibrary([tmp_path], shipped=tmp_path / "none"))
    for policy, title in {
        "spiral": "Mine _spiral",
        "/models/partial_scan_policy_lstm.onnx": "Mine _lstm",
        "refinement": "Mine ",
        "full-raster": "My denoiser",
    }.items():
        assert catalogue.default_generator(policy, choices).title == title
    assert catalogue.default_generator("spiral", choices[-1:]).model is None
