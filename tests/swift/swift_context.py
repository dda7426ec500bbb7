"""Headless Swift for tests: what a test gets, and the hardware configurations."""

from __future__ import annotations

import dataclasses
import pathlib
import time
import typing

import pytest
from nion.instrumentation import HardwareSource, camera_base, scan_base, stem_controller
from nion.swift import DocumentController
from nion.swift.model import DocumentModel
from nion.usim_device import DeviceConfiguration

from simulator_device.registration import Simulator


@dataclasses.dataclass
class Swift:
    """A document of Swift with hardware; no window is shown.

    Attributes:
        document_controller, document_model: of the document.
        controller: the STEM controller in charge.
        scan, camera: the hardware sources under test, ours where there are several.
        simulator: our instrument; None with usim alone.
        usim_scan: usim's scan; None without it.
    """

    document_controller: DocumentController.DocumentController
    document_model: DocumentModel.DocumentModel
    controller: stem_controller.STEMController
    scan: scan_base.ScanHardwareSource
    camera: camera_base.CameraHardwareSource
    simulator: Simulator | None = None
    usim_scan: scan_base.ScanHardwareSource | None = None

    def pump(self, condition: typing.Callable[[], object], timeout_s: float = 60.0) -> None:
        """Run Swift's main loop until the condition holds; fail if it takes longer than the time-out."""
        end_s = time.perf_counter() + timeout_s
        while not condition():
            if time.perf_counter() > end_s:
                pytest.fail(f"Nothing happened within {timeout_s} s.")
            self.document_controller.periodic()
            time.sleep(0.005)
        self.document_controller.periodic()

    def pump_for(self, seconds: float) -> None:
        """Run Swift's main loop for some time."""
        end_s = time.perf_counter() + seconds
        self.pump(lambda: time.perf_counter() > end_s, seconds + 60.0)


class SimulatorConfiguration:
    """Our simulated instrument as the hardware of an AcquisitionTestContext."""

    def __init__(self, configuration_location: pathlib.Path) -> None:
        self.configuration_location = str(configuration_location)
        self.simulator = Simulator()
        self.instrument_id = self.simulator.instrument.instrument_id
        self.instrument = self.simulator.instrument
        self.scan_module = self.simulator.scan_module
        self.ronchigram_camera_device_id = self.simulator.camera.camera_id
        self.ronchigram_camera_device = self.simulator.camera
        self.ronchigram_camera_settings = self.simulator.camera_module.camera_settings
        self.eels_camera_device_id = ""

    def run(self) -> None:
        self.simulator.register()

    def stop(self) -> None:
        self.simulator.unregister()


class BothConfiguration(DeviceConfiguration.AcquisitionContextConfiguration):
    """usim with our instrument as secondary devices beside it."""

    simulator: Simulator

    def run(self) -> None:
        super().run()
        self.simulator = Simulator(self.instrument)
        self.simulator.register()

    def stop(self) -> None:
        self.simulator.unregister()
        super().stop()


def hardware_source(hardware_source_id: str) -> typing.Any:
    """The hardware source that Swift knows by this id."""
    source = HardwareSource.HardwareSourceManager().get_hardware_source_for_hardware_source_id(hardware_source_id)
    if source is None:
        raise LookupError(f"There is no hardware source '{hardware_source_id}'.")
    return source
