"""The last completion of a scan: at the positions where the probe really was, and with a predicted error to trust."""

from __future__ import annotations

import dataclasses

from adaptive_core.partial_scan.calibration import calibrated
from adaptive_core.partial_scan.generator import Estimate, Generator
from adaptive_core.partial_scan.held_out import hold_out
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.position_correction import find_position_errors


def finished(estimate: Estimate, scan: PartialImage, generator: Generator, channel: int = 0) -> Estimate:
    """Find position errors in a scan whose completion is ``estimate``, complete it again if there are, and calibrate.

    Position errors are those of all channels and found in the first. It takes up to four completions, and several times
    as many where there are position errors. Raises ModelError if one of them is not finite.
    """
    parts = hold_out(scan, generator)
    errors = find_position_errors(scan, parts, generator)
    if errors is not None:
        scan = errors.corrected(scan)
        estimate = dataclasses.replace(
            generator.complete(scan, channel), probes=estimate.probes, position_errors=errors
        )
    if errors is not None or channel:
        parts = hold_out(scan, generator, channel)
    return calibrated(estimate, scan, parts, channel)
