"""The simulated scan device by itself: positions, time, electrons, faults."""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import statistics
import threading
import time
import typing

import numpy as np
import pytest
from nion.device_kit.ScanDevice import ScanFrameParameters
from nion.instrumentation import stem_controller
from nion.utils import Geometry
from quiet_clock import QuietClock

from adaptive_core.dose import electrons
from adaptive_core.errors import DeviceDisconnectedError, InvalidInputError
from adaptive_core.scan_path import Segment, segment_to_subscan
from adaptive_core.simulation.builtin_specimens import builtin_specimen
from adaptive_core.simulation.detector import Detector
from adaptive_core.simulation.faults import Fault, FaultKind
from adaptive_core.simulation.microscope import Microscope
from adaptive_core.simulation.scan_errors import ScanErrors
from adaptive_core.simulation.settings import InstrumentSettings
from simulator_device.instrument import Column, Instrument
from simulator_device.scan_device import ScanDevice

QUIET = InstrumentSettings(detector=Detector().noiseless)
SIZE = (96, 96)


@pytest.fixture
def device() -> collections.abc.Iterator[ScanDevice]:
    instrument = Instrument()
    column = Column(instrument, instrument)
    scan_device = ScanDevice(column, Microscope(builtin_specimen("nanoparticles"), QUIET), is_secondary=False)
    yield scan_device
    scan_device.close()
    instrument.close()


def control(device: ScanDevice) -> Instrument:
    return device._column.instrument


def parameters(**kwargs: typing.Any) -> ScanFrameParameters:
    return ScanFrameParameters(**({"pixel_size": SIZE, "pixel_time_us": 1.0, "fov_nm": 10.0} | kwargs))


def segment_parameters(segment: Segment, **kwargs: typing.Any) -> ScanFrameParameters:
    frame = parameters(**kwargs)
    row = segment_to_subscan(segment, frame.pixel_size.as_tuple())
    frame.subscan_pixel_size = row.pixel_size
    frame.subscan_fractional_size = row.fractional_size
    frame.subscan_fractional_center = row.fractional_center
    frame.subscan_rotation = row.rotation_rad
    return frame


SEGMENT = Segment((20.0, 30.0), (40.0, 70.0), 20)


def read(device: ScanDevice, number: int | None = None, timeout_s: float = 5.0) -> tuple[list[np.ndarray], int | None]:
    """Read a frame until it is complete; its data and number."""
    skip, end_s = 0, time.perf_counter() + timeout_s
    while time.perf_counter() < end_s:
        elements, complete, _, _, number, skip = device.read_partial(number, skip)
        if complete:
            return [element["data"] for element in elements], number
    pytest.fail("The frame did not complete.")


def scan(device: ScanDevice, frame: ScanFrameParameters) -> np.ndarray:
    device.set_frame_parameters(frame)
    data, _ = read(device, device.start_frame(False))
    device.stop()
    return data[0]


# positions


@pytest.mark.parametrize("step", [(0, 1), (1, 3), (1, 1), (2, 1), (3, 0), (1, -1), (0, -2), (-1, -3), (-3, 1), (-2, 3)])
@pytest.mark.parametrize("rotation", [0.0, 0.7])
def test_segments_at_any_angle_are_those_of_the_raster(
    device: ScanDevice, step: tuple[int, int], rotation: float
) -> None:
    start, end = (48.5, 48.5), (48.5 + 12 * step[0], 48.5 + 12 * step[1])
    values = scan(device, segment_parameters(Segment(start, end, 13), rotation_rad=rotation))
    raster = scan(device, parameters(rotation_rad=rotation))
    k = np.arange(13)
    np.testing.assert_allclose(values[0], raster[48 + k * step[0], 48 + k * step[1]], rtol=1e-5)


def test_a_list_of_positions_gives_the_values_of_the_segment(device: ScanDevice) -> None:
    path = (SEGMENT.positions / np.array(SIZE)).tolist()
    assert device.supports_scan_path
    assert device.max_scan_path_positions == QUIET.max_scan_path_positions
    by_list = scan(device, parameters(scan_path=path))
    np.testing.assert_allclose(by_list, scan(device, segment_parameters(SEGMENT)), rtol=1e-5)


def test_the_positions_of_a_raster_in_any_order_give_its_pixels(device: ScanDevice) -> None:
    raster = scan(device, parameters(pixel_size=(24, 32)))
    order = np.random.default_rng(1).permutation(24 * 32)
    i, j = np.divmod(order, 32)
    path = np.stack([(i + 0.5) / 24, (j + 0.5) / 32], axis=1).tolist()
    shuffled = scan(device, parameters(pixel_size=(24, 32), scan_path=path))
    np.testing.assert_allclose(shuffled[0], raster.ravel()[order], rtol=1e-5)


def test_too_many_or_bad_positions_are_refused_before_the_beam_moves(device: ScanDevice) -> None:
    device.configure(dataclasses.replace(QUIET, max_scan_path_positions=5))
    before = device.delivered.probes
    for path in ([[0.5, 0.5]] * 6, [[0.5]], [[0.5, math.nan]]):
        device.set_frame_parameters(parameters(scan_path=path))
        with pytest.raises(InvalidInputError):
            device.start_frame(False)
        assert not device.is_scanning
    assert device.delivered.probes == before


def test_the_stage_control_moves_the_image(device: ScanDevice) -> None:
    before = scan(device, parameters())
    pixel_m = 10e-9 / 96
    control(device).SetVal2D("stage_position_m", Geometry.FloatPoint(y=5 * pixel_m, x=12 * pixel_m))
    after = scan(device, parameters())
    np.testing.assert_allclose(after[5:, 12:], before[:-5, :-12], rtol=1e-3)


# time


@pytest.mark.parametrize("dwell_us", [10.0, 200.0])
def test_a_frame_takes_its_dwell_time(device: ScanDevice, dwell_us: float) -> None:
    frame = segment_parameters(SEGMENT, pixel_time_us=dwell_us)
    times, quiet_times = [], []
    for _ in range(30):
        device.set_frame_parameters(frame)
        clock, start_s = QuietClock(), time.perf_counter()
        read(device, device.start_frame(False))
        times.append(time.perf_counter() - start_s)
        quiet_times.append(clock.elapsed_s)
    assert min(times) >= 20 * dwell_us * 1e-6
    assert statistics.median(quiet_times) < 20 * dwell_us * 1e-6 + 1e-3  # overhead of a command


def test_a_long_frame_arrives_in_rows_and_in_time(device: ScanDevice) -> None:
    device.set_frame_parameters(parameters(pixel_time_us=20.0))
    clock, start_s = QuietClock(), time.perf_counter()
    number = device.start_frame(False)
    seen, skip, complete = 0, 0, False
    while not complete:
        elements, complete, _, ((top, _), (height, _)), number, skip = device.read_partial(number, skip)
        assert top == (0 if complete else seen)
        seen = top + height
        assert (elements[0]["data"][:seen] > 0).all()
    assert time.perf_counter() - start_s >= 96 * 96 * 20e-6
    assert clock.elapsed_s < 2 * 96 * 96 * 20e-6
    assert seen == 96


def test_a_dwell_time_below_the_shortest_is_lengthened_and_reported(device: ScanDevice) -> None:
    device.set_frame_parameters(segment_parameters(SEGMENT, pixel_time_us=0.01))
    elements, *_ = device.read_partial(device.start_frame(False), 0)
    assert elements[0]["properties"]["pixel_time_us"] == device.shortest_dwell_us


def test_cancel_ends_a_frame_at_once(device: ScanDevice) -> None:
    device.set_frame_parameters(parameters(pixel_time_us=1000.0))
    number = device.start_frame(False)
    device.read_partial(number, 0)
    cancelled: list[QuietClock] = []

    def cancel() -> None:
        cancelled.append(QuietClock())
        device.cancel()

    threading.Timer(0.05, cancel).start()
    data, _ = read(device, number)
    assert cancelled[0].elapsed_s < 0.15
    assert not device.is_scanning
    assert (data[0] == 0).sum() > 9000  # not measured
    assert scan(device, segment_parameters(SEGMENT)).min() > 0  # and it goes on


def test_each_enabled_channel_is_delivered(device: ScanDevice) -> None:
    device.set_channel_enabled(2, True)
    device.set_frame_parameters(segment_parameters(SEGMENT))
    elements, *_ = device.read_partial(device.start_frame(False), 0)
    assert [element["properties"]["channel_id"] for element in elements] == [0, 2]
    assert [device.get_channel_name(k) for k in (0, 1, 2)] == ["HAADF", "MAADF", "BF"]
    dark, bright = (element["data"].ravel() for element in elements)
    assert np.corrcoef(dark, bright)[0, 1] < 0


def test_frames_have_their_own_data_and_numbers(device: ScanDevice) -> None:
    device.set_frame_parameters(segment_parameters(SEGMENT))
    first, one = read(device, device.start_frame(False))
    second, two = read(device, device.start_frame(False))
    assert two == one + 1  # type: ignore[operator]
    assert not np.shares_memory(first[0], second[0])


# electrons


def test_delivered_electrons_are_those_of_the_probes_and_of_the_wait(device: ScanDevice) -> None:
    begun_s = time.perf_counter()
    device.reset()
    reset_s = time.perf_counter()
    for _ in range(5):
        scan(device, segment_parameters(SEGMENT, pixel_time_us=10.0))
        time.sleep(0.01)
    asked_s = time.perf_counter()
    delivered = device.delivered
    told_s = time.perf_counter()
    assert delivered.probes == pytest.approx(5 * electrons(50.0, 200.0))
    assert delivered.overhead == 0
    # A frame's time is told as its dwell times, which are a little less than what it took.
    assert 0.9 * electrons(50.0, (asked_s - reset_s) * 1e6) <= delivered.total
    assert delivered.total <= electrons(50.0, (told_s - begun_s) * 1e6)


def test_a_blanked_beam_delivers_nothing_while_it_waits(device: ScanDevice) -> None:
    device.reset()
    control(device).SetVal("C_Blank", 1.0)
    before = device.delivered.total
    time.sleep(0.02)
    values = scan(device, segment_parameters(SEGMENT))
    np.testing.assert_array_equal(values, QUIET.detector.offset)
    assert device.delivered.total == before
    start_s = time.perf_counter()
    control(device).SetVal("C_Blank", 0.0)
    time.sleep(0.02)
    waited = device.delivered.total - before
    assert electrons(50.0, 20e3) <= waited <= electrons(50.0, (time.perf_counter() - start_s) * 1e6)


def test_a_parked_beam_leaves_its_dose_where_it_is_parked(device: ScanDevice) -> None:
    device.reset()
    context = stem_controller.ScanContext(Geometry.IntSize(96, 96), Geometry.FloatPoint(0.0, 0.0), 10.0, 0.0)
    device.set_scan_context_probe_position(context, Geometry.FloatPoint(0.9, 0.2))
    device.reset()
    time.sleep(0.02)
    idle = device.delivered.idle
    dose = device.microscope.dose_map
    cell = dose.cells(np.array([[4.0, -3.0]]))[0]
    assert dose.electrons.ravel()[cell] == pytest.approx(idle)


def test_settling_and_flyback_take_time_and_dose(device: ScanDevice) -> None:
    device.configure(dataclasses.replace(QUIET, scan_errors=ScanErrors(settling_us=500.0, flyback_us=300.0)))
    device.reset()
    frame = parameters(pixel_size=(10, 10), pixel_time_us=1.0)
    device.set_frame_parameters(frame)
    start_s = time.perf_counter()
    read(device, device.start_frame(False))
    assert time.perf_counter() - start_s >= (100 + 500 + 9 * 300) * 1e-6
    assert device.delivered.overhead == pytest.approx(electrons(50.0, 500 + 9 * 300))


def test_a_seed_repeats_whatever_the_timing(device: ScanDevice) -> None:
    frames = []
    for _ in range(2):
        device.configure(InstrumentSettings(seed=4))
        frames.append(np.concatenate([scan(device, parameters(pixel_time_us=2.0)) for _ in range(2)]))
        time.sleep(0.01)
    np.testing.assert_array_equal(frames[0], frames[1])


# faults


def faulty(device: ScanDevice, kind: FaultKind) -> None:
    """The second command from now on fails."""
    device.configure(dataclasses.replace(QUIET, faults=(Fault(kind, 2),)))


def test_a_short_read_lacks_the_last_part(device: ScanDevice) -> None:
    faulty(device, FaultKind.SHORT_READ)
    frame = segment_parameters(SEGMENT)
    assert [scan(device, frame).shape for _ in range(3)] == [(1, 20), (1, 10), (1, 20)]


def test_nan_comes_once(device: ScanDevice) -> None:
    faulty(device, FaultKind.NAN)
    frame = segment_parameters(SEGMENT)
    assert [bool(np.isnan(scan(device, frame)).any()) for _ in range(3)] == [False, True, False]


def test_a_dropped_segment_brings_the_one_before_under_its_number(device: ScanDevice) -> None:
    faulty(device, FaultKind.DROPPED_SEGMENT)
    first = scan(device, segment_parameters(SEGMENT))
    electrons_before = device.delivered.probes
    device.set_frame_parameters(segment_parameters(Segment((80.0, 80.0), (60.0, 20.0), 20)))
    number = device.start_frame(False)
    data, returned = read(device, number)
    assert returned == number - 1
    np.testing.assert_array_equal(data[0], first)
    assert device.delivered.probes == electrons_before
    assert read(device, device.start_frame(False))[1] == number + 1


def test_a_time_out_ends_only_when_it_is_cancelled(device: ScanDevice) -> None:
    faulty(device, FaultKind.TIME_OUT)
    frame = segment_parameters(SEGMENT)
    scan(device, frame)
    device.set_frame_parameters(frame)
    number = device.start_frame(False)
    end_s = time.perf_counter() + 0.1
    while time.perf_counter() < end_s:
        _, complete, *_ = device.read_partial(number, 0)
        assert not complete
    device.cancel()
    _, complete, *_ = device.read_partial(number, 0)
    assert complete
    assert scan(device, frame).shape == (1, 20)


def test_a_disconnected_device_fails_until_it_is_configured_again(device: ScanDevice) -> None:
    faulty(device, FaultKind.DISCONNECTION)
    frame = segment_parameters(SEGMENT)
    scan(device, frame)
    device.set_frame_parameters(frame)
    for _ in range(2):
        with pytest.raises(DeviceDisconnectedError):
            device.start_frame(False)
        with pytest.raises(DeviceDisconnectedError):
            device.set_frame_parameters(frame)
        with pytest.raises(DeviceDisconnectedError):
            device.read_partial(None, 0)
    device.cancel()
    device.configure(QUIET)
    assert scan(device, frame).shape == (1, 20)
