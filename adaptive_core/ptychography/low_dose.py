"""The papers' alternative scan of low dose: a dense raster at a fraction of the exposure, then probes on its atoms.

Schloz et al. 2023, Fig. 4c: 13 225 patterns with 63 % of the dose, then 311 of the full exposure. For benchmarks of the
papers' protocol only: an instrument has one exposure for all patterns of a scan.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from adaptive_core.ptychography import positions, reconstruction
from adaptive_core.ptychography.experiments import Experiment, SimulatedRegion
from adaptive_core.ptychography.scan_data import ScanData

SECOND = 0.37
"""Share of the dose of the second scan."""


def on_atoms(settings: Experiment) -> int:
    """Positions of the second scan."""
    return round(SECOND * settings.positions)


def measured(region: SimulatedRegion, dose: float, seed: int) -> ScanData:
    """Both scans in focus, with the dose of ``settings.positions`` patterns at a fraction of the papers' exposure.

    The patterns of the first are scaled to the exposure of the second.
    """
    settings, rng = region.settings, np.random.default_rng(seed)
    electrons, second = settings.electrons * dose, on_atoms(settings)
    everywhere = settings.full_positions_A()
    fraction = (settings.positions - second) / len(everywhere)
    dense = region.measure(everywhere, fraction * electrons, rng)
    once = dataclasses.replace(reconstruction.DENSE, epochs=1)
    atoms = positions.found_atoms(reconstruction.final(dense, settings=once), second)
    fine = region.measure(atoms, electrons, rng)
    scaled = ScanData(fine.calibration, dense.patterns / np.float32(fraction), dense.positions_A)
    return scaled.with_more(fine)
