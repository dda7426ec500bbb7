"""Position sets against each other, on regions that were never trained on, by two protocols.

``paper``: the papers' reconstruction, five plain iterations with one small fixed step, everything in focus.
``honest``: the good reconstruction, each set with its own tuned number of epochs and its own best defocus.

Q is the relative gain in SSIM over the sparse grid of the same protocol and dose; it is given for the SSIM against the
reconstruction from the full data, as in the papers, and against the true potential.
"""

from __future__ import annotations

import collections.abc
import concurrent.futures
import dataclasses
import functools
import math
import multiprocessing
import typing

import numpy as np

from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.ptychography import episode, metrics, positions, reconstruction
from adaptive_core.ptychography.benchmark_reconstruction import BENCHMARK_SEED
from adaptive_core.ptychography.experiments import Experiment, SimulatedRegion, experiment
from adaptive_core.ptychography.policy import OnnxPolicy, Policy, StaticPolicy, TwoPassPolicy
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.ptychography.scan_data import ScanData
from adaptive_core.ptychography.stand_ins import SimulatedScanner
from adaptive_core.simulation.ptychography_probe import FloatArray

Scores = dict[tuple[float, str], dict[str, float]]

PROTOCOLS = ("paper", "honest")
BASELINE = "sparse_grid"
DOSES: collections.abc.Mapping[str, tuple[float, ...]] = {"paper": (1.0,), "honest": (0.1, 1.0)}
"""Fractions of the papers' dose at which each protocol compares."""


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What was found to suit a position set: defocus (A; None for what the policy says) and epochs."""

    defocus_A: float | None
    epochs: int


TUNED: collections.abc.Mapping[tuple[str, float, str], Tuned] = {}
"""By specimen, dose and position set, where :func:`tune` found something else than the default."""
DEFAULT_TUNED: collections.abc.Mapping[float, Tuned] = {0.1: Tuned(120.0, 5), 1.0: Tuned(120.0, 8)}
TUNING_SEED = 900_000
TUNING_DEFOCUS_A = (0.0, 20.0, 50.0, 80.0, 100.0, 120.0, 140.0, 160.0, 200.0)
TUNING_EPOCHS = (4, 5, 6, 8, 12, 20)


def _jittered(seed: int) -> collections.abc.Callable[[int, positions.Region], FloatArray]:
    return lambda count, fov_A: positions.random(count, fov_A, np.random.default_rng(seed))


def policies(defocus_A: float | None, seed: int) -> dict[str, Policy]:
    """The baselines by name, all at one defocus."""
    return {
        BASELINE: StaticPolicy("Sparse grid", positions.sparse_grid, defocus_A),
        "halton": StaticPolicy("Halton", positions.halton, defocus_A),
        "random": StaticPolicy("Random", _jittered(seed), defocus_A),
        "two_pass": TwoPassPolicy(defocus_A=defocus_A),
    }


def run(
    specimen: str,
    protocol: str,
    regions: int,
    models: collections.abc.Sequence[str] | None = None,
    seed: int = 0,
    full_data: bool = True,
    jobs: int = 1,
) -> dict[str, typing.Any]:
    """Compare every position set on ``regions`` regions.

    Args:
        specimen: name of the experiment.
        protocol: one of :data:`PROTOCOLS`.
        regions: number of regions, seeds from ``BENCHMARK_SEED + seed`` on.
        models: names or files of learned policies; by default those that ship for this specimen and this protocol.
        seed: of the regions and the noise.
        full_data: compare with the reconstruction from the full data too, which takes most of the time; without it
            ``ssim_full`` and the Q by it are None.
        jobs: processes.

    Returns:
        ``specimen, protocol, regions, seed`` and ``positions``: for each dose and position set ``positions`` (its
        name), ``count``, ``adaptive``, ``ssim_full``, ``ssim_truth``, ``q_ssim_mean``, ``q_ssim_sd``, ``q_ssim_ci95``
        (half width), the same with ``q_truth_``, ``q_resolution_mean``, ``frc_resolution_A``, ``dose_e_per_A2``,
        ``defocus_A`` (None where the policy chooses) and ``epochs``.
    """
    if protocol not in PROTOCOLS:
        raise InvalidInputError(f"The protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}.")
    if regions < 1 or jobs < 1:
        raise InvalidInputError(f"A benchmark needs 1 region and 1 job or more, not {regions} and {jobs}.")
    settings = experiment(specimen)
    learned = tuple(shipped_policies(specimen, protocol) if models is None else models)
    compare = functools.partial(_compare, specimen, protocol, learned, full_data)
    seeds = range(seed, seed + regions)
    if jobs == 1:
        found = [compare(one) for one in seeds]
    else:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
            found = list(pool.map(compare, seeds))
    scores = {key: [region[key] for region in found] for key in found[0]}
    rows = [_row(settings, protocol, dose, name, scores, learned, full_data) for dose, name in scores]
    return {"specimen": specimen, "protocol": protocol, "regions": regions, "seed": seed, "positions": rows}


def shipped_policies(specimen: str, protocol: str) -> list[str]:
    """Names of the shipped policies whose cards say that they were trained for a specimen and a protocol."""
    cards = [entry.card for entry in ModelLibrary().list("ptychography_policy")]
    wanted = {"specimen": specimen, "protocol": protocol}
    return [card.name for card in cards if card and wanted.items() <= dict(card.training).items()]


def _compare(specimen: str, protocol: str, learned: tuple[str, ...], full_data: bool, seed: int) -> Scores:
    """Scores of every position set in one region, by dose and name."""
    settings = experiment(specimen)
    library = ModelLibrary()
    policies_by_name = {name: OnnxPolicy.load(library, name) for name in learned}
    names = [*policies(None, 0), *(["defocused_sparse_grid"] if protocol == "paper" else []), *learned]
    region = SimulatedRegion(settings, BENCHMARK_SEED + seed)
    truth = region.truth()
    full = full_image(region, seed).phase(settings.pixel_A) if full_data else None
    scores: Scores = {}
    for dose in DOSES[protocol]:
        phases = {
            name: image(region, name, protocol, dose, policies_by_name.get(name), seed).phase(settings.pixel_A)
            for name in names
        }
        if full is not None and dose == 1.0:
            phases["full_raster"] = full
        for name, phase in phases.items():
            score = {
                "truth": metrics.phase_ssim(phase, truth),
                "resolution": metrics.resolution_A(phase, truth, settings.pixel_A),
            }
            if full is not None:
                score["full"] = metrics.phase_ssim(phase, full)
            scores[dose, name] = score
    return scores


def full_image(region: SimulatedRegion, seed: int) -> Reconstruction:
    """The reconstruction from all positions of the conventional scan, in focus at the papers' exposure."""
    rng = np.random.default_rng(seed)
    data = region.measure(region.settings.full_positions_A(), None, rng)
    return reconstruction.final(data, settings=reconstruction.DENSE)


def scan(region: SimulatedRegion, policy: Policy, dose: float, seed: int) -> ScanData:
    """Everything that a policy measures in a region, at a fraction of the papers' dose."""
    settings = region.settings
    scanner = SimulatedScanner(region, settings.electrons * dose, seed)
    plan = episode.make_plan(scanner, settings.positions, settings.subsequences)
    data = None
    for step in episode.run(scanner, policy, plan):
        data = step.data
    if data is None:
        raise InvalidInputError(f"{policy.name} measured nothing.")
    return data


def tuned(specimen: str, dose: float, name: str) -> Tuned:
    """What was found for a position set, or what suits most."""
    return TUNED.get((specimen, dose, name), DEFAULT_TUNED[dose])


def tune(specimen: str, dose: float, name: str, policy: Policy | None = None, regions: int = 4) -> Tuned:
    """The best defocus and number of epochs of a set, by the mean SSIM against the truth on regions kept for that."""
    settings = experiment(specimen)
    best, found = -1.0, None
    places = [SimulatedRegion(settings, TUNING_SEED + index) for index in range(regions)]
    truths = [region.truth() for region in places]
    for defocus_A in TUNING_DEFOCUS_A if policy is None else (None,):
        data = []
        for index, region in enumerate(places):
            chosen = policies(defocus_A, index)[name] if policy is None else policy
            data.append(scan(region, chosen, dose, index))
        for epochs in TUNING_EPOCHS:
            each = [
                metrics.phase_ssim(final_image(one, epochs).phase(settings.pixel_A), truth)
                for one, truth in zip(data, truths, strict=True)
            ]
            if (quality := float(np.mean(each))) > best:
                best, found = quality, Tuned(defocus_A, epochs)
    if found is None:
        raise InvalidInputError(f"Nothing could be tuned for {name}.")
    return found


def final_image(data: ScanData, epochs: int) -> Reconstruction:
    """The final reconstruction with a number of epochs."""
    return reconstruction.final(data, settings=dataclasses.replace(reconstruction.FINAL, epochs=epochs))


def image(
    region: SimulatedRegion, name: str, protocol: str, dose: float, learned: Policy | None, seed: int
) -> Reconstruction:
    """The image that a protocol makes of what a position set, or a ``learned`` policy, measures in a region."""
    choice = tuned(region.settings.specimen, dose, name)
    if protocol == "paper":
        defocus_A = (
            tuned(region.settings.specimen, dose, BASELINE).defocus_A if name == "defocused_sparse_grid" else None
        )
        policy = learned or policies(defocus_A, seed)[name.removeprefix("defocused_")]
        return reconstruction.rop(scan(region, policy, dose, seed))
    policy = learned or policies(choice.defocus_A, seed)[name]
    return final_image(scan(region, policy, dose, seed), choice.epochs)


def card_scores(figures: dict[str, typing.Any], policy: str) -> list[dict[str, typing.Any]]:
    """What a policy's card says of a benchmark: its SSIM at each dose, with those of the static sets beside it."""
    rows, scores = figures["positions"], []
    for row in (row for row in rows if row["positions"] == policy):
        others = [other for other in rows if other["dose_e_per_A2"] == row["dose_e_per_A2"] and other is not row]
        scores.append(
            {
                "dataset": f"{figures['specimen']}, {figures['regions']} regions never trained on, "
                f"{figures['protocol']} protocol, {row['dose_e_per_A2']:.3g} e/A^2",
                "metric": "SSIM of the phase against the true potential",
                "value": round(row["ssim_truth"], 4),
                "baselines": {other["positions"]: round(other["ssim_truth"], 4) for other in others},
                "gain_over_sparse_grid": round(row["q_truth_mean"], 4),
                "gain_ci95": row["q_truth_ci95"] and round(row["q_truth_ci95"], 4),
            }
        )
    return scores


def _adapts(name: str, learned: tuple[str, ...]) -> bool:
    """Whether positions depend on what was seen: a learned layout that never looks at the image is a static path."""
    return "code" in ModelLibrary().load(name).card.observes if name in learned else name == "two_pass"


def _row(
    settings: Experiment,
    protocol: str,
    dose: float,
    name: str,
    scores: dict[tuple[float, str], list[dict[str, float]]],
    learned: tuple[str, ...],
    full_data: bool,
) -> dict[str, typing.Any]:
    own, base = scores[dose, name], scores[dose, BASELINE]

    def mean(key: str) -> float:
        return float(np.mean([score[key] for score in own]))

    def gains(key: str) -> dict[str, float | None]:
        each = [metrics.relative_gain(a[key], b[key]) for a, b in zip(own, base, strict=True)]
        middle, spread, half = metrics.mean_with_interval(each)
        return {"mean": middle, "sd": spread, "ci95": half if math.isfinite(half) else None}

    by_full: dict[str, float | None] = gains("full") if full_data else dict.fromkeys(("mean", "sd", "ci95"))
    count = settings.grid**2 if name == "full_raster" else settings.positions
    choice, honest = tuned(settings.specimen, dose, name), protocol == "honest"
    finer = [metrics.relative_resolution_gain(a["resolution"], b["resolution"]) for a, b in zip(own, base, strict=True)]
    fov = (settings.fov_A, settings.fov_A)
    return {
        "positions": name,
        "count": count,
        "adaptive": _adapts(name, learned),
        "ssim_full": mean("full") if full_data else None,
        "ssim_truth": mean("truth"),
        **{f"q_ssim_{key}": value for key, value in by_full.items()},
        **{f"q_truth_{key}": value for key, value in gains("truth").items()},
        "q_resolution_mean": float(np.mean(finer)),
        "frc_resolution_A": mean("resolution"),
        "dose_e_per_A2": metrics.dose_e_per_A2(count, settings.electrons * dose, fov),
        "defocus_A": None if name in learned else (choice.defocus_A if honest or name.startswith("defocused") else 0.0),
        "epochs": choice.epochs if honest else None,
    }
