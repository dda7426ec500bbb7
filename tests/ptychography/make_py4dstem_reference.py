"""Make ``py4dstem_reference.npz``: what py4DSTEM recovers from the scan of ``test_py4dstem.py``.

    python tests/ptychography/make_py4dstem_reference.py PYTHON_OF_PY4DSTEM

The interpreter belongs to an environment of its own with py4DSTEM (made with 0.14.18), which needs numpy below 2.
"""

import pathlib
import sys

import numpy as np

from adaptive_core.ptychography import benchmark_reconstruction, positions
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.scan_data import ScanData

ITERATIONS = 20
DEFOCUS_A = 50.0
PIXEL_A = 0.2


def reference_scan() -> ScanData:
    """400 patterns of MoS2 at an underfocus of 5 nm, seeded."""
    region = SimulatedRegion(experiment("mos2"), 7)
    place = positions.sparse_grid(400, (20.0, 20.0))
    return region.measure(place, None, np.random.default_rng(7), DEFOCUS_A)


def main() -> None:
    """Call py4DSTEM and keep its phase."""
    phase, _ = benchmark_reconstruction.run_py4dstem(pathlib.Path(sys.argv[1]), reference_scan(), ITERATIONS, PIXEL_A)
    np.savez_compressed(pathlib.Path(__file__).with_name("py4dstem_reference.npz"), phase=phase.astype(np.float16))


if __name__ == "__main__":
    main()
