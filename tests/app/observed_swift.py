"""Nion Swift as it is, with an observer that tells a test where its widgets are.

Swift's launcher starts an application from a file that it is given; this one starts ``nionui_app.nionswift`` unchanged
and answers one line questions on the Unix socket that ``SWIFT_OBSERVER_SOCKET`` names. It only looks: what a test does
it does with the mouse and the keyboard. Answers are made on the user interface's thread, so a prompt answer also
shows that Swift is not blocked.
"""

from __future__ import annotations

import json
import os
import queue
import socketserver
import sys
import threading
import traceback
import typing

from nion.swift import Application
from nion.swift import DocumentController as DocumentControllerModule
from nion.ui import UserInterface
from nion.utils import Geometry
from nionui_app.nionswift import main as nionswift

Json = typing.Any

ANSWER_TIMEOUT_S = 10.0


def main(args: list[typing.Any], bootstrap_args: dict[str, typing.Any]) -> Application.Application:
    """What Swift's launcher calls."""
    application = nionswift.main(args, bootstrap_args)
    server = _Server(os.environ["SWIFT_OBSERVER_SOCKET"], _Handler)
    server.application = application
    threading.Thread(target=server.serve_forever, name="swift-observer", daemon=True).start()
    return application


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    application: Application.Application


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        question = self.rfile.readline().decode().strip()
        self.wfile.write(json.dumps(_answer(question, typing.cast(_Server, self.server).application)).encode() + b"\n")


def _answer(question: str, application: Application.Application) -> Json:
    """The answer, or what went wrong; without a window there is none."""
    windows = application.document_controllers
    if not windows:
        return {"answer": None}
    answers: queue.Queue[Json] = queue.Queue()

    def look() -> None:
        try:
            answers.put({"answer": QUESTIONS[question](application)})
        except Exception:
            answers.put({"error": traceback.format_exc()})

    windows[0].queue_task(look)
    try:
        return answers.get(timeout=ANSWER_TIMEOUT_S)
    except queue.Empty:
        stacks = ["".join(traceback.format_stack(frame)) for frame in sys._current_frames().values()]
        busy = [stack for stack in stacks if "bootstrap_dispatch" in stack or "adaptive_scan" in stack]
        message = f"Swift's user interface did not answer in {ANSWER_TIMEOUT_S:g} s; it and our threads are at"
        return {"error": "\n\n".join([message, *busy])}


def _document_window(application: Application.Application) -> DocumentControllerModule.DocumentController:
    return application.document_controllers[0]


def _widgets(application: Application.Application) -> list[Json]:
    """Each visible widget with its place on the screen, from the top of its window or panel downwards; no boxes."""
    found: list[Json] = []
    for window in application.windows:
        native = window._document_window
        for dock_widget in getattr(native, "dock_widgets", []):
            if dock_widget.visible:
                _collect(dock_widget.widget, dock_widget.panel_id, found)
        if native.root_widget:
            _collect(native.root_widget, str(window.title), found)
    return found


def _collect(widget: UserInterface.Widget, place: str, found: list[Json]) -> None:
    if not widget.visible:
        return
    size = widget.size
    is_container = isinstance(widget, UserInterface.BoxWidget | UserInterface.CanvasWidget)
    if not is_container and size is not None and size.width and size.height:
        origin = widget.map_to_global(Geometry.IntPoint())
        text = getattr(widget, "current_text", None) or getattr(widget, "text", None)
        found.append(
            {
                "place": place,
                "kind": type(widget).__name__,
                "text": text if isinstance(text, str) else None,
                "items": [str(widget.item_getter(i) if widget.item_getter else i) for i in widget.items or []]
                if isinstance(widget, UserInterface.ComboBoxWidget)
                else None,
                "enabled": widget.enabled,
                "checked": getattr(widget, "checked", None),
                "rectangle": [origin.x, origin.y, size.width, size.height],
            }
        )
    for child in widget._contained_widgets:
        _collect(child, place, found)


def _menus(application: Application.Application) -> list[Json]:
    """The menu bar: titles, with the items of each menu as they were when it was last built."""
    return [_menu(menu) for menu in _document_window(application)._document_window.menus]


def _menu(menu: UserInterface.Menu) -> Json:
    items: list[Json] = []
    for item in menu.items:
        if item.is_separator:
            items.append(None)
        elif item.sub_menu:
            items.append(_menu(item.sub_menu))
        elif item.action:
            items.append({"title": item.action.title, "enabled": item.action.enabled, "checked": item.action.checked})
    return {"title": menu.title, "items": items}


def _data_items(application: Application.Application) -> list[Json]:
    """Titles, shapes and states of the data items of the open project."""
    return [
        {
            "title": item.title,
            "shape": list(item.data_shape) if item.has_data else None,
            "live": item.is_live,
            "graphics": sum(
                len(d.graphics)
                for d in _document_window(application).document_model.display_items
                if d.data_item is item
            ),
        }
        for item in _document_window(application).document_model.data_items
    ]


def _modules(application: Application.Application) -> list[Json]:  # noqa: ARG001
    """Names of the imported top-level packages."""
    return sorted({name.partition(".")[0] for name in sys.modules})


def _process(application: Application.Application) -> Json:  # noqa: ARG001
    """The number of Swift's process."""
    return os.getpid()


QUESTIONS = {
    "widgets": _widgets,
    "menus": _menus,
    "data_items": _data_items,
    "modules": _modules,
    "process": _process,
}
