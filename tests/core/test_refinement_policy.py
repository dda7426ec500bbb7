"""The policy that looks at everything and then refines, with generators whose predicted error is known."""

import math

import numpy as np
import pytest
from fake_scanner import FakeScanner, wavy_image
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from adaptive_core import static_path
from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan import Budget, Episode, Estimate, ScanPlan
from adaptive_core.partial_scan.generator import built_in_generator
from adaptive_core.partial_scan.refinement_policy import RefinementPolicy, largest_errors
from adaptive_core.scan_path import inside, rasterize

LINEAR = built_in_generator("linear-interpolation")


class DistanceGenerator:
    """Predicts an error that grows with the distance to the nearest probe, on the right ``factor`` times as much."""

    name = "distance"
    predicts_error = True

    def __init__(self, factor=1.0):
        self.factor, self.seen = factor, []

    def complete(self, scan, channel=0):
        self.seen.append(scan.probes)
        positions = np.concatenate([action.positions for action in scan.actions])
        centres = np.moveaxis(np.indices(scan.size_px), 0, -1) + 0.5
        error = KDTree(positions).query(centres)[0] / 20 + 1e-3
        error[:, scan.size_px[1] // 2 :] *= self.factor
        image = np.zeros_like(error)
        standardised = np.stack([image, 2 * np.log(error)])[None].astype(np.float32)
        return Estimate(image, error, standardised, scan.probes)


def scanned(generator=None, size_px=(96, 96), budget=None, seed=0, **options):
    scanner = FakeScanner(wavy_image(size_px))
    plan = ScanPlan(scanner.setup, budget or Budget(coverage=1 / 23), seed=seed)
    run = Episode(
        scanner, RefinementPolicy(), generator or DistanceGenerator(), plan, display_interval_s=1e9, **options
    )
    list(run.run())
    return run


def positions_of(run):
    return np.concatenate([action.positions for action in run.scan.actions])


@pytest.mark.parametrize("size_px", [(96, 96), (64, 200), (8, 8)])
def test_the_whole_budget_is_spent_inside_on_different_pixels_and_the_seed_repeats_it(size_px):
    run = scanned(size_px=size_px)
    positions = positions_of(run)
    assert len(positions) == run.plan.probes
    assert inside(positions, size_px).all()
    assert len(set(zip(*rasterize(positions, size_px), strict=True))) == len(positions)
    np.testing.assert_array_equal(positions, positions_of(scanned(size_px=size_px)))
    assert not np.array_equal(positions, positions_of(scanned(size_px=size_px, seed=1)))


def test_one_completion_decides_on_the_last_fifth_whatever_the_size():
    generator = DistanceGenerator()
    scanned(generator, size_px=(192, 192))
    # The one completion that is looked at, and the one at the end; what follows calibrates that.
    assert generator.seen[:2] == [1300, 1603]
    assert max(generator.seen[2:]) < 1300


def test_an_even_error_gives_an_even_pattern_and_an_uneven_one_sends_the_probes_there():
    even, uneven = positions_of(scanned()), positions_of(scanned(DistanceGenerator(factor=5)))
    spacing = math.sqrt(96 * 96 / len(even))
    largest_gap = KDTree(even).query(np.moveaxis(np.indices((96, 96)), 0, -1) + 0.5)[0].max()
    assert largest_gap < 1.15 * spacing
    right = [np.count_nonzero(positions[:, 1] > 48) / len(positions) for positions in (even, uneven)]
    assert right[0] == pytest.approx(0.5, abs=0.03)
    assert right[1] > 0.58


def test_a_scan_that_may_end_early_is_even_at_any_time():
    run = scanned(budget=Budget(coverage=1 / 23, predicted_error=1e-6))
    for part in (50, 100, 200):
        counts = np.histogram2d(*positions_of(run)[:part].T, bins=2, range=((0, 96), (0, 96)))[0]
        assert counts.min() > 0.8 * part / 4


def test_a_continued_scan_is_refined_in_growing_steps():
    first = scanned(budget=Budget(segments=5))
    generator = DistanceGenerator()
    second = scanned(generator, budget=Budget(segments=12), scan=first.scan)
    assert second.scan.probes == 240
    assert generator.seen[:4] == [100, 140, 180, 240]


def test_it_needs_a_predicted_error():
    with pytest.raises(InvalidInputError, match="refinement needs a generator that predicts its error"):
        scanned(LINEAR)


@settings(max_examples=30, deadline=None)
@given(
    size_px=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    probes=st.integers(0, 300),
    spacing_px=st.floats(1, 12),
    seed=st.integers(0, 5),
)
def test_the_largest_errors_are_different_pixels_with_an_error(size_px, probes, spacing_px, seed):
    rng = np.random.default_rng(seed)
    error = np.where(rng.random(size_px) < 0.5, rng.random(size_px), 0).astype(np.float32)
    chosen = largest_errors(error, probes, spacing_px)
    pixels = rasterize(chosen, size_px)
    assert len(set(zip(*pixels, strict=True))) == len(chosen) == min(probes, np.count_nonzero(error))
    assert (error[pixels] > 0).all()


def test_the_first_choice_is_the_peak():
    error = np.zeros((50, 60), dtype=np.float32)
    error[20:23, 30:33] = 1.0
    error[40, 10] = 0.5
    np.testing.assert_array_equal(largest_errors(error, 1, 5.0), [[21.5, 31.5]])


def test_strips_make_a_short_way():
    positions = np.random.default_rng(0).uniform(0, 100, (1000, 2))
    way = positions[static_path.strip_order(positions, (100, 100))]
    assert np.hypot(*np.diff(way, axis=0).T).sum() < 1.0 * math.sqrt(1000) * 100
