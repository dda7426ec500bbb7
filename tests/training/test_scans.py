"""What a model sees: nothing but what was measured; and the differentiable sampling against numpy references."""

import dataclasses

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from adaptive_core.scan_path import rasterize
from adaptive_core.training.partial_scan.data import Recipe, partial_batch
from adaptive_core.training.partial_scan.paths import MIXTURES, STATIC_PATHS, random_path
from adaptive_core.training.partial_scan.scans import measure, misplaced, partial_scan, sample, sample_nearest, splat

SIZE = (24, 32)


def _random(seed, count=40):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, SIZE).astype(np.float32), rng.uniform(0, 1, (count, 2)) * SIZE, rng


@hypothesis.given(st.integers(0, 2**31))
@hypothesis.settings(max_examples=25, deadline=None)
def test_unmeasured_pixels_never_reach_a_model(seed):
    truth, positions, rng = _random(seed)
    scan = partial_scan(measure(truth, positions, None, rng), positions, SIZE)
    hidden = np.ones(SIZE, bool)
    hidden[rasterize(positions, SIZE)] = False
    changed = np.where(hidden, rng.normal(0, 100, SIZE), truth).astype(np.float32)
    other = partial_scan(measure(changed, positions, None, rng), positions, SIZE)
    np.testing.assert_array_equal(scan.partial, other.partial)
    assert (scan.mean, scan.sd) == (other.mean, other.sd)
    assert not scan.partial[:, hidden].any()


@hypothesis.given(st.integers(0, 2**31), st.floats(0.01, 1000), st.floats(-100, 100))
@hypothesis.settings(max_examples=25, deadline=None)
def test_detector_units_never_reach_a_model(seed, gain, offset):
    truth, positions, rng = _random(seed)
    values = measure(truth, positions, None, rng)
    scan, scaled = partial_scan(values, positions, SIZE), partial_scan(gain * values + offset, positions, SIZE)
    np.testing.assert_allclose(scaled.partial, scan.partial, atol=2e-3 + 1e-4 * abs(offset) / gain)


def test_standardisation_is_that_of_the_measured_values():
    truth, positions, rng = _random(7)
    values = measure(truth, positions, None, rng)
    scan = partial_scan(values, positions, SIZE)
    assert scan.mean == pytest.approx(values.mean(), abs=1e-6)
    assert scan.sd == pytest.approx(values.std(), rel=1e-5)
    rows, columns = rasterize(positions[:1], SIZE)
    same_pixel = np.all(np.stack(rasterize(positions, SIZE), 1) == [rows[0], columns[0]], axis=1)
    assert scan.partial[0, rows[0], columns[0]] == pytest.approx(
        (values[same_pixel].mean() - scan.mean) / scan.sd, abs=1e-5
    )


def test_shot_noise_has_the_mean_and_variance_of_its_dose():
    truth = np.full((4, 4), 0.5, np.float32)
    positions = np.full((20000, 2), 1.5)
    values = measure(truth, positions, 50.0, np.random.default_rng(0))
    expected = 50 * (0.1 + 0.45 * 1.5)
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    assert values.var() == pytest.approx(expected / (50 * 0.45) ** 2, rel=0.05)


def test_sample_is_bilinear_between_pixel_centres():
    truth, positions, _ = _random(1)
    inside = np.clip(positions, 0.5, np.array(SIZE) - 0.5)
    expected = map_coordinates(truth, (inside - 0.5).T, order=1)
    found = sample(torch.from_numpy(truth)[None], torch.from_numpy(positions).float()[None])[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    nearest = sample_nearest(torch.from_numpy(truth)[None], torch.from_numpy(positions).float()[None])[0]
    np.testing.assert_array_equal(nearest, truth[rasterize(positions, SIZE)])


def _numpy_splat(values, positions):
    weights, sums = np.zeros(SIZE), np.zeros(SIZE)
    for value, (y, x) in zip(values, positions - 0.5, strict=True):
        for i, wy in ((int(np.floor(y)), 1 - y % 1), (int(np.floor(y)) + 1, y % 1)):
            for j, wx in ((int(np.floor(x)), 1 - x % 1), (int(np.floor(x)) + 1, x % 1)):
                at = np.clip(i, 0, SIZE[0] - 1), np.clip(j, 0, SIZE[1] - 1)
                weights[at] += wy * wx
                sums[at] += wy * wx * value
    mask = np.minimum(weights, 1)
    return np.stack([sums / np.maximum(weights, 1e-6) * mask, mask])


def test_splat_shares_values_by_bilinear_weights():
    _, positions, rng = _random(2)
    values = rng.normal(size=len(positions))
    found = splat(torch.from_numpy(values).float()[None], torch.from_numpy(positions).float()[None], SIZE)[0]
    np.testing.assert_allclose(found, _numpy_splat(values, positions), atol=1e-4)


@pytest.mark.parametrize("nearest", [False, True])
def test_splat_at_pixel_centres_is_what_a_scan_measures(nearest):
    truth, positions, rng = _random(3)
    centres = np.floor(positions) + 0.5
    values = measure(truth, centres, None, rng)
    scan = partial_scan(values, centres, SIZE)
    standardised = torch.from_numpy((values - scan.mean) / scan.sd).float()
    found = splat(standardised[None], torch.from_numpy(centres).float()[None], SIZE, nearest)[0]
    np.testing.assert_allclose(found, scan.partial, atol=1e-5)


def test_gradients_in_the_positions_are_those_of_finite_differences():
    truth, positions, rng = _random(4, count=6)
    image = torch.from_numpy(truth).double()[None]
    weights = torch.from_numpy(rng.normal(size=(2, *SIZE)))
    # Away from pixel centres, where interpolation has kinks.
    places = torch.from_numpy(np.floor(positions * 0.9) + rng.uniform(0.6, 0.9, positions.shape))[None]
    places.requires_grad_(True)

    def figure(at):
        return (splat(sample(image, at), at, SIZE)[0] * weights).sum()

    assert torch.autograd.gradcheck(figure, (places,), eps=1e-6, atol=1e-6)


def test_partial_batches_are_standardised_per_scan():
    rng = np.random.default_rng(0)
    truths = rng.uniform(-1, 1, (12, 96, 96)).astype(np.float32)
    partial, mean, sd = partial_batch(truths, rng, Recipe(noise_free=1.0, misplaced=0.0, soft=0.0))
    assert partial.shape == (12, 2, 96, 96)
    assert mean.shape == sd.shape == (12, 1, 1, 1)
    values, mask = partial[:, 0], partial[:, 1]
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    back = (values * sd[:, 0] + mean[:, 0]) * mask
    np.testing.assert_allclose(back, torch.from_numpy(truths) * mask, atol=1e-5)


@hypothesis.given(st.integers(0, 2**31), st.sampled_from([(96, 96), (96, 160), (224, 112)]))
@hypothesis.settings(max_examples=40, deadline=None)
def test_random_paths_cover_what_they_are_meant_to(seed, size):
    rng = np.random.default_rng(seed)
    path = random_path(rng.uniform(-1, 1, size).astype(np.float32), MIXTURES["any"], rng)
    assert path.ndim == 2
    assert path.shape[1] == 2
    assert np.isfinite(path).all()
    assert 2 <= len(path) <= 0.21 * size[0] * size[1] + 40
    # Only jittered grids leave the region, and by little; a scan reads the nearest edge pixel there.
    assert path.min() > -12
    assert (path < np.array(size) + 12).all()


@pytest.mark.parametrize("name", STATIC_PATHS)
def test_a_static_paths_mixture_is_that_path(name):
    truth = np.zeros((96, 96), np.float32)
    paths = [random_path(truth, MIXTURES[name], np.random.default_rng(seed)) for seed in range(20)]
    as_scanned = STATIC_PATHS[name]((96, 96), 400)
    assert sum(len(path) == 400 and np.array_equal(path, as_scanned) for path in paths) >= 8


def test_a_raster_visits_every_pixel_once():
    path = random_path(np.zeros((16, 24), np.float32), MIXTURES["raster"], np.random.default_rng(0))
    assert len(path) == 16 * 24
    assert len(np.unique(np.floor(path), axis=0)) == 16 * 24


def test_refined_paths_go_where_the_truth_changes():
    truth = np.zeros((96, 96), np.float32)
    truth[:, :20] = np.indices((96, 20)).sum(axis=0) % 7
    mixture = dataclasses.replace(MIXTURES["any"], odds={"refined": 1.0}, mixed=0.0, whole=1.0)
    for seed in range(5):
        path = random_path(truth, mixture, np.random.default_rng(seed))
        assert (path[:, 1] < 28).mean() > 1.4 * 28 / 96


def test_misplaced_probes_stay_near_where_they_were_asked_for():
    positions = np.random.default_rng(0).uniform(0, 96, (400, 2))
    found = [misplaced(positions, (96, 96), np.random.default_rng(seed)) - positions for seed in range(30)]
    rms_px = np.sqrt(np.square(found).mean(axis=(1, 2)))
    assert rms_px.min() > 0.1
    assert rms_px.max() < 5
    assert rms_px.max() > 1.5 * rms_px.min()
