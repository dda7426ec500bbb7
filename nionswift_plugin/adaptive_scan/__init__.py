"""Adaptive scanning in Nion Swift: a panel, a menu, and the actions behind them.

Swift imports this package when it starts. What is large, such as onnxruntime, is loaded with the first window.
"""

from __future__ import annotations

import collections.abc
import typing

PANEL_ID = "adaptive-scan-panel"


class AdaptiveScanExtension:
    """Swift makes one and closes it at the end."""

    extension_id = "adaptive_scan.panel"

    def __init__(self, api_broker: typing.Any) -> None:
        # The command line imports this package where there is no Swift to register with.
        from nion.swift import DocumentController, Workspace

        from nionswift_plugin.adaptive_scan import menu

        def make_panel(
            document_controller: DocumentController.DocumentController,
            panel_id: str,
            properties: collections.abc.Mapping[str, typing.Any],
        ) -> typing.Any:
            from nionswift_plugin.adaptive_scan.panel import AdaptiveScanPanel

            return AdaptiveScanPanel(document_controller, panel_id, properties)

        Workspace.WorkspaceManager().register_panel(
            typing.cast(typing.Any, make_panel),
            PANEL_ID,
            "Adaptive Scan",
            ["left", "right"],
            "left",
            {"min-width": 320, "height": 60},
        )
        self._application = api_broker.get_api(version="1", ui_version="1").application._application
        self._build_menus = menu.build_menus
        self._application.register_menu_handler(self._build_menus)

    def close(self) -> None:
        """Called by Swift as it ends."""
        from nion.swift import Workspace

        Workspace.WorkspaceManager().unregister_panel(PANEL_ID)
        self._application.unregister_menu_handler(self._build_menus)
