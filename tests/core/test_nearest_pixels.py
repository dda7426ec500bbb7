"""The nearest marked pixel, against a search through all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from adaptive_core.nearest_pixels import nearest_pixels


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.integers(0, 1000))
@pytest.mark.parametrize("rows_apart", [0, 64])
def test_it_is_the_nearest_one(rows_apart: int, height: int, width: int, marks: int, seed: int) -> None:
    marked = np.zeros((height, rows_apart or width), dtype=np.bool_)
    marked.flat[np.random.default_rng(seed).integers(0, marked.size, marks)] = True
    nearest = nearest_pixels(marked)
    pixels = np.argwhere(np.ones_like(marked))
    expected, _ = cKDTree(np.argwhere(marked)).query(pixels)
    np.testing.assert_allclose(nearest.distance.ravel(), expected, atol=1e-12)
    assert marked[tuple(nearest.pixel)].all()
    there = np.linalg.norm(nearest.pixel.reshape(2, -1).T - pixels, axis=1)
    np.testing.assert_allclose(there, expected, atol=1e-12)
