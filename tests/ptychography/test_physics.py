"""The forward model and what it is made of, against closed forms and independent computations."""

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation import ptychography_specimens as specimens
from adaptive_core.simulation.ptychography_detector import binned, centred, counted, fft_order
from adaptive_core.simulation.ptychography_forward import ForwardModel, transmission
from adaptive_core.simulation.ptychography_probe import Optics, cut_window, probe_wave, shifted

OPTICS = Optics(60, 33)


def _complex(rng, *shape):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize(("energy_kev", "wavelength_A"), [(60, 0.0486606), (100, 0.0370144), (300, 0.0196875)])
def test_wavelength(energy_kev, wavelength_A):
    assert Optics(energy_kev, 20).wavelength_A == pytest.approx(wavelength_A, rel=1e-5)


def test_interaction_constant():
    assert OPTICS.interaction_rad_per_VA == pytest.approx(0.00113569, rel=1e-5)  # abTEM's energy2sigma(60e3)


def test_probe_in_focus_is_an_airy_disk():
    n, extent = 256, 80.0
    probe = np.abs(shifted(probe_wave(OPTICS, n, extent), np.full((1, 2), n / 2))[0]) ** 2
    first_zero = 0.61 * OPTICS.wavelength_A / (OPTICS.convergence_mrad * 1e-3)
    profile = probe[n // 2, n // 2 :]
    assert np.argmin(profile[:5]) * extent / n == pytest.approx(first_zero, abs=extent / n)
    assert probe.sum() == pytest.approx(1, rel=1e-5)


def test_defocus_spreads_the_probe_to_the_geometrical_radius():
    n, extent, defocus = 256, 60.0, 400.0
    probe = np.abs(shifted(probe_wave(OPTICS.at_defocus(defocus), n, extent), np.full((1, 2), n / 2))[0]) ** 2
    y, x = (np.indices((n, n)) - n / 2) * extent / n
    radius = defocus * OPTICS.convergence_mrad * 1e-3
    # A uniform disk has the root mean square radius R / sqrt(2).
    inside = np.hypot(y, x) < 1.5 * radius
    assert np.sqrt((probe * (y**2 + x**2))[inside].sum()) == pytest.approx(radius / np.sqrt(2), rel=0.05)


def test_spherical_aberration_and_its_balancing_defocus_cancel_at_one_angle():
    # chi = 2 pi / lambda (-f a^2 / 2 + Cs a^4 / 4) vanishes where a^2 = 2 f / Cs.
    angle = 20e-3
    cs_mm = 0.02
    defocus = cs_mm * 1e7 * angle**2 / 2
    n, extent = 256, 60.0
    wave = probe_wave(Optics(60, 33, defocus, cs_mm), n, extent)
    plain = probe_wave(OPTICS, n, extent)
    step = OPTICS.wavelength_A / extent
    k = angle / step
    phase = np.unwrap(np.angle(wave[0, :30] / plain[0, :30]))
    assert np.interp(k, np.arange(30), phase) == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize(
    ("grid", "window", "detector", "offset"),
    [
        ((96, 96), 96, 64, (0.0, 0.0)),
        ((96, 96), 32, 21, (0.0, 0.0)),
        ((60, 72), 48, 32, (0.25, -0.4)),
        ((40, 40), 40, 40, (0.0, 0.0)),
        ((40, 40), 40, 30, (0.5, -0.3)),
    ],
)
def test_adjoint(grid, window, detector, offset):
    rng = np.random.default_rng(0)
    wave = cut_window(probe_wave(OPTICS, 96, 30.8), window)
    model = ForwardModel(wave, rng.uniform(-5, 100, (17, 2)), grid, detector, offset)
    thing, waves = _complex(rng, *grid), _complex(rng, 17, detector, detector)
    assert np.vdot(waves, model.waves(thing)) == pytest.approx(np.vdot(model.adjoint(waves), thing), rel=1e-4)


def test_model_is_the_plain_formula():
    rng = np.random.default_rng(1)
    n, d = 48, 20
    wave = probe_wave(Optics(60, 20, 30.0), n, 30.0)
    positions = rng.uniform(0, n, (3, 2))
    potential = rng.normal(size=(n, n)) * 0.2
    patterns = ForwardModel(wave, positions, (n, n), d).patterns(transmission(potential))
    k = np.fft.fftfreq(n)
    for position, pattern in zip(positions, patterns, strict=True):
        ramp = np.exp(-2j * np.pi * (k[:, None] * position[0] + k * position[1]))
        probe = np.fft.ifft2(wave * ramp, norm="ortho")
        full = np.fft.fftshift(np.abs(np.fft.fft2(probe * np.exp(1j * potential), norm="ortho")) ** 2)
        low = n // 2 - d // 2
        np.testing.assert_allclose(np.fft.fftshift(pattern), full[low : low + d, low : low + d], atol=1e-6)


def test_a_window_of_a_larger_object_sees_what_the_same_object_alone_shows():
    rng = np.random.default_rng(2)
    n = 64
    wave = probe_wave(Optics(60, 33, 20.0), n, 20.0)
    small = rng.normal(size=(n, n)).astype(np.float32) * 0.3
    large = np.zeros((150, 150), np.float32)
    large[40 : 40 + n, 50 : 50 + n] = small
    place = np.array([[n / 2 + 0.3, n / 2 - 0.2]])
    alone = ForwardModel(wave, place, (n, n), 50).patterns(transmission(small))
    cut = ForwardModel(wave, np.add(place, (40, 50)), (150, 150), 50).patterns(transmission(large))
    np.testing.assert_allclose(cut, alone, atol=2e-6)


def test_shifting_object_and_probe_together_changes_nothing():
    rng = np.random.default_rng(3)
    n = 64
    wave = probe_wave(OPTICS, n, 20.0)
    potential = rng.normal(size=(n, n)) * 0.3
    a = ForwardModel(wave, np.array([[20.25, 30.5]]), (n, n), 40).patterns(transmission(potential))
    moved = transmission(np.roll(potential, (5, -7), (0, 1)))
    b = ForwardModel(wave, np.array([[25.25, 23.5]]), (n, n), 40).patterns(moved)
    np.testing.assert_allclose(a, b, atol=2e-6)


def test_phase_objects_keep_all_electrons():
    rng = np.random.default_rng(4)
    wave = probe_wave(OPTICS, 64, 20.0)
    model = ForwardModel(wave, rng.uniform(0, 64, (5, 2)), (64, 64), 64)
    np.testing.assert_allclose(model.patterns(transmission(rng.normal(size=(64, 64)))).sum((1, 2)), 1, rtol=1e-4)


@hypothesis.given(st.integers(9, 40), st.integers(2, 4))
def test_binning_sums_blocks_and_knows_where_the_beam_is(side, factor):
    rng = np.random.default_rng(side)
    patterns = rng.random((2, side, side)).astype(np.float32)
    result, offset = binned(patterns, factor)
    n = result.shape[-1]
    # The block in the middle starts where its own offset says.
    middle = n // 2
    start = side // 2 + round(offset * factor - (factor - 1) / 2)
    block = patterns[0, start : start + factor, start : start + factor].sum()
    assert result[0, middle, middle] == pytest.approx(block, rel=1e-5)
    assert abs(offset) < 0.5
    assert side - n * factor < 2 * factor


def test_orders_are_inverse():
    patterns = np.arange(2 * 7 * 7, dtype=np.float32).reshape(2, 7, 7)
    np.testing.assert_array_equal(fft_order(centred(patterns)), patterns)


def test_counts_are_poissonian():
    exact = np.full((4, 50, 50), 1 / 2500, np.float32)
    counts = counted(exact, 2500 * 9.0, np.random.default_rng(0))
    assert counts.mean() == pytest.approx(9, rel=0.02)
    assert counts.var() == pytest.approx(9, rel=0.05)


def test_nanotubes_have_the_papers_diameters_and_bonds():
    for (n, m), diameter in zip(specimens.DWCNT_TUBES, (9.78, 16.44), strict=True):
        tube = specimens.nanotube(n, m, 40.0)
        assert 2 * np.hypot(tube[:, 0], tube[:, 2]).max() == pytest.approx(diameter, abs=0.01)
        inner = tube[np.abs(tube[:, 1]) < 10]
        distances = np.sort(np.linalg.norm(inner[:, None] - tube[None], axis=2), axis=1)[:, 1:4]
        np.testing.assert_allclose(distances, specimens.CARBON_BOND_A, atol=0.02)  # bent bonds are a little shorter


def test_mos2_has_its_lattice_and_loses_sulphur_only():
    whole, damaged = specimens.mos2(3, vacancies=0), specimens.mos2(3, vacancies=0.1)
    assert (whole.elements == "Mo").sum() == (damaged.elements == "Mo").sum()
    lost = 1 - (damaged.elements == "S").sum() / (whole.elements == "S").sum()
    assert lost == pytest.approx(0.1, abs=0.05)
    area = specimens.MOS2_LATTICE_A**2 * np.sqrt(3) / 2
    assert (whole.elements == "Mo").sum() == pytest.approx(30.8**2 / area, rel=0.05)


def test_potential_of_one_atom_is_its_scattering_factor():
    cell, n = 12.0, 240
    atoms = specimens.Atoms(np.array(["Mo"]), np.array([[0.0, 6.0, 6.0]]), cell)
    potential = specimens.projected_potential(atoms, n, displacement_A=0)
    # Independent of the code under test: f(0) = sum a / b + sum c.
    a, b, c, _ = np.asarray(specimens.KIRKLAND["Mo"])
    assert potential.mean() * cell**2 == pytest.approx(47.87801 * ((a / b).sum() + c.sum()), rel=1e-4)
    assert np.unravel_index(potential.argmax(), potential.shape) == (n // 2, n // 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Optics(0.1, 33),
        lambda: Optics(60, -1),
        lambda: Optics(60, 33, float("nan")),
        lambda: probe_wave(Optics(60, 100), 32, 30.0),
        lambda: binned(np.ones((1, 8, 8), np.float32), 5),
        lambda: counted(np.ones((1, 8, 8), np.float32), 0, np.random.default_rng(0)),
        lambda: specimens.mos2(0, vacancies=2),
        lambda: specimens.nanotube(2, 4, 10),
        lambda: ForwardModel(probe_wave(OPTICS, 64, 20.0), np.zeros((1, 2)), (64, 64), 65),
        lambda: specimens.projected_potential(specimens.Atoms(np.array(["Xx"]), np.zeros((1, 3)), 5.0), 32),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()
