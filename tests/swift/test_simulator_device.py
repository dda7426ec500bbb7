"""The simulated instrument in Swift: live view, record, subscans, beside another instrument."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from nion.instrumentation import HardwareSource
from nion.utils import Registry
from swift_context import Swift

from adaptive_core import ports
from adaptive_core.simulation.settings import SimulatedInstrument


def test_record_immediate_delivers_the_whole_scan(swift_simulator: Swift) -> None:
    swift = swift_simulator
    assert swift.simulator is not None
    parameters = copy.copy(swift.scan.get_current_frame_parameters())
    parameters.pixel_size = (64, 48)
    parameters.pixel_time_us = 10.0
    parameters.enabled_channel_indexes = [0, 2]
    dark, bright = swift.scan.record_immediate(parameters)
    truth = swift.simulator.truth(parameters, 0)
    assert dark is not None
    assert bright is not None
    assert dark.data.shape == bright.data.shape == truth.shape == (64, 48)
    assert np.corrcoef(dark.data.ravel(), truth.ravel())[0, 1] > 0.9


def test_live_view_shows_the_specimen_and_stops(swift_simulator: Swift) -> None:
    swift = swift_simulator
    swift.scan.start_playing()
    swift.pump(lambda: len(swift.document_model.data_items) == 1)
    item = swift.document_model.data_items[0]
    swift.pump(lambda: item.xdata is not None and item.xdata.data.std() > 0)
    swift.scan.abort_playing(sync_timeout=5.0)
    assert item.xdata is not None
    assert item.xdata.data.shape == (256, 256)


@pytest.mark.parametrize("fixture", ["swift_simulator", "swift_both"])
def test_it_is_found_through_the_registry(fixture: str, request: pytest.FixtureRequest) -> None:
    swift: Swift = request.getfixturevalue(fixture)
    assert isinstance(Registry.get_component("simulated_specimen"), ports.SimulatedSpecimen)
    assert isinstance(Registry.get_component("simulated_instrument"), SimulatedInstrument)
    assert swift.scan.hardware_source_id == "adaptive_simulator_scan"


def test_beside_usim_the_stem_controller_keeps_its_own_devices(swift_both: Swift) -> None:
    swift = swift_both
    assert Registry.get_component("stem_controller") is swift.controller
    assert swift.controller.scan_controller is swift.usim_scan
    assert swift.controller.ronchigram_camera.hardware_source_id == "usim_ronchigram_camera"
    assert len(HardwareSource.HardwareSourceManager().instruments) == 1


def test_usim_alone_has_no_simulator(swift_usim: Swift) -> None:
    assert swift_usim.simulator is None
    assert Registry.get_component("simulated_specimen") is None
