"""The menu "Adaptive" of a window."""

from __future__ import annotations

import collections.abc
import functools
import gettext
import typing

from nion.swift import DocumentController
from nion.ui import UserInterface
from nion.utils import Registry

from nionswift_plugin.adaptive_scan import PANEL_ID

if typing.TYPE_CHECKING:
    from adaptive_core.ports import SimulatedSpecimen
    from nionswift_plugin.adaptive_scan.panel import AdaptiveScanPanel

_ = gettext.gettext

MENU_ID = "adaptive_scan_menu"


def build_menus(document_controller: DocumentController.DocumentController) -> None:
    """Called by Swift for each window."""
    menu = document_controller.get_or_create_menu(MENU_ID, _("Adaptive"), "window_menu")

    def add(
        title: str, action: collections.abc.Callable[[AdaptiveScanPanel], object], section: str = "partial_scan"
    ) -> UserInterface.MenuAction:
        return menu.add_menu_item(title, functools.partial(_perform, document_controller, action, section))

    menu.add_menu_item(_("Show Panel"), functools.partial(show_panel, document_controller))
    menu.add_separator()
    start = add(_("Adaptive Scan"), lambda panel: panel.partial_scan.start())
    abort = add(_("Abort"), lambda panel: panel.partial_scan.session.abort())
    go_on = add(_("Continue"), lambda panel: panel.partial_scan.continue_last())
    verify = add(_("Verify"), lambda panel: panel.partial_scan.session.verify())
    channels = add(_("Complete Other Channels"), lambda panel: panel.partial_scan.session.complete_channels())
    unblank = add(_("Unblank Beam"), lambda panel: panel.partial_scan.unblank())
    menu.add_separator()
    policies = document_controller.create_sub_menu(_("Policies"), "adaptive_scan_policies")
    menu.add_sub_menu(_("Policies"), policies)
    policies.on_about_to_show = functools.partial(_show_policies, document_controller, policies)
    menu.add_separator()
    align = add(_("Align BF Disk"), lambda panel: panel.alignment.start(), "alignment")
    abort_alignment = add(_("Abort Alignment"), lambda panel: panel.alignment.session.abort(), "alignment")
    undo = add(_("Undo Alignment"), lambda panel: panel.alignment.session.undo(), "alignment")
    menu.add_separator()
    ptychography = add(_("Adaptive Ptychography"), lambda panel: panel.ptychography.start(), "ptychography")
    abort_ptychography = add(_("Abort Ptychography"), lambda panel: panel.ptychography.session.abort(), "ptychography")
    menu.add_separator()
    specimens = document_controller.create_sub_menu(_("Simulated Specimen"), "adaptive_scan_specimens")
    menu.add_sub_menu(_("Simulated Specimen"), specimens)
    specimens.on_about_to_show = functools.partial(_show_specimens, specimens)

    def about_to_show() -> None:
        panel = _panel(document_controller)
        model = None if panel is None else panel.partial_scan
        start.enabled = unblank.enabled = model is not None and not model.session.is_busy
        abort.enabled = model is not None and model.session.is_busy
        go_on.enabled = verify.enabled = model is not None and model.can_go_on
        channels.enabled = model is not None and model.has_other_channels
        undo.enabled = panel is not None and panel.alignment.can_undo
        for begin, end, session in (
            (align, abort_alignment, None if panel is None else panel.alignment.session),
            (ptychography, abort_ptychography, None if panel is None else panel.ptychography.session),
        ):
            begin.enabled = session is not None and not session.is_busy
            end.enabled = session is not None and session.is_busy

    menu.on_about_to_show = about_to_show


def show_panel(document_controller: DocumentController.DocumentController) -> None:
    """Bring the panel to the front."""
    panel = _panel(document_controller)
    if panel is not None:
        panel.show()


def _panel(document_controller: DocumentController.DocumentController) -> AdaptiveScanPanel | None:
    return typing.cast("AdaptiveScanPanel | None", document_controller.find_dock_panel(PANEL_ID))


def _perform(
    document_controller: DocumentController.DocumentController,
    action: collections.abc.Callable[[AdaptiveScanPanel], object],
    section: str,
) -> None:
    panel = _panel(document_controller)
    if panel is not None:
        panel.show()
        panel.sections.open(section)
        action(panel)


def _show_policies(document_controller: DocumentController.DocumentController, menu: UserInterface.Menu) -> None:
    """Make the items of the sub-menu anew."""
    _clear(menu)
    panel = _panel(document_controller)
    if panel is None:
        return
    models = panel.partial_scan.models
    models.read()
    for index, title in enumerate(models.policy_titles):

        def choose(index: int = index) -> None:
            models.policy_index = index

        menu.add_menu_item(title, choose).checked = index == models.policy_index


def _show_specimens(menu: UserInterface.Menu) -> None:
    """Make the items of the sub-menu anew; it is empty where no simulated instrument is attached."""
    _clear(menu)
    specimen = typing.cast("SimulatedSpecimen | None", Registry.get_component("simulated_specimen"))
    if specimen is not None:
        for name in specimen.names:
            menu.add_menu_item(name, functools.partial(specimen.load, name))


def _clear(menu: UserInterface.Menu) -> None:
    for item in list(menu.get_menu_actions()):
        menu.remove_action(item)
