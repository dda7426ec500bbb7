"""What the tests of the adapter share."""

from __future__ import annotations

import dataclasses

from nion.instrumentation import scan_base
from swift_context import Swift

from nionswift_plugin.adaptive_scan.scan_region import context_parameters


def scan_parameters(
    source: scan_base.ScanHardwareSource, size_px: tuple[int, int] = (64, 64), dwell_us: float = 2.0
) -> scan_base.ScanFrameParameters:
    """Frame parameters of a whole scan."""
    parameters = context_parameters(source.get_current_frame_parameters())
    parameters.pixel_size = size_px
    parameters.pixel_time_us = dwell_us
    return parameters


def quiet(swift: Swift) -> None:
    """Switch all noise of the simulated instrument off."""
    assert swift.simulator is not None
    present = swift.simulator.settings
    swift.simulator.settings = dataclasses.replace(present, detector=present.detector.noiseless)
