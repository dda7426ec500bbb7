"""Specimens made of atoms: their phase, and their diffraction patterns."""

import numpy as np
import pytest

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.atomic_specimens import ATOMIC_NAMES, atomic_specimen
from adaptive_core.simulation.projected_potential import ProjectedPotential
from adaptive_core.simulation.ptychography_detector import centred
from adaptive_core.simulation.ptychography_forward import ForwardModel, transmission
from adaptive_core.simulation.ptychography_probe import Optics, probe_wave

OPTICS = Optics(60, 33)
MRAD = 1.6


@pytest.fixture(scope="module")
def potential() -> ProjectedPotential:
    found = atomic_specimen("mos2").potential
    assert found is not None
    return found


def _by_the_forward_model(potential: ProjectedPotential, optics: Optics, place_nm: tuple[float, float], side: int):
    """The pattern from an object sampled on the grid that the detector implies."""
    extent, window = optics.extent_A(MRAD), 128
    step = extent / window
    n = 200
    along = (np.arange(n) - n // 2) * step / 10
    grid = np.stack(np.meshgrid(along, along, indexing="ij")).reshape(2, -1).T
    thing = transmission(potential.phase(grid, optics).reshape(n, n))
    position = np.array([place_nm]) * 10 / step + n // 2
    wave = probe_wave(optics, window, extent)
    return centred(ForwardModel(wave, position, (n, n), side).patterns(thing))[0]


@pytest.mark.parametrize(
    ("place", "optics"), [((0.0, 0.0), OPTICS), ((0.31, -0.47), OPTICS), ((0.1, 0.2), OPTICS.at_defocus(-60.0))]
)
def test_patterns_are_those_of_the_forward_model(potential, place, optics):
    expected = _by_the_forward_model(potential, optics, place, 64)
    found = potential.pattern(place, optics, MRAD, 64, (32.0, 32.0))
    # Their real-space samples differ, and atoms are sharp: an effect as large as that of multiple scattering.
    assert np.abs(found - expected).sum() < 0.015
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9999
    assert 0.97 < found.sum() <= 1.0


def test_the_pattern_follows_the_beam_by_parts_of_a_pixel(potential):
    here = potential.pattern((0.2, 0.1), OPTICS, MRAD, 64, (32.0, 32.0))
    whole = potential.pattern((0.2, 0.1), OPTICS, MRAD, 64, (35.0, 30.0))
    np.testing.assert_allclose(whole[6:, :60], here[3:-3, 2:-2], atol=1e-7)
    vacuum = ProjectedPotential(np.zeros((640, 640), np.float32), 0.1, OPTICS)
    disk = vacuum.pattern((0.0, 0.0), OPTICS, MRAD, 128, (61.3, 66.8))
    rows, columns = np.indices(disk.shape)
    assert (disk * rows).sum() / disk.sum() == pytest.approx(61.3, abs=0.02)
    assert (disk * columns).sum() / disk.sum() == pytest.approx(66.8, abs=0.02)


def test_a_beam_beside_the_detector_leaves_it_dark(potential):
    assert not potential.pattern((0.0, 0.0), OPTICS, MRAD, 64, (400.0, 32.0)).any()


def test_finer_pixels_show_the_same_pattern(potential):
    coarse = potential.pattern((0.2, 0.1), OPTICS, MRAD, 64, (31.5, 31.5))
    fine = potential.pattern((0.2, 0.1), OPTICS, MRAD / 4, 256, (127.5, 127.5))
    binned = fine.reshape(64, 4, 64, 4).sum((1, 3))
    assert np.corrcoef(coarse.ravel(), binned.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("name", ATOMIC_NAMES)
def test_images_and_phase_show_the_same_atoms(name):
    specimen = atomic_specimen(name)
    assert specimen.potential is not None
    assert specimen is atomic_specimen(name)
    rng = np.random.default_rng(0)
    places = rng.uniform(-1, 1, (4000, 2))
    phase = specimen.potential.phase(places, specimen.potential.optics)
    assert np.corrcoef(phase, specimen.sample(0, places))[0, 1] > 0.8
    assert 0.2 < phase.max() < 3


def test_detail_beyond_a_limit_is_taken_out(potential):
    smooth = potential.seen_through(lambda frequency: (frequency < 0.5).astype(float))
    assert smooth.values_VA.mean() == pytest.approx(potential.values_VA.mean(), rel=1e-4)
    assert smooth.values_VA.std() < 0.8 * potential.values_VA.std()


def test_an_unknown_name_is_refused():
    with pytest.raises(InvalidInputError, match="mos2, dwcnt"):
        atomic_specimen("graphene")
