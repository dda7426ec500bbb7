"""Static paths: inside the region, evenly spread, of the length asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from adaptive_core import static_path
from adaptive_core.errors import InvalidInputError
from adaptive_core.scan_path import inside, rasterize

PATHS = {
    "spiral": static_path.spiral,
    "serpentine": static_path.serpentine,
    "uniform_grid": static_path.uniform_grid,
    "halton": static_path.halton,
    "blue_noise": static_path.blue_noise,
    "random_segments": lambda size, probes: static_path.random_segments(size, probes, seed=1),
}


@pytest.mark.parametrize("name", PATHS)
@settings(max_examples=40, deadline=None)
@given(size=st.tuples(st.integers(32, 300), st.integers(32, 300)), probes=st.integers(2, 900))
def test_every_path_stays_inside_and_never_exceeds_its_probes(name, size, probes):
    positions = PATHS[name](size, probes)
    assert inside(positions, size).all()
    assert len(positions) <= probes
    if name != "uniform_grid":
        assert len(positions) == probes


def test_the_spiral_has_equal_arcs_and_reaches_the_edge():
    positions = static_path.spiral((96, 96), 400)
    steps = np.hypot(*np.diff(positions, axis=0).T)
    np.testing.assert_allclose(steps[20:], np.sqrt(2), rtol=0.02)
    assert np.hypot(*(positions[-1] - 48)) == pytest.approx(47.5)


def test_the_serpentine_has_the_length_asked_for():
    positions = static_path.serpentine((96, 96), 400)
    length = np.hypot(*np.diff(positions, axis=0).T).sum()
    assert length == pytest.approx(400 * np.sqrt(2), rel=0.12)


def test_the_grid_has_the_aspect_of_the_region():
    positions = static_path.uniform_grid((64, 256), 400)
    rows, columns = len(np.unique(positions[:, 0])), len(np.unique(positions[:, 1]))
    assert (rows, columns) == (10, 40)
    np.testing.assert_allclose(positions.mean(axis=0), (32, 128))
    # Visited as a serpentine: no jump is longer than the grid's spacing.
    assert np.hypot(*np.diff(positions, axis=0).T).max() == pytest.approx(6.4)


def test_blue_noise_is_even_without_a_period_and_visited_on_a_short_way():
    size_px, probes = (120, 160), 768  # as a grid, each 5 px
    positions = static_path.blue_noise(size_px, probes, seed=3)

    def nearest(points):
        return KDTree(points).query(points, 2)[0][:, 1]

    assert nearest(positions).min() > 0.45 * 5 > nearest(static_path.halton(size_px, probes)).min()
    assert nearest(positions).mean() > 0.8 * 5

    def strongest_order(points):
        """The largest Fourier coefficient of the measured pixels beside their number, 1 for a lattice."""
        measured = np.zeros(size_px)
        measured[rasterize(points, size_px)] = 1 / probes
        return np.abs(np.fft.fft2(measured)).ravel()[1:].max()

    assert strongest_order(static_path.uniform_grid(size_px, probes)) > 0.99
    assert strongest_order(positions) < 0.5
    way = np.hypot(*np.diff(positions, axis=0).T).sum()
    assert way < 1.1 * np.sqrt(probes * 120 * 160)
    np.testing.assert_array_equal(positions, static_path.blue_noise(size_px, probes, seed=3))
    assert not np.array_equal(positions, static_path.blue_noise(size_px, probes, seed=4))


def test_the_first_halton_points():
    np.testing.assert_allclose(
        static_path.halton((60, 90), 3), np.array([(1 / 2, 1 / 3), (1 / 4, 2 / 3), (3 / 4, 1 / 9)]) * (60, 90)
    )


def test_random_segments_are_repeatable_and_straight():
    first = static_path.random_segments((96, 96), 45, seed=3)
    np.testing.assert_array_equal(first, static_path.random_segments((96, 96), 45, seed=3))
    assert not np.array_equal(first, static_path.random_segments((96, 96), 45, seed=4))
    np.testing.assert_allclose(np.hypot(*np.diff(first[:20], axis=0).T), np.sqrt(2))


def test_impossible_paths_are_refused():
    with pytest.raises(InvalidInputError, match="0 probes"):
        static_path.spiral((96, 96), 0)
    with pytest.raises(InvalidInputError, match="does not fit"):
        static_path.random_segments((20, 20), 40, seed=0)
