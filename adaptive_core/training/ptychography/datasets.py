"""Simulate 4D data sets, one a region, on this machine's cores or a dask cluster; an interrupted sweep goes on.

    python -m adaptive_core.training.ptychography.datasets --specimen mos2 --regions 8 --out data

Each region gets a folder with ``scan.h5`` (:mod:`adaptive_core.ptychography.scan_file`), the conventional scan, or with
``--positions`` a sparse grid, and ``truth.npy``, the true phase (height, width) in rad. Training itself simulates on
demand: a full scan is 164 MB (MoS2) or 391 MB (nanotube), and 250 patterns take less time to simulate than to read.
"""

from __future__ import annotations

import argparse
import collections.abc
import pathlib

import numpy as np

from adaptive_core.ptychography import positions as fixed
from adaptive_core.ptychography import scan_file
from adaptive_core.ptychography.experiments import EXPERIMENTS, SimulatedRegion, experiment
from adaptive_core.training.sweep import Cell, progress_bar, run_cells


def simulate(cell: Cell, folder: pathlib.Path) -> Cell:
    """Simulate a region: ``specimen, seed, dose`` (of the paper's), ``defocus_A`` and ``positions`` (None for all)."""
    settings = experiment(cell["specimen"])
    region = SimulatedRegion(settings, cell["seed"])
    places = settings.full_positions_A()
    if cell["positions"] is not None:
        places = fixed.sparse_grid(cell["positions"], (settings.fov_A, settings.fov_A))
    rng = np.random.default_rng(cell["seed"])
    data = region.measure(places, settings.electrons * cell["dose"], rng, cell["defocus_A"])
    scan_file.write_scan(folder / "scan.h5", data)
    np.save(folder / "truth.npy", region.truth())
    return {"patterns": data.count, "electrons": float(data.patterns.sum(dtype=np.float64))}


def main(words: collections.abc.Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Simulate 4D-STEM data sets for ptychography.")
    parser.add_argument("--specimen", default="mos2", choices=sorted(EXPERIMENTS))
    parser.add_argument("--regions", type=int, default=8, metavar="N", help="number of regions (default: 8)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first region (default: 0)")
    parser.add_argument("--positions", type=int, metavar="N", help="a sparse grid of N positions (default: all)")
    parser.add_argument("--defocus", type=float, default=0.0, metavar="A", help="underfocus in A (default: 0)")
    parser.add_argument("--dose", type=float, default=1.0, metavar="F", help="fraction of the paper's (default: 1)")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR", help="folder of the sweep")
    parser.add_argument("--jobs", type=int, metavar="N", help="workers on this machine (default: one a core)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="dask scheduler whose workers see DIR")
    options = parser.parse_args(words)
    for name, lowest in (("regions", 1), ("positions", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < lowest:
            parser.error(f"--{name} must be {lowest} or more, not {value}")
    if not options.dose > 0:
        parser.error(f"--dose must be positive, not {options.dose}")
    cells: list[Cell] = [
        {
            "specimen": options.specimen,
            "seed": seed,
            "positions": options.positions,
            "defocus_A": options.defocus,
            "dose": options.dose,
        }
        for seed in range(options.seed, options.seed + options.regions)
    ]
    run_cells(simulate, cells, options.out, options.scheduler, options.jobs, progress_bar)


if __name__ == "__main__":
    main()
