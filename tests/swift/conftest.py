"""Headless Swift: a document with our simulated instrument, with usim, or with both; commands on that hardware."""

from __future__ import annotations

import collections.abc
import contextlib
import pathlib
import typing

import pytest
from command_tools import Outcome, Run
from nion.instrumentation.test import AcquisitionTestContext
from nion.swift import Facade
from nion.swift.test import TestContext
from nion.usim_device import DeviceConfiguration
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
