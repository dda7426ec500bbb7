"""The two protocols by which position sets are compared: what is scanned, how defocused, and how it is reconstructed.

``paper``: the papers' reconstruction, five plain iterations with one small fixed step, everything in focus.
``honest``: the good reconstruction, at the defocus, batches and epochs that are best for the sparse grid; a learned
policy may bring its own defocus.
"""

from __future__ import annotations

import collections.abc
import dataclasses

import numpy as np

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import episode, low_dose, metrics, positions, reconstruction
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.policy import Policy, StaticPolicy, TwoPassPolicy
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.ptychography.scan_data import ScanData
from adaptive_core.ptychography.stand_ins import SimulatedScanner
from adaptive_core.simulation.ptychography_probe import FloatArray

PROTOCOLS = ("paper", "honest")
DOSES: collections.abc.Mapping[str, tuple[float, ...]] = {"paper": (1.0,), "honest": (0.1, 1.0)}
"""Fractions of the papers' dose at which each protocol compares."""
BASELINE = "sparse_grid"
DEFOCUSED = "defocused_sparse_grid"
"""In the papers' protocol, the baseline at its best defocus of the honest one."""
DENSE_FIRST = "dense_low_dose_two_pass"
"""In the papers' protocol, their alternative scan (:mod:`low_dose`)."""


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What was found to suit the sparse grid.

    Attributes:
        defocus_A: of the scan; None leaves it to the policy.
        batch: patterns of an update of the final reconstruction.
        epochs: of the final reconstruction.
    """

    defocus_A: float | None
    batch: int
    epochs: int


TUNED: collections.abc.Mapping[tuple[str, float], Tuned] = {
    ("mos2", 0.1): Tuned(120.0, 250, 20),
    ("mos2", 1.0): Tuned(120.0, 125, 14),
    ("mos2_crystal", 0.1): Tuned(120.0, 250, 20),
    ("mos2_crystal", 1.0): Tuned(120.0, 125, 14),
    ("dwcnt", 0.1): Tuned(45.0, 840, 4),
    ("dwcnt", 1.0): Tuned(75.0, 840, 40),
}
"""By specimen and dose, the best that was tried for the sparse grid on regions for tuning.

The nanotube, four regions: at a tenth of the dose 30 to 75 A, one and two batches an epoch, each number of epochs up to
10; at the papers' dose 60 to 105 A, one, two and four batches, up to 20 epochs, and for 60 and 75 A (0.2 % apart) one
batch and up to 44 epochs on one region, +2 %. MoS2: 100 to 140 A and seven pairs of batch and epochs, one to four
regions. :func:`tune` (``adaptive-scan benchmark ptychography-tuning``) searches a wider grid.
"""
TUNING_SEED = 900_000
TUNING_DEFOCUS_A = (0.0, 30.0, 60.0, 90.0, 120.0, 150.0)
TUNING_FINER_A = 15.0
"""Then so far to either side of the best."""
TUNING_PARTS = (1, 2, 4)
"""Batches of an epoch."""
TUNING_EPOCHS = 48
"""At most."""


def policies(defocus_A: float | None, seed: int) -> dict[str, Policy]:
    """The baselines by name, all at one defocus."""

    def scattered(count: int, fov_A: positions.Region) -> FloatArray:
        return positions.random(count, fov_A, np.random.default_rng(seed))

    return {
        BASELINE: StaticPolicy("Sparse grid", positions.sparse_grid, defocus_A),
        "halton": StaticPolicy("Halton", positions.halton, defocus_A),
        "random": StaticPolicy("Random", scattered, defocus_A),
        "two_pass": TwoPassPolicy(defocus_A=defocus_A),
    }


def scan(region: SimulatedRegion, policy: Policy, dose: float, seed: int, defocus_A: float = 0.0) -> ScanData:
    """Everything that a policy measures in a region, at a fraction of the papers' dose.

    ``defocus_A`` is that of the instrument, for a policy that leaves it as it is.
    """
    settings = region.settings
    scanner = SimulatedScanner(region, settings.electrons * dose, seed, defocus_A)
    plan = episode.make_plan(scanner, settings.positions, settings.subsequences)
    data = None
    for step in episode.run(scanner, policy, plan):
        data = step.data
    if data is None:
        raise InvalidInputError(f"{policy.name} measured nothing.")
    return data


def final_image(data: ScanData, choice: Tuned) -> Reconstruction:
    """The final reconstruction, tuned."""
    settings = dataclasses.replace(reconstruction.FINAL, batch=choice.batch, epochs=choice.epochs)
    return reconstruction.final(data, settings=settings)


def measured(
    region: SimulatedRegion, name: str, protocol: str, dose: float, learned: Policy | None, seed: int
) -> ScanData:
    """What a position set, or a ``learned`` policy, measures in a region by a protocol."""
    defocus_A = TUNED[region.settings.specimen, dose].defocus_A
    if protocol == "honest":
        policy = learned or policies(defocus_A, seed)[name]
        return scan(region, policy, dose, seed, defocus_A or 0.0)
    if name == DENSE_FIRST:
        return low_dose.measured(region, dose, seed)
    policy = learned or policies(defocus_A if name == DEFOCUSED else None, seed)[name.removeprefix("defocused_")]
    return scan(region, policy, dose, seed)


def image(
    region: SimulatedRegion, name: str, protocol: str, dose: float, learned: Policy | None, seed: int
) -> Reconstruction:
    """The image that a protocol makes of what a position set, or a ``learned`` policy, measures in a region."""
    return reconstructed(
        measured(region, name, protocol, dose, learned, seed), region.settings.specimen, protocol, dose
    )


def reconstructed(data: ScanData, specimen: str, protocol: str, dose: float) -> Reconstruction:
    """The image that a protocol makes of a scan at a fraction of the papers' dose."""
    return final_image(data, TUNED[specimen, dose]) if protocol == "honest" else reconstruction.rop(data)


def tune(specimen: str, dose: float, regions: int) -> list[dict[str, float]]:
    """What suits the sparse grid, by the mean SSIM against the truth on regions kept for that, the best first.

    Returns:
        ``dose`` (of the papers'), ``defocus_A``, ``batch``, ``epochs`` (the best number of them) and ``ssim_truth`` of
        every defocus and batch that was tried.
    """
    if regions < 1:
        raise InvalidInputError(f"Tuning needs 1 region or more, not {regions}.")
    settings = experiment(specimen)
    places = [SimulatedRegion(settings, TUNING_SEED + index) for index in range(regions)]

    def tried(defocus_A: float) -> list[dict[str, float]]:
        grid = policies(defocus_A, 0)[BASELINE]
        scans = [scan(region, grid, dose, index) for index, region in enumerate(places)]
        rows = []
        for parts in TUNING_PARTS:
            batch = -(-settings.positions // parts)
            courses = [_course(*pair, batch) for pair in zip(scans, places, strict=True)]
            mean = np.mean(courses, axis=0)
            choice = Tuned(defocus_A, batch, 1 + int(mean.argmax()))
            rows.append({"dose": dose, **dataclasses.asdict(choice), "ssim_truth": float(mean.max())})
        return rows

    def by_ssim(row: dict[str, float]) -> float:
        return row["ssim_truth"]

    rows = [row for defocus_A in TUNING_DEFOCUS_A for row in tried(defocus_A)]
    best = max(rows, key=by_ssim)["defocus_A"]
    finer = (best - TUNING_FINER_A, best + TUNING_FINER_A)
    rows += [row for defocus_A in finer if defocus_A >= 0 for row in tried(defocus_A)]
    return sorted(rows, key=by_ssim, reverse=True)


def _course(data: ScanData, region: SimulatedRegion, batch: int) -> list[float]:
    """SSIM of the final image against the truth after each epoch."""
    truth, pixel_A = region.truth(), region.settings.pixel_A
    found: list[float] = []
    settings = dataclasses.replace(reconstruction.FINAL, batch=batch, epochs=TUNING_EPOCHS)
    reconstruction.final(
        data, settings=settings, watch=lambda image: found.append(metrics.phase_ssim(image.phase(pixel_A), truth))
    )
    return found
