"""Scan device and camera of Swift as one instrument that takes diffraction patterns."""

from __future__ import annotations

import numpy as np
from scanner_tools import scan_parameters
from swift_context import Swift

from nionswift_plugin.adaptive_scan.diffraction_scanner import PatternSettings, SwiftDiffractionScanner
from nionswift_plugin.adaptive_scan.scan_region import ScanRegion


def test_usim_gives_patterns(swift_usim: Swift) -> None:
    swift = swift_usim
    swift.controller.SetVal("S_VOA", 1.0)
    swift.controller.SetVal("C10", 0.0)
    parameters = scan_parameters(swift.scan)
    region = ScanRegion.rectangle(parameters, (0.5, 0.5), (0.25, 0.25))
    scanner = SwiftDiffractionScanner(
        swift.scan, swift.camera, region, PatternSettings(exposure_ms=10.0), parameters=parameters
    )
    positions = np.array([[1.0, 2.0], [8.0, 9.0], [15.5, 0.5]])
    with scanner.session():
        measured = scanner.measure(positions, scanner.setup.defocus_nm + 3)
    assert measured.patterns.shape == (3, scanner.setup.detector_px, scanner.setup.detector_px)
    assert (measured.patterns.sum((1, 2)) > 0).all()
    np.testing.assert_array_equal(measured.positions, positions)
