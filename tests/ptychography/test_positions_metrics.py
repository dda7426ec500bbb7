"""Position sets and metrics."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import metrics, positions, reconstruction
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.simulation import ptychography_specimens


@hypothesis.given(st.integers(1, 400), st.floats(5, 40), st.floats(5, 40))
def test_every_set_has_exactly_its_positions_inside_the_region(count, height, width):
    fov = (height, width)
    rng = np.random.default_rng(0)
    for made in (
        positions.sparse_grid(count, fov),
        positions.halton(count, fov),
        positions.random(count, fov, rng),
    ):
        assert made.shape == (count, 2)
        assert (made >= 0).all()
        assert (made <= fov).all()
        assert len(np.unique(made, axis=0)) == count


def test_sparse_grid_is_even():
    made = positions.sparse_grid(250, (20.0, 20.0))
    rows, per_row = np.unique(made[:, 0], return_counts=True)
    assert len(rows) == 16
    assert set(per_row) == {15, 16}
    np.testing.assert_allclose(np.diff(rows), 20 / 16)


def test_raster_is_every_position():
    made = positions.raster(3, 4, (6.0, 8.0))
    assert made.shape == (12, 2)
    np.testing.assert_allclose(made[:2], [[1, 1], [1, 3]])


def test_atoms_are_found_where_they_are():
    settings = experiment("mos2")
    region = SimulatedRegion(settings, 4)
    data = region.measure(positions.sparse_grid(400, (20.0, 20.0)), None, np.random.default_rng(0), 50.0)
    image = reconstruction.final(data)
    found = positions.found_atoms(image, 60)
    atoms = ptychography_specimens.mos2(4, settings.cell_A)
    margin = (settings.cell_A - settings.fov_A) / 2
    true = atoms.positions_A[:, 1:] - margin
    nearest = np.linalg.norm(found[:, None] - true[None], axis=2).min(1)
    assert np.median(nearest) < 0.15
    # More positions than atoms: all atoms, several times each.
    many = positions.found_atoms(image, 500)
    assert many.shape == (500, 2)
    assert np.median(np.linalg.norm(many[:, None] - true[None], axis=2).min(1)) < 0.5


def test_no_atoms_in_a_flat_image():
    settings = experiment("mos2")
    region = SimulatedRegion(settings, 4)
    data = region.measure(positions.sparse_grid(16, (20.0, 20.0)), None, np.random.default_rng(0))
    image = reconstruction.intermediate(data)
    flat = reconstruction.Reconstruction(
        np.zeros_like(image.potential), image.grid, image.fov_A, (), 0.0, image.positions_A, image.probe
    )
    with pytest.raises(InvalidInputError, match="flat"):
        positions.found_atoms(flat, 10)


def test_ssim_is_that_of_scikit_image():
    rng = np.random.default_rng(0)
    truth = np.cumsum(rng.normal(size=(40, 50)), axis=1)
    estimate = truth + rng.normal(size=truth.shape)
    a, b = estimate - estimate.mean(), truth - truth.mean()
    expected = structural_similarity(
        a, b, data_range=np.ptp(b), gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert metrics.phase_ssim(estimate + 3, truth - 5) == pytest.approx(expected, abs=1e-6)


def test_frc_of_equal_and_of_unrelated_images():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 64, 64))
    frequency, same = metrics.fourier_ring_correlation(a, 2 * a + 1, 0.2)
    np.testing.assert_allclose(same, 1)
    assert frequency[-1] == pytest.approx(1 / 0.4)
    _, other = metrics.fourier_ring_correlation(a, b, 0.2)
    assert np.abs(other[5:]).max() < 0.4


def test_resolution_is_where_the_agreement_ends():
    rng = np.random.default_rng(0)
    n, pixel = 128, 0.2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(n, pixel), np.fft.fftfreq(n, pixel)))
    common, own = rng.normal(size=(2, n, n))
    cut = 1.25
    mixed = np.where(frequency < cut, np.fft.fft2(common), np.fft.fft2(own))
    assert metrics.resolution_A(np.fft.ifft2(mixed).real, common, pixel) == pytest.approx(1 / cut, rel=0.04)


def test_gains():
    assert metrics.relative_gain(0.6, 0.5) == pytest.approx(0.2)
    assert metrics.relative_resolution_gain(1.0, 1.25) == pytest.approx(0.2)
    mean, spread, half = metrics.mean_with_interval([1.0, 2.0, 3.0, 4.0])
    assert (mean, spread) == pytest.approx((2.5, 1.2909944))
    assert half == pytest.approx(3.18245 * 1.2909944 / 2, rel=1e-5)


def test_dose_is_the_papers():
    assert metrics.dose_e_per_A2(250, experiment("mos2").electrons, (20.0, 20.0)) == pytest.approx(1.34e5)
    assert metrics.dose_e_per_A2(13225, experiment("dwcnt").electrons, (23.0, 23.0)) == pytest.approx(1e5)


def test_oversampling_counts_the_illuminated_pixels():
    settings = experiment("mos2")
    region, rng = SimulatedRegion(settings, 0), np.random.default_rng(0)

    def ratio(count, threshold):
        data = region.measure(positions.sparse_grid(count, (20.0, 20.0)), None, rng)
        image = reconstruction.rop(data, iterations=1)
        return metrics.oversampling_ratio(image, settings.detector_px, settings.pixel_A, threshold)

    everything = 250 * 64**2 / (2 * 200**2)  # the papers' object has 200 x 200 px
    assert ratio(250, 1e-3) == pytest.approx(everything, rel=0.05)
    assert ratio(500, 1e-3) == pytest.approx(2 * everything, rel=0.05)
    # Of the window, 30.8 A wide, the probes themselves light the region, 20 A wide, and their width around it.
    assert ratio(500, 0.1) == pytest.approx(2 * everything * (30.8 / 20.7) ** 2, rel=0.15)


@pytest.mark.parametrize(
    "call",
    [
        lambda: positions.sparse_grid(0, (1.0, 1.0)),
        lambda: positions.halton(3, (1.0, 0.0)),
        lambda: metrics.phase_ssim(np.zeros((20, 20)), np.zeros((20, 21))),
        lambda: metrics.phase_ssim(np.zeros((20, 20)), np.zeros((20, 20))),
        lambda: metrics.fourier_ring_correlation(np.zeros((20, 21)), np.zeros((20, 21)), 0.1),
        lambda: experiment("gold"),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()
