"""From camera frames to patterns: dark level, disk, cut and binning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_core.errors import DeviceDataError, InvalidInputError
from adaptive_core.ptychography.pattern_frames import DarkLevel, PatternCut, bright_field_disk, largest_binning
from adaptive_core.simulation.ptychography_probe import Optics

OPTICS = Optics(60, 33)


def _disk(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """Anti-aliased by sampling each pixel at 25 places."""
    fine = (np.arange(5) - 2) / 5
    y = (np.arange(shape[0])[:, None] + fine).ravel() - centre[0]
    x = (np.arange(shape[1])[:, None] + fine).ravel() - centre[1]
    inside = np.hypot(y[:, None], x) < radius
    return inside.reshape(shape[0], 5, shape[1], 5).mean((1, 3)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    y=st.floats(20, 40), x=st.floats(25, 45), radius=st.floats(6, 18), gain=st.floats(0.1, 1e5), seed=st.integers(0, 99)
)
def test_the_disk_is_found_below_a_pixel(y: float, x: float, radius: float, gain: float, seed: int) -> None:
    frame = _disk((64, 72), (y, x), radius)
    speckled = frame * np.random.default_rng(seed).uniform(0.75, 1.25, frame.shape)
    disk = bright_field_disk(gain * speckled)
    assert disk.centre_px == pytest.approx((y, x), abs=0.15)
    assert disk.radius_px == pytest.approx(radius, abs=0.3)


@settings(max_examples=50, deadline=None)
@given(y=st.floats(45, 75), x=st.floats(45, 75), binning=st.integers(1, 4), half=st.integers(4, 10))
def test_the_direct_beam_is_where_the_cut_says(y: float, x: float, binning: int, half: int) -> None:
    spot = np.zeros((1, 121, 121), np.float32)
    rows, columns = np.indices((121, 121))
    spot[0] = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * binning**2))
    patterns, beam = PatternCut(2 * half, binning).patterns(spot, (y, x))
    assert patterns.shape == (1, 2 * half, 2 * half)
    assert max(map(abs, beam)) <= 0.5 / binning + 1e-9
    weight = patterns[0] / patterns.sum()
    where = (weight.sum(1) @ np.arange(2 * half), weight.sum(0) @ np.arange(2 * half))
    assert where == pytest.approx((half + beam[0], half + beam[1]), abs=0.02)


def test_a_disk_near_the_edge_cannot_be_cut_out() -> None:
    with pytest.raises(DeviceDataError, match="align it first"):
        PatternCut(32, 2).patterns(np.ones((1, 100, 100), np.float32), (20.0, 50.0))


def test_the_dark_level_and_its_noise() -> None:
    rng = np.random.default_rng(0)
    fixed = rng.uniform(10, 30, (32, 32))
    dark = DarkLevel.of((fixed + rng.normal(0, 0.5, (16, 32, 32))).astype(np.float32))
    assert dark.noise == pytest.approx(0.5, rel=0.05)
    lit = np.zeros((32, 32), bool)
    lit[8:24, 8:24] = True
    frame = (fixed + 8.0 * lit + rng.normal(0, 0.5, (32, 32))).astype(np.float32)
    signal = dark.subtracted(frame)
    assert signal[lit].mean() == pytest.approx(8.0, rel=0.02)
    assert (signal[~lit] > 0).mean() < 0.01
    assert (signal >= 0).all()
    with pytest.raises(InvalidInputError, match="2 frames"):
        DarkLevel.of(frame[None])


def test_binning_leaves_room_for_the_defocused_probe() -> None:
    assert largest_binning(OPTICS, 0.4) == 5
    assert largest_binning(OPTICS.at_defocus(140.0), 0.4) == 3
    assert largest_binning(OPTICS.at_defocus(1000.0), 0.4) == 1
    with pytest.raises(InvalidInputError, match="go nearer to focus"):
        largest_binning(OPTICS.at_defocus(5000.0), 0.4)


def test_the_cut_fits_the_camera() -> None:
    assert PatternCut.fitting(OPTICS, 0.4, (512, 512), 4) == PatternCut(64, 4)
    assert PatternCut.fitting(OPTICS, 1.6, (50, 60), 1) == PatternCut(50, 1)
    with pytest.raises(InvalidInputError, match="shorten the camera length"):
        PatternCut.fitting(OPTICS, 0.4, (128, 128), 4)
    with pytest.raises(InvalidInputError, match="512 px is the limit"):
        PatternCut.fitting(OPTICS, 0.1, (2048, 2048), 1)
