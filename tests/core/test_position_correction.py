"""Where the probe really was is found in the scan itself, and only where it can be."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CloughTocher2DInterpolator
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from adaptive_core import static_path
from adaptive_core.partial_scan import position_correction
from adaptive_core.partial_scan.finishing import finished
from adaptive_core.partial_scan.generator import InterpolatingGenerator
from adaptive_core.partial_scan.held_out import LEAST, hold_out
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.position_correction import find_position_errors
from adaptive_core.partial_scan.position_errors import PositionErrors
from adaptive_core.scan_path import Positions
from adaptive_core.simulation.scan_errors import BeamLag, ScanErrors

SIZE_PX = (96, 96)
MARGIN_PX = 12


class Interpolating:
    """A smooth interpolation that says how far a pixel is from a measured one; it counts its completions."""

    name = "interpolating"
    predicts_error = True

    def __init__(self):
        self.calls = 0

    def complete(self, scan, channel=0):
        self.calls += 1
        plain = InterpolatingGenerator("linear").complete(scan, channel)
        pixels = np.argwhere(scan.measured)
        if np.linalg.matrix_rank(pixels - pixels[0]) == 2:
            smooth = CloughTocher2DInterpolator(pixels, scan.image(channel)[scan.measured])
            image = smooth(np.moveaxis(np.indices(SIZE_PX), 0, -1)).astype(np.float32)
            plain = dataclasses.replace(plain, image=np.where(np.isfinite(image), image, plain.image))
        error = 0.05 * np.maximum(distance_transform_edt(~scan.measured), 0.1).astype(np.float32)
        standardised = plain.standardised.copy()
        standardised[:, 1] = 2 * np.log(error)
        return dataclasses.replace(plain, error=error * scan.scale(channel)[1], standardised=standardised)


def _specimen(seed=0):
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.normal(size=[side + 2 * MARGIN_PX for side in SIZE_PX]), 5)
    return image / image.std()


def _scan(commanded, true, specimen, noise_sd=0.0, channels=1):
    values = map_coordinates(specimen, (true + MARGIN_PX - 0.5).T, order=1)
    values = values + np.random.default_rng(7).normal(0, noise_sd, len(values))
    scan = PartialImage(SIZE_PX, channels)
    scan.add(Positions(commanded), np.stack([values * (1 + c) for c in range(channels)]).astype(np.float32))
    return scan


def _twice():
    """Two passes through the region, as by a refinement after a first look."""
    whole = static_path.blue_noise(SIZE_PX, 400)
    late = np.arange(len(whole)) % 5 == 0
    return np.concatenate([whole[~late], whole[late]])


def _mse(scan, generator, specimen):
    truth = specimen[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return float(np.mean(np.square(generator.complete(scan).image - truth)))


def _drifted(commanded, drift_px):
    """By the simulation's own drift: a pixel is a nanometre, and the scan takes a second."""
    time_us = np.linspace(0, 1e6, len(commanded))
    return commanded - ScanErrors(drift_nm_per_s=drift_px).drift(time_us)


@settings(max_examples=20, deadline=None)
@given(drift=st.tuples(st.floats(-5, 5), st.floats(-5, 5)), lag=st.floats(0.01, 0.5))
def test_the_model_is_that_of_the_simulated_instrument(drift, lag):
    commanded = static_path.halton(SIZE_PX, 60)
    lag_us = -1.0 / np.log(lag)  # a step takes a microsecond
    expected = BeamLag().follow(commanded, np.ones(60), lag_us) + _drifted(commanded, drift) - commanded
    np.testing.assert_allclose(PositionErrors(drift, lag).positions(commanded), expected, atol=1e-8)


@pytest.mark.parametrize("drift_px", [(3.0, 0.0), (-2.0, 2.5)])
@pytest.mark.parametrize("path", [_twice, lambda: static_path.halton(SIZE_PX, 400)])
def test_drift_is_found_and_corrected_where_the_beam_comes_back(path, drift_px):
    commanded, specimen, generator = path(), _specimen(), Interpolating()
    scan = _scan(commanded, _drifted(commanded, drift_px), specimen)
    errors = find_position_errors(scan, hold_out(scan, generator), generator)
    np.testing.assert_allclose(errors.drift_px, drift_px, atol=0.6)
    assert errors.lag == 0
    assert _mse(errors.corrected(scan), generator, specimen) < 0.5 * _mse(scan, generator, specimen)


@pytest.mark.parametrize("noise_sd", [0.0, 0.1])
def test_lag_is_found_and_corrected_in_one_pass(noise_sd):
    commanded, specimen, generator = static_path.blue_noise(SIZE_PX, 400), _specimen(), Interpolating()
    scan = _scan(commanded, PositionErrors(lag=0.15).positions(commanded), specimen, noise_sd)
    errors = find_position_errors(scan, hold_out(scan, generator), generator)
    assert errors.lag == pytest.approx(0.15, abs=0.05)
    assert errors.drift_px == (0, 0)
    assert _mse(errors.corrected(scan), generator, specimen) < 0.9 * _mse(scan, generator, specimen)


def test_both_are_found_together():
    commanded, specimen, generator = static_path.halton(SIZE_PX, 500), _specimen(), Interpolating()
    scan = _scan(commanded, PositionErrors((2.0, -1.0), 0.03).positions(commanded), specimen)
    errors = find_position_errors(scan, hold_out(scan, generator), generator)
    np.testing.assert_allclose(errors.drift_px, (2.0, -1.0), atol=0.5)
    assert errors.lag == pytest.approx(0.03, abs=0.01)


@pytest.mark.parametrize("noise_sd", [0.0, 0.3])
@pytest.mark.parametrize(
    "path", [_twice, lambda: static_path.halton(SIZE_PX, 400), lambda: static_path.spiral(SIZE_PX, 400)]
)
def test_a_true_scan_is_left_as_it_is_at_no_further_completion(path, noise_sd):
    commanded = path()
    for seed in range(3):
        scan, generator = _scan(commanded, commanded, _specimen(seed), noise_sd), Interpolating()
        parts = hold_out(scan, generator)
        calls = generator.calls
        assert find_position_errors(scan, parts, generator) is None
        assert generator.calls == calls
        assert finished(generator.complete(scan), scan, generator).position_errors is None


@pytest.mark.parametrize("noise_sd", [0.0, 0.1])
def test_a_correction_that_explains_the_probes_only_a_little_better_is_refused(noise_sd, monkeypatch):
    commanded, generator = static_path.halton(SIZE_PX, 400), Interpolating()
    scan = _scan(commanded, commanded, _specimen(), noise_sd)
    parts = hold_out(scan, generator)
    monkeypatch.setattr(position_correction, "SIGNIFICANT", 0.0)
    assert find_position_errors(scan, parts, generator) is None
    monkeypatch.setattr(position_correction, "SIGNIFICANT_GAIN", 1e-6)
    assert find_position_errors(scan, parts, generator) is not None


@pytest.mark.parametrize(
    "displaced",
    [
        lambda p: p + (2.0, -1.5),
        lambda p: p + 0.04 * (p - 48),
        lambda p: p + 0.05 * (p - 48)[:, ::-1] * (0, 1),
        lambda p: _drifted(p, (2.0, 2.0)),
    ],
    ids=["shift", "magnification", "shear", "drift-in-one-pass"],
)
def test_what_all_neighbours_share_cannot_be_seen_and_is_not_made_up(displaced):
    commanded, generator = static_path.blue_noise(SIZE_PX, 400), Interpolating()
    scan = _scan(commanded, displaced(commanded), _specimen())
    assert find_position_errors(scan, hold_out(scan, generator), generator) is None


def test_a_finished_scan_is_completed_where_the_probe_was_in_every_channel():
    commanded, specimen, generator = _twice(), _specimen(), Interpolating()
    scan = _scan(commanded, _drifted(commanded, (3.0, -2.0)), specimen, channels=2)
    last = [finished(generator.complete(scan, channel), scan, generator, channel) for channel in (0, 1)]
    assert last[0].position_errors == last[1].position_errors is not None
    np.testing.assert_allclose(last[1].image, 2 * last[0].image, atol=1e-4)
    np.testing.assert_array_equal(last[0].image, generator.complete(last[0].position_errors.corrected(scan)).image)
    assert last[0].probes == scan.probes


def test_values_beyond_the_edges_are_left_out():
    commanded = static_path.halton(SIZE_PX, 200)
    scan = _scan(commanded, commanded, _specimen())
    applied = PositionErrors((10.0, 0.0)).corrected(scan)
    assert 180 < applied.probes < 200
    assert applied.size_px == SIZE_PX


def test_what_tells_nothing_is_left_as_it_is():
    generator = Interpolating()
    few = static_path.halton(SIZE_PX, LEAST - 1)
    line = np.stack([np.full(200, 48.5), np.linspace(1, 95, 200)], axis=1)
    constant = static_path.halton(SIZE_PX, 400)
    for commanded, specimen in ((few, _specimen()), (line, _specimen()), (constant, np.ones((120, 120)))):
        scan = _scan(commanded, commanded, specimen)
        assert find_position_errors(scan, hold_out(scan, generator), generator) is None
    plain = InterpolatingGenerator("linear")
    scan = _scan(constant, constant, _specimen())
    estimate = plain.complete(scan)
    last = finished(estimate, scan, plain)
    assert last is estimate
    assert last.position_errors is None


def test_position_errors_are_told_in_words():
    assert str(PositionErrors((1.26, -2.0))) == "a drift of +1.3 px in y and -2.0 px in x"
    assert str(PositionErrors(lag=0.12)) == "a lag of 12 % of each step"
    assert str(PositionErrors((0.0, 1.0), 0.05)).count(" and ") == 2
