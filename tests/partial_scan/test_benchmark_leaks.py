"""The truth reaches a completion through the measured values and in no other way."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from partial_scan_images import smooth_image

from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan import catalogue
from adaptive_core.partial_scan.benchmark.classical import Biharmonic
from adaptive_core.partial_scan.benchmark.scan import Spending, adapt, follow
from adaptive_core.partial_scan.generator import Generator, InterpolatingGenerator
from adaptive_core.partial_scan.truths import FloatImage, blur, to_unit_range

CLEAN = Spending(400, None, 0.05)
NOISY = Spending(400, 30.0, 0.05)


@functools.cache
def shipped() -> Generator:
    return catalogue.generator(catalogue.DEFAULT_GENERATOR, ModelLibrary())


def truth_of(seed: int, side: int = 96) -> FloatImage:
    return to_unit_range(blur(smooth_image(side, seed)))


GENERATORS = {
    "nearest": lambda: InterpolatingGenerator("nearest"),
    "linear": lambda: InterpolatingGenerator("linear"),
    "biharmonic": Biharmonic,
    "shipped": shipped,
}


@pytest.mark.parametrize("name", GENERATORS)
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), spending=st.sampled_from([CLEAN, NOISY]), side=st.sampled_from([64, 90]))
def test_pixels_that_were_not_measured_never_change_a_completion(
    name: str, seed: int, spending: Spending, side: int
) -> None:
    rng, truth = np.random.default_rng(seed), truth_of(seed, side)
    positions = rng.uniform(0, side, (60, 2))
    first = follow(positions, truth, spending, seed)
    other = np.where(first.scan.measured, truth, rng.uniform(-1, 1, truth.shape)).astype(np.float32)
    # One pixel also moves the range of the truth, which nothing may know.
    other.ravel()[np.flatnonzero(~first.scan.measured.ravel())[0]] = 1.0
    second = follow(positions, other, spending, seed)
    generator = GENERATORS[name]()
    np.testing.assert_array_equal(generator.complete(first.scan).image, generator.complete(second.scan).image)


@pytest.mark.parametrize("name", ["predicted-error", "partial_scan_policy_recurrent"])
@pytest.mark.parametrize("spending", [CLEAN, NOISY], ids=["clean", "noisy"])
def test_pixels_that_were_not_measured_never_change_a_decision(name: str, spending: Spending) -> None:
    policy, truth = catalogue.policy(name, ModelLibrary()), truth_of(5)
    first = adapt(policy, shipped(), truth, spending, seed=3)
    other = np.where(first.scan.measured, truth, -truth[::-1]).astype(np.float32)
    second = adapt(policy, shipped(), other, spending, seed=3)
    np.testing.assert_array_equal(first.positions, second.positions)
    assert first.estimate is not None
    assert second.estimate is not None
    np.testing.assert_array_equal(first.estimate.image, second.estimate.image)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_range_of_the_truth_is_not_known_to_a_model(name: str) -> None:
    truth, positions = truth_of(2), np.random.default_rng(2).uniform(0, 96, (400, 2))
    generator = GENERATORS[name]()
    plain, scaled = (
        generator.complete(follow(positions, image, CLEAN, 0).scan).image
        for image in (truth, (7.0 * truth - 40.0).astype(np.float32))
    )
    np.testing.assert_allclose(scaled, 7.0 * plain - 40.0, atol=2e-3)


def test_the_positions_of_an_adaptive_policy_depend_on_what_it_measures() -> None:
    policy = catalogue.policy("predicted-error", ModelLibrary())
    first, second = (adapt(policy, shipped(), truth_of(seed), CLEAN, seed=1) for seed in (8, 9))
    assert not np.array_equal(first.positions, second.positions)
