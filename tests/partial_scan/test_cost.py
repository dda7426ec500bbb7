"""What a scan costs grows no faster than its area: runs of the model, px that it is given, passes of the policy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from adaptive_core.partial_scan.benchmark.bench import PAPER_COVERAGE
from adaptive_core.partial_scan.benchmark.scan import Spending, adapt
from adaptive_core.partial_scan.error_policy import PredictedErrorPolicy
from adaptive_core.partial_scan.generator import Estimate
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.refinement_policy import RefinementPolicy
from adaptive_core.scan_path import FloatArray, Size


def _uneven(size_px: Size, seed: int) -> FloatArray:
    """Smooth noise of deviation 1, shape ``size_px``."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size_px), 3.0)
    return np.asarray(noise / noise.std(), dtype=np.float64)


class CountingGenerator:
    """Predicts an uneven error, and counts the px that it completes."""

    name = "counting"
    predicts_error = True

    def __init__(self, size_px: Size) -> None:
        self.completed_px: list[int] = []
        self._log_error = _uneven(size_px, 1).astype(np.float32)

    def complete(self, scan: PartialImage, channel: int = 0) -> Estimate:
        self.completed_px.append(scan.measured.size)
        image = np.full(scan.size_px, scan.scale(channel)[0], dtype=np.float32)
        standardised = np.stack([np.zeros_like(image), 2 * self._log_error])[np.newaxis]
        return Estimate(image, np.exp(self._log_error), standardised, scan.probes)


@pytest.mark.parametrize("policy", [RefinementPolicy(), PredictedErrorPolicy()], ids=lambda policy: policy.name)
def test_cost_grows_no_faster_than_the_area(
    policy: RefinementPolicy | PredictedErrorPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    smoothed = ndimage.gaussian_filter

    def counting_filter(array: FloatArray, *args: object, **options: object) -> FloatArray:
        passes.append(array.size)
        return np.asarray(smoothed(array, *args, **options))

    monkeypatch.setattr(ndimage, "gaussian_filter", counting_filter)
    costs = []
    for side in (96, 256, 512):
        truth = np.tanh(_uneven((side, side), 0)).astype(np.float32)
        generator = CountingGenerator((side, side))
        passes.clear()
        probes = round(truth.size * PAPER_COVERAGE / 20) * 20
        scanned = adapt(policy, generator, truth, Spending(probes, None, 1.0), 0)
        assert scanned.scan.probes == probes
        costs.append((len(generator.completed_px), sum(generator.completed_px) / truth.size, sum(passes) / truth.size))
    for smaller, larger in ((costs[0], costs[1]), (costs[1], costs[2])):
        # One completion or pass more is rounding; a cost that grew faster would have at least two.
        assert all(after <= before + 1 for before, after in zip(smaller, larger, strict=True)), costs
