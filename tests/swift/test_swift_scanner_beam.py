"""The adapter and the beam: when it is blanked, where it waits, and the dose that counts."""

from __future__ import annotations

import dataclasses
import time

import pytest
from nion.utils import Geometry
from scanner_tools import quiet, scan_parameters
from swift_context import Swift

from adaptive_core.dose import electrons
from adaptive_core.errors import DeviceError
from adaptive_core.scan_path import Segment
from adaptive_core.simulation.faults import Fault, FaultKind
from nionswift_plugin.adaptive_scan.beam import BeamSettings
from nionswift_plugin.adaptive_scan.scan_region import ScanRegion
from nionswift_plugin.adaptive_scan.swift_scanner import SwiftScanner


@pytest.mark.parametrize("gate", [False, True])
def test_the_beam_is_blanked_while_nothing_is_scanned(
    swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch, gate: bool
) -> None:
    swift = swift_simulator
    assert swift.simulator is not None
    monkeypatch.setattr(swift.simulator.scan_device, "supports_beam_gate", gate)
    quiet(swift)
    parameters = scan_parameters(swift.scan, dwell_us=10.0)
    scanner = SwiftScanner(swift.scan, ScanRegion.rectangle(parameters), parameters=parameters)
    assert scanner.abilities.can_blank
    with scanner.session():
        assert swift.controller.GetVal("C_Blank") == 1.0
        swift.simulator.reset()
        commands_us = 0.0
        for row in range(10):
            begin = time.perf_counter()
            scanner.scan(Segment((5 + row, 5), (5 + row, 30), 20))
            commands_us += (time.perf_counter() - begin) * 1e6
            assert swift.controller.GetVal("C_Blank") == 1.0
            time.sleep(0.02)
        delivered = swift.simulator.delivered
    current_pa = scanner.setup.beam_current_pa
    assert current_pa == pytest.approx(50.0)
    assert delivered.probes == pytest.approx(electrons(current_pa, 10 * 20 * 10.0))
    if gate:
        assert delivered.total == delivered.probes
        assert scanner.beam_on_us == pytest.approx(10 * 20 * 10.0)
        return
    # The waiting was blanked; the beam is on for a part of a command besides its dwell time.
    assert 0 < delivered.idle < electrons(current_pa, commands_us)
    # What is counted is never less than what is delivered, and holds the time that the blanker's control takes: on a
    # busy computer that is most of a command, so the commands' own duration is the bound.
    counted = electrons(current_pa, scanner.beam_on_us)
    assert delivered.total < 1.01 * counted
    assert counted < electrons(current_pa, commands_us)


@pytest.mark.parametrize("kind", [FaultKind.NAN, FaultKind.SHORT_READ, FaultKind.DROPPED_SEGMENT])
def test_the_dose_of_a_command_that_fails_counts(swift_simulator: Swift, kind: FaultKind) -> None:
    swift = swift_simulator
    assert swift.simulator is not None
    quiet(swift)
    parameters = scan_parameters(swift.scan, dwell_us=10.0)
    scanner = SwiftScanner(swift.scan, ScanRegion.rectangle(parameters), parameters=parameters)
    swift.simulator.settings = dataclasses.replace(swift.simulator.settings, faults=(Fault(kind, command=2),))
    with scanner.session():
        swift.simulator.reset()
        scanner.scan(Segment((5, 5), (5, 30), 20))
        before_us = scanner.beam_on_us
        with pytest.raises(DeviceError):
            scanner.scan(Segment((9, 5), (9, 30), 20))
        delivered = swift.simulator.delivered
    assert scanner.beam_on_us > before_us
    current_pa = scanner.setup.beam_current_pa
    assert current_pa is not None
    assert delivered.total < 1.01 * electrons(current_pa, scanner.beam_on_us)


def test_without_a_blanker_the_beam_waits_outside_and_its_dose_counts(
    swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    swift = swift_simulator
    assert swift.simulator is not None
    monkeypatch.setattr(swift.simulator.scan_device, "supports_beam_gate", False)
    parameters = scan_parameters(swift.scan, dwell_us=10.0)
    region = ScanRegion.rectangle(parameters, (0.3, 0.3), (0.4, 0.4))
    beam = BeamSettings(blanker_control="NoSuchControl")
    scanner = SwiftScanner(swift.scan, region, parameters=parameters, beam=beam)
    assert not scanner.abilities.can_blank
    begin = time.perf_counter()
    with scanner.session():
        assert swift.controller.probe_position.as_tuple() == (1.0, 1.0)
        time.sleep(0.05)
        scanner.scan(Segment((5, 5), (5, 30), 20))
        time.sleep(0.03)
        scanner.scan(Segment((5, 5), (5, 30), 20))
    assert 80e3 < scanner.beam_on_us < (time.perf_counter() - begin) * 1e6
    assert swift.controller.probe_position.as_tuple() == (1.0, 1.0)


def test_a_live_view_that_goes_on_gets_the_probe_position_back(swift_simulator: Swift) -> None:
    swift = swift_simulator
    swift.controller.probe_position = Geometry.FloatPoint(0.25, 0.75)
    swift.scan.start_playing()
    swift.pump(lambda: swift.document_model.data_items)
    parameters = scan_parameters(swift.scan)
    region = ScanRegion.rectangle(parameters, (0.3, 0.3), (0.4, 0.4))
    beam = BeamSettings(blanker_control=None)
    scanner = SwiftScanner(swift.scan, region, parameters=parameters, beam=beam, restart_view=True)
    with scanner.session():
        assert swift.controller.probe_position.as_tuple() == (1.0, 1.0)
    assert swift.scan.is_playing
    assert swift.controller.probe_position.as_tuple() == (0.25, 0.75)


def test_the_delay_of_the_blanker_counts(swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch) -> None:
    assert swift_simulator.simulator is not None
    monkeypatch.setattr(swift_simulator.simulator.scan_device, "supports_beam_gate", False)
    parameters = scan_parameters(swift_simulator.scan, dwell_us=10.0)
    beam = BeamSettings(unblank_delay_us=2000.0)
    scanner = SwiftScanner(swift_simulator.scan, ScanRegion.rectangle(parameters), parameters=parameters, beam=beam)
    with scanner.session():
        begin = time.perf_counter()
        scanner.scan(Segment((5, 5), (5, 30), 20))
        assert 2200.0 <= scanner.beam_on_us <= (time.perf_counter() - begin) * 1e6


@pytest.mark.parametrize(
    ("beam", "expected"),
    [
        (BeamSettings(), 50.0),
        (BeamSettings(current_pa=12.0), 12.0),
        (BeamSettings(current_control=None), None),
        (BeamSettings(current_control="NoSuchControl"), None),
    ],
)
def test_where_the_beam_current_comes_from(swift_simulator: Swift, beam: BeamSettings, expected: float | None) -> None:
    parameters = scan_parameters(swift_simulator.scan)
    scanner = SwiftScanner(swift_simulator.scan, ScanRegion.rectangle(parameters), parameters=parameters, beam=beam)
    assert scanner.setup.beam_current_pa == (None if expected is None else pytest.approx(expected))
