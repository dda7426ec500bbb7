"""Rasters among positions, and patterns of them by Swift's synchronized acquisition."""

from __future__ import annotations

import threading
import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from swift_context import Swift
from test_diffraction_scanner import make_scanner, put_in

from adaptive_core.dose import electrons
from adaptive_core.errors import DeviceTimeoutError, ScanCancelledError
from adaptive_core.ptychography import positions
from nionswift_plugin.adaptive_scan import synchronized_raster
from nionswift_plugin.adaptive_scan.synchronized_raster import LEAST_POSITIONS, Raster, find_rasters


def raster_places(raster: Raster) -> np.ndarray:
    """Positions of a raster."""
    index = np.indices((raster.rows, raster.columns)).reshape(2, -1).T
    return np.array(raster.corner) + index * raster.step


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(2, 12),
    columns=st.integers(2, 12),
    step=st.tuples(st.floats(0.3, 3.0), st.floats(0.3, 3.0)),
    before=st.integers(0, 5),
    after=st.integers(0, 5),
    cut=st.integers(0, 11),
    seed=st.integers(0, 99),
)
def test_a_raster_is_found_wherever_it_is(
    rows: int, columns: int, step: tuple[float, float], before: int, after: int, cut: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    planned = Raster(before, rows, columns, (1.0, 2.0), step)
    places = raster_places(planned)[: max(1, rows * columns - min(cut, columns - 1))]
    places = np.concatenate([rng.random((before, 2)) - 5, places, rng.random((after, 2)) + 50])
    whole = rows - (min(cut, columns - 1) > 0)
    found = find_rasters(places)
    if whole < 2 or whole * columns < LEAST_POSITIONS:
        assert found == []
        return
    (raster,) = found
    assert (raster.first, raster.rows, raster.columns) == (before, whole, columns)
    np.testing.assert_allclose(raster_places(raster), places[raster.first : raster.stop], atol=1e-9)
    parts = list(raster.sections(2))
    np.testing.assert_allclose(np.concatenate([raster_places(part) for part in parts]), raster_places(raster))
    assert [part.first for part in parts[1:]] == [part.stop for part in parts[:-1]]


def test_what_is_no_raster_is_taken_one_by_one() -> None:
    rng = np.random.default_rng(0)
    even = positions.raster(8, 8, (8.0, 8.0))
    assert find_rasters(even[::-1]) == []
    assert find_rasters(even + rng.normal(0, 0.01, even.shape)) == []
    assert find_rasters(positions.halton(64, (8.0, 8.0))) == []
    assert find_rasters(positions.raster(1, 64, (8.0, 8.0))) == []


@pytest.mark.parametrize("document", ["swift_simulator", "swift_both"])
def test_patterns_are_those_of_the_positions(document: str, request: pytest.FixtureRequest) -> None:
    """The same patterns as one by one, with the same dose."""
    swift: Swift = request.getfixturevalue(document)
    put_in(swift, beam_current_pa=500.0)
    assert swift.simulator is not None
    places = np.concatenate([[[2.0, 12.0]], positions.raster(4, 8, (64.0, 64.0)), [[60.0, 2.0]]])
    taken = []
    for synchronized in (False, True):
        scanner = make_scanner(swift, synchronized=synchronized, exposure_ms=4.0)
        assert scanner.setup.size_px == (64, 64)
        with scanner.session():
            swift.simulator.reset()
            taken.append(scanner.measure(places).patterns)
        assert scanner.beam_on_us == pytest.approx(34 * 4e3)
        assert swift.simulator.delivered.total == pytest.approx(electrons(500.0, 34 * 4e3), rel=0.02)
    one_by_one, at_once = (patterns.reshape(len(places), -1) for patterns in taken)
    likeness = np.corrcoef(one_by_one, at_once)[: len(places), len(places) :]
    np.testing.assert_array_equal(likeness.argmax(1), np.arange(len(places)))
    assert np.diag(likeness).min() > 0.98


def test_another_vendors_devices_answer(swift_usim: Swift) -> None:
    """All frames come; usim's own ones are dark at the end of a synchronized scan, which a scanner would refuse."""
    swift = swift_usim
    swift.controller.SetVal("C10", 0.0)
    scanner = make_scanner(swift, 0.25, synchronized=True, exposure_ms=5.0)
    before = swift.camera.get_current_frame_parameters().as_dict()
    raster = Raster(0, 4, 8, (2.0, 2.0), (1.0, 1.5))
    parameters = raster.parameters(scanner.region, scanner.context)
    assert parameters is not None
    with scanner.session():
        assert scanner._beam is not None
        frames = list(scanner._rasters.grab(parameters, scanner._beam))
        assert scanner.beam_on_us >= 32 * 5e3
    assert len(frames) == 32
    assert {frame.shape for frame in frames} == {scanner._camera.shape}
    assert swift.camera.get_current_frame_parameters().as_dict() == before


@pytest.mark.parametrize("fault", ["abort", "hang"])
def test_what_was_taken_is_kept(fault: str, swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch) -> None:
    swift = swift_simulator
    put_in(swift)
    assert swift.simulator is not None
    scanner = make_scanner(swift, synchronized=True, exposure_ms=50.0)
    frames, taken = swift.simulator.camera.frames, []
    get = frames.get_frame_data
    hang = threading.Event()

    def act(*arguments: typing.Any) -> typing.Any:
        taken.append(None)
        if len(taken) == 8 + 45:
            scanner.cancel() if fault == "abort" else hang.wait(30.0)
        return get(*arguments)

    monkeypatch.setattr(frames, "get_frame_data", act)
    if fault == "hang":
        scanner._camera.timeout_s = 5.0
        monkeypatch.setattr(synchronized_raster, "_PATIENCE_S", 0.0)
        monkeypatch.setattr(synchronized_raster, "_STOP_S", 0.2)
    places = positions.raster(8, 8, (64.0, 64.0))
    expected = ScanCancelledError if fault == "abort" else DeviceTimeoutError
    with scanner.session(), pytest.raises(expected):
        scanner.measure(places)
    assert scanner.unfinished is not None
    count = len(scanner.unfinished.patterns)
    assert 0 < count < len(places)
    np.testing.assert_array_equal(scanner.unfinished.positions, places[:count])
    assert count * 50e3 <= scanner.beam_on_us <= len(places) * 50e3
    hang.set()
    swift.pump(lambda: not swift.camera.is_recording)
