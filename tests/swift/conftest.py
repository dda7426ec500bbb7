"""Headless Swift: a document with our simulated instrument, with usim, or with both; commands on that hardware."""

from __future__ import annotations

import collections.abc
import contextlib
import pathlib
import typing

import pytest
from alignment_tools import Aligning
from command_tools import Outcome, Run
from nion.instrumentation.test import AcquisitionTestContext
from nion.swift import Facade
from nion.swift.test import TestContext
from nion.usim_device import DeviceConfiguration
from panel_tools import Opened, open_panel, set_scan
from ptychography_tools import Ptychography, set_up
from swift_context import BothConfiguration, SimulatorConfiguration, Swift, hardware_source

from nionswift_plugin.adaptive_scan import command_line
from nionswift_plugin.adaptive_scan.command_line import scan as scan_command
from simulator_device.registration import Simulator

Facade.initialize()


def _open(
    configuration: typing.Any, simulator_of: typing.Callable[[], Simulator | None]
) -> collections.abc.Iterator[Swift]:
    AcquisitionTestContext.begin_leaks()
    setup = TestContext.TestSetup()
    with AcquisitionTestContext.AcquisitionTestContext(configuration) as context:
        simulator = simulator_of()
        ours = simulator is not None
        scan_id = "adaptive_simulator_scan" if ours else "usim_scan_device"
        camera_id = "adaptive_simulator_camera" if ours else "usim_ronchigram_camera"
        usim = isinstance(configuration, DeviceConfiguration.AcquisitionContextConfiguration)
        swift = Swift(
            context.document_controller,
            context.document_model,
            configuration.instrument,
            hardware_source(scan_id),
            hardware_source(camera_id),
            simulator,
            hardware_source("usim_scan_device") if usim else None,
        )
        yield swift
        for source in (swift.scan, swift.camera, swift.usim_scan):
            if source is not None and source.is_playing:
                source.abort_playing(sync_timeout=10.0)
        swift.document_controller.periodic()
    del setup


@pytest.fixture
def private_directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The working directory of the test, since usim's test configuration deletes ./test_data."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def swift_simulator(private_directory: pathlib.Path) -> collections.abc.Iterator[Swift]:
    """A document with our simulated instrument alone."""
    configuration = SimulatorConfiguration(private_directory)
    yield from _open(configuration, lambda: configuration.simulator)


@pytest.fixture
def swift_usim(private_directory: pathlib.Path) -> collections.abc.Iterator[Swift]:  # noqa: ARG001
    """A document with usim alone, another vendor's instrument."""
    yield from _open(DeviceConfiguration.AcquisitionContextConfiguration(), lambda: None)


@pytest.fixture
def swift_both(private_directory: pathlib.Path) -> collections.abc.Iterator[Swift]:  # noqa: ARG001
    """A document with usim and, beside it, our scan device and camera; ``scan`` and ``camera`` are ours."""
    configuration = BothConfiguration()
    yield from _open(configuration, lambda: configuration.simulator)


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Swift's folders, away from the user's own."""
    for name, folder in (("XDG_DATA_HOME", "data"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    return tmp_path


@pytest.fixture
def run_command(
    home: pathlib.Path,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a command in this process, with the hardware of a Swift that a fixture has started."""
    monkeypatch.setattr(scan_command, "headless_swift", lambda _: contextlib.nullcontext())

    def run(*words: str | pathlib.Path) -> Outcome:
        capsys.readouterr()
        status = command_line.main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(status, captured.out.splitlines(), captured.err.splitlines())

    return run


@pytest.fixture
def opened(swift_simulator: Swift, tmp_path: pathlib.Path) -> collections.abc.Iterator[Opened]:
    """The panel, with our simulated instrument."""
    set_scan(swift_simulator.scan)
    opened = open_panel(swift_simulator, tmp_path)
    yield opened
    opened.panel.close()


@pytest.fixture
def on_usim(swift_usim: Swift, tmp_path: pathlib.Path) -> collections.abc.Iterator[Opened]:
    """The panel, with usim."""
    set_scan(swift_usim.scan)
    opened = open_panel(swift_usim, tmp_path)
    yield opened
    opened.panel.close()


@pytest.fixture
def aligning(swift_simulator: Swift, tmp_path: pathlib.Path) -> collections.abc.Iterator[Aligning]:
    """The panel's section for the alignment, with our simulated instrument."""
    parameters = swift_simulator.camera.get_current_frame_parameters()
    parameters.exposure_ms, parameters.binning = 20.0, 1
    swift_simulator.camera.set_current_frame_parameters(parameters)
    opened = open_panel(swift_simulator, tmp_path)
    aligning = Aligning(swift_simulator, opened)
    swift_simulator.pump(lambda: aligning.model.policy_titles and aligning.model.state)
    yield aligning
    opened.panel.close()


@pytest.fixture
def ptychography(swift_simulator: Swift, tmp_path: pathlib.Path) -> collections.abc.Iterator[Ptychography]:
    """The panel's section for ptychography, with our simulated instrument."""
    assert swift_simulator.simulator is not None
    swift_simulator.simulator.load("mos2")
    set_up(swift_simulator)
    opened = open_panel(swift_simulator, tmp_path)
    ptychography = Ptychography(swift_simulator, opened)
    model = ptychography.model
    model.change(positions=20, subsequences=4)
    swift_simulator.pump(lambda: model.models.menu.policies and model.prediction.startswith("20 "))
    yield ptychography
    opened.panel.close()
