"""Scans of a policy for the training of a generator, by the product's own loop."""

from __future__ import annotations

import pathlib

import numpy as np

from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan import catalogue
from adaptive_core.partial_scan.benchmark.scan import Spending, adapt
from adaptive_core.partial_scan.generator import Estimate, Generator
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.scan_path import FloatArray
from adaptive_core.training.partial_scan.data import Walker
from adaptive_core.training.partial_scan.images import FloatImage
from adaptive_core.training.partial_scan.paths import Mixture, random_probes


class Deciding:
    """Completes what a policy decides on, but not the finished scan, nor parts of it: nobody looks at those.

    Args:
        generator: completes.
        probes: of the finished scan.
    """

    def __init__(self, generator: Generator, probes: int) -> None:
        self.name, self.predicts_error = generator.name, generator.predicts_error
        self._generator, self._probes = generator, probes

    def complete(self, scan: PartialImage, channel: int = 0) -> Estimate:
        """The completion of an unfinished scan, and nothing of a finished one."""
        if scan.probes < self._probes:
            return self._generator.complete(scan, channel)
        self.predicts_error = False
        blank = np.zeros(scan.size_px, dtype=np.float32)
        return Estimate(blank, None, np.stack([blank, blank])[np.newaxis], scan.probes)


def walker_of(name: str, generator: pathlib.Path | None, mixture: Mixture) -> Walker:
    """Scans as a policy decides, up to a random stage.

    Args:
        name: of the policy, or its file.
        generator: file of what completes for it; None for the nearest measured pixel.
        mixture: says how many probes a scan has, and how often it is whole.
    """
    library = ModelLibrary()
    policy = catalogue.policy(name, library)
    completing = catalogue.generator("nearest-interpolation" if generator is None else str(generator), library)

    def walk(truth: FloatImage, dose: float | None, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        probes = random_probes(truth.size, mixture, rng)
        seed = int(rng.integers(2**31))
        scanned = adapt(policy, Deciding(completing, probes), truth, Spending(probes, dose, 1.0), seed)
        whole = len(scanned.positions)
        stage = whole if rng.random() < mixture.whole else max(int(whole * rng.uniform(0.1, 1)), 2)
        values = np.concatenate([part[0] for part in scanned.scan.values])
        return scanned.positions[:stage], values[:stage].astype(np.float64)

    return walk
