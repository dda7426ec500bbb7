"""Nion Swift starts with the plug-ins, shows a live view of the simulated instrument and quits."""

from __future__ import annotations

import collections.abc

import pytest
from swift_app import SwiftApp, read_project, wait_for

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
