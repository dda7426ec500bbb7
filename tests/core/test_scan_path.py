"""Geometry of paths against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adaptive_core.errors import InvalidInputError
from adaptive_core.scan_path import (
    Positions,
    Segment,
    as_segments,
    inside,
    rasterize,
    segment_to_subscan,
)

coordinate = st.floats(-50, 400)
point = st.tuples(coordinate, coordinate)
side = st.integers(8, 700)


def subscan_to_segment(geometry, context_px):
    """The inverse of :func:`segment_to_subscan`."""
    height, width = context_px
    probes = geometry.pixel_size[1]
    half = geometry.fractional_size[1] * width * (probes - 1) / probes / 2
    dy, dx = -math.sin(geometry.rotation_rad) * half, math.cos(geometry.rotation_rad) * half
    y, x = geometry.fractional_center[0] * height, geometry.fractional_center[1] * width
    return Segment((y - dy, x - dx), (y + dy, x + dx), probes)


@given(point, point, st.integers(2, 60), side, side)
def test_a_segment_survives_the_round_trip_through_a_subscan(start, end, probes, height, width):
    assume(math.dist(start, end) > 1e-3)
    segment = Segment(start, end, probes)
    again = subscan_to_segment(segment_to_subscan(segment, (height, width)), (height, width))
    np.testing.assert_allclose(again.positions, segment.positions, atol=1e-6)


@given(point, point, st.integers(2, 60), st.integers(50, 500))
def test_the_cells_of_a_subscan_are_square_and_centred_on_the_probes(start, end, probes, size):
    assume(math.dist(start, end) > 1e-3)
    geometry = segment_to_subscan(Segment(start, end, probes), (size, size))
    height, width = geometry.fractional_size
    assert width == pytest.approx(probes * height)
    assert width * size == pytest.approx(math.dist(start, end) * probes / (probes - 1))


@pytest.mark.parametrize(
    ("end", "rotation"),
    [((10, 20), 0.0), ((20, 10), -math.pi / 2), ((0, 10), math.pi / 2), ((10, 0), math.pi), ((20, 20), -math.pi / 4)],
)
def test_rotation_of_a_subscan(end, rotation):
    angle = segment_to_subscan(Segment((10, 10), end, 5), (100, 100)).rotation_rad
    assert math.remainder(angle - rotation, 2 * math.pi) == pytest.approx(0)


def test_a_single_position_is_a_subscan_of_one_pixel():
    geometry = segment_to_subscan(Segment((30.5, 10.25), (30.5, 10.25), 1), (100, 50))
    assert geometry.pixel_size == (1, 1)
    assert geometry.fractional_center == pytest.approx((0.305, 0.205))
    assert geometry.fractional_size == pytest.approx((0.01, 0.02))


def test_positions_are_equally_spaced_with_both_ends():
    positions = Segment((1, 2), (4, 6), 6).positions
    np.testing.assert_allclose(positions[[0, -1]], [(1, 2), (4, 6)])
    np.testing.assert_allclose(np.hypot(*np.diff(positions, axis=0).T), 1.0)


@given(st.lists(point, min_size=1, max_size=40))
def test_rasterize_takes_the_nearest_pixel(points):
    positions = np.array(points)
    rows, columns = rasterize(positions, (96, 64))
    centres = np.stack(np.meshgrid(np.arange(96) + 0.5, np.arange(64) + 0.5, indexing="ij"), axis=-1)
    for position, row, column in zip(positions, rows, columns, strict=True):
        # With ties at pixel borders, the chosen pixel is one of the nearest.
        distance = np.linalg.norm(centres - position, axis=-1)
        assert distance[row, column] == pytest.approx(distance.min(), abs=1e-9)


def test_inside_includes_the_edges():
    positions = np.array([(0, 0), (96, 64), (-0.01, 5), (5, 64.01), (50, 50)], dtype=float)
    np.testing.assert_array_equal(inside(positions, (96, 64)), [True, True, False, False, True])


@given(st.lists(point, min_size=1, max_size=60))
def test_runs_of_segments_reproduce_the_positions_in_order(points):
    positions = np.array(points)
    runs = list(as_segments(positions))
    np.testing.assert_allclose(np.concatenate([run.positions for run in runs]), positions, atol=1e-5)


def test_a_straight_line_is_one_run_and_a_corner_begins_another():
    corner = np.array([(0, 0), (0, 1), (0, 2), (1, 2), (2, 2)], dtype=float)
    assert [run.probes for run in as_segments(corner)] == [3, 2]
    assert [run.probes for run in as_segments(np.array([(1.0, 1.0)] * 3))] == [1, 1, 1]


@pytest.mark.parametrize("bad", [np.zeros((0, 2)), np.zeros(4), np.zeros((3, 3)), [[np.nan, 0.0]]])
def test_bad_positions_are_refused(bad):
    with pytest.raises(InvalidInputError, match="positions"):
        Positions(bad)


def test_bad_segments_are_refused():
    with pytest.raises(InvalidInputError, match="at least 1 probe position, not 0"):
        Segment((0, 0), (1, 1), 0)
    with pytest.raises(InvalidInputError, match="finite"):
        Segment((0, math.inf), (1, 1), 4)
    with pytest.raises(InvalidInputError, match="two different ends"):
        segment_to_subscan(Segment((1, 1), (1, 1), 4), (96, 96))
