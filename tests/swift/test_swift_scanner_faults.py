"""Faults of the scan device: the right error, at the right time, and the instrument put back."""

from __future__ import annotations

import dataclasses
import threading
import typing

import numpy as np
import pytest
from quiet_clock import QuietClock
from scanner_tools import scan_parameters
from swift_context import Swift

from adaptive_core.errors import (
    DeviceDataError,
    DeviceDisconnectedError,
    DeviceError,
    DeviceTimeoutError,
    ScanCancelledError,
)
from adaptive_core.scan_path import Action, Positions, Segment
from adaptive_core.simulation.faults import Fault, FaultKind
from nionswift_plugin.adaptive_scan.scan_region import ScanRegion
from nionswift_plugin.adaptive_scan.swift_scanner import SwiftScanner

SEGMENT = Segment((5, 5), (5, 30), 20)


def make_scanner(swift: Swift, **arguments: typing.Any) -> SwiftScanner:
    parameters = scan_parameters(swift.scan)
    return SwiftScanner(swift.scan, ScanRegion.rectangle(parameters), parameters=parameters, **arguments)


def scan_all(scanner: SwiftScanner, actions: list[Action]) -> None:
    """Scan one action after another in a session; those that worked are taken off the list."""
    with scanner.session():
        while actions:
            scanner.scan(actions[0])
            actions.pop(0)


def assert_at_rest(swift: Swift) -> None:
    """The instrument is free, its beam blanked and its settings are Swift's."""
    assert swift.controller.GetVal("C_Blank") == 1.0
    assert swift.controller.probe_state == "parked"
    assert not swift.scan.scan_device.is_scanning
    present = swift.scan.scan_device.current_frame_parameters
    assert present.subscan_pixel_size is None
    assert not present.has_parameter("scan_path")


FAULTS = {
    FaultKind.TIME_OUT: (DeviceTimeoutError, "did not scan 20 probes within 0.3 s"),
    FaultKind.DROPPED_SEGMENT: (DeviceDataError, "the command was lost"),
    FaultKind.SHORT_READ: (DeviceDataError, r"returned \(1, 10\) values"),
    FaultKind.NAN: (DeviceDataError, "not finite"),
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("as_positions", [False, True])
def test_a_fault_of_the_device(swift_simulator: Swift, kind: FaultKind, as_positions: bool) -> None:
    swift = swift_simulator
    assert swift.simulator is not None
    action = Positions(SEGMENT.positions) if as_positions else SEGMENT
    swift.simulator.settings = dataclasses.replace(swift.simulator.settings, faults=(Fault(kind, command=3),))
    error, message = FAULTS[kind]
    actions: list[Action] = [action] * 5
    with pytest.raises(error, match=message):
        scan_all(make_scanner(swift, timeout_s=0.3), actions)
    assert len(actions) == 3
    assert_at_rest(swift)
    scan_all(make_scanner(swift), actions)


def test_a_device_that_goes_away(swift_simulator: Swift, caplog: pytest.LogCaptureFixture) -> None:
    swift = swift_simulator
    assert swift.simulator is not None
    faults = (Fault(FaultKind.DISCONNECTION, command=3),)
    swift.simulator.settings = dataclasses.replace(swift.simulator.settings, faults=faults)
    with pytest.raises(DeviceDisconnectedError, match="disconnected"):
        scan_all(make_scanner(swift), [SEGMENT] * 5)
    # What could not be put back is said, but does not hide the reason.
    assert "the scan settings could not be put back" in caplog.text
    assert swift.controller.GetVal("C_Blank") == 1.0
    assert swift.controller.probe_state == "parked"
    swift.simulator.settings = dataclasses.replace(swift.simulator.settings, faults=())
    scan_all(make_scanner(swift), [SEGMENT])


@pytest.mark.parametrize("how", ["time-out", "cancel"])
def test_a_device_that_never_comes_back_is_left_behind(
    swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    swift = swift_simulator
    forever = threading.Event()

    def hang(*_: object) -> typing.NoReturn:
        forever.wait()
        raise RuntimeError("The test is over.")

    monkeypatch.setattr(swift.scan.scan_device, "read_partial", hang)
    scanner = make_scanner(swift, timeout_s=0.3 if how == "time-out" else 60.0)
    if how == "cancel":
        threading.Timer(0.1, scanner.cancel).start()
    clock = QuietClock()
    with pytest.raises(DeviceTimeoutError if how == "time-out" else ScanCancelledError):
        scan_all(scanner, [SEGMENT])
    assert clock.elapsed_s < 0.5
    assert swift.controller.GetVal("C_Blank") == 1.0
    assert swift.controller.probe_state == "parked"
    forever.set()


ANSWERS: dict[str, tuple[dict[str, typing.Any], type[Exception], str]] = {
    "bad frame": ({"bad": True}, DeviceDataError, "bad frame"),
    "foreign frame": ({"shape": (256, 256)}, DeviceDataError, r"returned \(256, 256\) values"),
    "column": ({"shape": (20, 1)}, DeviceDataError, r"returned \(20, 1\) values"),
    "no data": ({"channels": ()}, DeviceDataError, "no data of the channel HAADF"),
    "other channel": ({"channels": (1,)}, DeviceDataError, "no data of the channel HAADF"),
    "other frame": ({"number": 7}, DeviceDataError, "instead of"),
    "infinite": ({"value": np.inf}, DeviceDataError, "20 values that are not finite"),
    "valid part too small": ({"area": ((0, 0), (1, 19))}, DeviceDataError, r"returned \(1, 19\) values"),
    "connection error": ({"error": ConnectionResetError("cable")}, DeviceDisconnectedError, "went away: cable"),
    "time-out of the driver": ({"error": TimeoutError("driver")}, DeviceTimeoutError, "did not scan"),
    "any error": ({"error": KeyError("x")}, DeviceError, "failed: KeyError"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_not_the_one_that_was_asked_for(
    swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    swift = swift_simulator
    case, error, message = ANSWERS[name]
    give_answer(swift, monkeypatch, **case)
    with pytest.raises(error, match=message):
        scan_all(make_scanner(swift), [SEGMENT])
    assert_at_rest(swift)


def test_flyback_beyond_the_valid_part_is_ignored(swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch) -> None:
    give_answer(swift_simulator, monkeypatch, shape=(2, 24), area=((0, 2), (1, 20)))
    scanner = make_scanner(swift_simulator)
    with scanner.session():
        values = scanner.scan(SEGMENT)
    np.testing.assert_array_equal(values, np.arange(2, 22)[np.newaxis])


def give_answer(
    swift: Swift,
    monkeypatch: pytest.MonkeyPatch,
    *,
    shape: tuple[int, int] = (1, 20),
    area: tuple[tuple[int, int], tuple[int, int]] | None = None,
    channels: tuple[int, ...] = (0,),
    number: int | None = None,
    value: float | None = None,
    bad: bool = False,
    error: Exception | None = None,
) -> None:
    """Make the device answer like this, whatever it is asked for."""
    device = swift.scan.scan_device
    read = device.read_partial

    def answer(frame_number: int, skip: int) -> typing.Any:
        while not (result := read(frame_number, skip))[1]:
            pass
        if error is not None:
            raise error
        data = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
        if value is not None:
            data[:] = value
        elements = [{"data": data, "properties": {"channel_id": channel}} for channel in channels]
        return elements, True, bad, area or ((0, 0), shape), result[4] if number is None else number, 0

    monkeypatch.setattr(device, "read_partial", answer)


def test_a_blanker_that_refuses_stops_the_scan(swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch) -> None:
    swift = swift_simulator
    set_value = swift.controller.SetVal
    monkeypatch.setattr(swift.controller, "SetVal", lambda name, value: name != "C_Blank" and set_value(name, value))
    with pytest.raises(DeviceError, match="blanker C_Blank did not accept"):
        scan_all(make_scanner(swift), [SEGMENT])
    assert swift.controller.probe_state == "parked"


def test_a_device_that_records_is_not_taken(swift_simulator: Swift) -> None:
    swift = swift_simulator
    parameters = scan_parameters(swift.scan, (256, 256), 100.0)
    scanner = make_scanner(swift)
    task = swift.scan.start_recording(frame_parameters=parameters)
    with pytest.raises(DeviceError, match="is recording"):
        scan_all(scanner, [SEGMENT])
    assert swift.scan.is_recording
    swift.scan.abort_recording(sync_timeout=5.0)
    assert task.is_finished
