"""Metrics against scikit-image and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import metrics as peer

from adaptive_core.errors import InvalidInputError
from adaptive_core.metrics import mse, psnr_db, ssim


def images(seed, shape=(40, 33)):
    random = np.random.default_rng(seed)
    truth = random.normal(size=shape).cumsum(0).cumsum(1)
    return truth + random.normal(scale=truth.std() / 5, size=shape), truth


def scaled(image, truth):
    return 2 * (image - truth.min()) / (truth.max() - truth.min()) - 1


@given(st.integers(0, 10_000))
def test_they_agree_with_scikit_image(seed):
    estimate, truth = images(seed)
    a, b = scaled(estimate, truth), scaled(truth, truth)
    assert mse(estimate, truth) == pytest.approx(peer.mean_squared_error(b, a))
    assert psnr_db(estimate, truth) == pytest.approx(peer.peak_signal_noise_ratio(b, a, data_range=2))
    assert ssim(estimate, truth) == pytest.approx(
        peer.structural_similarity(b, a, data_range=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    )


@given(st.floats(1e-6, 1e6), st.floats(-1e3, 1e3), st.integers(0, 100))
def test_the_detector_scale_does_not_matter(gain, offset, seed):
    estimate, truth = images(seed)
    assert mse(estimate * gain + offset * gain, truth * gain + offset * gain) == pytest.approx(mse(estimate, truth))


def test_an_estimate_off_by_half_of_the_range_has_a_squared_error_of_one():
    truth = np.array([[0.0, 10.0], [10.0, 0.0]], dtype=np.float32)
    assert mse(truth + 5, truth) == pytest.approx(1.0)
    assert psnr_db(truth + 5, truth) == pytest.approx(10 * math.log10(4))


def test_equal_images_are_perfect():
    truth = images(0)[1]
    assert mse(truth, truth) == 0
    assert psnr_db(truth, truth) == math.inf
    assert ssim(truth, truth) == pytest.approx(1)


@pytest.mark.parametrize("metric", [mse, psnr_db, ssim])
@pytest.mark.parametrize(
    ("estimate", "truth"),
    [
        (np.zeros((20, 20)), np.zeros((20, 20))),
        (np.zeros((20, 20)), np.full((20, 20), np.nan)),
        (np.zeros((20, 21)), np.eye(20)),
        (np.zeros(20), np.arange(20.0)),
    ],
    ids=["constant", "not finite", "shapes differ", "not an image"],
)
def test_what_cannot_be_compared_is_refused(metric, estimate, truth):
    with pytest.raises(InvalidInputError):
        metric(estimate, truth)


def test_ssim_needs_a_whole_window():
    with pytest.raises(InvalidInputError, match="at least 11 px"):
        ssim(np.eye(10), np.eye(10))
