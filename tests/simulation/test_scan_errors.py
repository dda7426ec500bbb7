"""Drift, distortion and lag against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.scan_errors import BeamLag, ScanErrors


def test_drift_is_velocity_times_time() -> None:
    errors = ScanErrors(drift_nm_per_s=(0.5, -2.0))
    np.testing.assert_allclose(errors.drift(np.array([0.0, 1e6, 2.5e6])), [[0, 0], [0.5, -2.0], [1.25, -5.0]])


def test_shear_and_radial_distortion_have_their_closed_forms() -> None:
    points = np.array([[3.0, 4.0], [0.0, 0.0], [-6.0, 8.0]])
    sheared = ScanErrors(shear=0.1).distort(points)
    np.testing.assert_allclose(sheared, [[3.0, 4.3], [0.0, 0.0], [-6.0, 7.4]])
    barrel = ScanErrors(radial_distortion=-0.04, distortion_radius_nm=5.0).distort(points)
    np.testing.assert_allclose(barrel, [[3.0 * 0.96, 4.0 * 0.96], [0.0, 0.0], [-6.0 * 0.84, 8.0 * 0.84]])
    assert ScanErrors().distort(points) is points


def test_after_a_jump_the_beam_approaches_exponentially() -> None:
    lag = BeamLag()
    lag.follow(np.array([[0.0, 0.0]]), np.array([1e9]), 5.0)
    target = np.full((20, 2), [10.0, -4.0])
    reached = lag.follow(target, np.full(20, 2.0), 5.0)
    left = np.exp(-2.0 * np.arange(1, 21) / 5.0)
    np.testing.assert_allclose(reached, target * (1 - left)[:, None], atol=1e-12)


def test_on_a_long_ramp_the_beam_is_late_by_a_constant() -> None:
    ramp = np.stack([np.zeros(400), np.arange(400) * 0.5], axis=1)
    reached = BeamLag().follow(ramp, np.full(400, 1.0), 6.0)
    a = np.exp(-1 / 6)
    np.testing.assert_allclose(ramp[200:, 1] - reached[200:, 1], 0.5 * a / (1 - a), rtol=1e-6)


@given(st.lists(st.integers(0, 60), max_size=5), st.floats(0.1, 50.0))
def test_a_path_followed_in_pieces_is_the_same_path(cuts: list[int], lag_us: float) -> None:
    rng = np.random.default_rng(3)
    path, steps = rng.normal(size=(60, 2)), rng.choice([1.0, 1.0, 30.0], 60)
    parts = np.split(np.arange(60), sorted(cuts))
    pieces = BeamLag()
    followed = np.concatenate([pieces.follow(path[part], steps[part], lag_us) for part in parts])
    np.testing.assert_allclose(followed, BeamLag().follow(path, steps, lag_us), atol=1e-12)


def test_without_lag_the_beam_is_where_it_should_be() -> None:
    path = np.random.default_rng(3).normal(size=(10, 2))
    np.testing.assert_array_equal(BeamLag().follow(path, np.ones(10), 0.0), path)


@pytest.mark.parametrize(
    "bad",
    [
        {"lag_us": -1.0},
        {"flyback_us": np.nan},
        {"settling_us": -0.1},
        {"line_jitter_nm": -1.0},
        {"distortion_radius_nm": 0.0},
        {"shear": np.inf},
        {"drift_nm_per_s": (0.0, np.nan)},
    ],
)
def test_bad_scan_errors_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        ScanErrors(**bad)  # type: ignore[arg-type]
