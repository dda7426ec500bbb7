"""Data items of Swift that are shown while they are acquired, and the care that Swift's window needs as they appear."""

from __future__ import annotations

import collections.abc
import contextlib

from nion.data import DataAndMetadata
from nion.instrumentation import Acquisition
from nion.swift import DocumentController
from nion.swift.model import ApplicationData, DataItem

from nionswift_plugin.adaptive_scan.background import Steps

XData = DataAndMetadata.DataAndMetadata


class LiveItems:
    """Data items by role: made, shown as live, kept in memory, and written when they are closed.

    All but :meth:`push` belongs to the user interface's thread.

    Args:
        document_controller: the window in which they are shown.

    Attributes:
        data_items: by role.
    """

    def __init__(self, document_controller: DocumentController.DocumentController) -> None:
        self.data_items: dict[str, DataItem.DataItem] = {}
        self._document_controller = document_controller
        self._latest: dict[str, XData] = {}
        self._live: dict[str, _LiveItem] = {}

    def push(self, role: str, xdata: XData) -> None:
        """Show new data soon, from any one thread; of several pushes in a short time the last one counts."""
        self._latest[role] = xdata
        if role in self._live:
            self._live[role].push(xdata)

    def make(self, role: str, title: str, blank: XData, earlier: DataItem.DataItem | None = None) -> DataItem.DataItem:
        """The item of a role with what was pushed last, live until :meth:`close`.

        Args:
            role: which has no item yet.
            title: of a new item.
            blank: what it shows if nothing was pushed.
            earlier: an item to go on in, if the operator has not deleted it.
        """
        shown = self._latest.get(role)
        if earlier is None or earlier._closed:
            item = add_item(self._document_controller, title, blank if shown is None else shown)
        else:
            item, shown = earlier, None
        self._live[role] = _LiveItem(self._document_controller, item)
        # What was pushed while the item was being made has not reached it.
        latest = self._latest.get(role)
        if latest is not None and latest is not shown:
            self._live[role].push(latest)
        self.data_items[role] = item
        return item

    def close(self) -> Steps:
        """They are no longer live."""
        while self._live:
            _, live = self._live.popitem()
            live.close()
            yield


class _LiveItem:
    """A data item that is being acquired; the operator may delete it meanwhile."""

    def __init__(
        self, document_controller: DocumentController.DocumentController, data_item: DataItem.DataItem
    ) -> None:
        self._document_controller = document_controller
        self._document_model = document_controller.document_model
        self._data_item = data_item
        data_item.increment_data_ref_count()
        self._transaction = self._document_model.item_transaction(data_item)
        with nothing_selected(document_controller):
            self._document_model.begin_data_item_live(data_item)

    def push(self, xdata: XData) -> None:
        self._document_model._queue_data_item_update(self._data_item, xdata)

    def close(self) -> None:
        """Show what was pushed last, and write it."""
        with nothing_selected(self._document_controller):
            self._document_model.perform_data_item_updates()
            self._transaction.close()
            self._document_model.end_data_item_live(self._data_item)
        if not self._data_item._closed:
            self._data_item.decrement_data_ref_count()


def add_item(document_controller: DocumentController.DocumentController, title: str, xdata: XData) -> DataItem.DataItem:
    """A new data item of the project, with the session's metadata."""
    document_model = document_controller.document_model
    item = DataItem.new_data_item(xdata)
    item.title = title
    session = ApplicationData.get_session_metadata_dict()
    Acquisition.session_manager.update_session_metadata_dict(document_model, session)
    item.session_metadata = session
    with nothing_selected(document_controller):
        document_model.append_data_item(item)
    return item


@contextlib.contextmanager
def nothing_selected(document_controller: DocumentController.DocumentController) -> collections.abc.Iterator[None]:
    """No row of the data panel is selected while its rows move; afterwards those of the selected items are.

    When rows are inserted or sorted, Nion UI 10.2 holds the list's lock and takes those of the rows that become
    selected or cease to be. A thread that has finished a thumbnail holds its row's lock and takes the list's
    (``AbstractCanvasItem._end_batch_update``). If the two meet, Swift is frozen for good. Rows move for an item that
    is added, and for one that becomes live or ceases to be. Only rows whose selection changes are at risk; here none
    does.
    """
    # As Swift itself does it after each item that is added: of the display panel, if that has the focus.
    selected = document_controller.selected_display_items
    selection = document_controller.selection
    selection.clear()
    try:
        yield
    finally:
        rows = document_controller.filtered_display_items_model.items
        selection.set_multiple({index for index, item in enumerate(rows) if item in selected})
