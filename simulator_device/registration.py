"""Puts the simulated instrument into Swift: alone as a whole instrument, beside another one as secondary devices."""

from __future__ import annotations

import collections.abc
import dataclasses
import logging
import os
import typing

import numpy as np
from nion.instrumentation import scan_base, stem_controller
from nion.swift import Application
from nion.utils import Registry

from adaptive_core.ports import FloatArray, ImageArray
from adaptive_core.simulation.microscope import Microscope
from adaptive_core.simulation.settings import CameraSettings, Delivered, InstrumentSettings
from simulator_device.camera import Camera, CameraModule
from simulator_device.instrument import Column, Instrument
from simulator_device.scan_device import ScanDevice
from simulator_device.scan_module import ScanModule
from simulator_device.scan_parameters import raster_of
from simulator_device.specimen_source import NAMES, load_specimen

SWITCH = "ADAPTIVE_SIMULATOR"
"""Environment variable: 1 attaches the simulator even beside real hardware, 0 never; unset, only beside simulators."""
WORLD = "ADAPTIVE_SIMULATOR_WORLD"
"""Environment variable: how the diffraction shift behaves, A (unset), B, C, or none for an ideal one."""

KNOWN_SIMULATORS = ("usim_stem_controller",)


def instrument_id(controller: stem_controller.STEMController) -> str:
    """The id by which Swift knows a STEM controller."""
    return str(getattr(controller, "instrument_id", ""))


class Simulator:
    """The simulated instrument in Swift: implements SimulatedSpecimen and SimulatedInstrument.

    Args:
        controller: the STEM controller in charge; None makes the simulator's own one that.

    Attributes:
        instrument: the simulator's STEM controller; registered only if it is in charge.
        is_secondary: attached beside another STEM controller.
        scan_module, camera_module: what Swift gets.
    """

    def __init__(self, controller: stem_controller.STEMController | None = None) -> None:
        self.is_secondary = controller is not None
        self.instrument = Instrument()
        self._column = Column(self.instrument, controller or self.instrument)
        self._column.lend("DetectorCentre")
        settings = InstrumentSettings()
        self._microscope = Microscope(load_specimen(NAMES[0]), settings)
        self.scan_device = ScanDevice(self._column, self._microscope, self.is_secondary)
        stem_id = instrument_id(self._column.controller)
        self.scan_module = ScanModule(stem_id, self.scan_device, self.field_of_view_nm)
        self.camera = Camera(self._column, settings, self.scan_device)
        self.camera_module = CameraModule(stem_id, self.camera, self.is_secondary)

    # registration

    def register(self) -> None:
        """Register with Swift. The order is Swift's: the controller before its devices."""
        if not self.is_secondary:
            Registry.register_component(self.instrument, {"instrument_controller", "stem_controller"})
        Registry.register_component(self.camera_module, {"camera_module"})
        Registry.register_component(self.scan_module, {"scan_module"})
        # Nion's kit clocks the scan of the camera's own instrument, beside another one too.
        self.instrument.set_scan_controller(self.scan_module.hardware_source)
        Registry.register_component(self, {"simulated_specimen", "simulated_instrument"})

    def unregister(self) -> None:
        """Take everything out again, which Swift allows only when no document is open."""
        Registry.unregister_component(self, {"simulated_specimen", "simulated_instrument"})
        Registry.unregister_component(self.camera_module, {"camera_module"})
        self.instrument.set_scan_controller(None)
        Registry.unregister_component(self.scan_module, {"scan_module"})
        if not self.is_secondary:
            Registry.unregister_component(self.instrument, {"instrument_controller", "stem_controller"})
        self.instrument.close()

    # SimulatedSpecimen

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the built-in specimens."""
        return NAMES

    def load(self, source: str, pixel_size_nm: float | None = None) -> None:
        """Put a built-in specimen, by name, or an image file into the instrument, and set the scan to show it.

        A specimen made of atoms also sets beam energy and convergence angle as suits it, and focuses.

        Call it on Swift's main thread. Raises InvalidInputError, and leaves everything as it was, if it cannot be read.
        """
        specimen = load_specimen(source, pixel_size_nm)
        self.scan_device.insert(specimen)
        self.scan_module.show(specimen.view_nm)
        if specimen.potential is not None:
            self._column.illuminate(specimen.potential.optics)

    def truth(self, frame_parameters: scan_base.ScanFrameParameters, channel_index: int = 0) -> ImageArray:
        """Expected counts of the whole scan, or subscan, with these frame parameters (height, width), float32.

        No noise, drift, distortion or damage; the beam is on, stage and beam current are as they are now.
        """
        geometry = raster_of(frame_parameters)
        return self._microscope.truth(geometry, frame_parameters.pixel_time_us, channel_index, self._column.beam)

    def phase(
        self,
        frame_parameters: scan_base.ScanFrameParameters,
        transfer: collections.abc.Callable[[FloatArray], FloatArray],
    ) -> ImageArray | None:
        """True phase at each position of these frame parameters; see SimulatedSpecimen."""
        potential = self._microscope.specimen.potential
        if potential is None:
            return None
        geometry = raster_of(frame_parameters)
        on_specimen = geometry.positions_nm() - np.array(self._column.beam.stage_nm)
        return potential.seen_through(transfer).phase(on_specimen, self._column.optics).reshape(geometry.shape)

    # SimulatedInstrument

    @property
    def settings(self) -> InstrumentSettings:
        """The present settings; the beam current is the control of the STEM controller in charge."""
        return dataclasses.replace(self._microscope.settings, beam_current_pa=self._column.beam.current_pa)

    @settings.setter
    def settings(self, settings: InstrumentSettings) -> None:
        self.scan_device.configure(settings)
        self.camera.frames.restart(settings)
        if settings.beam_current_pa != self._column.beam.current_pa:
            self._column.controller.SetVal("BeamCurrent", settings.beam_current_pa * 1e-12)

    @property
    def delivered(self) -> Delivered:
        """Electrons delivered since the last reset."""
        return self.scan_device.delivered

    @property
    def field_of_view_nm(self) -> float:
        """The field of view that shows the present specimen well."""
        return self._microscope.specimen.view_nm

    @property
    def is_calibrated(self) -> bool:
        """Whether the pixel size of the present specimen is known; False if it is assumed."""
        return self._microscope.specimen.calibrated

    def reset(self) -> None:
        """A fresh specimen and instrument."""
        self.scan_device.reset()
        self.camera.frames.restart(self._microscope.settings)


def wanted(controller: stem_controller.STEMController | None) -> bool:
    """Whether to attach beside this STEM controller (None: there is no other instrument)."""
    switch = os.environ.get(SWITCH, "").strip()
    if switch:
        return switch != "0"
    return controller is None or instrument_id(controller) in KNOWN_SIMULATORS


def attach() -> Simulator | None:
    """Make and register the simulator for the hardware that is registered now; None if it is not wanted here.

    It is made once; the one that there is comes back.
    """
    simulator = typing.cast("Simulator | None", Registry.get_component("simulated_instrument"))
    if simulator:
        return simulator
    controller = typing.cast("stem_controller.STEMController | None", Registry.get_component("stem_controller"))
    if not wanted(controller):
        logging.getLogger(__name__).info(
            "The simulated instrument stays off beside real hardware (%s=1 adds it).", SWITCH
        )
        return None
    simulator = Simulator(controller)
    world = os.environ.get(WORLD, "").strip() or "A"
    camera = CameraSettings(world=None if world == "none" else world)
    simulator.settings = dataclasses.replace(simulator.settings, camera=camera)
    simulator.register()
    return simulator


def attach_when_hardware_is_known() -> typing.Any:
    """Attach now, or, while Swift starts, after all plug-ins have registered their hardware; a listener to keep alive.

    Swift runs the plug-ins in alphabetical order and registers itself as "application" when all of them have run,
    before a document is open.
    """
    if Application.app is None or Registry.get_component("application"):
        attach()
        return None

    def component_registered(component: object, component_types: set[str]) -> None:  # noqa: ARG001
        if "application" in component_types:
            attach()

    return Registry.listen_component_registered_event(component_registered)
