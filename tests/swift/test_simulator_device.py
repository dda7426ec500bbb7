"""The simulated instrument in Swift: scans, camera, files, faults, and beside another instrument."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import pathlib
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from nion.data import Calibration, DataAndMetadata
from nion.instrumentation import HardwareSource, stem_controller
from nion.utils import Geometry, Registry
from nionswift_plugin.DM_IO import dm3_image_utils
from swift_context import Swift

from adaptive_core import ports
from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.faults import Fault, FaultKind
from adaptive_core.simulation.settings import CameraSettings, InstrumentSettings, SimulatedInstrument
from simulator_device.camera import RAD_PER_PX, DiskPosition
from simulator_device.registration import SWITCH, Simulator, wanted


def simulator(swift: Swift) -> Simulator:
    assert swift.simulator is not None
    return swift.simulator


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


# Swift's own ways of scanning


def test_record_immediate_delivers_the_whole_scan(swift_simulator: Swift) -> None:
    swift = swift_simulator
    parameters = copy.copy(swift.scan.get_current_frame_parameters())
    parameters.pixel_size = (64, 48)
    parameters.pixel_time_us = 10.0
    parameters.enabled_channel_indexes = [0, 2]
    dark, bright = (xdata for xdata in swift.scan.record_immediate(parameters) if xdata)
    assert dark.data.shape == bright.data.shape == (64, 48)
    assert correlation(dark.data, simulator(swift).truth(parameters, 0)) > 0.9
    assert correlation(bright.data, simulator(swift).truth(parameters, 2)) > 0.7
    assert dark.dimensional_calibrations[0].units == "nm"
    assert dark.dimensional_calibrations[0].scale == pytest.approx(parameters.fov_nm / 64)


def test_the_live_view_follows_its_settings(swift_simulator: Swift) -> None:
    swift = swift_simulator
    swift.scan.start_playing()
    try:
        for fov_nm, side in ((20.0, 256), (6.0, 128)):
            parameters = swift.scan.get_current_frame_parameters()
            parameters.fov_nm, parameters.pixel_size = fov_nm, (side, side)
            parameters.pixel_time_us = 5.0
            swift.scan.set_current_frame_parameters(parameters)
            truth = simulator(swift).truth(parameters)

            def shown(truth: np.ndarray = truth) -> bool:
                xdata = swift.document_model.data_items[0].xdata if swift.document_model.data_items else None
                same_shape = xdata is not None and xdata.data.shape == truth.shape
                return same_shape and correlation(xdata.data, truth) > 0.8

            swift.pump(shown)
    finally:
        swift.scan.abort_playing(sync_timeout=5.0)
    assert not swift.scan.scan_device.is_scanning


def test_the_stage_moves_the_live_view(swift_simulator: Swift) -> None:
    swift = swift_simulator
    parameters = swift.scan.get_current_frame_parameters()
    before = simulator(swift).truth(parameters)
    swift.controller.SetVal2D("stage_position_m", Geometry.FloatPoint(2e-9, -3e-9))
    moved = swift.scan.record_immediate(parameters)[0]
    assert moved is not None
    assert correlation(moved.data, simulator(swift).truth(parameters)) > 0.6
    assert correlation(moved.data, before) < 0.5


def test_the_subscan_of_the_scan_panel(swift_simulator: Swift) -> None:
    swift = swift_simulator
    swift.scan.start_playing()
    swift.pump(lambda: len(swift.document_model.data_items) == 1)
    swift.scan.subscan_enabled = True
    swift.scan.subscan_region = Geometry.FloatRect.from_center_and_size((0.4, 0.6), (0.25, 0.5))
    swift.scan.subscan_rotation = 0.6
    try:
        swift.pump(lambda: any("Subscan" in item.title for item in swift.document_model.data_items))
        parameters = swift.scan.get_current_frame_parameters()
        item = next(item for item in swift.document_model.data_items if "Subscan" in item.title)
        truth = simulator(swift).truth(parameters)
        assert truth.shape == (64, 128)
        swift.pump(lambda: item.xdata.data.shape == truth.shape and correlation(item.xdata.data, truth) > 0.6)
    finally:
        swift.scan.abort_playing(sync_timeout=5.0)


def test_a_camera_drives_a_synchronized_scan(swift_simulator: Swift) -> None:
    swift = swift_simulator
    scan_parameters = swift.scan.get_current_frame_parameters()
    scan_parameters.pixel_size = (4, 5)
    camera_parameters = swift.camera.get_current_frame_parameters()
    camera_parameters.exposure_ms, camera_parameters.binning = 10.0, 8
    result = swift.scan.grab_synchronized(
        scan_frame_parameters=scan_parameters, camera=swift.camera, camera_frame_parameters=camera_parameters
    )
    assert result is not None
    scans, cameras = result
    assert scans[0].data.shape == (4, 5)
    assert cameras[0].data.shape == (4, 5, 64, 64)
    assert (scans[0].data > 0).all()


def test_the_camera_shows_the_disk_where_the_shift_puts_it(swift_simulator: Swift) -> None:
    swift = swift_simulator
    swift.camera.start_playing()
    try:
        frames = [swift.camera.get_next_xdatas_to_finish(5.0)[0]]
        swift.controller.SetVal2D("DiffractionShift", Geometry.FloatPoint(y=10e-3, x=-20e-3))
        frames.append(swift.camera.get_next_xdatas_to_start(5.0)[0])
        swift.controller.SetVal("C_Blank", 1.0)
        frames.append(swift.camera.get_next_xdatas_to_start(5.0)[0])
    finally:
        swift.camera.abort_playing(sync_timeout=5.0)
    centres = []
    for frame in frames[:2]:
        assert frame is not None
        assert frame.dimensional_calibrations[0].units == "rad"
        lit = np.argwhere(frame.data > frame.data.max() / 2).mean(axis=0) + 0.5
        centres.append(
            [c.convert_to_calibrated_value(v) for c, v in zip(frame.dimensional_calibrations, lit, strict=True)]
        )
    np.testing.assert_allclose(centres, [[0.0, 0.0], [10e-3, -20e-3]], atol=0.5e-3)
    assert frames[2] is not None
    assert frames[2].data.max() < frames[0].data.max() / 4


def test_the_disk_comes_to_rest_while_nothing_is_exposed() -> None:
    """A move arrives late in part, and frames may show the time before it; not if there was time."""
    moved_rad = (10e-3, -20e-3)
    errors = {}
    for still_s in (0.0, 0.3):
        errors[still_s] = []
        for seed in range(20):
            disk = DiskPosition(InstrumentSettings(camera=CameraSettings(world="B"), seed=seed))
            disk.next_frame((0.0, 0.0))
            shown = disk.next_frame(moved_rad, still_s)
            errors[still_s].append(math.dist(shown, disk.next_frame(moved_rad, 0.3)) / RAD_PER_PX)
    assert max(errors[0.3]) < 1.0
    assert sum(error > 1.0 for error in errors[0.0]) >= 10


# settings and specimens


@pytest.mark.parametrize("fixture", ["swift_simulator", "swift_both"])
def test_it_is_found_through_the_registry(fixture: str, request: pytest.FixtureRequest) -> None:
    swift: Swift = request.getfixturevalue(fixture)
    specimen = Registry.get_component("simulated_specimen")
    assert isinstance(specimen, ports.SimulatedSpecimen)
    assert isinstance(Registry.get_component("simulated_instrument"), SimulatedInstrument)
    assert swift.scan.hardware_source_id == "adaptive_simulator_scan"
    assert "grain-boundary" in specimen.names


def test_loading_a_specimen_sets_the_scan_to_it(swift_simulator: Swift, tmp_path: pathlib.Path) -> None:
    swift = swift_simulator
    swift.simulator.load("lattice")  # type: ignore[union-attr]
    assert swift.scan.get_current_frame_parameters().fov_nm == 8.0
    assert swift.scan.get_record_frame_parameters().fov_nm == 8.0  # type: ignore[attr-defined]
    image = np.random.default_rng(1).random((40, 60)).astype(np.float32)
    np.save(tmp_path / "a.npy", image)
    simulator(swift).load(str(tmp_path / "a.npy"), 0.1)
    parameters = swift.scan.get_current_frame_parameters()
    assert parameters.fov_nm == pytest.approx(4.0)
    parameters.pixel_size = (40, 40)
    assert correlation(simulator(swift).truth(parameters), image[:, 10:50]) > 0.999


def test_dm_files_become_specimens_with_their_pixel_size(swift_simulator: Swift, tmp_path: pathlib.Path) -> None:
    swift = swift_simulator
    image = np.random.default_rng(1).random((32, 32)).astype(np.float32)
    for suffix, units, scale in (("dm3", "nm", 0.2), ("dm4", "A", 2.0)):
        calibration = Calibration.Calibration(0.0, scale, units)
        xdata = DataAndMetadata.new_data_and_metadata(image, dimensional_calibrations=[calibration, calibration])
        path = tmp_path / f"a.{suffix}"
        with path.open("wb") as file:
            dm3_image_utils.save_image(xdata, file, 3 if suffix == "dm3" else 4)
        simulator(swift).load(str(path))
        assert simulator(swift).field_of_view_nm == pytest.approx(6.4)


@pytest.mark.parametrize("name", ["cheese", "missing.png", "bad.dm4", "bad.tif"])
def test_what_cannot_be_loaded_changes_nothing(swift_simulator: Swift, tmp_path: pathlib.Path, name: str) -> None:
    swift = swift_simulator
    for bad in ("bad.dm4", "bad.tif"):
        (tmp_path / bad).write_bytes(b"this is no image")
    before = simulator(swift).truth(swift.scan.get_current_frame_parameters())
    with pytest.raises(InvalidInputError, match=name):
        simulator(swift).load(name if name == "cheese" else str(tmp_path / name))
    np.testing.assert_array_equal(simulator(swift).truth(swift.scan.get_current_frame_parameters()), before)


def test_the_beam_current_is_the_control(swift_simulator: Swift) -> None:
    swift, instrument = swift_simulator, simulator(swift_simulator)
    assert instrument.settings.beam_current_pa == pytest.approx(50.0)
    swift.controller.SetVal("BeamCurrent", 20e-12)
    assert instrument.settings.beam_current_pa == pytest.approx(20.0)
    instrument.settings = dataclasses.replace(instrument.settings, beam_current_pa=80.0)
    assert swift.controller.GetVal("BeamCurrent") == pytest.approx(80e-12)


@pytest.mark.parametrize("kind", list(FaultKind))
def test_after_a_fault_the_live_view_works_again(swift_simulator: Swift, kind: FaultKind) -> None:
    swift, instrument = swift_simulator, simulator(swift_simulator)
    # Swift reports the exception of a disconnection through this hook, else on the terminal.
    swift.scan._test_acquire_exception = lambda _: None  # type: ignore[attr-defined]
    instrument.settings = dataclasses.replace(instrument.settings, faults=(Fault(kind, 2),))
    swift.scan.start_playing()
    swift.pump_for(1.0)
    swift.scan.abort_playing(sync_timeout=5.0)
    instrument.settings = dataclasses.replace(instrument.settings, faults=())
    parameters = swift.scan.get_current_frame_parameters()
    xdata = swift.scan.record_immediate(parameters)[0]
    assert xdata is not None
    assert np.isfinite(xdata.data).all()
    assert xdata.data.shape == (256, 256)


# beside another instrument


def test_beside_usim_the_stem_controller_keeps_its_own_devices(swift_both: Swift) -> None:
    swift = swift_both
    assert Registry.get_component("stem_controller") is swift.controller
    assert swift.controller.scan_controller is swift.usim_scan
    assert swift.controller.ronchigram_camera.hardware_source_id == "usim_ronchigram_camera"  # type: ignore[union-attr]
    assert len(HardwareSource.HardwareSourceManager().instruments) == 1
    assert swift.scan.stem_controller is swift.controller


def test_beside_usim_both_scan_at_once(swift_both: Swift) -> None:
    swift = swift_both
    assert swift.usim_scan is not None
    swift.usim_scan.start_playing()
    swift.scan.start_playing()
    swift.pump(lambda: len(swift.document_model.data_items) == 2)
    swift.pump_for(0.5)
    swift.scan.abort_playing(sync_timeout=5.0)
    assert swift.usim_scan.is_playing
    swift.usim_scan.abort_playing(sync_timeout=5.0)
    shapes = {item.xdata.data.shape for item in swift.document_model.data_items}
    assert shapes == {(256, 256)}


def test_beside_usim_its_blanker_current_and_stage_count(swift_both: Swift) -> None:
    swift, instrument = swift_both, simulator(swift_both)
    assert instrument.settings.beam_current_pa == pytest.approx(200.0)
    parameters = swift.scan.get_current_frame_parameters()
    parameters.pixel_size = (32, 32)
    lit = swift.scan.record_immediate(parameters)[0]
    swift.controller.SetVal("C_Blank", 1.0)
    dark = swift.scan.record_immediate(parameters)[0]
    before = instrument.delivered.total
    time.sleep(0.02)
    assert instrument.delivered.total == before
    swift.controller.SetVal("C_Blank", 0.0)
    assert lit is not None
    assert dark is not None
    assert dark.data.mean() == pytest.approx(instrument.settings.detector.offset, rel=0.02)
    assert lit.data.mean() > 1.5 * dark.data.mean()
    before_move = instrument.truth(parameters)
    swift.controller.SetVal("stage_position_m.x", 5e-9)
    assert correlation(instrument.truth(parameters), before_move) < 0.5


def test_usim_alone_has_no_simulator(swift_usim: Swift) -> None:
    assert swift_usim.simulator is None
    assert Registry.get_component("simulated_specimen") is None


class RealInstrument(stem_controller.STEMController):
    instrument_id = "vendor_microscope"


@pytest.mark.parametrize(
    ("switch", "beside_real", "alone"), [(None, False, True), ("1", True, True), ("0", False, False)]
)
def test_it_stays_off_beside_real_hardware_unless_switched_on(
    monkeypatch: pytest.MonkeyPatch, switch: str | None, beside_real: bool, alone: bool
) -> None:
    if switch is None:
        monkeypatch.delenv(SWITCH, raising=False)
    else:
        monkeypatch.setenv(SWITCH, switch)
    real = RealInstrument()
    assert wanted(real) is beside_real
    assert wanted(None) is alone
    real.close()


PLUG_INS = """
import sys
if {without_usim}:
    sys.modules["nionswift_plugin.usim"] = None  # as if it were not installed
from nion.utils import Registry
from nionswift_plugin.adaptive_scan.headless import headless_swift
from nionswift_plugin.adaptive_scan.swift_folders import SwiftFolders
import pathlib
root = pathlib.Path({root!r})
with headless_swift(SwiftFolders(root / "data", root / "configuration", root / "documents")):
    sources = Registry.get_components_by_type("hardware_source")
    print("ids", *sorted(source.hardware_source_id for source in sources))
    print("controller", Registry.get_component("stem_controller").instrument_id)
"""


@pytest.mark.parametrize("without_usim", [True, False])
def test_swift_loads_the_plug_in_alone_and_beside_usim(tmp_path: pathlib.Path, without_usim: bool) -> None:
    script = PLUG_INS.format(without_usim=without_usim, root=str(tmp_path))
    environment = {key: value for key, value in os.environ.items() if key != SWITCH}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr + run.stdout
    ids = next(line for line in run.stdout.splitlines() if line.startswith("ids")).split()[1:]
    expected = {"adaptive_simulator_scan", "adaptive_simulator_camera"}
    if not without_usim:
        expected |= {"usim_scan_device", "usim_ronchigram_camera", "usim_eels_camera"}
    assert set(ids) == expected
    controller = "adaptive_simulator_instrument" if without_usim else "usim_stem_controller"
    assert f"controller {controller}" in run.stdout
