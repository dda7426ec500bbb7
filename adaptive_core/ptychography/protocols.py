"""The two protocols by which position sets are compared: what is scanned, how defocused, and how it is reconstructed.

``paper``: the papers' reconstruction, five plain iterations with one small fixed step, everything in focus.
``honest``: the good reconstruction, at the defocus, batches and epochs that are best for the sparse grid; a learned
policy may bring its own defocus.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import itertools

import numpy as np

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import episode, metrics, positions, reconstruction
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
    ("dwcnt", 0.1): Tuned(60.0, 420, 10),
    ("dwcnt", 1.0): Tuned(60.0, 420, 16),
}
"""By specimen and dose, the best that was tried for the sparse grid on regions for tuning.

MoS2: defoci from 100 to 140 A and seven pairs of batch and epochs, one to four regions; the nanotube: 60 to 120 A and
twelve pairs at the papers' dose, one to two regions, and no trial of the reconstruction at a tenth of it. :func:`tune`
(``adaptive-scan benchmark ptychography-tuning``) searches a wider, coarser grid.
"""
TUNING_SEED = 900_000
TUNING_DEFOCUS_A = (0.0, 30.0, 60.0, 90.0, 120.0, 150.0)
TUNING_PARTS = (1, 4)
"""Batches of an epoch."""
TUNING_EPOCHS = (5, 10, 20)


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


def image(
    region: SimulatedRegion, name: str, protocol: str, dose: float, learned: Policy | None, seed: int
) -> Reconstruction:
    """The image that a protocol makes of what a position set, or a ``learned`` policy, measures in a region."""
    choice = TUNED[region.settings.specimen, dose]
    if protocol == "honest":
        policy = learned or policies(choice.defocus_A, seed)[name]
        return final_image(scan(region, policy, dose, seed, choice.defocus_A or 0.0), choice)
    defocus_A = choice.defocus_A if name == DEFOCUSED else None
    policy = learned or policies(defocus_A, seed)[name.removeprefix("defocused_")]
    return reconstruction.rop(scan(region, policy, dose, seed))


def tune(specimen: str, dose: float, regions: int) -> list[dict[str, float]]:
    """What suits the sparse grid, by the mean SSIM against the truth on regions kept for that, the best first.

    Returns:
        ``dose`` (of the papers'), ``defocus_A``, ``batch``, ``epochs`` and ``ssim_truth`` of everything that was tried.
    """
    if regions < 1:
        raise InvalidInputError(f"Tuning needs 1 region or more, not {regions}.")
    settings = experiment(specimen)
    places = [SimulatedRegion(settings, TUNING_SEED + index) for index in range(regions)]
    truths = [region.truth() for region in places]
    rows = []
    for defocus_A in TUNING_DEFOCUS_A:
        scans = [scan(region, policies(defocus_A, index)[BASELINE], dose, index) for index, region in enumerate(places)]
        for parts, epochs in itertools.product(TUNING_PARTS, TUNING_EPOCHS):
            choice = Tuned(defocus_A, -(-settings.positions // parts), epochs)
            images = [final_image(one, choice).phase(settings.pixel_A) for one in scans]
            ssim = float(np.mean([metrics.phase_ssim(*pair) for pair in zip(images, truths, strict=True)]))
            rows.append({"dose": dose, **dataclasses.asdict(choice), "ssim_truth": ssim})
    return sorted(rows, key=lambda row: -row["ssim_truth"])
