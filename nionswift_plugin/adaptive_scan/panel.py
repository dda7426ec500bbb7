"""The panel "Adaptive Scan": a column of sections, one a loop."""

from __future__ import annotations

import pathlib
import typing

from nion.swift import DocumentController, Panel
from nion.swift.model import DocumentModel
from nion.ui import Declarative

from nionswift_plugin.adaptive_scan.alignment_model import AlignmentModel
from nionswift_plugin.adaptive_scan.alignment_section import AlignmentSection
from nionswift_plugin.adaptive_scan.partial_scan_model import Folders, PartialScanModel
from nionswift_plugin.adaptive_scan.partial_scan_section import PartialScanSection
from nionswift_plugin.adaptive_scan.ptychography_model import PtychographyModel
from nionswift_plugin.adaptive_scan.ptychography_section import PtychographySection
from nionswift_plugin.adaptive_scan.settings import SettingsStore
from nionswift_plugin.adaptive_scan.swift_folders import SwiftFolders

TITLE = "Adaptive Scan"

_WIDTH = 376
_LEAST_HEIGHT = 440
"""All of the first section; below Swift's data panel it fits a screen of 900 px. The rest is scrolled."""


class AdaptiveScanPanel(Panel.Panel):
    """The panel in one window of Swift.

    Attributes:
        partial_scan: what its section for partial scans shows and does.
        alignment: what its section for the alignment of the bright-field disk shows and does.
        ptychography: what its section for adaptive ptychography shows and does.
    """

    def __init__(
        self,
        document_controller: DocumentController.DocumentController,
        panel_id: str,
        properties: typing.Mapping[str, typing.Any],
        folders: Folders | None = None,
    ) -> None:
        super().__init__(document_controller, panel_id, TITLE)
        folders = folders or folders_of(document_controller)
        if SettingsStore(folders.configuration).first_start():
            # Swift hides the panel that it has just made, unless it is one of its own.
            document_controller.queue_task(self._show_if_docked)
        self.partial_scan = PartialScanModel(document_controller, folders)
        self.partial_scan.is_visible = lambda: self.dock_widget is None or self.dock_widget.visible
        self.alignment = AlignmentModel(document_controller, folders.configuration, folders.models)
        self.ptychography = PtychographyModel(
            document_controller,
            folders.configuration,
            folders.models,
            folders.journals,
            lambda: self.partial_scan.settings.beam_settings(),
        )
        self.alignment.is_visible = self.ptychography.is_visible = self.partial_scan.is_visible
        sections = [
            PartialScanSection(self.partial_scan),
            AlignmentSection(self.alignment),
            PtychographySection(self.ptychography),
        ]
        self.widget = Declarative.DeclarativeWidget(
            document_controller.ui, document_controller.event_loop, _Sections(sections)
        )
        self._end_scan_before(document_controller)

    def _end_scan_before(self, window: DocumentController.DocumentController) -> None:
        """End a running scan before its window closes: live items cannot be let go of while panels close one by one."""
        on_close = window.on_close

        def close() -> None:
            self.partial_scan.session.close()
            self.alignment.session.close()
            self.ptychography.session.close()
            if on_close is not None:
                on_close()

        window.on_close = close

    def _show_if_docked(self) -> None:
        if self.dock_widget is not None:
            self.show()


class _Sections(Declarative.Handler):
    """One section below the other."""

    expanded = True

    def __init__(self, sections: list[typing.Any]) -> None:
        super().__init__()
        self._sections = {f"section-{index}": section for index, section in enumerate(sections)}
        u = Declarative.DeclarativeUI()
        self.ui_view = u.create_scroll_area(
            u.create_column(
                *(
                    u.create_section(
                        u.create_component_instance(identifier=identifier), title=section.title, expanded="expanded"
                    )
                    for identifier, section in self._sections.items()
                ),
                u.create_stretch(),
                margin=8,
                spacing=8,
            ),
            horizontal_scroll_bar_policy="off",
            min_width=_WIDTH,
            min_height=_LEAST_HEIGHT,
        )

    def create_handler(self, component_id: str, **kwargs: typing.Any) -> typing.Any:
        """Called by Swift for each section."""
        return self._sections[component_id]


def folders_of(document_controller: DocumentController.DocumentController) -> Folders:
    """Where a window keeps its files: journals beside its project, all else in Swift's folders."""
    ui = document_controller.ui
    folders = SwiftFolders(
        *(
            pathlib.Path(location)
            for location in (ui.get_data_location(), ui.get_configuration_location(), ui.get_document_location())
        )
    )
    return Folders(
        folders.configuration,
        folders.models,
        _beside_project(document_controller.document_model) or folders.runs,
    )


def _beside_project(document_model: DocumentModel.DocumentModel) -> pathlib.Path | None:
    """The folder of a project's runs; None for a project that is not a file."""
    path = pathlib.Path(document_model._project.storage_location_str)
    return path.with_name(f"{path.stem} Adaptive Scans") if path.suffix == ".nsproj" else None
