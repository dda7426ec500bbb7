"""Scans from the panel that are stopped, or in which something goes wrong."""

from __future__ import annotations

import dataclasses
import pathlib
import typing

import numpy as np
import pytest
from nion.swift.model import Notification
from panel_tools import COMPLETED, MEASURED, PATH, QUICK, Opened
from quiet_clock import QuietClock
from swift_context import Swift

from adaptive_core.errors import JournalError
from adaptive_core.journal import JournalWriter
from adaptive_core.journal_reader import read_journal
from adaptive_core.partial_scan import FinishReason
from adaptive_core.simulation.faults import Fault, FaultKind
from nionswift_plugin.adaptive_scan import live_items
from nionswift_plugin.adaptive_scan.settings import BudgetKind
from nionswift_plugin.adaptive_scan.swift_scanner import taking


@pytest.fixture
def notifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(Notification, "notify", lambda notification: texts.append(notification.text))
    return texts


def give_fault(swift: Swift, kind: FaultKind, command: int) -> None:
    assert swift.simulator is not None
    settings = swift.simulator.settings
    swift.simulator.settings = dataclasses.replace(settings, faults=(Fault(kind, command),))


def test_abort_keeps_and_completes_what_was_measured(opened: Opened) -> None:
    opened.model.start(**QUICK, segments=400, dwell_us=500.0)
    opened.swift.pump(lambda: MEASURED in opened.titles() and opened.session.progress_percent > 0)
    assert opened.model.button_text == "Abort"
    opened.model.start_or_abort()
    assert opened.run() < 0.5
    assert opened.session.outcome.reason is FinishReason.CANCELLED
    assert opened.session.status.startswith("Aborted. What was measured is completed and kept:")
    probes = opened.session.outcome.scan.probes
    assert 0 < probes < 8000
    assert opened.how(COMPLETED)["finish_reason"] == "CANCELLED"
    assert np.isfinite(opened.item(COMPLETED).data).all()
    journal = read_journal(opened.session.outcome.journal)
    assert journal.finish_reason == "CANCELLED"
    assert sum(len(entry.positions) for entry in journal.entries) == probes
    assert not opened.swift.scan.scan_device.is_scanning


def test_a_raster_can_be_aborted(opened: Opened) -> None:
    opened.scan(**QUICK, dwell_us=2000.0, segments=2)
    opened.session.verify()
    opened.swift.pump(lambda: opened.swift.scan.scan_device.is_scanning)
    opened.session.abort()
    assert opened.run() < 0.5
    assert "aborted" in opened.session.status
    assert "Adaptive Scan (raster)" not in opened.titles()


def test_a_raster_is_refused_while_another_scan_has_the_device(opened: Opened) -> None:
    opened.scan(**QUICK, segments=2)
    with taking(opened.session.outcome.prepared.scanner.device_id):
        opened.session.verify()
        opened.run()
        assert "Another adaptive scan" in opened.session.status
    opened.session.verify()
    opened.run()
    assert opened.session.status.startswith("Against a raster")


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.TIME_OUT])
def test_a_fault_of_the_device_is_told_and_nothing_is_lost(
    opened: Opened, kind: FaultKind, notifications: list[str]
) -> None:
    give_fault(opened.swift, kind, 6)
    opened.scan(**QUICK)
    assert opened.session.outcome.reason is FinishReason.FAILED
    assert "What was measured is completed and kept: 100 probes" in opened.session.status
    assert notifications == [opened.session.status]
    assert opened.how(COMPLETED)["finish_reason"] == "FAILED"
    assert opened.how(COMPLETED)["error"] in opened.session.status
    assert np.isfinite(opened.item(COMPLETED).data).all()
    assert opened.model.can_go_on


def test_a_device_that_hangs_can_be_aborted(opened: Opened) -> None:
    give_fault(opened.swift, FaultKind.TIME_OUT, 6)
    opened.model.start(**QUICK, dwell_us=8000.0)  # so slow that every segment is shown
    opened.swift.pump(lambda: opened.session.progress_percent == 25)
    assert opened.session.is_busy
    opened.session.abort()
    assert opened.run() < 0.5
    assert opened.session.outcome.scan.probes == 100


def test_a_device_that_hangs_at_once_is_seen_to_scan(opened: Opened) -> None:
    give_fault(opened.swift, FaultKind.TIME_OUT, 1)
    opened.model.start(**QUICK)
    opened.swift.pump(lambda: opened.session.status == "Scanning ...")
    opened.session.abort()
    opened.run()
    assert opened.session.outcome.reason is FinishReason.CANCELLED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segments": 0}, "must be positive"),
        ({"budget": BudgetKind.DOSE, "dose_e_per_A2": -1.0}, "must be positive"),
        ({"policy": "no such policy"}, "no model named 'no such policy'"),
        ({"policy": "predicted-error", "generator": "nearest-interpolation"}, "needs a generator that predicts"),
        ({**QUICK, "stop_error": 0.1}, "needs a generator that predicts"),
        ({**QUICK, "dwell_us": 0.01}, "dwell time must be at least"),
        ({**QUICK, "size_px": 4}, "8 to 8192 px"),
        ({**QUICK, "channel": 17}, "has the channels 0 to"),
        ({**QUICK, "device": "nowhere"}, "There is no scan device nowhere"),
        ({**QUICK, "beam_current": "-3"}, "must be positive"),
    ],
)
def test_what_does_not_fit_is_told_before_the_beam_moves(
    opened: Opened, changes: dict[str, typing.Any], message: str
) -> None:
    assert opened.swift.simulator is not None
    before = opened.swift.simulator.delivered.probes
    opened.scan(**changes)
    assert message in opened.session.status
    assert opened.titles() == []
    assert opened.swift.simulator.delivered.probes == before
    opened.scan(**QUICK)
    assert opened.session.status.startswith("Completed")


def test_a_folder_that_cannot_be_written_is_told(opened: Opened) -> None:
    opened.folders.journals.write_text("a file where the folder should be")
    opened.scan(**QUICK)
    assert "The folder for runs" in opened.session.status
    assert opened.titles() == []


def test_a_full_disk_ends_the_scan_and_keeps_it(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    append = JournalWriter.append

    def fail_at_the_fifth(writer: JournalWriter, *entry: typing.Any) -> None:
        if len(opened.session._display._actions) == 5:
            raise JournalError("The journal cannot be written: no space left on device.")
        append(writer, *entry)

    monkeypatch.setattr(JournalWriter, "append", fail_at_the_fifth)
    opened.scan(**QUICK)
    assert "no space left on device. What was measured is completed and kept" in opened.session.status
    assert opened.how(MEASURED)["finish_reason"] == "FAILED"


def test_results_that_cannot_be_shown_are_in_the_journal(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: typing.Any) -> typing.NoReturn:
        raise MemoryError("no room")

    monkeypatch.setattr(live_items, "add_item", fail)
    opened.scan(**QUICK)
    journal = opened.session.outcome.journal
    assert f"they are in the journal {journal}" in opened.session.status
    assert len(read_journal(journal).entries) == 20
    monkeypatch.undo()
    opened.scan(**QUICK)
    assert opened.session.status.startswith("Completed")


def test_a_result_may_be_deleted_while_it_is_measured(opened: Opened) -> None:
    opened.model.start(**QUICK, segments=200, dwell_us=200.0)
    opened.swift.pump(lambda: PATH in opened.titles() and opened.session.progress_percent > 10)
    opened.swift.document_model.remove_data_item(opened.item(MEASURED))
    opened.run()
    assert opened.session.status.startswith("Completed")
    assert opened.titles() == [COMPLETED, PATH]
    assert opened.swift.document_model.transaction_count == 0


def test_a_window_can_be_closed_while_a_scan_runs(opened: Opened) -> None:
    opened.model.start(**QUICK, segments=400, dwell_us=500.0)
    opened.swift.pump(lambda: MEASURED in opened.titles() and opened.session.progress_percent > 0)
    clock = QuietClock()
    opened.model.close()
    assert clock.elapsed_s < 1.0
    assert not opened.swift.scan.scan_device.is_scanning
    assert opened.swift.document_model.transaction_count == 0
    assert not opened.item(MEASURED).is_live
    assert opened.how(MEASURED)["finish_reason"] == "CANCELLED"
    assert read_journal(pathlib.Path(opened.how(MEASURED)["journal"])).finish_reason == "CANCELLED"
    opened.swift.pump_for(0.2)
