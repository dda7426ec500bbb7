"""Agreement with py4DSTEM on the same data: a recorded result of its own, see ``make_py4dstem_reference.py``."""

import pathlib
import sys

import numpy as np
import pytest

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import benchmark_reconstruction, metrics, reconstruction
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from make_py4dstem_reference import PIXEL_A, reference_scan

REFERENCE = pathlib.Path(__file__).with_name("py4dstem_reference.npz")


def test_the_same_data_give_the_same_phase():
    data = reference_scan()
    ours = reconstruction.final(data).phase(PIXEL_A)
    with np.load(REFERENCE) as recorded:
        theirs = recorded["phase"].astype(np.float64)
    assert ours.shape == theirs.shape
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.85
    # In rad, not only in shape: a straight line through ours against theirs has about unit slope.
    slope = np.polyfit(theirs.ravel(), ours.ravel(), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.05)
    truth = SimulatedRegion(experiment("mos2"), 7).truth(PIXEL_A)
    assert metrics.phase_ssim(ours, truth) > metrics.phase_ssim(theirs, truth)


def test_an_environment_without_py4dstem_is_refused():
    with pytest.raises(InvalidInputError, match=r"py4DSTEM failed.*py4DSTEM"):
        benchmark_reconstruction.run_py4dstem(pathlib.Path(sys.executable), reference_scan(), 1, 0.2)
    with pytest.raises(InvalidInputError, match="could not be run"):
        benchmark_reconstruction.run_py4dstem(pathlib.Path("no such interpreter"), reference_scan(), 1, 0.2)
