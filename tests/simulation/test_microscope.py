"""Frames of the simulated microscope: what is measured, for how long, with how many electrons, and repeatably."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from adaptive_core.dose import electrons
from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.damage import Damage, DoseMap
from adaptive_core.simulation.detector import Detector
from adaptive_core.simulation.faults import Fault, FaultCounter, FaultKind
from adaptive_core.simulation.microscope import Beam, Microscope
from adaptive_core.simulation.scan_errors import ScanErrors
from adaptive_core.simulation.scan_geometry import Context, ScanGeometry
from adaptive_core.simulation.settings import InstrumentSettings
from adaptive_core.simulation.specimens import from_image

BEAM = Beam(50.0)
QUIET = InstrumentSettings(detector=Detector().noiseless)
specimen = from_image(scipy.ndimage.gaussian_filter(np.random.default_rng(5).random((200, 240)), 3.0), 0.05)
context = Context((24, 32), 4.0, 0.3, (0.4, -0.2))
raster = ScanGeometry.raster(context)


def scan(
    microscope: Microscope, geometry: ScanGeometry = raster, dwell_us: float = 10.0, beam: Beam = BEAM
) -> np.ndarray:
    exposure = microscope.start(geometry, dwell_us, (0, 1, 2))
    exposure.expose(geometry.count, beam)
    exposure.finish()
    return exposure.data.reshape(3, *geometry.shape)


def test_a_frame_without_noise_is_the_truth() -> None:
    microscope = Microscope(specimen, QUIET)
    frame = scan(microscope)
    for channel in range(3):
        np.testing.assert_allclose(frame[channel], microscope.truth(raster, 10.0, channel, BEAM), rtol=1e-6)


def test_the_mean_of_many_noisy_frames_approaches_the_truth() -> None:
    microscope = Microscope(specimen)
    frames = np.stack([scan(microscope)[0] for _ in range(400)]).astype(np.float64)
    truth = microscope.truth(raster, 10.0, 0, BEAM)
    detector = microscope.settings.detector
    variance = detector.counts_per_electron * (truth - detector.offset) + detector.read_noise**2
    z = (frames.mean(axis=0) - truth) / np.sqrt(variance / 400)
    assert z.std() == pytest.approx(1.0, abs=0.1)
    assert frames.var(axis=0, ddof=1).mean() == pytest.approx(variance.mean(), rel=0.02)


@given(st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
def test_moving_the_stage_is_moving_the_scan_the_other_way(dy: float, dx: float) -> None:
    microscope = Microscope(specimen, QUIET)
    moved = microscope.truth(raster, 10.0, 0, Beam(50.0, stage_nm=(dy, dx)))
    center = (context.center_nm[0] - dy, context.center_nm[1] - dx)
    other = ScanGeometry.raster(dataclasses.replace(context, center_nm=center))
    np.testing.assert_allclose(moved, microscope.truth(other, 10.0, 0, BEAM), rtol=1e-5)


def test_a_feature_moves_down_and_right_with_the_stage() -> None:
    image = np.zeros((200, 200))
    image[100, 100] = 1.0
    microscope = Microscope(from_image(image, 0.05), QUIET)
    field = ScanGeometry.raster(Context((64, 64), 4.0))
    before = microscope.truth(field, 10.0, 0, BEAM)
    after = microscope.truth(field, 10.0, 0, Beam(50.0, stage_nm=(0.5, 1.0)))
    peaks = [np.array(np.unravel_index(frame.argmax(), frame.shape)) for frame in (before, after)]
    np.testing.assert_array_equal(peaks[1] - peaks[0], [8, 16])


@given(st.lists(st.integers(0, 768), max_size=6))
def test_a_frame_scanned_in_pieces_is_the_same_frame(cuts: list[int]) -> None:
    settings = InstrumentSettings(
        detector=Detector(line_noise=4.0),
        scan_errors=ScanErrors(drift_nm_per_s=(40.0, 20.0), lag_us=15.0, line_jitter_nm=0.05, flyback_us=30.0),
        damage=Damage(contamination_per_e_per_A2=1e-5),
    )
    pieces = Microscope(specimen, settings)
    exposure = pieces.start(raster, 10.0, (0, 1, 2))
    for cut in [*sorted(cuts), raster.count]:
        exposure.expose(cut, BEAM)
    exposure.finish()
    whole = Microscope(specimen, settings)
    np.testing.assert_array_equal(exposure.data.reshape(3, *raster.shape), scan(whole))
    assert pieces.clock_us == pytest.approx(whole.clock_us)
    assert pieces.delivered.total == pytest.approx(whole.delivered.total)


def test_a_seed_repeats_a_run_and_another_does_not() -> None:
    def run(seed: int) -> bytes:
        microscope = Microscope(specimen, InstrumentSettings(seed=seed))
        return b"".join(scan(microscope).tobytes() for _ in range(3))

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_a_blanked_beam_gives_no_signal_and_no_dose() -> None:
    microscope = Microscope(specimen, QUIET)
    frame = scan(microscope, beam=Beam(50.0, blanked=True))
    np.testing.assert_array_equal(frame, microscope.settings.detector.offset)
    microscope.idle(1e6, Beam(50.0, blanked=True), (0.0, 0.0))
    assert microscope.delivered.total == 0
    assert microscope.dose_map.electrons.sum() == 0


def test_delivered_electrons_are_current_times_time() -> None:
    errors = ScanErrors(flyback_us=100.0, settling_us=250.0)
    microscope = Microscope(specimen, InstrumentSettings(scan_errors=errors))
    scan(microscope)
    microscope.idle(5000.0, BEAM, None)
    delivered = microscope.delivered
    assert delivered.probes == pytest.approx(electrons(50.0, 10.0) * 24 * 32)
    assert delivered.overhead == pytest.approx(electrons(50.0, 23 * 100.0 + 250.0))
    assert delivered.idle == pytest.approx(electrons(50.0, 5000.0))
    assert microscope.dose_map.electrons.sum() == pytest.approx(delivered.probes)
    microscope.reset()
    assert microscope.delivered.total == 0
    assert microscope.dose_map.electrons.sum() == 0


@given(st.floats(0.5, 50.0), st.floats(0.0, 100.0), st.floats(0.0, 100.0), st.integers(1, 768))
def test_time_and_count_are_each_others_inverse(dwell: float, flyback: float, settling: float, count: int) -> None:
    errors = ScanErrors(flyback_us=flyback, settling_us=settling)
    exposure = Microscope(specimen, InstrumentSettings(scan_errors=errors)).start(raster, dwell, (0,))
    time_us = float(exposure.elapsed_us(count))
    assert exposure.count_at(time_us + 1e-6) == count
    assert exposure.count_at(time_us - dwell / 2) == count - 1
    assert exposure.duration_us == pytest.approx(768 * dwell + 23 * flyback + settling)


def test_jumps_within_a_list_of_positions_pay_the_settling_time() -> None:
    path = ScanGeometry.positions(context, [[0.1, 0.1], [0.1, 0.12], [0.9, 0.9], [0.9, 0.92], [0.1, 0.1]])
    errors = ScanErrors(settling_us=100.0)
    exposure = Microscope(specimen, InstrumentSettings(scan_errors=errors)).start(path, 10.0, (0,))
    np.testing.assert_allclose(exposure.elapsed_us(np.arange(1, 6)), [110, 120, 230, 240, 350])


def test_defocus_widens_the_probe() -> None:
    microscope = Microscope(specimen, QUIET)
    spread = [microscope.truth(raster, 10.0, 0, Beam(50.0, defocus_nm=d)).std() for d in (0.0, 10.0, -10.0, 40.0)]
    assert spread[0] > spread[1] == spread[2] > spread[3]


def test_drift_moves_the_image_of_the_second_frame() -> None:
    errors = ScanErrors(drift_nm_per_s=(30.0, 0.0))
    microscope = Microscope(specimen, dataclasses.replace(QUIET, scan_errors=errors))
    exposure = microscope.start(raster, 10.0, (0,))
    exposure.expose(raster.count, BEAM)
    moved_nm = 30.0 * exposure.duration_us * 1e-6
    second = scan(microscope, ScanGeometry.raster(context), beam=BEAM)[0]
    start = microscope.truth(raster, 10.0, 0, Beam(50.0, stage_nm=(moved_nm, 0.0)))
    np.testing.assert_allclose(second[0, 0], start[0, 0], rtol=0.02)


def test_dose_destroys_contrast_exponentially_and_contamination_grows() -> None:
    damage = Damage(critical_dose_e_per_A2=8000.0)
    microscope = Microscope(specimen, dataclasses.replace(QUIET, damage=damage))
    cell = microscope.dose_map.cell_nm
    spot = ScanGeometry.positions(context, [[0.5, 0.5]])
    one = electrons(50.0, 10.0)
    values = [float(scan(microscope, spot)[0, 0, 0]) for _ in range(4)]
    mean = float(microscope.settings.detector.expected(np.array(specimen.means[0] * one)))
    contrast = np.array(values) - mean
    expected = contrast[0] * np.exp(-np.arange(4) * one / (cell**2 * 100) / 8000.0)
    np.testing.assert_allclose(contrast, expected, atol=0.02 * abs(contrast[0]))
    dirty = Microscope(specimen, dataclasses.replace(QUIET, damage=Damage(contamination_per_e_per_A2=1e-6)))
    rising = [float(scan(dirty, spot)[0, 0, 0]) for _ in range(3)]
    assert rising[0] < rising[1] < rising[2]


@given(st.floats(-40.0, 40.0), st.floats(-40.0, 40.0))
def test_the_dose_map_is_mirrored_like_the_specimen(y: float, x: float) -> None:
    dose = DoseMap((10.0, 12.0))
    pixel = 0.5 * dose.cell_nm  # to the middle of a cell, away from rounding at its border
    y, x = (np.floor(np.array([y, x]) / dose.cell_nm) * dose.cell_nm + pixel).tolist()
    shape = np.array(dose.electrons.shape) * dose.cell_nm
    cells = dose.cells(np.array([[y, x], [shape[0] - y, x], [y, -shape[1] - x]]))
    assert len(set(cells.tolist())) == 1


def test_too_many_positions_and_impossible_dwell_times_are_refused() -> None:
    microscope = Microscope(specimen, InstrumentSettings(max_scan_path_positions=3, shortest_dwell_us=2.0))
    with pytest.raises(InvalidInputError, match="at most 3"):
        microscope.start(ScanGeometry.positions(context, np.full((4, 2), 0.5)), 10.0, (0,))
    for dwell_us in (0.0, -1.0, np.nan):
        with pytest.raises(InvalidInputError, match="dwell"):
            microscope.start(raster, dwell_us, (0,))
    assert microscope.start(raster, 0.1, (0,)).dwell_us == 2.0


@pytest.mark.parametrize(
    "bad",
    [
        {"seed": -1},
        {"beam_current_pa": -1.0},
        {"beam_current_pa": np.nan},
        {"shortest_dwell_us": 0.0},
        {"max_scan_path_positions": 0},
    ],
)
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        InstrumentSettings(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [{"critical_dose_e_per_A2": 0.0}, {"contamination_per_e_per_A2": -1.0}])
def test_bad_damage_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        Damage(**bad)


def test_faults_come_at_their_command() -> None:
    counter = FaultCounter((Fault(FaultKind.NAN, 2), Fault(FaultKind.TIME_OUT, 4, count=2)))
    seen = [counter.next() for _ in range(6)]
    assert seen == [None, FaultKind.NAN, None, FaultKind.TIME_OUT, FaultKind.TIME_OUT, None]
    with pytest.raises(InvalidInputError):
        Fault(FaultKind.NAN, 0)
