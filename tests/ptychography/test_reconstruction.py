"""Engines and reconstructions on small simulated scans."""

import dataclasses

import numpy as np
import pytest

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import engines, metrics, positions, reconstruction
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.object_grid import ObjectGrid, object_grid, region_image
from adaptive_core.ptychography.pattern_frames import bright_field_disk
from adaptive_core.ptychography.scan_data import Calibration, ScanData, check_disk
from adaptive_core.simulation.ptychography_forward import ForwardModel
from adaptive_core.simulation.ptychography_probe import Optics, probe_wave

MOS2 = experiment("mos2")


@pytest.fixture(scope="module")
def region():
    return SimulatedRegion(MOS2, 100)


@pytest.fixture(scope="module")
def sparse(region):
    return region.measure(positions.sparse_grid(250, (20.0, 20.0)), None, np.random.default_rng(0))


def _quality(region, image):
    return metrics.phase_ssim(image.phase(MOS2.pixel_A), region.truth())


def _problem():
    rng = np.random.default_rng(0)
    n = 24
    wave = probe_wave(Optics(60, 20, 30.0), n, 12.0)
    model = ForwardModel(wave, rng.uniform(0, n, (5, 2)), (n, n), 16)
    intensities = model.patterns(np.exp(1j * rng.normal(size=(n, n))).astype(np.complex64))
    return rng, n, model, intensities


def test_gradient_is_that_of_the_loss():
    rng, n, model, intensities = _problem()
    potential = (rng.normal(size=(n, n)) * 0.3 + 0.1j * rng.normal(size=(n, n))).astype(np.complex64)
    direction = (rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))).astype(np.complex64)
    _, gradient = engines.squared_error(model, potential, intensities)
    step = 0.02
    ahead, _ = engines.squared_error(model, potential + step * direction, intensities)
    behind, _ = engines.squared_error(model, potential - step * direction, intensities)
    assert (ahead - behind) / (2 * step) == pytest.approx(np.vdot(gradient, direction).real, rel=0.01)


def test_gradient_descent_lowers_the_loss_and_starts_where_it_is_told(sparse):
    first = reconstruction.rop(sparse, iterations=4)
    assert all(np.diff(first.losses) < 0)
    again = reconstruction.rop(sparse, iterations=2, start=first)
    assert again.losses[0] < first.losses[-1]


def test_intermediate_and_final_reach_their_numbers(region, sparse):
    quick = reconstruction.intermediate(sparse)
    final = reconstruction.final(sparse)
    assert _quality(region, quick) > 0.41
    assert _quality(region, final) > 0.77
    assert quick.seconds < final.seconds
    assert metrics.resolution_A(final.phase(0.154), region.truth(), 0.154) < 1.0


def test_warm_start_from_the_sub_sequence_before(region, sparse):
    half = ScanData(sparse.calibration, sparse.patterns[:125], sparse.positions_A[:125])
    before = reconstruction.intermediate(half)
    one_epoch = dataclasses.replace(reconstruction.INTERMEDIATE, epochs=1)
    cold = reconstruction.intermediate(sparse, settings=one_epoch)
    warm = reconstruction.intermediate(sparse, start=before, settings=one_epoch)
    assert _quality(region, warm) > _quality(region, cold)


def test_absorption_is_recovered_where_it_is_and_costs_no_quality(sparse, region):
    thick = SimulatedRegion(MOS2, 100)
    y, x = (np.mgrid[:128, :128] - 64) * MOS2.cell_A / 128
    absorbing = np.exp(-0.3 * np.exp(-((y - 3) ** 2 + (x + 4) ** 2) / 4)).astype(np.float32)
    thick._transmission = thick._transmission * absorbing
    data = thick.measure(positions.sparse_grid(250, (20.0, 20.0)), None, np.random.default_rng(0), 120.0)
    settings = dataclasses.replace(reconstruction.FINAL, absorption=True)
    image = reconstruction.final(data, reconstruction.intermediate(data), settings)
    amplitude = image.amplitude(0.5)
    # The disk of scattering angles that is seen limits the depth; the place is the middle plus (3, -4) A.
    lowest = (np.array(np.unravel_index(amplitude.argmin(), amplitude.shape)) + 0.5) * 0.5
    np.testing.assert_allclose(lowest, [13.0, 6.0], atol=1.0)
    assert amplitude.min() == pytest.approx(absorbing.min(), abs=0.08)
    assert np.median(amplitude) == pytest.approx(1.0, abs=0.02)
    assert _quality(region, image) > 0.9
    assert (reconstruction.final(sparse).amplitude(0.5) == 1).all()


def test_absorption_is_bounded_whatever_the_data_are(sparse):
    counts = np.random.default_rng(1).exponential(100.0, sparse.patterns.shape).astype(np.float32)
    settings = dataclasses.replace(reconstruction.INTERMEDIATE, absorption=True, epochs=6)
    amplitude = reconstruction.intermediate(dataclasses.replace(sparse, patterns=counts), settings=settings)
    assert np.isfinite(amplitude.potential).all()
    assert -0.3001 <= amplitude.potential.imag.min() <= amplitude.potential.imag.max() <= 3.0001


def test_defocus_is_modelled(region):
    place = positions.sparse_grid(250, (20.0, 20.0))
    data = region.measure(place, None, np.random.default_rng(0), 50.0)
    assert data.calibration.optics.defocus_A == 50.0
    assert _quality(region, reconstruction.final(data)) > 0.85
    mixed = region.measure(place, None, np.random.default_rng(0), np.where(np.arange(250) % 2, 20.0, 80.0))
    assert _quality(region, reconstruction.final(mixed)) > 0.85
    wrong = dataclasses.replace(data, defocus_A=np.zeros(250))
    assert _quality(region, reconstruction.final(wrong)) < 0.6


def test_position_errors_are_found(region):
    place = positions.sparse_grid(250, (20.0, 20.0))
    data = region.measure(place, None, np.random.default_rng(0), 50.0)
    moved = np.clip(place + np.random.default_rng(1).normal(0, 0.15, place.shape), 0, 20)
    believed = dataclasses.replace(data, positions_A=moved)
    plain, refined = reconstruction.final(believed), reconstruction.final(believed, refine_positions=True)

    def error(found):
        difference = found - place
        return (difference - difference.mean(0)).std()

    assert error(refined.positions_A) < 0.25 * error(moved)
    assert _quality(region, refined) > _quality(region, plain) + 0.15


def test_an_unknown_defocus_is_found(region):
    place = positions.sparse_grid(250, (20.0, 20.0))
    data = region.measure(place, None, np.random.default_rng(0), 50.0)
    believed = dataclasses.replace(
        data, calibration=dataclasses.replace(data.calibration, optics=MOS2.optics.at_defocus(65.0))
    )
    refined = reconstruction.final(believed, refine_probe=True)
    grid = refined.grid
    true_probe = probe_wave(MOS2.optics.at_defocus(50.0), grid.window_px, MOS2.cell_A)
    assert abs(np.vdot(true_probe, refined.probe)) > 0.999
    assert _quality(region, refined) > _quality(region, reconstruction.final(believed)) + 0.15


def test_a_region_larger_than_the_window():
    settings = dataclasses.replace(MOS2, cell_A=46.2, fov_A=30.0)
    region = SimulatedRegion(settings, 5)
    data = region.measure(positions.sparse_grid(560, (30.0, 30.0)), None, np.random.default_rng(0))
    # The simulated detector has finer pixels than the paper's; binned they have a window smaller than the region.
    wide = Calibration(settings.optics, settings.calibration().mrad_per_px, 64, (30.0, 30.0), settings.electrons)
    grid = object_grid(dataclasses.replace(wide, fov_A=(60.0, 50.0)))
    assert grid.shape[0] > grid.shape[1] > grid.window_px
    image = reconstruction.intermediate(data)
    assert metrics.phase_ssim(image.phase(0.154), region.truth()) > 0.3


def test_region_image_interpolates_exactly():
    n, length = 24, 12.0
    grid = ObjectGrid(n, (n, n), length / n, (2.0, 3.0))
    y, x = np.indices((n, n)) * length / n

    def field(y, x):
        return np.cos(2 * np.pi * 3 * y / length) + np.sin(2 * np.pi * 2 * x / length)

    image = region_image(field(y, x), grid, (8.0, 6.0), 0.25)
    assert image.shape == (32, 24)
    rows, columns = 2.0 + (np.arange(32) + 0.5) * 0.25, 3.0 + (np.arange(24) + 0.5) * 0.25
    np.testing.assert_allclose(image, field(rows[:, None], columns[None, :]), atol=1e-5)


def test_convergence_angle_is_checked(sparse):
    disk = bright_field_disk(sparse.patterns.mean(0))
    assert disk.radius_px * sparse.calibration.mrad_per_px == pytest.approx(33, abs=1)
    check_disk(sparse)
    wrong = dataclasses.replace(sparse, calibration=dataclasses.replace(sparse.calibration, optics=Optics(60, 25)))
    with pytest.raises(InvalidInputError, match="radius of 32"):
        check_disk(wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patterns": np.zeros((250, 64, 64), np.float32)}, "no counts"),
        ({"patterns": np.full((250, 64, 64), 2e5, np.float32)}, "detector's limit"),
        ({"patterns": np.full((250, 64, 64), np.nan, np.float32)}, "finite"),
        ({"patterns": np.ones((250, 32, 32), np.float32)}, "64 x 64"),
        ({"positions_A": np.full((250, 2), 21.0)}, "outside the region"),
        ({"positions_A": np.zeros((249, 2))}, "positions of the shape"),
        ({"defocus_A": np.zeros(3)}, "one value a pattern"),
    ],
)
def test_bad_data_are_refused(sparse, change, message):
    calibration = dataclasses.replace(sparse.calibration, saturation=1e5)
    with pytest.raises(InvalidInputError, match=message):
        dataclasses.replace(sparse, calibration=calibration, **change)


def test_a_detector_smaller_than_the_disk_is_refused():
    with pytest.raises(InvalidInputError, match="whole bright-field disk"):
        Calibration(Optics(60, 40), 0.91, 86, (23.0, 23.0))


def test_a_warm_start_on_another_grid_is_refused(sparse):
    with pytest.raises(InvalidInputError, match="same grid"):
        reconstruction.final(sparse, start=reconstruction.intermediate(sparse), window_px=100)


def test_a_step_that_diverges_is_refused(sparse):
    with pytest.raises(InvalidInputError, match="diverged"), np.errstate(all="ignore"):
        reconstruction.rop(sparse, step=1e6, iterations=8)
