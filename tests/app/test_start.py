"""Nion Swift starts with the plug-ins, shows a live view of the simulated instrument and quits."""

from __future__ import annotations

import collections.abc
import os
import pathlib
import subprocess
import sys

import pytest
from swift_app import SwiftApp, VirtualDisplay, read_project, wait_for

from nionswift_plugin.adaptive_scan.profile import SwiftHome

pytestmark = pytest.mark.app

TRAINING_ONLY = {"torch", "onnx", "gymnasium", "stable_baselines3", "skimage", "dask"}


def test_swift_starts_with_both_plug_ins(make_swift: collections.abc.Callable[[], SwiftApp], home: SwiftHome) -> None:
    with make_swift() as swift:
        for plug_in in ("adaptive_scan", "adaptive_simulator"):
            assert f"Plug-in 'nionswift_plugin.{plug_in}' loaded" in swift.log
        assert not TRAINING_ONLY & set(swift.ask("modules"))

        swift.menu("Window", "Adaptive Simulator Scan Scan Control")
        swift.click("Scan")
        wait_for(swift.data_items, "a live image")
        swift.click("Abort")
        swift.screenshot("live-view")
    assert [item.data is not None for item in read_project(home)] == [True]


def test_the_command_starts_swift_and_waits_for_its_end(display: VirtualDisplay, tmp_path: pathlib.Path) -> None:
    command = [pathlib.Path(sys.executable).with_name("adaptive-scan"), "app", "--home", "home"]
    environment = {**os.environ, "DISPLAY": display.name}
    log = tmp_path / "log"
    with log.open("wb") as stream:
        swift = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    wait_for(lambda: "Welcome to Nion Swift" in log.read_text("utf-8"), "Swift to start", 60)
    assert f"Application data: {tmp_path}/home/config" in log.read_text("utf-8")
    find = ["xdotool", "search", "--sync", "--onlyvisible", "--name", "^Nion Swift .* - "]
    subprocess.run([*find, "windowfocus", "--sync", "key", "ctrl+q"], env=environment, check=True, timeout=30)
    assert swift.wait(20) == 0
    assert "Traceback" not in log.read_text("utf-8")
