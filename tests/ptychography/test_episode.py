"""The loop, its policies and its files, on stand-ins for an instrument."""

import contextlib
import dataclasses
import pathlib

import h5py
import numpy as np
import pytest

from adaptive_core.errors import DeviceError, InvalidInputError
from adaptive_core.ports import DiffractionMeasurement
from adaptive_core.ptychography import direct, episode, metrics, positions, reconstruction, scan_file, stand_ins
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.policy import Move, PtychographyPlan, StaticPolicy, StoppingPolicy, TwoPassPolicy
from adaptive_core.ptychography.scan_data import ScanData

MOS2 = experiment("mos2")
SPARSE = StaticPolicy("Sparse grid", positions.sparse_grid)


@pytest.fixture(scope="module")
def region():
    return SimulatedRegion(MOS2, 11)


@pytest.fixture
def scanner(region):
    return stand_ins.SimulatedScanner(region)


def test_the_image_improves_with_every_sub_sequence(region, scanner):
    plan = episode.make_plan(scanner, 250, 5)
    steps = list(episode.run(scanner, SPARSE, plan))
    assert [step.index for step in steps] == [0, 1, 2, 3, 4]
    assert [step.data.count for step in steps] == [50, 100, 150, 200, 250]
    assert all(step.new == 50 for step in steps)
    truth = region.truth()
    quality = [metrics.phase_ssim(step.image.phase(MOS2.pixel_A), truth) for step in steps]
    assert all(np.diff(quality) > 0)
    assert steps[-1].dose_e_per_A2 == pytest.approx(1.34e5, rel=1e-3)
    assert episode.predicted_dose_e_per_A2(plan) == pytest.approx(1.34e5, rel=1e-3)
    np.testing.assert_allclose(steps[-1].data.positions_A, positions.sparse_grid(250, (20.0, 20.0)), atol=1e-9)


class _Recording:
    """A scanner that notes what is done to it."""

    def __init__(self, inner, fail_at=None):
        self.inner, self.fail_at = inner, fail_at
        self.events = []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    @contextlib.contextmanager
    def session(self):
        self.events.append("taken")
        try:
            yield
        finally:
            self.events.append("put back")

    def measure(self, places, defocus_nm=None):
        self.events.append(("measure", len(places), defocus_nm))
        if self.fail_at == len(self.events):
            raise DeviceError("The camera stopped.")
        return self.inner.measure(places, defocus_nm)


def test_cancelling_puts_the_instrument_back(scanner):
    recording = _Recording(scanner)
    steps = episode.run(recording, SPARSE, episode.make_plan(recording, 100, 5))
    next(steps)
    steps.close()
    assert recording.events == ["taken", ("measure", 20, None), "put back"]


def test_a_failing_camera_leaves_the_data_of_the_steps_before(scanner):
    recording = _Recording(scanner, fail_at=3)
    seen = []
    with pytest.raises(DeviceError, match="camera stopped"):
        seen.extend(episode.run(recording, SPARSE, episode.make_plan(recording, 100, 5)))
    seen = []
    recording = _Recording(scanner, fail_at=3)
    with contextlib.suppress(DeviceError):
        for step in episode.run(recording, SPARSE, episode.make_plan(recording, 100, 5)):
            seen.append(step)
    assert [step.data.count for step in seen] == [20]
    assert recording.events[-1] == "put back"


def test_the_defocus_reaches_the_instrument_and_the_reconstruction(scanner):
    recording = _Recording(scanner)
    policy = StaticPolicy("Defocused", positions.sparse_grid, 80.0)
    *_, last = episode.run(recording, policy, episode.make_plan(recording, 100, 2))
    assert ("measure", 50, 8.0) in recording.events
    np.testing.assert_allclose(last.data.defocus_of_each(), 80.0)


def test_a_policy_that_leaves_the_region_is_refused_before_the_beam_moves(scanner):
    class Astray:
        name = "Astray"

        def start(self, plan):
            return self

        def decide(self, observation):
            return Move(np.full((20, 2), 20.5))

    recording = _Recording(scanner)
    with pytest.raises(InvalidInputError, match="outside the region"):
        next(episode.run(recording, Astray(), episode.make_plan(recording, 100, 5)))
    assert recording.events == ["taken", "put back"]


def test_a_wrong_convergence_angle_is_noticed_on_the_first_patterns(scanner):
    wrong = _Recording(scanner)
    wrong.setup = dataclasses.replace(scanner.setup, convergence_mrad=22.0)
    with pytest.raises(InvalidInputError, match="bright-field disk has a radius"):
        next(episode.run(wrong, SPARSE, episode.make_plan(wrong, 100, 5)))


def test_two_passes_go_to_the_atoms(region, scanner):
    plan = episode.make_plan(scanner, 250, 5)
    *_, last = episode.run(scanner, TwoPassPolicy(), plan)
    truth = region.truth(0.2)
    row, column = (np.clip(last.data.positions_A.T / 0.2, 0, len(truth) - 1)).astype(int)
    phase = truth[row, column]
    assert phase[100:].mean() > 2 * phase[:100].mean()
    with pytest.raises(InvalidInputError, match="Two passes need"):
        TwoPassPolicy().start(episode.make_plan(scanner, 250, 1))


def test_a_settled_image_ends_the_scan(scanner):
    plan = episode.make_plan(scanner, 500, 10)
    steps = list(episode.run(scanner, StoppingPolicy(SPARSE, similarity=0.5), plan))
    assert 2 <= len(steps) < 10
    assert len(list(episode.run(scanner, StoppingPolicy(SPARSE, similarity=0.999), plan))) == 10
    with pytest.raises(InvalidInputError, match=r"\(0, 1\)"):
        StoppingPolicy(SPARSE, similarity=1.5)


@pytest.mark.parametrize(("count", "parts"), [(250, 3), (0, 1), (5, 0), (3, 5)])
def test_plans_that_cannot_be_cut_are_refused(scanner, count, parts):
    with pytest.raises(InvalidInputError, match="multiple"):
        PtychographyPlan(episode.calibration_of(scanner.setup), count, parts)


@pytest.fixture(scope="module")
def recorded(region):
    side = 25
    place = positions.raster(side, side, (20.0, 20.0))
    data = region.measure(place, None, np.random.default_rng(0))
    scanner = stand_ins.SimulatedScanner(region)
    setup = dataclasses.replace(scanner.setup, size_px=(side, side), pixel_size_nm=2.0 / side)
    return data.patterns.reshape(side, side, 64, 64), setup


def test_recorded_data_snap_to_their_grid(recorded):
    patterns, setup = recorded
    scanner = stand_ins.RecordedScanner(patterns, setup)
    measured = scanner.measure(np.array([[3.2, 7.9], [25.0, 0.0]]))
    np.testing.assert_array_equal(measured.positions, [[3.5, 7.5], [24.5, 0.5]])
    np.testing.assert_array_equal(measured.patterns, patterns[[3, 24], [7, 0]])
    *_, last = episode.run(scanner, SPARSE, episode.make_plan(scanner, 100, 2))
    assert last.data.count == 100
    with pytest.raises(InvalidInputError, match="one defocus"):
        scanner.measure(np.array([[1.0, 1.0]]), 5.0)
    with pytest.raises(InvalidInputError, match="outside the region"):
        scanner.check(np.array([[1.0, 26.0]]))
    with pytest.raises(InvalidInputError, match="expects recorded patterns"):
        stand_ins.RecordedScanner(patterns[1:], setup)


def test_single_sideband_on_a_raster(region):
    side = 40
    data = region.measure(positions.raster(side, side, (20.0, 20.0)), None, np.random.default_rng(0), 20.0)
    image = direct.single_sideband(data, (side, side))
    truth = region.truth()
    assert np.corrcoef(image.phase(MOS2.pixel_A).ravel(), truth.ravel())[0, 1] > 0.9
    assert metrics.phase_ssim(image.phase(MOS2.pixel_A), truth) > 0.6
    with pytest.raises(InvalidInputError, match="raster"):
        direct.single_sideband(ScanData(data.calibration, data.patterns[1:], data.positions_A[1:]), (side, side))


def test_scan_files_keep_everything(region, tmp_path):
    place = positions.sparse_grid(6, (20.0, 20.0))
    mixed = region.measure(place, None, np.random.default_rng(0), np.arange(6) * 10.0)
    plain = region.measure(place, None, np.random.default_rng(0), 30.0)
    for data in (mixed, plain):
        path = tmp_path / "scan.h5"
        scan_file.write_scan(path, data)
        read = scan_file.read_scan(path)
        assert read.calibration == data.calibration
        np.testing.assert_array_equal(read.patterns, data.patterns)
        np.testing.assert_array_equal(read.positions_A, data.positions_A)
        np.testing.assert_array_equal(read.defocus_of_each(), data.defocus_of_each())
        assert (read.defocus_A is None) == (data.defocus_A is None)
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["probe_position_y_m"][:] * 1e10 + 10, place[:, 0])
        pixel_m = file["object"].attrs["pixel_height_m"]
        assert pixel_m == pytest.approx(30.8 / 64 * 1e-10)
        wavelength_m = 1.98644586e-25 / (file.attrs["photon_energy_eV"] * 1.602176634e-19)
        # Far field: object px = wavelength x distance / (detector px x their number).
        detector_m = file["patterns"].attrs["detector_pixel_height_m"]
        assert wavelength_m * file.attrs["detector_object_distance_m"] / (64 * detector_m) == pytest.approx(pixel_m)
        # The probe's pattern is the bright-field disk of the patterns, in electrons.
        probe = np.fft.fftshift(np.abs(np.fft.fft2(file["probe"][0, 0], norm="ortho")) ** 2)
        assert probe.sum() == pytest.approx(plain.electrons, rel=1e-4)
        assert np.corrcoef(probe.ravel(), plain.patterns.mean(0).ravel())[0, 1] > 0.8
    assert list(tmp_path.iterdir()) == [path]


def test_foreign_files_and_places_are_refused(region, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    for path in (tmp_path / "other.h5", tmp_path / "missing.h5"):
        with pytest.raises(InvalidInputError):
            scan_file.read_scan(path)
    data = region.measure(positions.sparse_grid(2, (20.0, 20.0)), None, np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match="cannot be written"):
        scan_file.write_scan(tmp_path / "no folder" / "scan.h5", data)


def test_a_device_that_returns_no_counts_is_refused_with_a_clear_message(scanner):
    class Dark(_Recording):
        def measure(self, places, defocus_nm=None):
            return DiffractionMeasurement(np.zeros((len(places), 64, 64), np.float32), places)

    with pytest.raises(InvalidInputError, match="no counts"):
        next(episode.run(Dark(scanner), SPARSE, episode.make_plan(scanner, 100, 5)))


def test_the_reader_example_needs_nothing_of_this_project():
    reader = pathlib.Path(scan_file.__file__).with_name("py4dstem_reader.py").read_text()
    assert "adaptive_core" not in reader


def test_final_from_the_last_step(region, scanner):
    *_, last = episode.run(scanner, SPARSE, episode.make_plan(scanner, 250, 5))
    final = reconstruction.final(last.data)
    assert metrics.phase_ssim(final.phase(MOS2.pixel_A), region.truth()) > 0.77
