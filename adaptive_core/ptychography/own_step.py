"""The papers' descent with the step that suits each position set best, in place of one step for all.

Positions that crowd raise the largest illumination, which acts as a larger step (:func:`reconstruction.rop_step`), so
that one fixed step favours some sets.
"""

from __future__ import annotations

import collections.abc
import typing

import numpy as np

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import metrics, protocols, reconstruction
from adaptive_core.ptychography.experiments import Experiment, SimulatedRegion
from adaptive_core.ptychography.policy import Policy
from adaptive_core.ptychography.scan_data import ScanData

STEPS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
"""Relative steps that are tried; the papers' protocol takes :data:`reconstruction.ROP_STEP`."""
REGIONS = 4
"""For tuning."""


def ssim(data: ScanData, step: float, settings: Experiment, truth: metrics.Image) -> float:
    """SSIM of the papers' descent with a relative step against the truth; 0 where it diverges."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            image = reconstruction.rop(data, step)
    except reconstruction.DivergedError:
        return 0.0
    return metrics.phase_ssim(image.phase(settings.pixel_A), truth)


def tune(
    settings: Experiment,
    sets: collections.abc.Collection[str],
    learned: collections.abc.Mapping[str, Policy],
    regions: int = REGIONS,
) -> list[dict[str, typing.Any]]:
    """Try every step for position sets and learned policies, on regions kept for tuning; the best first.

    Returns:
        ``positions`` (name), ``step`` and the mean ``ssim_truth`` of everything that was tried.
    """
    if regions < 1:
        raise InvalidInputError(f"Tuning needs 1 region or more, not {regions}.")
    found: dict[str, list[list[float]]] = {}
    for index in range(regions):
        region = SimulatedRegion(settings, protocols.TUNING_SEED + index)
        truth = region.truth()
        for name in dict.fromkeys([*sets, *learned]):
            data = protocols.measured(region, name, "paper", 1.0, learned.get(name), index)
            found.setdefault(name, []).append([ssim(data, step, settings, truth) for step in STEPS])
    rows = [
        {"positions": name, "step": step, "ssim_truth": float(mean)}
        for name, each in found.items()
        for step, mean in zip(STEPS, np.mean(each, axis=0), strict=True)
    ]
    return sorted(rows, key=lambda row: -row["ssim_truth"])


def best(rows: list[dict[str, typing.Any]]) -> dict[str, float]:
    """The best step of each position set, from what :func:`tune` returns."""
    return {row["positions"]: row["step"] for row in reversed(rows)}
