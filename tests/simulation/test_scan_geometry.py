"""Whole scans, subscans and lists of positions: the same place has the same nm, however it is asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_core.errors import InvalidInputError
from adaptive_core.scan_path import Segment, segment_to_subscan
from adaptive_core.simulation.scan_geometry import Context, ScanGeometry

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
fractions = st.floats(0.05, 0.95)
angles = st.floats(-math.pi, math.pi)
contexts = st.builds(Context, sizes, st.floats(0.5, 500.0), angles, st.tuples(st.floats(-50, 50), st.floats(-50, 50)))


@given(contexts)
def test_a_raster_is_the_centres_of_its_pixels(context: Context) -> None:
    geometry = ScanGeometry.raster(context)
    rows, columns = context.size_px
    i, j = np.divmod(np.arange(rows * columns), columns)
    centres = np.stack([(i + 0.5) / rows, (j + 0.5) / columns], axis=1)
    np.testing.assert_allclose(geometry.positions_nm(), context.to_nm(centres), atol=1e-9)


@given(contexts, st.data())
def test_an_unrotated_subscan_of_whole_pixels_is_a_part_of_the_raster(context: Context, data: st.DataObject) -> None:
    rows, columns = context.size_px
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    height, width = data.draw(st.integers(1, rows - top)), data.draw(st.integers(1, columns - left))
    subscan = ScanGeometry.raster(
        context,
        (height, width),
        (height / rows, width / columns),
        ((top + height / 2) / rows, (left + width / 2) / columns),
    )
    whole = ScanGeometry.raster(context).positions_nm().reshape(rows, columns, 2)
    expected = whole[top : top + height, left : left + width].reshape(-1, 2)
    np.testing.assert_allclose(subscan.positions_nm(), expected, atol=1e-9)
    assert subscan.pixel_nm == context.pixel_nm


@given(contexts, st.tuples(fractions, fractions), st.tuples(fractions, fractions), st.integers(2, 30))
def test_a_segment_as_a_subscan_of_one_row_visits_its_positions(
    context: Context, start: tuple[float, float], end: tuple[float, float], probes: int
) -> None:
    height, width = context.size_px
    segment = Segment((start[0] * height, start[1] * width), (end[0] * height, end[1] * width), probes)
    if segment.length_px < 1e-6:
        return
    row = segment_to_subscan(segment, (height, width))
    subscan = ScanGeometry.raster(context, row.pixel_size, row.fractional_size, row.fractional_center, row.rotation_rad)
    as_positions = ScanGeometry.positions(context, segment.positions / np.array([height, width]))
    np.testing.assert_allclose(subscan.positions_nm(), as_positions.positions_nm(), atol=1e-7)


@given(contexts, angles)
def test_rotation_turns_the_context_about_its_centre(context: Context, angle: float) -> None:
    turned = Context(context.size_px, context.fov_nm, context.rotation_rad + angle, context.center_nm)
    before = ScanGeometry.raster(context).positions_nm() - context.center_nm
    after = ScanGeometry.raster(turned).positions_nm() - context.center_nm
    cos, sin = math.cos(angle), math.sin(angle)
    expected = np.stack([before[:, 0] * cos + before[:, 1] * sin, before[:, 1] * cos - before[:, 0] * sin], axis=1)
    np.testing.assert_allclose(after, expected, atol=1e-9 * (1 + context.fov_nm))


@given(contexts, st.integers(0, 1600), st.integers(0, 1600))
def test_parts_of_a_raster_are_parts_of_the_whole(context: Context, a: int, b: int) -> None:
    geometry = ScanGeometry.raster(context)
    start, stop = sorted((min(a, geometry.count), min(b, geometry.count)))
    np.testing.assert_array_equal(geometry.positions_nm(start, stop), geometry.positions_nm()[start:stop])


def test_the_longest_side_of_the_context_is_the_field_of_view() -> None:
    positions = ScanGeometry.raster(Context((64, 128), 20.0)).positions_nm()
    extent = positions.max(axis=0) - positions.min(axis=0)
    np.testing.assert_allclose(extent, [20.0 * 63 / 128, 20.0 * 127 / 128])


@pytest.mark.parametrize("bad", [[], [[0.5]], [[0.5, np.nan]], [["a", "b"]], [0.5, 0.5], [[0.1, 0.2], [0.3]], None])
def test_bad_positions_are_refused(bad: object) -> None:
    with pytest.raises(InvalidInputError):
        ScanGeometry.positions(Context((64, 64), 20.0), bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "fov_nm"), [((0, 64), 20.0), ((64, 64), 0.0), ((64, 64), math.nan)])
def test_bad_contexts_are_refused(size: tuple[int, int], fov_nm: float) -> None:
    with pytest.raises(InvalidInputError):
        Context(size, fov_nm)
