"""How much dose a scan saves that stops once its live images have settled, and what that costs in quality.

Every region is scanned to the end, and a final image is made after each sub-sequence. So every similarity of
:class:`adaptive_core.ptychography.policy.StoppingPolicy` is judged by the same scans, and so are scans of fixed length.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing

import numpy as np

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import episode, metrics, protocols
from adaptive_core.ptychography.benchmark_reconstruction import BENCHMARK_SEED
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.policy import STOPPING_PIXEL_A
from adaptive_core.ptychography.stand_ins import SimulatedScanner

SIMILARITIES = (0.8, 0.9, 0.95, 0.98)
DOSES = (0.1, 1.0)
POLICIES = ("halton", "two_pass")

Curve = metrics.Curve


@dataclasses.dataclass(frozen=True, eq=False)
class Course:
    """One scan, sub-sequence by sub-sequence.

    Attributes:
        quality: SSIM of the final image of what was measured so far against the true potential, shape (t,).
        similarity: SSIM of a live image and the one before, shape (t,); 0 for the first one.
    """

    quality: Curve
    similarity: Curve

    def length(self, similarity: float) -> int:
        """Sub-sequences until the scan stops."""
        settled = np.flatnonzero(self.similarity[:-1] >= similarity)
        return int(settled[0]) + 1 if len(settled) else len(self.similarity)


def run(
    specimen: str = "mos2",
    regions: int = 8,
    positions: int = 500,
    subsequences: int = 10,
    seed: int = 0,
    similarities: collections.abc.Sequence[float] = SIMILARITIES,
) -> dict[str, typing.Any]:
    """Scan regions and stop at each similarity.

    Args:
        specimen: name of the experiment; its defocus, batches and epochs are those of the honest protocol.
        regions: number of regions, seeds from ``BENCHMARK_SEED + seed`` on.
        positions, subsequences: of a scan that is not stopped.
        seed: of the regions and the noise.
        similarities: at which scans stop.

    Returns:
        ``specimen, regions, seed, positions, subsequences`` and ``stops``: for each dose, policy and similarity
        ``dose_e_per_A2`` of the whole scan, ``policy``, ``similarity``, ``share`` of the dose that was spent, with
        its lowest and highest, ``ssim`` where the scans stopped, ``ssim_whole`` of the whole scan and ``ssim_fixed``
        of scans that all stop after the same share, between two sub-sequences interpolated.
    """
    if regions < 1:
        raise InvalidInputError(f"A benchmark needs 1 region or more, not {regions}.")
    settings = dataclasses.replace(experiment(specimen), positions=positions, subsequences=subsequences)
    seeds = range(seed, seed + regions)
    rows = []
    for dose in DOSES:
        for name in POLICIES:
            courses = [course(SimulatedRegion(settings, BENCHMARK_SEED + one), name, dose, one) for one in seeds]
            whole = metrics.dose_e_per_A2(positions, settings.electrons * dose, (settings.fov_A,) * 2)
            rows += [
                {"dose_e_per_A2": whole, "policy": name, "similarity": similarity, **stopped(courses, similarity)}
                for similarity in similarities
            ]
    return {
        "specimen": specimen,
        "regions": regions,
        "seed": seed,
        "positions": positions,
        "subsequences": subsequences,
        "stops": rows,
    }


def course(region: SimulatedRegion, name: str, dose: float, seed: int) -> Course:
    """Scan a region to the end, at a fraction of the papers' dose, with one of the fixed sets of :mod:`protocols`."""
    settings = region.settings
    choice = protocols.TUNED[settings.specimen, dose]
    scanner = SimulatedScanner(region, settings.electrons * dose, seed)
    plan = episode.make_plan(scanner, settings.positions, settings.subsequences)
    truth, before = region.truth(), None
    quality, similarity = [], []
    for step in episode.run(scanner, protocols.policies(choice.defocus_A, seed)[name], plan):
        final = protocols.final_image(step.data, choice).phase(settings.pixel_A)
        quality.append(metrics.phase_ssim(final, truth))
        live = step.image.phase(STOPPING_PIXEL_A)
        similarity.append(0.0 if before is None else metrics.phase_ssim(before, live))
        before = live
    return Course(np.asarray(quality), np.asarray(similarity))


def stopped(courses: collections.abc.Sequence[Course], similarity: float) -> dict[str, float]:
    """What stopping at a similarity spends and gives; see :func:`run`."""
    lengths = np.asarray([one.length(similarity) for one in courses])
    everything = np.stack([one.quality for one in courses])
    total = everything.shape[1]
    return {
        "share": float(lengths.mean() / total),
        "share_lowest": float(lengths.min() / total),
        "share_highest": float(lengths.max() / total),
        "ssim": float(everything[np.arange(len(courses)), lengths - 1].mean()),
        "ssim_fixed": float(np.interp(lengths.mean(), np.arange(1, total + 1), everything.mean(0))),
        "ssim_whole": float(everything[:, -1].mean()),
    }
