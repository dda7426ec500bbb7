"""Data items that are live appear and go on without a freeze of Swift's window."""

from __future__ import annotations

import collections.abc
import concurrent.futures
import threading
import typing

import numpy as np
import pytest
from nion.data import DataAndMetadata
from nion.swift import Thumbnails as SwiftThumbnails
from nion.swift.model import DataItem, DisplayItem
from nion.ui import GridFlowCanvasItem
from swift_context import Swift

from nionswift_plugin.adaptive_scan.live_items import LiveItems, add_item, nothing_selected

Rows = GridFlowCanvasItem.GridFlowCanvasItem
ROLES = ("a", "c", "b")
"""Live items are sorted by title, so that the second one takes its place between the others."""


def image(value: float = 0.0) -> DataAndMetadata.DataAndMetadata:
    return DataAndMetadata.new_data_and_metadata(np.full((8, 8), value, np.float32))


def lock_of(canvas_item: typing.Any) -> typing.Any:
    """The lock that Nion UI holds while it passes an update on to what contains the item."""
    return canvas_item._AbstractCanvasItem__update_lock


class _NoThreads(concurrent.futures.Executor):
    """Does nothing."""

    def submit(self, *_: typing.Any, **__: typing.Any) -> concurrent.futures.Future[typing.Any]:
        future: concurrent.futures.Future[typing.Any] = concurrent.futures.Future()
        future.set_result(None)
        return future


class Thumbnails:
    """Whenever rows of the data panel are about to be drawn anew, a thumbnail of each of them has just been finished.

    Then the main thread holds the list's lock, and a thread of each thumbnail, which holds its row's lock, wants it.

    Args:
        swift: whose data panel it is.
        monkeypatch: of the test.
        patience_s: how long a thread waits.

    Attributes:
        met: how many threads there were.
        stuck: how many of them would have waited for ever, since the main thread wanted their row.
    """

    def __init__(self, swift: Swift, monkeypatch: pytest.MonkeyPatch, patience_s: float) -> None:
        self.met = self.stuck = 0
        self._patience_s = patience_s
        # Swift's own threads would get stuck in the same way, and for ever.
        monkeypatch.setattr(SwiftThumbnails.ThumbnailSource, "_executor", _NoThreads())
        self._threads: dict[typing.Any, threading.Thread] = {}
        panel: typing.Any = swift.document_controller.find_dock_panel("data-panel")
        lists = panel._list_canvas_item, panel._grid_canvas_item
        finish_rows = Rows._batch_update_ended

        def finish(rows: typing.Any) -> None:
            for row in rows.canvas_items if rows in lists else []:
                if row not in self._threads or not self._threads[row].is_alive():
                    self._begin(row, rows)
            finish_rows(rows)

        monkeypatch.setattr(Rows, "_batch_update_ended", finish)

    def join(self) -> None:
        """Wait for the threads."""
        for thread in self._threads.values():
            thread.join()

    def _begin(self, row: typing.Any, rows: typing.Any) -> None:
        holds_row = threading.Event()

        def pass_update_on() -> None:
            with lock_of(row):
                holds_row.set()
                if lock_of(rows).acquire(timeout=self._patience_s):
                    lock_of(rows).release()
                else:
                    self.stuck += 1

        thread = threading.Thread(target=pass_update_on)
        thread.start()
        assert holds_row.wait(60)
        self.met += 1
        self._threads[row] = thread


@pytest.fixture
def shown(swift_simulator: Swift) -> DataItem.DataItem:
    """An item in the selected display panel, which Swift selects in the data panel as soon as another one is added."""
    window = swift_simulator.document_controller
    assert window.workspace_controller is not None
    items = [add_item(window, title, image()) for title in ("older", "shown")]
    panel = window.workspace_controller.display_panels[0]
    panel.set_display_panel_display_item(display_item(swift_simulator, items[1]))
    panel._select()
    assert window.selected_data_items == [items[1]]
    return items[1]


def display_item(swift: Swift, item: DataItem.DataItem) -> DisplayItem.DisplayItem:
    found = swift.document_model.get_display_item_for_data_item(item)
    assert found is not None
    return found


def selected(swift: Swift) -> list[DataItem.DataItem]:
    """What is selected in the data panel."""
    window = swift.document_controller
    rows = window.filtered_display_items_model.items
    return [rows[index].data_item for index in window.selection.ordered_indexes]


def steps_of_a_scan(swift: Swift) -> collections.abc.Iterator[None]:
    """Items are made, shown and finished one after the other."""
    items = LiveItems(swift.document_controller)
    for role in ROLES:
        items.make(role, role, image())
        yield
    for role in ROLES:
        items.push(role, image(1.0))
    swift.document_controller.periodic()
    yield
    yield from items.close()
    assert [items.data_items[role].data[0, 0] for role in ROLES] == [1.0, 1.0, 1.0]


def test_thumbnails_do_not_stop_items_that_are_added(
    swift_simulator: Swift, shown: DataItem.DataItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    thumbnails = Thumbnails(swift_simulator, monkeypatch, patience_s=60.0)
    for _ in steps_of_a_scan(swift_simulator):
        assert selected(swift_simulator) == [shown]
    thumbnails.join()
    assert thumbnails.met > 20
    assert thumbnails.stuck == 0


def test_without_care_they_would(
    swift_simulator: Swift, shown: DataItem.DataItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    # If this fails, Nion UI has been mended, and nothing_selected is not needed any more.
    add_item(swift_simulator.document_controller, "another", image())
    thumbnails = Thumbnails(swift_simulator, monkeypatch, patience_s=0.3)
    swift_simulator.document_model.append_data_item(DataItem.new_data_item(image()))
    thumbnails.join()
    assert thumbnails.stuck > 0
    assert shown in selected(swift_simulator)


def test_what_the_operator_has_selected_in_the_data_panel_stays_selected(swift_simulator: Swift) -> None:
    window = swift_simulator.document_controller
    chosen = [add_item(window, title, image()) for title in ("one", "two", "three")][:2]
    window.selected_display_panel = None
    window.select_data_items_in_data_panel(chosen)
    for _ in steps_of_a_scan(swift_simulator):
        assert set(selected(swift_simulator)) == set(chosen)
        assert set(window.selected_data_items) == set(chosen)


def test_a_selected_item_that_is_deleted_is_no_longer_selected(swift_simulator: Swift) -> None:
    window = swift_simulator.document_controller
    items = [add_item(window, title, image()) for title in ("one", "two")]
    window.selected_display_panel = None
    window.select_data_items_in_data_panel(items)
    with nothing_selected(window):
        assert not selected(swift_simulator)
        swift_simulator.document_model.remove_data_item(items[0])
    assert selected(swift_simulator) == items[1:]
