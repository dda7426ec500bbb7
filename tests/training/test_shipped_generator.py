"""The shipped generators on procedural images that they never saw: better than completions without learning."""

import numpy as np
import pytest

from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan.catalogue import own_generator
from adaptive_core.partial_scan.generator import OnnxGenerator
from adaptive_core.training.partial_scan.data import held_out_truths
from adaptive_core.training.partial_scan.evaluate import linear, thin_plate
from adaptive_core.training.partial_scan.scores import scanned


@pytest.fixture(scope="module")
def truths():
    return held_out_truths(None, 10, seed=7)


def _rms(complete, truths, scans):
    return np.sqrt(
        np.mean([np.square(complete(scan) - truth).mean() for scan, truth in zip(scans, truths, strict=True)])
    )


def _generator(name):
    generator = OnnxGenerator(ModelLibrary().load(name))
    return lambda scan: generator.complete(scan).image


@pytest.mark.parametrize("path", ["spiral", "halton", "blue-noise"])
def test_a_paths_own_generator_is_the_best_completion_of_it(path, truths):
    scans = list(scanned(truths, path, None))
    own = _rms(_generator(own_generator(path)), truths, scans)
    assert own < 0.95 * min(_rms(linear, truths, scans), _rms(thin_plate, truths, scans))
    # It was trained for this path and is not worse than the one that serves all paths.
    assert own < 1.02 * _rms(_generator("partial_scan_generator"), truths, scans)


@pytest.mark.parametrize("path", ["spiral", "uniform-grid"])
def test_the_generator_is_ahead_with_misplaced_probes_too(path, truths):
    scans = list(scanned(truths, path, None, errors=True))
    corrected = _rms(_generator("partial_scan_generator"), truths, scans)
    # Interpolation takes the probes to be where they were asked to be.
    assert corrected < min(_rms(linear, truths, scans), _rms(thin_plate, truths, scans))


def test_noise_is_taken_away(truths):
    scans = list(scanned(truths, "uniform-grid", 30.0))
    own = _rms(_generator("partial_scan_generator_uniform_grid"), truths, scans)
    assert own < 0.85 * min(_rms(linear, truths, scans), _rms(thin_plate, truths, scans))


@pytest.mark.parametrize("path", ["spiral", "uniform-grid", "halton"])
def test_nine_pixels_of_ten_lie_in_the_predicted_interval(path, truths):
    generator = OnnxGenerator(ModelLibrary().load("partial_scan_generator"))
    inside = []
    for scan, truth in zip(scanned(truths, path, None), truths, strict=True):
        estimate = generator.complete(scan)
        inside.append((np.abs(estimate.image - truth) < 1.645 * estimate.error)[~scan.measured].mean())
    assert 0.8 < np.mean(inside) < 0.98
