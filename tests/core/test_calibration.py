"""A predicted error is scaled by what held-out probes say of it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, gaussian_filter

from adaptive_core import static_path
from adaptive_core.partial_scan import calibration
from adaptive_core.partial_scan.calibration import INTERVAL_90, RUNS, SMALLEST_SCALE, is_periodic
from adaptive_core.partial_scan.generator import Estimate, InterpolatingGenerator
from adaptive_core.partial_scan.held_out import LEAST, LONGEST_RUN, hold_out, runs_of
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.scan_path import Positions, rasterize

LINEAR = InterpolatingGenerator("linear")


def calibrated(estimate, scan, generator, channel=0):
    return calibration.calibrated(estimate, scan, hold_out(scan, generator, channel), channel)


class Scaled:
    """Linear interpolation whose predicted error, in standard deviations of the scan, grows with a probe's distance."""

    name = "scaled"
    predicts_error = True

    def __init__(self, error):
        self.error, self.calls = error, 0

    def complete(self, scan, channel=0):
        self.calls += 1
        plain = LINEAR.complete(scan, channel)
        error = self.error * np.maximum(distance_transform_edt(~scan.measured) / 3, 0.1).astype(np.float32)
        standardised = plain.standardised.copy()
        standardised[:, 1] = 2 * np.log(error)
        error *= scan.scale(channel)[1]
        return dataclasses.replace(plain, error=error, standardised=standardised)


class Blurring(Scaled):
    """Takes what a probe says for noise but for the mean of those around it, and knows how large the rest is."""

    def complete(self, scan, channel=0):
        estimate = super().complete(scan, channel)
        known = scan.measured.astype(np.float64)
        values = np.where(scan.measured, scan.image(channel), 0)
        image = gaussian_filter(values, 12) / gaussian_filter(known, 12)
        return dataclasses.replace(estimate, image=image.astype(np.float32))


def _truth(seed=0, shape=(96, 96)):
    image = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 6)
    return (image / image.std()).astype(np.float32)


def _scan(truth, positions, sd=0.0, channels=1):
    values = truth[rasterize(positions, truth.shape)] + np.random.default_rng(1).normal(0, sd, len(positions))
    scan = PartialImage(truth.shape, channels)
    scan.add(Positions(positions), np.stack([values * (1 + c) for c in range(channels)]).astype(np.float32))
    return scan


def _within(estimate, truth, scan):
    error = np.abs(estimate.image - truth)[~scan.measured]
    return np.mean(error <= INTERVAL_90 * estimate.error[~scan.measured])


@pytest.mark.parametrize(
    ("path", "wrong"),
    [(static_path.halton, 0.003), (static_path.halton, 0.3), (static_path.spiral, 0.003), (static_path.spiral, 0.5)],
)
def test_an_interval_that_is_far_too_narrow_or_too_wide_is_put_right(path, wrong):
    truth = _truth()
    scan, generator = _scan(truth, path((96, 96), 400)), Scaled(wrong)
    before = generator.complete(scan)
    after = calibrated(before, scan, generator)
    assert not 0.7 < _within(before, truth, scan) < 0.97
    assert 0.8 < _within(after, truth, scan) < 0.97
    np.testing.assert_array_equal(after.image, before.image)
    np.testing.assert_array_equal(after.standardised[:, 0], before.standardised[:, 0])
    np.testing.assert_allclose(np.exp(0.5 * after.standardised[0, 1]) * scan.scale()[1], after.error, rtol=1e-4)


@settings(max_examples=10, deadline=None)
@given(factor=st.floats(0.05, 1))
def test_without_noise_the_calibrated_error_hardly_depends_on_the_size_of_the_predicted_one(factor):
    scan = _scan(_truth(), static_path.halton((96, 96), 300))
    errors = [calibrated(g.complete(scan), scan, g).error for g in (Scaled(0.02), Scaled(0.02 * factor))]
    assert 0.99 < (errors[0] / errors[1]).min() <= (errors[0] / errors[1]).max() < 1.14


def test_noise_of_the_probes_is_not_taken_for_error_of_the_completion():
    positions, sd = static_path.halton((96, 96), 400), 3.0
    scan, generator = _scan(_truth(), positions, sd), Blurring(0.3)
    before = generator.complete(scan)
    # Residuals of held-out probes are mostly noise, three times as large as the predicted error.
    scale = calibrated(before, scan, generator).error / before.error
    assert 0.9 < scale.min() <= scale.max() < 1.2
    # The same generator is taken at its probes' word where there is no noise.
    clean = _scan(_truth(), positions)
    small = dataclasses.replace(before, image=LINEAR.complete(clean).image, error=np.float32(0.01) * before.error)
    assert (calibrated(small, clean, Scaled(0.003)).error / small.error).min() > 3


def test_what_no_probe_has_met_keeps_the_interval_from_vanishing():
    truth = np.zeros((96, 96), np.float32)
    truth[40:43, 40:43] = 1
    positions = static_path.halton((96, 96), 400)
    truth[rasterize(positions[::97], truth.shape)] = 0.01
    scan, generator = _scan(truth, positions), Scaled(1.0)
    before = generator.complete(scan)
    np.testing.assert_allclose(calibrated(before, scan, generator).error, SMALLEST_SCALE * before.error, rtol=1e-5)


def test_what_cannot_be_calibrated_is_given_back():
    truth = _truth()
    scan = _scan(truth, static_path.halton((96, 96), 400))
    plain = LINEAR.complete(scan)
    assert calibrated(plain, scan, LINEAR) is plain
    few, generator = _scan(truth, static_path.halton((96, 96), LEAST - 1)), Scaled(1.0)
    estimate = generator.complete(few)
    assert calibrated(estimate, few, generator) is estimate
    whole = _scan(truth, static_path.uniform_grid((96, 96), 96**2))
    estimate = generator.complete(whole)
    assert calibrated(estimate, whole, generator) is estimate
    constant = _scan(np.ones_like(truth), static_path.halton((96, 96), 400))
    estimate = generator.complete(constant)
    assert calibrated(estimate, constant, generator) is estimate


def test_a_channel_is_calibrated_by_its_own_values():
    scan, generator = _scan(_truth(), static_path.halton((96, 96), 400), channels=2), Scaled(0.1)
    errors = [calibrated(generator.complete(scan, channel), scan, generator, channel).error for channel in (0, 1)]
    np.testing.assert_allclose(errors[1], 2 * errors[0], rtol=1e-3)


@pytest.mark.parametrize(("probes", "completions"), [(400, 4), (700, 3), (2000, 1)])
def test_many_probes_need_few_completions(probes, completions):
    scan, generator = _scan(_truth(), static_path.halton((96, 96), probes)), Scaled(0.1)
    estimate: Estimate = generator.complete(scan)
    calibrated(estimate, scan, generator)
    assert generator.calls == 1 + completions


def test_a_path_is_held_out_in_runs_and_scattered_positions_one_by_one():
    for name, longest in (("spiral", LONGEST_RUN), ("serpentine", LONGEST_RUN), ("uniform_grid", 1), ("halton", 1)):
        scan = _scan(_truth(), getattr(static_path, name)((96, 96), 400))
        lengths = np.bincount(runs_of(scan))
        assert lengths.max() == longest
        assert lengths.mean() > 0.7 * longest


@pytest.mark.parametrize("size_px", [(96, 96), (128, 200), (256, 256)])
def test_grids_and_even_lines_are_periodic_and_no_other_path_is(size_px):
    probes = size_px[0] * size_px[1] // 23
    for name in ("uniform_grid", "serpentine"):
        assert is_periodic(_scan(_truth(shape=size_px), getattr(static_path, name)(size_px, probes)))
    for path in (static_path.blue_noise, static_path.halton, static_path.spiral):
        assert not is_periodic(_scan(_truth(shape=size_px), path(size_px, probes)))
    assert not is_periodic(_scan(_truth(shape=size_px), static_path.random_segments(size_px, probes, 0)))


def test_the_probes_of_a_periodic_pattern_are_not_asked():
    scan, generator = _scan(_truth(), static_path.uniform_grid((96, 96), 400)), Scaled(0.3)
    estimate = generator.complete(scan)
    assert calibrated(estimate, scan, generator) is estimate


@pytest.mark.parametrize(("path", "runs"), [(static_path.halton, 400), (static_path.spiral, 20)])
def test_a_few_runs_of_a_path_are_believed_less_than_many_scattered_probes_but_not_doubted_without_limit(path, runs):
    scan = _scan(_truth(), path((96, 96), 400))

    def scale(error):
        generator = Scaled(error)
        estimate = generator.complete(scan)
        return np.log((calibrated(estimate, scan, generator).error / estimate.error).mean())

    right = 0.01
    for _ in range(5):
        right *= np.exp(scale(right))
    assert (scale(0.8 * right) - scale(right)) / -np.log(0.8) == pytest.approx(runs / (runs + RUNS), abs=0.01)
    assert (scale(1e-4 * right) - scale(1e-3 * right)) / np.log(10) == pytest.approx(1, abs=0.05)
