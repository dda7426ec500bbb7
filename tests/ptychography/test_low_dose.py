"""The papers' alternative scan: a dense raster at low exposure, then probes on its atoms."""

import dataclasses

import numpy as np
import pytest

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import benchmark, low_dose, protocols
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment

SETTINGS = dataclasses.replace(experiment("mos2"), grid=20, positions=50)


def test_the_dose_is_that_of_the_other_sets_and_the_second_scan_finds_atoms():
    region = SimulatedRegion(SETTINGS, 1)
    data = protocols.measured(region, protocols.DENSE_FIRST, "paper", 1.0, None, 0)
    second = low_dose.on_atoms(SETTINGS)
    assert (second, data.count) == (18, 400 + 18)
    np.testing.assert_allclose(data.positions_A[:400], SETTINGS.full_positions_A())
    fraction = (50 - second) / 400
    spent = fraction * data.patterns[:400].sum(dtype=np.float64) + data.patterns[400:].sum(dtype=np.float64)
    usual = protocols.measured(region, "sparse_grid", "paper", 1.0, None, 0).patterns.sum(dtype=np.float64)
    assert spent == pytest.approx(usual, rel=0.01)
    # Both scans have the same scale, and the first one the noise of its few electrons.
    assert data.patterns[:400].mean() == pytest.approx(data.patterns[400:].mean(), rel=0.05)
    assert np.diff(np.unique(data.patterns[0]))[0] == pytest.approx(1 / fraction)
    truth = region.truth()
    place = np.floor(data.positions_A[400:] / SETTINGS.fov_A * len(truth)).astype(int).clip(max=len(truth) - 1)
    assert truth[tuple(place.T)].mean() > 2 * truth.mean()


def test_the_benchmark_counts_its_positions_where_it_is_asked_for():
    def runner(_work, cells):
        score = {"truth": 0.5, "resolution": 1.0, "full": None, "oversampling": 13.0}
        return [{"scores": {"1.0": dict.fromkeys(cell["sets"], score)}} for cell in cells]

    rows = benchmark.run("dwcnt", "paper", 1, [], 0, False, runner, sets=[protocols.DENSE_FIRST])["positions"]
    assert [(row["positions"], row["count"]) for row in rows] == [
        ("sparse_grid", 840),
        (protocols.DENSE_FIRST, 13_225 + 311),
    ]
    assert rows[0]["dose_e_per_A2"] == pytest.approx(rows[1]["dose_e_per_A2"])
    assert protocols.DENSE_FIRST not in benchmark.fixed_sets("paper")
    with pytest.raises(InvalidInputError, match="not dense_low_dose_two_pass"):
        benchmark.run("dwcnt", "honest", 1, sets=[protocols.DENSE_FIRST])
