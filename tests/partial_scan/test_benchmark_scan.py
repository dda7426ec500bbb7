"""Scores, dose, noise and jumps of one scan of the benchmark, and the completions that only it has."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from partial_scan_images import smooth_image
from scipy import stats

from adaptive_core import static_path
from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan.benchmark.classical import Biharmonic, Wiener, complete_all
from adaptive_core.partial_scan.benchmark.rivals import full_raster
from adaptive_core.partial_scan.benchmark.scan import Spending, follow, jumps, score
from adaptive_core.partial_scan.generator import Estimate, InterpolatingGenerator
from adaptive_core.partial_scan.truths import blur, to_unit_range
from adaptive_core.static_path import DEFAULT_SPACING_PX

SIZE = (96, 96)
CLEAN = Spending(400, None, 0.05)


def truth_of(seed: int = 0):
    return to_unit_range(blur(smooth_image(96, seed)))


@pytest.mark.parametrize(("name", "settles"), [("spiral", 0), ("serpentine", 0), ("uniform_grid", 19), ("halton", 399)])
def test_the_beam_settles_where_it_jumps(name: str, settles: int) -> None:
    assert jumps(getattr(static_path, name)(SIZE, 400), DEFAULT_SPACING_PX) == settles


def test_segments_settle_once_each_and_a_raster_never() -> None:
    # Two of the random segments may begin near the end of the one before.
    assert 16 <= jumps(static_path.random_segments(SIZE, 400, 1), DEFAULT_SPACING_PX) <= 19
    assert jumps(full_raster(SIZE), DEFAULT_SPACING_PX) == 0
    assert jumps(np.array([[5.0, 5.0]]), DEFAULT_SPACING_PX) == 0
    assert jumps(np.array([[5.0, 5.0], [50.0, 5.0]]), DEFAULT_SPACING_PX) == 1


def test_the_full_raster_visits_every_pixel_once() -> None:
    scan = follow(full_raster((40, 56)), np.zeros((40, 56), np.float32), Spending(40 * 56, None, 0.05), 0).scan
    assert scan.measured.all()
    assert scan.probes == 40 * 56


def test_the_same_electrons_are_the_same_dose_whatever_the_number_of_probes() -> None:
    electrons, truth = 10.0 * 96 * 96, truth_of()
    few = follow(static_path.uniform_grid(SIZE, 400), truth, Spending(400, electrons / 400, 0.05), 0)
    every = follow(full_raster(SIZE), truth, Spending(9216, electrons / 9216, 0.05), 0)
    # 10 electrons a pixel of 0.5 A x 0.5 A.
    assert few.dose_e_per_A2 == pytest.approx(40.0)
    assert every.dose_e_per_A2 == pytest.approx(40.0)
    assert follow(full_raster(SIZE), truth, CLEAN, 0).dose_e_per_A2 is None
    noise = [np.std(one.scan.image() - np.where(one.scan.measured, truth, np.nan), where=one.scan.measured)
             for one in (few, every)]  # fmt: skip
    assert noise[1] / noise[0] == pytest.approx(np.sqrt(9216 / 400), rel=0.1)


def test_a_normal_error_of_the_predicted_size_is_scored_as_what_it_is() -> None:
    truth, rng = truth_of(), np.random.default_rng(0)
    scanned = follow(static_path.uniform_grid(SIZE, 400), truth, CLEAN, 0)
    error = rng.uniform(0.05, 0.3, SIZE).astype(np.float32)
    image = (truth + error * rng.normal(size=SIZE)).astype(np.float32)
    # What was measured is known and must not count, however wrong it is here.
    image[scanned.scan.measured] = 50.0
    estimate = Estimate(image, error, np.zeros((1, 2, *SIZE), np.float32), 400)
    judged = score(scanned, estimate, truth, DEFAULT_SPACING_PX)
    unmeasured = ~scanned.scan.measured
    assert judged.inside_90 == pytest.approx(0.9, abs=0.015)
    assert judged.width_90 == pytest.approx(2 * stats.norm.ppf(0.95) * error[unmeasured].mean(), rel=1e-6)
    expected = -stats.norm.logpdf(truth, image, error)[unmeasured].mean()
    assert judged.nll == pytest.approx(expected, rel=1e-5)
    assert judged.mse > 100
    half = score(scanned, dataclasses.replace(estimate, error=error / 2), truth, DEFAULT_SPACING_PX)
    assert half.inside_90 == pytest.approx(2 * stats.norm.cdf(1.6449 / 2) - 1, abs=0.02)
    assert half.nll is not None
    assert judged.nll is not None
    assert half.nll > judged.nll


def test_without_a_predicted_error_there_is_no_interval() -> None:
    scanned = follow(static_path.halton(SIZE, 400), truth_of(), CLEAN, 0)
    judged = score(scanned, InterpolatingGenerator("linear").complete(scanned.scan), truth_of(), DEFAULT_SPACING_PX)
    assert (judged.inside_90, judged.width_90, judged.nll) == (None, None, None)
    assert judged.psnr_db == pytest.approx(10 * np.log10(4 / judged.mse))


def test_a_position_outside_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="outside of the region"):
        follow(np.array([[1.0, 97.0]]), truth_of(), CLEAN, 0)


def test_biharmonic_completion_carries_planes_and_passes_through_what_was_measured() -> None:
    y, x = np.mgrid[:96, :96] / 48 - 1
    plane = (0.3 * y - 0.6 * x).astype(np.float32)
    walk = static_path.uniform_grid(SIZE, 100)
    np.testing.assert_allclose(Biharmonic().complete(follow(walk, plane, CLEAN, 0).scan).image, plane, atol=1e-4)
    scan = follow(walk, truth_of(), CLEAN, 0).scan
    image = Biharmonic().complete(scan).image
    np.testing.assert_allclose(image[scan.measured], scan.image()[scan.measured], atol=1e-4)


def test_completing_many_scans_at_once_is_completing_each() -> None:
    walk = static_path.halton(SIZE, 200)
    scans = [follow(walk, truth_of(seed), CLEAN, seed).scan for seed in range(3)]
    for together, alone in zip(complete_all(Biharmonic(), scans), map(Biharmonic().complete, scans), strict=True):
        np.testing.assert_allclose(together.image, alone.image, atol=1e-5)
    scans[1] = follow(static_path.spiral(SIZE, 200), truth_of(1), CLEAN, 1).scan
    mixed = complete_all(Biharmonic(), scans)
    np.testing.assert_allclose(mixed[1].image, Biharmonic().complete(scans[1]).image, atol=1e-5)


def test_the_wiener_filter_removes_noise_and_nothing_else() -> None:
    truth = truth_of()
    clean = follow(full_raster(SIZE), truth, Spending(9216, None, 0.05), 0).scan
    assert np.square(Wiener().complete(clean).image - truth).mean() < 1e-4
    noisy = follow(full_raster(SIZE), truth, Spending(9216, 10.0, 0.05), 0).scan
    before, after = (np.square(image - truth).mean() for image in (noisy.image(), Wiener().complete(noisy).image))
    assert after < 0.1 * before
    with pytest.raises(InvalidInputError, match="needs a full raster"):
        Wiener().complete(follow(static_path.halton(SIZE, 20), truth, CLEAN, 0).scan)
