"""Swift's synchronized acquisition with the simulated instrument: a diffraction pattern at every position of a scan."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from scanner_tools import scan_parameters
from swift_context import Swift
from test_diffraction_scanner import put_in

from adaptive_core.scan_path import Point


@pytest.mark.parametrize("document", ["swift_simulator", "swift_both"])
@pytest.mark.parametrize("rotation_rad", [0.0, 0.3])
def test_every_position_has_its_own_pattern(document: str, rotation_rad: float, request: pytest.FixtureRequest) -> None:
    swift: Swift = request.getfixturevalue(document)
    put_in(swift)
    assert swift.simulator is not None
    parameters = scan_parameters(swift.scan, (3, 4))
    parameters.rotation_rad = rotation_rad
    frames = copy.deepcopy(swift.camera.get_current_frame_parameters())
    frames.exposure_ms, frames.binning = 4.0, 4
    swift.simulator.reset()
    results = swift.scan.grab_synchronized(
        scan_frame_parameters=parameters, camera=swift.camera, camera_frame_parameters=frames
    )
    assert results is not None
    cube = results[1][0].data
    assert cube.shape == (3, 4, 128, 128)
    expected = [_expected(swift, place) for place in _places(3, 4, rotation_rad)]
    found = cube.reshape(12, -1)
    likeness = np.array([[np.corrcoef(a, b.ravel())[0, 1] for b in expected] for a in found])
    np.testing.assert_array_equal(likeness.argmax(1), np.arange(12))
    assert np.diag(likeness).min() > 0.99


def _places(rows: int, columns: int, rotation_rad: float) -> list[Point]:
    """Middles of the pixels of a 2 nm wide scan in nm."""
    step = 2.0 / max(rows, columns)
    cos, sin = np.cos(rotation_rad), np.sin(rotation_rad)
    places = []
    for i in range(rows):
        for j in range(columns):
            y, x = (i + 0.5 - rows / 2) * step, (j + 0.5 - columns / 2) * step
            places.append((y * cos + x * sin, x * cos - y * sin))
    return places


def _expected(swift: Swift, place: Point) -> np.ndarray:
    assert swift.simulator is not None
    potential = swift.simulator.scan_device.microscope.specimen.potential
    assert potential is not None
    return potential.pattern(place, potential.optics, 1.6, 128, (63.5, 63.5))
