"""Recorded 4D-STEM scans of others, and what their files tell of the instrument."""

import dataclasses
import pathlib

import h5py
import numpy as np
import pytest

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import episode, positions, stand_ins
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.policy import StaticPolicy
from adaptive_core.ptychography.recording import Recording, read_recording, recorded_setup

CUBE = np.arange(2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)


def _write_hyperspy(path: pathlib.Path, data: np.ndarray) -> None:
    """The layout of hyperspy's HDF5 files: axes slowest first."""
    with h5py.File(path, "w") as file:
        experiment_group = file.create_group("Experiments/scan")
        experiment_group["data"] = data
        for index, (name, scale, units) in enumerate(
            [("y", 0.02, "nm"), ("x", 0.02, "nm"), ("ky", 1.6, "mrad"), ("kx", 1.6, "mrad")]
        ):
            axis = experiment_group.create_group(f"axis-{index}")
            axis.attrs.update(name=name, scale=scale, units=units, size=data.shape[index])
        tem = experiment_group.create_group("metadata/Acquisition_instrument/TEM")
        tem.attrs.update(beam_energy=60.0, convergence_angle=33.0)


def test_a_file_of_py4dstem():
    recording = read_recording(pathlib.Path(__file__).with_name("py4dstem_cube.h5"))
    np.testing.assert_array_equal(recording.patterns, CUBE)
    assert recording.step_nm == pytest.approx(0.05)
    assert recording.mrad_per_px == pytest.approx(1.58)
    assert recording.energy_kev is None
    with pytest.raises(InvalidInputError, match=r"does not say its beam energy .* convergence semi-angle"):
        recorded_setup(recording)


def test_a_file_of_hyperspy(tmp_path):
    _write_hyperspy(tmp_path / "scan.hspy", CUBE)
    recording = read_recording(tmp_path / "scan.hspy")
    np.testing.assert_array_equal(recording.patterns, CUBE)
    setup = recorded_setup(recording, defocus_nm=5.0)
    assert setup.size_px == (2, 3)
    assert (setup.detector_px, setup.defocus_nm) == (8, 5.0)
    assert (setup.pixel_size_nm, setup.mrad_per_px, setup.energy_kev, setup.convergence_mrad) == (0.02, 1.6, 60.0, 33.0)


def test_patterns_that_are_not_square_are_cut_around_their_middle(tmp_path):
    np.save(tmp_path / "scan.npy", np.zeros((2, 2, 8, 12), np.uint16))
    wide = np.zeros((1, 1, 8, 12))
    wide[..., 4, 6] = 1.0
    np.save(tmp_path / "wide.npy", wide)
    assert read_recording(tmp_path / "scan.npy").patterns.shape == (2, 2, 8, 8)
    assert read_recording(tmp_path / "wide.npy").patterns[0, 0, 4, 4] == 1.0


def test_other_files_are_refused(tmp_path):
    np.save(tmp_path / "flat.npy", CUBE[0])
    np.save(tmp_path / "complex.npy", CUBE.astype(np.complex64))
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"], file["b"] = CUBE, CUBE
    (tmp_path / "no.h5").write_bytes(b"nothing")
    for name in ("flat.npy", "complex.npy", "two.h5", "no.h5", "missing.npy"):
        with pytest.raises(InvalidInputError, match=name):
            read_recording(tmp_path / name)
    bad = Recording(CUBE, 0.0, 1.6, 60.0, 33.0)
    with pytest.raises(InvalidInputError, match="step of the scan"):
        recorded_setup(bad)


def test_patterns_that_say_nothing_are_refused():
    settings = experiment("mos2")
    grid = positions.raster(6, 6, (20.0, 20.0))
    good = SimulatedRegion(settings, 11).measure(grid, None, np.random.default_rng(0)).patterns.reshape(6, 6, 64, 64)
    step_nm = 2.0 / 6
    known = {"step_nm": step_nm, "mrad_per_px": 1.5799, "energy_kev": 60.0, "convergence_mrad": 33.0}

    def scan(patterns):
        scanner = stand_ins.RecordedScanner(patterns, recorded_setup(Recording(patterns, **known)))
        run = episode.Episode(scanner, StaticPolicy("Grid", positions.sparse_grid), episode.make_plan(scanner, 36, 1))
        list(run.run())

    unknown, empty = good.copy(), good.copy()
    unknown[2, 2, 5, 5] = np.nan
    empty[4, 4] = 0.0
    bad = {
        "must be finite": unknown,
        "have no counts": np.zeros_like(good),
        "1 of 36 diffraction patterns have no counts": empty,
        "limit of 255 counts": np.minimum(4 * good, 255).astype(np.uint8),
        "must not be negative": good - 50,
    }
    for message, patterns in bad.items():
        with pytest.raises(InvalidInputError, match=message):
            scan(patterns)


def test_a_direct_beam_between_pixels_is_found_and_taken_into_account():
    settings = experiment("mos2")
    region = SimulatedRegion(settings, 11)
    side = 20
    data = region.measure(positions.raster(side, side, (20.0, 20.0)), None, np.random.default_rng(0))
    patterns = data.patterns.reshape(side, side, 64, 64)
    setup = dataclasses.replace(
        stand_ins.SimulatedScanner(region).setup, size_px=(side, side), pixel_size_nm=2.0 / side
    )
    moved = np.roll(patterns, (2, -3), (2, 3))
    looks = []
    for stack in (patterns, moved):
        scanner = stand_ins.RecordedScanner(stack, setup)
        plan = episode.make_plan(scanner, 50, 1)
        *_, last = episode.run(scanner, StaticPolicy("Grid", positions.sparse_grid), plan)
        looks.append(last)
    assert looks[1].data.calibration.beam_px == pytest.approx((2.0, -3.0), abs=0.1)
    first, second = (look.image.phase(0.3) for look in looks)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.97
