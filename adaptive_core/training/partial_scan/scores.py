"""Scores for the cards of generators: errors on validation images beside those of completions without learning."""

from __future__ import annotations

import collections.abc
import typing

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from adaptive_core.partial_scan.benchmark.scan import Spending, adapt
from adaptive_core.partial_scan.generator import Generator
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.policy import Policy
from adaptive_core.scan_path import Positions
from adaptive_core.training.partial_scan.evaluate import (
    STATIC_PATHS,
    Completion,
    linear,
    probes_of,
    static_positions,
    thin_plate,
)
from adaptive_core.training.partial_scan.images import FloatImage, ImageSet, validation_crops
from adaptive_core.training.partial_scan.paths import MIXTURES, random_path
from adaptive_core.training.partial_scan.scans import measure, misplaced

RASTER_DOSES = (1.0, 10.0, 100.0)
PROBE_DOSE = 30.0
_WIDTHS_PX = (0.0, 0.7, 1.0, 1.5, 2.0, 3.0)

Scores = tuple[dict[str, typing.Any], ...]


def card_scores(generator: Generator, images: ImageSet, crops: int, paths: str, policy: Policy | None = None) -> Scores:
    """Mean squared errors of a generator that was trained on a mixture of paths, one of MIXTURES.

    For one path, or what a policy scans, without noise and with PROBE_DOSE electrons a probe; for any path those of all
    static ones, and of misplaced probes; for the raster those of RASTER_DOSES electrons a pixel, beside the best
    Gaussian filter.
    """
    truths, _ = validation_crops(images, 96, crops, seed=1)
    if paths == "raster":
        return tuple(_raster_score(generator, truths, dose) for dose in RASTER_DOSES)
    names = STATIC_PATHS if paths == "any" else (paths,)
    scores = [_score(generator, truths, name, None, policy) for name in names]
    scores += [_score(generator, truths, name, PROBE_DOSE, policy) for name in names]
    if paths == "any":
        scores += [_score(generator, truths, name, None, errors=True) for name in ("spiral", "uniform-grid")]
    return tuple(scores)


def scanned(
    truths: FloatImage,
    name: str,
    dose: float | None,
    errors: bool = False,
    seed: int = 4,
    policy: tuple[Policy, Generator] | None = None,
) -> collections.abc.Iterator[PartialImage]:
    """A scan of each truth (n, H, W) along a static path or the raster; with ``errors`` the beam is misplaced.

    With ``policy``, and the generator whose completions it looks at, it goes where that decides, and is not misplaced.
    """
    rng = np.random.default_rng(seed)
    size_px = (truths.shape[1], truths.shape[2])
    for i, truth in enumerate(truths):
        if policy is not None:
            yield adapt(*policy, truth, Spending(probes_of(size_px), dose, 1.0), seed * 1_000_003 + i).scan
            continue
        if name == "raster":
            positions = random_path(truth, MIXTURES[name], rng)
        else:
            positions = static_positions(name, size_px, probes_of(size_px))
        beam = misplaced(positions, size_px, rng) if errors else positions
        scan = PartialImage(size_px)
        scan.add(Positions(positions), np.asarray(measure(truth, beam, dose, rng), dtype=np.float32)[None])
        yield scan


def _score(
    generator: Generator,
    truths: FloatImage,
    name: str,
    dose: float | None,
    policy: Policy | None = None,
    errors: bool = False,
) -> dict[str, typing.Any]:
    completions: dict[str, Completion] = {"": _completion(generator), "linear": linear, "thin-plate spline": thin_plate}
    found: dict[str, list[float]] = {key: [] for key in completions}
    probes = 0
    deciding = None if policy is None else (policy, generator)
    for truth, scan in zip(truths, scanned(truths, name, dose, errors, policy=deciding), strict=True):
        probes = scan.probes
        for key, completion in completions.items():
            found[key].append(_mse(completion(scan), truth))
    value, *baselines = (round(float(np.mean(values)), 5) for values in found.values())
    condition = "misplaced " * errors + name + (f" at {dose:g} electrons a probe" if dose else "")
    return {
        "dataset": f"{len(truths)} validation crops, {truths.shape[1]} x {truths.shape[2]} px, {condition}",
        "metric": "MSE in [-1, 1]",
        "value": value,
        "baselines": dict(zip(list(found)[1:], baselines, strict=True)),
        "probes": probes,
    }


def _completion(generator: Generator) -> Completion:
    return lambda scan: generator.complete(scan).image


def _raster_score(generator: Generator, truths: FloatImage, dose: float) -> dict[str, typing.Any]:
    found, filtered = [], []
    for truth, scan in zip(truths, scanned(truths, "raster", dose), strict=True):
        found.append(_mse(generator.complete(scan).image, truth))
        filtered.append([_mse(gaussian_filter(scan.image(), width), truth) for width in _WIDTHS_PX])
    raw, *smoothed = np.mean(filtered, axis=0).round(5)
    return {
        "dataset": f"{len(truths)} validation crops, {truths.shape[1]} x {truths.shape[2]} px, raster at {dose:g} "
        "electrons a pixel",
        "metric": "MSE in [-1, 1]",
        "value": round(float(np.mean(found)), 5),
        "baselines": {"raw": float(raw), "best Gaussian filter": float(min(smoothed))},
        "probes": truths[0].size,
    }


def _mse(image: npt.NDArray[typing.Any], truth: FloatImage) -> float:
    return float(np.square(image.astype(np.float64) - truth).mean())
