"""Ptychographic scans from the panel that are stopped, or in which something goes wrong."""

from __future__ import annotations

import collections.abc
import threading
import time
import typing

import numpy as np
import pytest
from ptychography_tools import PHASE, Ptychography, set_up
from quiet_clock import QuietClock

from adaptive_core.finish_reason import FinishReason
from adaptive_core.ptychography import scan_file
from nionswift_plugin.adaptive_scan import alignment_devices, ptychography_preparation
from nionswift_plugin.adaptive_scan.settings import RegionKind


def at_frame(
    ptychography: Ptychography,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    action: collections.abc.Callable[[], object],
) -> None:
    """Have something happen in the middle of a frame of the camera; those without a beam do not count."""
    simulator, controller = ptychography.swift.simulator, ptychography.swift.controller
    assert simulator is not None
    frames, taken = simulator.camera.frames, []
    get = frames.get_frame_data

    def act(*arguments: typing.Any) -> typing.Any:
        if controller.GetVal("C_Blank") == 0.0:
            taken.append(None)
            if len(taken) == number:
                action()
        return get(*arguments)

    monkeypatch.setattr(frames, "get_frame_data", act)


# how it ends


def test_abort_in_the_middle_of_a_sub_sequence(ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    model, swift, reached = ptychography.model, ptychography.swift, threading.Event()
    swift.camera.start_playing()
    swift.pump(lambda: swift.camera.is_playing)
    _, *before = ptychography.state()
    model.start(positions=400, subsequences=2, exposure_ms=100.0)
    swift.pump(lambda: swift.controller.GetVal("C_Blank") == 1.0)
    at_frame(ptychography, monkeypatch, 5, reached.set)
    swift.pump(reached.is_set)
    clock = QuietClock()
    model.start_or_abort()
    # The camera's view goes on as soon as the scan has let go of the devices.
    swift.pump(lambda: swift.camera.is_playing)
    assert clock.elapsed_s < 0.5
    ptychography.finish()
    blanked, *after = ptychography.state()
    assert (blanked, after) == (1.0, before)
    outcome = ptychography.outcome
    assert outcome.reason is FinishReason.CANCELLED
    assert outcome.data is not None
    # Less than a sub-sequence: what was taken of it is reconstructed and kept.
    assert 0 < outcome.data.count < 200
    assert outcome.is_final
    assert ptychography.status.startswith(f"Aborted: {outcome.data.count} positions")
    assert outcome.file is not None
    assert scan_file.read_scan(outcome.file).count == outcome.data.count
    assert ptychography.opened.how(PHASE)["finish_reason"] == "CANCELLED"
    swift.camera.abort_playing(sync_timeout=5.0)


def test_a_final_reconstruction_can_be_left(ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptychography_preparation.reconstruction, "final", lambda *_, **__: time.sleep(3.0))
    ptychography.model.start()
    ptychography.swift.pump(lambda: ptychography.status.startswith("Reconstructing"))
    ptychography.model.start_or_abort()
    clock = QuietClock()
    ptychography.finish()
    assert clock.elapsed_s < 1.0
    assert ptychography.outcome.reason is FinishReason.COMPLETED
    assert not ptychography.outcome.is_final
    assert PHASE in ptychography.opened.titles()


def test_closing_the_window_keeps_the_patterns(ptychography: Ptychography) -> None:
    _, *before = ptychography.state()
    ptychography.model.start(positions=400, subsequences=40)
    ptychography.swift.pump(lambda: ptychography.model.session.progress_percent > 0)
    ptychography.model.session.close()
    assert ptychography.state() == (1.0, *before)
    (file,) = ptychography.opened.folders.journals.glob("Adaptive Ptychography *.h5")
    assert 10 <= scan_file.read_scan(file).count < 400
    assert not ptychography.opened.item(PHASE).is_live


# faults


def _hanging_camera(ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment_devices, "_LONGER_S", 0.5)
    ptychography.model.change(exposure_ms=1.5)
    at_frame(ptychography, monkeypatch, 8, lambda: time.sleep(2.0))


def _beam_lost(ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = ptychography.swift.controller
    at_frame(ptychography, monkeypatch, 8, lambda: controller.SetVal("BeamCurrent", 1e-30))


def _full_disk(_: Ptychography, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: typing.Any) -> typing.NoReturn:
        raise OSError("No space left on device")

    monkeypatch.setattr(scan_file.h5py, "File", fail)


@pytest.mark.parametrize(
    ("break_it", "message", "count"),
    [
        (_hanging_camera, "gave no frame within", 7),
        (_beam_lost, "is the beam still on the camera?", 7),
        (_full_disk, "No space left on device", 20),
    ],
)
def test_a_fault_is_told_and_what_was_taken_is_kept(
    ptychography: Ptychography, monkeypatch: pytest.MonkeyPatch, break_it: typing.Any, message: str, count: int
) -> None:
    _, *before = ptychography.state()
    break_it(ptychography, monkeypatch)
    ptychography.scan()
    blanked, *after = ptychography.state()
    assert (blanked, after) == (1.0, before)
    outcome = ptychography.outcome
    assert message in ptychography.status
    assert outcome.data is not None
    assert outcome.data.count == count
    assert outcome.is_final
    if break_it is not _full_disk:
        assert outcome.reason is FinishReason.FAILED
        assert outcome.file is not None
        assert scan_file.read_scan(outcome.file).count == count
    assert np.isfinite(ptychography.opened.item(PHASE).data).all()
    assert not any(ptychography.opened.item(title).is_live for title in ptychography.opened.titles())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": 21}, "must be a multiple of the number of sub-sequences, not 21 in 4"),
        ({"policy": "a policy that is not there"}, "There is no model named 'a policy that is not there'"),
        ({"policy": "two-pass", "subsequences": 1}, "Two passes need 2 sub-sequences or more, not 1"),
        ({"convergence_mrad": 120.0}, "must show the bright-field disk of 120 mrad; shorten the camera length"),
        ({"region": RegionKind.RECTANGLE}, "Draw a rectangle on a scan of the whole field of view, and select it."),
        ({"positions": 800_000}, "GB of memory, 4 GB is the limit; take fewer positions."),
        ({"device": "nothing"}, "There is no scan device nothing."),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_beam_moves(
    ptychography: Ptychography, changes: dict[str, typing.Any], message: str
) -> None:
    before = ptychography.state()
    ptychography.scan(**changes)
    assert message in ptychography.status
    assert "\n" not in ptychography.status
    assert ptychography.state() == before
    assert not ptychography.opened.titles()
    assert not ptychography.opened.folders.journals.exists()


def test_a_wrong_convergence_angle_is_told_after_the_first_sub_sequence(ptychography: Ptychography) -> None:
    ptychography.scan(convergence_mrad=22.0)
    assert "The bright-field disk has a radius of 3" in ptychography.status
    assert "does not fit the convergence semi-angle of 22 mrad" in ptychography.status
    assert ptychography.outcome.data is not None
    assert ptychography.outcome.data.count == 5


def test_a_field_of_view_that_is_too_large_is_refused(ptychography: Ptychography) -> None:
    set_up(ptychography.swift, fov_nm=400.0)
    ptychography.swift.pump(lambda: "Choose a smaller field of view or a rectangle." in ptychography.model.prediction)
    ptychography.scan()
    assert "at most 4096 px a side are possible" in ptychography.status


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("positions_text", "many", "The number of positions must be a positive whole number, not 'many'."),
        ("exposure_text", "0", "The exposure must be a positive number, not '0'."),
        ("stop_text", "1.5", "The similarity must lie between 0 and 1, not '1.5'."),
    ],
)
def test_what_is_typed_is_checked(ptychography: Ptychography, name: str, text: str, message: str) -> None:
    setattr(ptychography.model, name, text)
    ptychography.swift.pump(lambda: ptychography.model.prediction == message)
    ptychography.scan()
    assert ptychography.status == message
