"""Nion Swift without a window: plug-ins are loaded as the application does, hardware is found in the Registry."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import logging

from nion.instrumentation import HardwareSource
from nion.swift import Application, Facade
from nion.swift.model import ApplicationData, PlugInManager
from nion.ui import Application as ui_application
from nion.ui import TestUI
from nion.utils import Registry

from nionswift_plugin.adaptive_scan.swift_folders import SwiftFolders, user_folders


class _Interface(TestUI.UserInterface):
    """Swift's user interface without a screen, with the folders of a real one."""

    def __init__(self, folders: SwiftFolders) -> None:
        super().__init__()
        self._folders = folders

    def get_data_location(self) -> str:
        return str(self._folders.data)

    def get_configuration_location(self) -> str:
        return str(self._folders.configuration)

    def get_document_location(self) -> str:
        return str(self._folders.documents)


@contextlib.contextmanager
def headless_swift(folders: SwiftFolders | None = None) -> collections.abc.Iterator[Application.Application]:
    """Start Swift without a window and load its plug-ins; plug-ins cannot be loaded twice in a process."""
    folders = folders or user_folders()
    for folder in (folders.data, folders.configuration):
        folder.mkdir(parents=True, exist_ok=True)
    event_loop = asyncio.new_event_loop()
    asyncio.set_event_loop(event_loop)
    Facade.initialize()
    application = Application.Application(_Interface(folders))
    # Swift writes what every plug-in says to the terminal; warnings are enough there.
    ui_application.logging_handler.setLevel(logging.WARNING)
    ApplicationData.set_file_path(folders.configuration / "nionswift_appdata.json")
    PlugInManager.load_plug_ins(str(folders.documents), str(folders.data), None)
    # It tells plug-ins, as in the application, that all hardware has been registered.
    Registry.register_component(application, {"application"})
    try:
        yield application
    finally:
        application.exit()
        Registry.unregister_component(application, {"application"})
        HardwareSource.HardwareSourceManager().abort_all_and_close()
        PlugInManager.unload_plug_ins()
        asyncio.set_event_loop(None)
        event_loop.close()
