"""Position sets against each other, on regions that were never trained on, by two protocols (:mod:`protocols`).

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
import pathlib
import typing

import numpy as np

from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.ptychography import controls, low_dose, metrics, own_step, protocols
from adaptive_core.ptychography.benchmark_reconstruction import BENCHMARK_SEED, full_image
from adaptive_core.ptychography.experiments import Experiment, SimulatedRegion, experiment
from adaptive_core.ptychography.policy import OnnxPolicy, Policy
from adaptive_core.ptychography.protocols import BASELINE, DEFOCUSED, DENSE_FIRST, DOSES, PROTOCOLS
from adaptive_core.ptychography.reconstruction import Reconstruction

Cell = dict[str, typing.Any]
Work = collections.abc.Callable[[Cell, pathlib.Path], Cell]
Runner = collections.abc.Callable[[Work, collections.abc.Sequence[Cell]], collections.abc.Sequence[Cell]]
"""Does every cell and returns its results; a sweep on a cluster is one."""

Scores = dict[tuple[float, str], list[dict[str, float]]]


def in_processes(jobs: int) -> Runner:
    """Cells in so many processes of this machine."""
    if jobs < 1:
        raise InvalidInputError(f"A benchmark needs 1 job or more, not {jobs}.")

    def run_all(work: Work, cells: collections.abc.Sequence[Cell]) -> list[Cell]:
        folders = [pathlib.Path()] * len(cells)
        if jobs == 1:
            return list(map(work, cells, folders))
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
            return list(pool.map(work, cells, folders))

    return run_all


def run(
    specimen: str,
    protocol: str,
    regions: int,
    models: collections.abc.Sequence[str] | None = None,
    seed: int = 0,
    full_data: bool = True,
    runner: Runner | None = None,
    positions: int | None = None,
    subsequences: int | None = None,
    with_controls: bool = False,
    sets: collections.abc.Sequence[str] | None = None,
    with_own_steps: bool = False,
) -> dict[str, typing.Any]:
    """Compare every position set on ``regions`` regions.

    Args:
        specimen: name of the experiment.
        protocol: one of :data:`PROTOCOLS`.
        regions: number of regions, seeds from ``BENCHMARK_SEED + seed`` on.
        models: names or files of learned policies; by default those that ship for this material.
        seed: of the regions and the noise.
        full_data: compare with the reconstruction from the full data too, which takes most of the time; without it
            ``ssim_full`` and the Q by it are None.
        runner: does the regions; in this process by default.
        positions, subsequences: of a scan; the papers' by default.
        with_controls: scan as every adaptive policy does without looking, too (:mod:`controls`).
        sets: which fixed position sets to compare beside the sparse grid; :func:`fixed_sets` by default, without
            the papers' alternative scan, :data:`protocols.DENSE_FIRST`, which takes long.
        with_own_steps: by the papers' protocol, reconstruct each set with its own best step, too (:mod:`own_step`).

    Returns:
        ``specimen, protocol, regions, seed, subsequences``, ``models`` (hashes by name), and ``positions``: for each
        dose and position set ``positions`` (its name), ``regions``, ``count``, ``adaptive``, ``ssim_full``,
        ``ssim_truth``, ``q_ssim_mean``, ``q_ssim_sd``, ``q_ssim_ci95`` (half width), the same with ``q_truth_``,
        ``q_resolution_mean``, ``frc_resolution_A``, ``oversampling_ratio`` (the papers' N_k / N_u), ``dose_e_per_A2``,
        ``defocus_A`` (None where the policy chooses), ``batch`` and ``epochs``. With controls, ``looking``: the gain of
        each policy over each of its controls, ``dose, policy, control, q_truth_mean, q_truth_sd, q_truth_ci95``. With
        own steps, each row has ``own_step``, ``ssim_own_step`` and, over the sparse grid with its own, ``q_own_step_``,
        None for controls.
    """
    if protocol not in PROTOCOLS:
        raise InvalidInputError(f"The protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}.")
    if regions < 1:
        raise InvalidInputError(f"A benchmark needs 1 region or more, not {regions}.")
    if with_own_steps and protocol != "paper":
        raise InvalidInputError(f"The {protocol} protocol has no step of its own for each position set.")
    possible = [*fixed_sets(protocol), *([DENSE_FIRST] if protocol == "paper" else [])]
    if unknown := set(sets or ()) - set(possible):
        raise InvalidInputError(f"The sets are {', '.join(possible)}, not {', '.join(sorted(unknown))}.")
    settings = experiment(specimen)
    settings = dataclasses.replace(
        settings,
        positions=positions or settings.positions,
        subsequences=subsequences or settings.subsequences,
    )
    library = ModelLibrary()
    names = shipped_policies(specimen) if models is None else models
    learned = {name: library.load(name, "ptychography_policy").sha256 for name in names}
    common: Cell = {
        "specimen": specimen,
        "protocol": protocol,
        "positions": settings.positions,
        "subsequences": settings.subsequences,
        "learned": learned,
        "full_data": full_data,
    }
    # What is left out leaves the cells as they were: finished ones are not done again.
    common |= {"controls": True} if with_controls else {}
    common |= {"sets": list(dict.fromkeys([BASELINE, *sets]))} if sets is not None else {}
    if with_own_steps:
        tried = own_step.tune(settings, _compared_sets(common), _policies(learned))
        common["steps"] = own_step.best(tried)
    cells = [{**common, "seed": one} for one in range(seed, seed + regions)]
    scores: Scores = {}
    for done in (runner or in_processes(1))(compare, cells):
        for dose, found in done["scores"].items():
            for name, score in found.items():
                scores.setdefault((float(dose), name), []).append(score)
    rows = [_row(settings, protocol, dose, name, scores, learned, full_data) for dose, name in scores]
    if with_own_steps:
        rows = [row | _with_own_step(row["positions"], scores, common["steps"]) for row in rows]
    return {
        "specimen": specimen,
        "protocol": protocol,
        "regions": regions,
        "seed": seed,
        "subsequences": settings.subsequences,
        "models": learned,
        "positions": rows,
        "looking": _looking(scores, learned),
    }


def tune_steps(specimen: str, regions: int) -> list[dict[str, typing.Any]]:
    """What :func:`own_step.tune` tries for all position sets and shipped policies, by the papers' protocol."""
    library = ModelLibrary()
    shipped = {name: library.load(name, "ptychography_policy").sha256 for name in shipped_policies(specimen)}
    return own_step.tune(experiment(specimen), fixed_sets("paper"), _policies(shipped), regions)


def fixed_sets(protocol: str) -> list[str]:
    """Names of the position sets that need no training."""
    return [*protocols.policies(None, 0), *([DEFOCUSED] if protocol == "paper" else [])]


def shipped_policies(specimen: str) -> list[str]:
    """Names of the shipped policies whose cards say that they were trained for a material, by whatever protocol.

    One that was trained on one crystal (``mos2_crystal``) is compared on any rotation too.
    """
    material = specimen.partition("_")[0]
    cards = [entry.card for entry in ModelLibrary().list("ptychography_policy")]
    return [card.name for card in cards if card and str(card.training.get("specimen")).partition("_")[0] == material]


def compare(cell: Cell, _folder: pathlib.Path) -> Cell:
    """Scores of every position set in one region: ``scores`` by dose and name, each ``truth, resolution, full``,
    ``oversampling`` and, where it is asked for, ``own_step``.

    The cell has ``specimen, protocol, positions, subsequences, full_data`` and ``seed``, as in :func:`run`, and
    ``learned``: the hashes of the policies by name or file, so that results are not taken for those of other models;
    ``sets`` and ``controls`` where those are not all and none, and the own ``steps`` of position sets by name.
    """
    settings = dataclasses.replace(
        experiment(cell["specimen"]), positions=cell["positions"], subsequences=cell["subsequences"]
    )
    protocol, seed = cell["protocol"], cell["seed"]
    learned = _policies(cell["learned"])
    names = [*_compared_sets(cell), *learned]
    region = SimulatedRegion(settings, BENCHMARK_SEED + seed)
    truth = region.truth()
    full = full_image(region, seed) if cell["full_data"] else None
    scores: dict[str, dict[str, dict[str, float | None]]] = {}
    for dose in DOSES[protocol]:
        others: dict[str, Policy] = dict(learned)
        if cell.get("controls"):
            others |= _controls(region, learned, protocol, dose, seed)
        found = scores.setdefault(str(dose), {})
        for name in dict.fromkeys([*names, *others]):
            data = protocols.measured(region, name, protocol, dose, others.get(name), seed)
            image = protocols.reconstructed(data, settings.specimen, protocol, dose)
            found[name] = _scored(image, settings, truth, full)
            if name in cell.get("steps", ()):
                found[name]["own_step"] = own_step.ssim(data, cell["steps"][name], settings, truth)
        if full is not None and dose == 1.0:
            found["full_raster"] = _scored(full, settings, truth, full)
    return {"scores": scores}


def _compared_sets(cell: Cell) -> list[str]:
    return [
        name
        for name in cell.get("sets", fixed_sets(cell["protocol"]))
        if name != "two_pass" or cell["subsequences"] > 1
    ]


def _scored(
    image: Reconstruction, settings: Experiment, truth: metrics.Image, full: Reconstruction | None
) -> dict[str, float | None]:
    phase = image.phase(settings.pixel_A)
    return {
        "truth": metrics.phase_ssim(phase, truth),
        "resolution": metrics.resolution_A(phase, truth, settings.pixel_A),
        "full": None if full is None else metrics.phase_ssim(phase, full.phase(settings.pixel_A)),
        "oversampling": metrics.oversampling_ratio(image, settings.detector_px, settings.pixel_A),
    }


def _policies(learned: collections.abc.Mapping[str, str]) -> dict[str, OnnxPolicy]:
    """Learned policies by name, from their hashes by name."""
    return {name: _loaded(name, sha256) for name, sha256 in learned.items()}


@functools.lru_cache(maxsize=8)
def _loaded(name: str, _sha256: str) -> OnnxPolicy:
    return OnnxPolicy.load(ModelLibrary(), name)


def _controls(
    region: SimulatedRegion, learned: collections.abc.Mapping[str, OnnxPolicy], protocol: str, dose: float, seed: int
) -> dict[str, Policy]:
    """By their names in the benchmark."""
    found = {
        controls.control_name(name, control): blind
        for name, policy in learned.items()
        if policy.encoder is not None
        for control, blind in controls.without_looking(policy, region, dose, seed).items()
    }
    defocus_A = protocols.TUNED[region.settings.specimen, dose].defocus_A if protocol == "honest" else None
    narrow = controls.narrow_grid(region.settings, defocus_A)
    return found if narrow is None else {controls.NARROW: narrow, **found}


def _looking(scores: Scores, learned: collections.abc.Iterable[str]) -> list[dict[str, typing.Any]]:
    """What each policy gains over each of its controls, region by region."""
    rows = []
    for (dose, name), own in scores.items():
        for control in (controls.MEAN, controls.ELSEWHERE, controls.NARROW) if name in learned else ():
            key = dose, control if control == controls.NARROW else controls.control_name(name, control)
            if key in scores:
                each = [metrics.relative_gain(a["truth"], b["truth"]) for a, b in zip(own, scores[key], strict=True)]
                gain = dict(zip(("mean", "sd", "ci95"), metrics.mean_with_interval(each), strict=True))
                rows.append(
                    {"dose": dose, "policy": name, "control": control}
                    | {f"q_truth_{which}": value if math.isfinite(value) else None for which, value in gain.items()}
                )
    return rows


def card_scores(figures: dict[str, typing.Any]) -> tuple[dict[str, typing.Any], ...]:
    """What a policy's card says of its benchmark: its SSIM at each dose, with those of the static sets beside it."""
    rows: list[dict[str, typing.Any]] = figures["positions"]
    scores: list[dict[str, typing.Any]] = []
    for row in (row for row in rows if row["positions"] in figures["models"]):
        others = [other for other in rows if other["dose_e_per_A2"] == row["dose_e_per_A2"] and other is not row]
        scores.append(
            {
                "dataset": f"{figures['specimen']}, {row['regions']} regions never trained on, "
                f"{figures['protocol']} protocol, {row['dose_e_per_A2']:.3g} e/A^2",
                "metric": "SSIM of the phase against the true potential",
                "value": round(row["ssim_truth"], 4),
                "baselines": {other["positions"]: round(other["ssim_truth"], 4) for other in others},
                "gain_over_sparse_grid": round(row["q_truth_mean"], 4),
                "gain_ci95": row["q_truth_ci95"] and round(row["q_truth_ci95"], 4),
            }
        )
    return tuple(scores)


def _adapts(name: str, learned: collections.abc.Collection[str]) -> bool:
    """Whether positions depend on what was seen: a learned layout that never looks at the image is a static path."""
    return "code" in ModelLibrary().load(name).card.observes if name in learned else name == "two_pass"


def _row(
    settings: Experiment,
    protocol: str,
    dose: float,
    name: str,
    scores: Scores,
    learned: collections.abc.Collection[str],
    full_data: bool,
) -> dict[str, typing.Any]:
    own, base = scores[dose, name], scores[dose, BASELINE]

    def mean(key: str) -> float:
        return _mean(own, key)

    by_full: dict[str, float | None] = _gains(own, base, "full") if full_data else dict.fromkeys(("mean", "sd", "ci95"))
    count = {
        "full_raster": settings.grid**2,
        DENSE_FIRST: settings.grid**2 + low_dose.on_atoms(settings),
    }.get(name, settings.positions)
    exposures = count if name == "full_raster" else settings.positions
    choice, honest = protocols.TUNED[settings.specimen, dose], protocol == "honest"
    finer = [metrics.relative_resolution_gain(a["resolution"], b["resolution"]) for a, b in zip(own, base, strict=True)]
    fov = (settings.fov_A, settings.fov_A)
    return {
        "positions": name,
        "regions": len(own),
        "count": count,
        "adaptive": _adapts(name, learned),
        "ssim_full": mean("full") if full_data else None,
        "ssim_truth": mean("truth"),
        **{f"q_ssim_{key}": value for key, value in by_full.items()},
        **{f"q_truth_{key}": value for key, value in _gains(own, base, "truth").items()},
        "q_resolution_mean": float(np.mean(finer)),
        "frc_resolution_A": mean("resolution"),
        "oversampling_ratio": mean("oversampling"),
        "dose_e_per_A2": metrics.dose_e_per_A2(exposures, settings.electrons * dose, fov),
        "defocus_A": None
        if name.startswith(tuple(learned))
        else (choice.defocus_A if honest or name == DEFOCUSED else 0.0),
        "batch": choice.batch if honest else None,
        "epochs": choice.epochs if honest else None,
    }


def _mean(scores: list[dict[str, float]], key: str) -> float:
    return float(np.mean([score[key] for score in scores]))


def _gains(own: list[dict[str, float]], base: list[dict[str, float]], key: str) -> dict[str, float | None]:
    """Mean, standard deviation and interval of the gains in one score over the baseline, region by region."""
    each = [metrics.relative_gain(a[key], b[key]) for a, b in zip(own, base, strict=True)]
    middle, spread, half = metrics.mean_with_interval(each)
    return {"mean": middle, "sd": spread, "ci95": half if math.isfinite(half) else None}


def _with_own_step(name: str, scores: Scores, steps: collections.abc.Mapping[str, float]) -> dict[str, float | None]:
    """What a row has besides, for a position set with its own step."""
    columns = ("mean", "sd", "ci95")
    if name not in steps:
        return dict.fromkeys(("own_step", "ssim_own_step", *(f"q_own_step_{column}" for column in columns)))
    own, base = scores[1.0, name], scores[1.0, BASELINE]
    gains = _gains(own, base, "own_step")
    return {"own_step": steps[name], "ssim_own_step": _mean(own, "own_step")} | {
        f"q_own_step_{column}": gains[column] for column in columns
    }
