"""``adaptive-scan benchmark partial-scan``: its arguments, and the run."""

from __future__ import annotations

import argparse
import pathlib
import sys
import typing

from adaptive_core.errors import InvalidInputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments besides those that every benchmark takes."""
    parser.add_argument("--images", type=pathlib.Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--size", type=int, default=96, metavar="PX", help="side of the regions (default: 96)")
    spending = parser.add_mutually_exclusive_group()
    spending.add_argument("--probes", type=int, metavar="N", help="probes of a scan (default: the paper's coverage)")
    spending.add_argument("--coverage", type=float, metavar="F", help="probes over pixels, instead of --probes")
    noise = parser.add_mutually_exclusive_group()
    noise.add_argument("--dose", type=float, metavar="E", help="electrons a pixel of the full raster; the same for all")
    noise.add_argument("--noise-free", action="store_true", help="scan without noise (the default)")
    parser.add_argument(
        "--policies", nargs="+", metavar="NAME", help="policies by name or file besides the static paths (default: all)"
    )
    parser.add_argument("--generator", metavar="NAME", help="name or file of the generator that serves every path")
    parser.add_argument(
        "--generators", type=pathlib.Path, metavar="DIR", help="folder of generators that are preferred to shipped ones"
    )
    parser.add_argument("--crops", type=int, default=300, metavar="N", help="regions (default: 300)")
    parser.add_argument("--pixel-size", type=float, metavar="NM", help="pixel size for the dose (default: 0.05 nm)")
    parser.add_argument(
        "--times",
        action=argparse.BooleanOptionalAction,
        help="compare at equal time too (default: where there is a dose)",
    )
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="draw sheets of examples into this folder")


def run(options: argparse.Namespace) -> dict[str, typing.Any]:
    """Run the benchmark; what is done is told on standard error."""
    from adaptive_core.partial_scan import benchmark
    from adaptive_core.partial_scan.catalogue import DEFAULT_GENERATOR
    from adaptive_core.simulation.specimens import DEFAULT_PIXEL_SIZE_NM

    probes = options.probes
    if options.coverage is not None:
        if not 0 < options.coverage <= 1:
            raise InvalidInputError(f"The coverage must be above 0 and at most 1, not {options.coverage}.")
        probes = round(options.coverage * options.size**2)
    if options.generators is not None and not options.generators.is_dir():
        raise InvalidInputError(f"The generators must be in a folder; {options.generators} is none.")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise InvalidInputError(f"The sheets need a folder; {options.out} is a file.")
    settings = benchmark.Settings(
        images=options.images,
        size_px=options.size,
        probes=probes,
        electrons_per_pixel=options.dose,
        crops=options.crops,
        seed=options.seed,
        policies=None if options.policies is None else tuple(options.policies),
        models=benchmark.Models(options.generator or DEFAULT_GENERATOR, options.generators),
        pixel_size_nm=DEFAULT_PIXEL_SIZE_NM if options.pixel_size is None else options.pixel_size,
        times=options.times,
        jobs=options.jobs,
    )
    return benchmark.run(settings, lambda line: print(line, file=sys.stderr, flush=True), options.out)
