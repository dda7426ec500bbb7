"""``adaptive-scan benchmark``: the figures by which the loops are compared, on seeded simulations and real images.

A benchmark is one entry of :data:`BENCHMARKS`: what it takes, and a function that runs it and returns its figures.
"""

from __future__ import annotations

import argparse
import collections.abc
import dataclasses
import json
import typing

from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan.command_line import benchmark_partial_scan, benchmark_ptychography

Figures = dict[str, typing.Any]


def _add_alignment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--world", required=True, choices=["A", "B", "C"], help="family of worlds")
    parser.add_argument("--trials", type=int, default=1000, metavar="N", help="trials a policy (default: 1000)")
    parser.add_argument(
        "--policy", action="append", metavar="NAME", help="a policy, or the name of a model; may be given repeatedly"
    )


def _run_alignment(options: argparse.Namespace) -> Figures:
    from adaptive_core.alignment.benchmark import run_benchmark

    return run_benchmark(options.world, options.trials, options.policy, options.seed, options.jobs)


def _add_disk_finding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=40, metavar="N", help="camera frames a case (default: 40)")
    parser.add_argument(
        "--gate-frames", type=int, default=1000, metavar="N", help="frames with and without a beam (default: 1000)"
    )


def _run_disk_finding(options: argparse.Namespace) -> Figures:
    from adaptive_core.alignment.disk_benchmark import run_disk_benchmark

    return run_disk_benchmark(options.frames, options.seed, options.gate_frames, options.jobs)


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A benchmark of one loop.

    Attributes:
        summary: one line of help.
        add_arguments: its arguments besides ``--seed``, ``--jobs`` and ``--json``.
        run: runs it; the figures, with a list of dictionaries, or a dictionary of them, under ``table``.
        table: key of the figures' list that is printed as the first table.
    """

    summary: str
    add_arguments: collections.abc.Callable[[argparse.ArgumentParser], None]
    run: collections.abc.Callable[[argparse.Namespace], Figures]
    table: str


BENCHMARKS: typing.Final = {
    "partial-scan": Benchmark(
        "compare paths and completions of partial scans on real images",
        benchmark_partial_scan.add_arguments,
        benchmark_partial_scan.run,
        "policies",
    ),
    "alignment": Benchmark(
        "centre the bright-field disk in simulated worlds", _add_alignment, _run_alignment, "policies"
    ),
    "disk-finding": Benchmark(
        "find the bright-field disk in simulated camera frames", _add_disk_finding, _run_disk_finding, "cases"
    ),
    "ptychography": Benchmark(
        "compare probe positions of ptychographic scans",
        benchmark_ptychography.add_arguments,
        benchmark_ptychography.run,
        "positions",
    ),
    "ptychography-tuning": Benchmark(
        "search what suits a sparse grid, or the step that suits each position set",
        benchmark_ptychography.add_tuning_arguments,
        benchmark_ptychography.run_tuning,
        "tried",
    ),
    "ptychography-stopping": Benchmark(
        "stop ptychographic scans whose live images have settled",
        benchmark_ptychography.add_stopping_arguments,
        benchmark_ptychography.run_stopping,
        "stops",
    ),
    "reconstruction": Benchmark(
        "time and score ptychographic reconstructions",
        benchmark_ptychography.add_reconstruction_arguments,
        benchmark_ptychography.run_reconstruction,
        "methods",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    names = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", title="benchmarks", required=True)
    for name, benchmark in BENCHMARKS.items():
        command = names.add_parser(name, help=benchmark.summary, description=benchmark.summary.capitalize() + ".")
        benchmark.add_arguments(command)
        command.add_argument("--seed", type=int, default=0, metavar="N", help="of all random numbers (default: 0)")
        command.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
        command.add_argument("--json", action="store_true", help="print the figures as one line of JSON")


def run(options: argparse.Namespace) -> int:
    """Run a benchmark and print its figures."""
    if options.seed < 0:
        raise InvalidInputError(f"--seed must not be negative, not {options.seed}.")
    benchmark = BENCHMARKS[options.benchmark]
    figures = benchmark.run(options)
    if options.json:
        print(json.dumps(figures))
        return 0
    for line in _report(figures, benchmark.table):
        print(line)
    return 0


def _report(figures: Figures, table: str) -> list[str]:
    """Lines of text: the plain figures, and then the tables, the one named ``table`` first."""
    first = figures.pop(table)
    rows = [{"name": name, **row} for name, row in first.items()] if isinstance(first, dict) else first
    further = {name: value for name, value in figures.items() if isinstance(value, list)}
    plain = ", ".join(f"{name} {value}" for name, value in figures.items() if name not in further)
    lines = [plain, *_table(rows)]
    for name, value in further.items():
        if value:
            lines += ["", f"{name}:", *(_table(value) if isinstance(value[0], dict) else map(str, value))]
    return lines


def _table(rows: list[Figures]) -> list[str]:
    """Columns of text, the first one to the left and the others to the right."""
    if not rows:
        return []
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in cells
    ]


def _cell(value: typing.Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
