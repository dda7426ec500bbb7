"""``adaptive-scan benchmark ptychography``, what is named after it, and ``reconstruction``: arguments, and the runs."""

from __future__ import annotations

import argparse
import collections.abc
import functools
import pathlib
import typing

from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan.command_line import train

Figures = dict[str, typing.Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments besides those that every benchmark takes."""
    _add_specimen(parser)
    parser.add_argument(
        "--protocol", required=True, choices=["paper", "honest"], help="the papers' reconstruction or the good one"
    )
    parser.add_argument("--regions", type=int, default=25, metavar="N", help="regions (default: 25)")
    parser.add_argument("--positions", type=int, metavar="N", help="probe positions of a scan (default: the papers')")
    parser.add_argument("--subsequences", type=int, metavar="T", help="parts of a scan (default: 5)")
    parser.add_argument(
        "--policy",
        action="append",
        metavar="NAME",
        help="a learned policy, by name or file; may be given repeatedly (default: those that ship)",
    )
    parser.add_argument(
        "--set",
        action="append",
        metavar="NAME",
        help="a fixed position set, repeatable (default: all); sparse_grid is in",
    )
    parser.add_argument("--no-policies", action="store_true", help="compare the fixed position sets only")
    parser.add_argument(
        "--controls", action="store_true", help="repeat the scans of adaptive policies without looking, too"
    )
    parser.add_argument(
        "--own-steps",
        action="store_true",
        help="by the papers' protocol, reconstruct each set with its own best step, found on regions for tuning, too",
    )
    parser.add_argument(
        "--truth-only", action="store_true", help="leave out the reconstruction from the full data, which takes long"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, metavar="DIR", help="keep each region's figures here, and go on from them"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="do the regions on this dask cluster (needs --out and the extra train)"
    )


def run(options: argparse.Namespace) -> Figures:
    """Compare position sets."""
    from adaptive_core.ptychography import benchmark

    if options.scheduler is not None and options.out is None:
        raise InvalidInputError("A benchmark on a cluster needs --out, a folder that all of its workers see.")
    runner = benchmark.in_processes(options.jobs) if options.out is None else _sweep(options)
    return benchmark.run(
        options.specimen,
        options.protocol,
        options.regions,
        [] if options.no_policies else options.policy,
        options.seed,
        not options.truth_only,
        runner,
        options.positions,
        options.subsequences,
        options.controls,
        options.set,
        options.own_steps,
    )


def _sweep(options: argparse.Namespace) -> collections.abc.Callable[..., typing.Any]:
    """Regions as the cells of a sweep that can be resumed, with a progress bar."""
    sweep = train.training("sweep")
    return functools.partial(
        sweep.run_cells,
        folder=options.out,
        scheduler=options.scheduler,
        jobs=options.jobs,
        report=sweep.progress_bar,
    )


def add_tuning_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments besides those that every benchmark takes."""
    _add_specimen(parser)
    parser.add_argument(
        "--protocol",
        choices=["paper", "honest"],
        default="honest",
        help="what suits the sparse grid (honest, the default), or the step that suits each position set (paper)",
    )
    parser.add_argument("--regions", type=int, default=4, metavar="N", help="regions kept for tuning (default: 4)")


def run_tuning(options: argparse.Namespace) -> Figures:
    """Search what suits the sparse grid by the honest protocol, or each position set by the papers'."""
    from adaptive_core.ptychography import benchmark, protocols

    rows: list[Figures]
    if options.protocol == "paper":
        rows = benchmark.tune_steps(options.specimen, options.regions)
    else:
        doses = protocols.DOSES["honest"]
        rows = [row for dose in doses for row in protocols.tune(options.specimen, dose, options.regions)]
    return {"specimen": options.specimen, "regions": options.regions, "tried": rows}


def add_stopping_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments besides those that every benchmark takes."""
    _add_specimen(parser)
    parser.add_argument("--regions", type=int, default=8, metavar="N", help="regions (default: 8)")
    parser.add_argument("--positions", type=int, default=500, metavar="N", help="of a whole scan (default: 500)")
    parser.add_argument("--subsequences", type=int, default=10, metavar="T", help="of a whole scan (default: 10)")


def run_stopping(options: argparse.Namespace) -> Figures:
    """Stop scans whose live images have settled."""
    from adaptive_core.ptychography import benchmark_stopping

    return benchmark_stopping.run(
        options.specimen, options.regions, options.positions, options.subsequences, options.seed
    )


def add_reconstruction_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments besides those that every benchmark takes."""
    _add_specimen(parser)
    parser.add_argument(
        "--py4dstem", type=pathlib.Path, metavar="PYTHON", help="interpreter of an environment with py4DSTEM"
    )


def run_reconstruction(options: argparse.Namespace) -> Figures:
    """Time and score the reconstructions."""
    from adaptive_core.ptychography import benchmark_reconstruction

    return benchmark_reconstruction.run(options.specimen, options.seed, py4dstem_python=options.py4dstem)


def _add_specimen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--specimen", default="mos2", choices=["mos2", "mos2_crystal", "dwcnt"], help="specimen (default: mos2)"
    )
