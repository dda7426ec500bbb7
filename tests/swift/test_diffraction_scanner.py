"""Scan device and camera of Swift as one instrument that takes diffraction patterns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scanner_tools import scan_parameters
from swift_context import Swift

from adaptive_core.ptychography import episode, metrics, positions, reconstruction
from adaptive_core.ptychography.policy import StaticPolicy
from nionswift_plugin.adaptive_scan.diffraction_scanner import SwiftDiffractionScanner
from nionswift_plugin.adaptive_scan.pattern_settings import PatternSettings
from nionswift_plugin.adaptive_scan.scan_region import ScanRegion

PLACES = np.array([[1.0, 2.0], [8.0, 9.0], [15.5, 0.5]])


def put_in(swift: Swift, specimen: str = "mos2", beam_current_pa: float = 50.0) -> None:
    """A specimen made of atoms in the simulated instrument, whose diffraction shift is ideal."""
    assert swift.simulator is not None
    settings = swift.simulator.settings
    camera = dataclasses.replace(settings.camera, world=None)
    swift.simulator.settings = dataclasses.replace(settings, beam_current_pa=beam_current_pa, camera=camera)
    swift.simulator.load(specimen)


def make_scanner(swift: Swift, size: float = 1.0, **settings: object) -> SwiftDiffractionScanner:
    """Of a square in the middle of the field of view."""
    parameters = scan_parameters(swift.scan)
    region = ScanRegion.rectangle(parameters, (0.5, 0.5), (size, size))
    values = {"exposure_ms": 1.0, "settle_ms": 0.0, **settings}
    return SwiftDiffractionScanner(
        swift.scan,
        swift.camera,
        region,
        PatternSettings(**values),  # type: ignore[arg-type]
        parameters=parameters,
    )


def test_usim_gives_patterns(swift_usim: Swift) -> None:
    swift = swift_usim
    swift.controller.SetVal("S_VOA", 1.0)
    swift.controller.SetVal("C10", 0.0)
    scanner = make_scanner(swift, 0.25, exposure_ms=10.0)
    with scanner.session():
        measured = scanner.measure(PLACES, scanner.setup.defocus_nm + 3)
        assert swift.controller.GetVal("C10") == pytest.approx(-3e-9)
    assert swift.controller.GetVal("C10") == pytest.approx(0.0)
    assert measured.patterns.shape == (3, scanner.setup.detector_px, scanner.setup.detector_px)
    assert (measured.patterns.sum((1, 2)) > 0).all()
    np.testing.assert_array_equal(measured.positions, PLACES)


def test_an_episode_shows_the_atoms_of_the_simulated_instrument(swift_simulator: Swift) -> None:
    swift = swift_simulator
    put_in(swift)
    assert swift.simulator is not None
    scanner = make_scanner(swift, exposure_ms=0.7)
    plan = episode.make_plan(scanner, 100, 2)
    swift.simulator.reset()
    *_, last = episode.run(scanner, StaticPolicy("sparse", positions.sparse_grid), plan)
    final = reconstruction.final(last.data)
    pixel_A = 10 * scanner.region.pixel_size_nm
    truth = swift.simulator.phase(scanner.region.raster_parameters(scanner.context), lambda f: (f < 1.35).astype(float))
    assert truth is not None
    assert metrics.phase_ssim(final.phase(pixel_A), truth) > 0.5
