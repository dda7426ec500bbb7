"""The panel "Adaptive Scan": a column of sections, one a loop."""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib
import typing

from nion.swift import DocumentController, Panel
from nion.swift.model import DocumentModel
from nion.ui import Declarative
from nion.utils import Observable

from nionswift_plugin.adaptive_scan.alignment_model import AlignmentModel
from nionswift_plugin.adaptive_scan.alignment_section import AlignmentSection
from nionswift_plugin.adaptive_scan.partial_scan_model import Folders, PartialScanModel
from nionswift_plugin.adaptive_scan.partial_scan_section import PartialScanSection
from nionswift_plugin.adaptive_scan.ptychography_model import PtychographyModel
from nionswift_plugin.adaptive_scan.ptychography_section import PtychographySection
from nionswift_plugin.adaptive_scan.settings import SettingsStore
from nionswift_plugin.adaptive_scan.settings_store import SectionStore
from nionswift_plugin.adaptive_scan.swift_folders import SwiftFolders

TITLE = "Adaptive Scan"

_WIDTH = 392
_LEAST_HEIGHT = 440
"""All of the first section; below Swift's data panel it fits a screen of 900 px. The rest is scrolled."""


@dataclasses.dataclass(frozen=True)
class OpenSection:
    """Name of the section that is open."""

    name: str = "partial_scan"


class AdaptiveScanPanel(Panel.Panel):
    """The panel in one window of Swift.

    Attributes:
        partial_scan: what its section for partial scans shows and does.
        alignment: what its section for the alignment of the bright-field disk shows and does.
        ptychography: what its section for adaptive ptychography shows and does.
        sections: all of them, one of which is open.
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
        self.sections = Sections(
            {
                "partial_scan": PartialScanSection(self.partial_scan),
                "alignment": AlignmentSection(self.alignment),
                "ptychography": PtychographySection(self.ptychography),
            },
            SectionStore(folders.configuration, "open_section", OpenSection()),
        )
        self.widget = Declarative.DeclarativeWidget(
            document_controller.ui, document_controller.event_loop, self.sections
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


class _Fold(Observable.Observable):
    """Whether a section is open; observable."""

    def __init__(self, changed: collections.abc.Callable[[_Fold], None]) -> None:
        super().__init__()
        self._is_open = False
        self._changed = changed

    @property
    def is_open(self) -> bool:
        """Also what the operator clicks."""
        return self._is_open

    @is_open.setter
    def is_open(self, is_open: bool) -> None:
        if is_open != self._is_open:
            self._is_open = is_open
            self.notify_property_changed("is_open")
            self._changed(self)


class Sections(Declarative.Handler):
    """One section below the other, of which one is open: more than that is too high for most screens.

    Args:
        sections: by name.
        store: remembers which one is open.
    """

    def __init__(self, sections: dict[str, typing.Any], store: SectionStore[OpenSection]) -> None:
        super().__init__()
        self._sections = sections
        self._store = store
        self.folds = {name: _Fold(self._fold_changed) for name in sections}
        u = Declarative.DeclarativeUI()
        parts = []
        for name, section in sections.items():
            setattr(self, f"fold_{name}", self.folds[name])
            instance = u.create_component_instance(identifier=name)
            parts.append(u.create_section(instance, title=section.title, expanded=f"@binding(fold_{name}.is_open)"))
        self.ui_view = u.create_scroll_area(
            u.create_column(*parts, u.create_stretch(), margin=8, spacing=8),
            horizontal_scroll_bar_policy="off",
            min_width=_WIDTH,
            min_height=_LEAST_HEIGHT,
        )
        self.open(store.load().name)

    def open(self, name: str) -> None:
        """Open a section, which closes the others."""
        self.folds.get(name, next(iter(self.folds.values()))).is_open = True

    def create_handler(self, component_id: str, **kwargs: typing.Any) -> typing.Any:
        """Called by Swift for each section."""
        return self._sections[component_id]

    def _fold_changed(self, changed: _Fold) -> None:
        if changed.is_open:
            for name, fold in self.folds.items():
                if fold is changed:
                    self._store.save(OpenSection(name))
                else:
                    fold.is_open = False


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
