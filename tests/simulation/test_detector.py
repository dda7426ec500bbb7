"""Noise against closed forms, and noise that repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.detector import Detector, DetectorChannel

N = 200_000


def counts(detector: Detector, electrons: float, seed: int = 1, n: int = N) -> np.ndarray:
    channel = DetectorChannel(seed, 0)
    channel.start_frame(detector, 1)
    return channel.read(detector, np.full(n, electrons)).astype(np.float64)


@pytest.mark.parametrize("electrons", [0.0, 0.3, 12.0, 4000.0])
@pytest.mark.parametrize("detector", [Detector(), Detector(counts_per_electron=3.0, offset=-20.0, read_noise=40.0)])
def test_mean_and_variance_follow_poisson_statistics_gain_and_read_noise(detector: Detector, electrons: float) -> None:
    values = counts(detector, electrons)
    variance = detector.counts_per_electron**2 * electrons + detector.read_noise**2
    assert values.mean() == pytest.approx(detector.expected(np.array(electrons)), abs=5 * np.sqrt(variance / N) + 1e-4)
    fourth = detector.counts_per_electron**4 * electrons  # the Poisson excess in the variance of the variance
    assert values.var() == pytest.approx(variance, abs=6 * np.sqrt((2 * variance**2 + fourth) / N) + 1e-3)


def test_without_noise_the_expected_counts_come_back() -> None:
    electrons = np.linspace(0, 50, 11)
    channel = DetectorChannel(1, 0)
    np.testing.assert_array_equal(channel.read(Detector().noiseless, electrons), Detector().expected(electrons))


def test_line_noise_is_shared_by_a_row_and_independent_between_rows() -> None:
    detector = Detector(shot_noise=False, read_noise=0.0, line_noise=7.0)
    channel = DetectorChannel(1, 0)
    channel.start_frame(detector, 4000)
    rows = np.repeat(np.arange(4000), 5)
    values = channel.read(detector, np.zeros(len(rows)), rows).reshape(4000, 5)
    assert (values == values[:, :1]).all()
    assert values[:, 0].std() == pytest.approx(7.0, rel=0.05)


@given(st.lists(st.integers(1, 99), max_size=4), st.integers(0, 5))
def test_a_frame_read_in_pieces_is_the_same_frame(cuts: list[int], seed: int) -> None:
    detector = Detector(line_noise=3.0)
    electrons, rows = np.linspace(0, 30, 100), np.arange(100) // 10
    whole, pieces = DetectorChannel(seed, 2), DetectorChannel(seed, 2)
    whole.start_frame(detector, 10)
    pieces.start_frame(detector, 10)
    parts = np.split(np.arange(100), sorted(cuts))
    values = np.concatenate([pieces.read(detector, electrons[part], rows[part]) for part in parts])
    np.testing.assert_array_equal(values, whole.read(detector, electrons, rows))


def test_seeds_and_channels_are_independent() -> None:
    detector = Detector()
    drawn = [DetectorChannel(seed, index).read(detector, np.full(50, 9.0)) for seed in (1, 2) for index in (0, 1)]
    assert len({values.tobytes() for values in drawn}) == 4
    again = DetectorChannel(1, 0).read(detector, np.full(50, 9.0))
    np.testing.assert_array_equal(again, drawn[0])


@pytest.mark.parametrize(
    "bad",
    [
        {"counts_per_electron": 0.0},
        {"counts_per_electron": np.inf},
        {"offset": np.nan},
        {"read_noise": -1.0},
        {"line_noise": np.nan},
    ],
)
def test_bad_detectors_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        Detector(**bad)
