"""The panel's section for adaptive partial scans: its widgets."""

from __future__ import annotations

import functools
import gettext

from nion.ui import Declarative, UserInterface

from nionswift_plugin.adaptive_scan.partial_scan_model import PartialScanModel
from nionswift_plugin.adaptive_scan.widgets import (
    Section,
    button,
    field,
    label,
    menu,
    progress,
    region_menu,
    row,
    start_button,
    text,
)

_ = gettext.gettext

_field = functools.partial(field, width=60)
_button = functools.partial(button, width=74)


class PartialScanSection(Section[PartialScanModel]):
    """Widgets on a :class:`PartialScanModel`.

    Attributes:
        title: of the section.
        models_expanded: whether the cards of the models are shown at first.
    """

    title = _("Partial Scan")
    models_expanded = False

    def __init__(self, model: PartialScanModel) -> None:
        super().__init__(model)
        u = Declarative.DeclarativeUI()
        budgets = [_("Segments"), _("Coverage (%)"), _("Dose (e-/\N{ANGSTROM SIGN}\N{SUPERSCRIPT TWO})")]
        self.ui_view = u.create_column(
            row(_("Device"), menu("model.devices.names", "model.devices.index")),
            row(_("Channel"), menu("model.channel_names", "model.channel_index")),
            row(_("Policy"), menu("model.models.policy_titles", "model.models.policy_index")),
            row(_("Generator"), menu("model.models.generator_titles", "model.models.generator_index")),
            row(
                _("Region"),
                region_menu(),
                _field("model.size_text", _("Swift's"), _("Pixels along the longer side; empty takes Swift's pixels")),
                label(_("px")),
            ),
            row(
                _("Budget"),
                u.create_combo_box(items=budgets, current_index="@binding(model.budget_index)"),
                _field("model.budget_text", "", _("What the scan may spend")),
            ),
            row(
                _("Stop at"),
                _field("model.stop_text", _("never"), _("Predicted RMS error at which the scan ends early")),
                label(_("predicted error (SD)")),
                u.create_stretch(),
            ),
            row(
                _("Dwell"),
                _field("model.dwell_text", _("Swift's"), _("Dwell time a probe; empty takes Swift's")),
                label(_("\N{MICRO SIGN}s")),
                u.create_stretch(),
                label(_("Beam")),
                field("model.beam_text", _("unknown"), _("Beam current in pA, or the control that holds it in A"), 108),
            ),
            u.create_row(
                u.create_check_box(text=_("Restart the live view afterwards"), checked="@binding(model.restart_view)"),
                u.create_stretch(),
            ),
            text("model.prediction", 34),
            u.create_row(
                start_button(_("Scan, and complete the image as it goes"), 120),
                progress(),
                u.create_stretch(),
                spacing=8,
            ),
            text("session.status", 50),
            u.create_row(
                _button(
                    _("Continue"), "continue_last", "model.can_go_on", _("Spend the budget once more on this scan")
                ),
                _button(_("Verify"), "verify", "model.can_go_on", _("Raster the region and show the difference")),
                _button(
                    _("Channels"),
                    "complete_channels",
                    "model.has_other_channels",
                    _("Complete the other recorded channels"),
                ),
                _button(_("Unblank"), "unblank", "model.is_idle", _("The beam stays blanked after a scan; unblank it")),
                u.create_stretch(),
                spacing=4,
            ),
            u.create_section(
                u.create_column(
                    u.create_text_browser(text="@binding(model.models.cards)", height=120),
                ),
                title=_("About the models"),
                expanded="models_expanded",
            ),
            spacing=6,
        )

    def continue_last(self, widget: UserInterface.Widget) -> None:
        """Another budget for the last scan."""
        self.model.continue_last()

    def verify(self, widget: UserInterface.Widget) -> None:
        """Raster the region of the last scan."""
        self.model.session.verify()

    def complete_channels(self, widget: UserInterface.Widget) -> None:
        """Complete the other channels of the last scan."""
        self.model.session.complete_channels()

    def unblank(self, widget: UserInterface.Widget) -> None:
        """Let the beam onto the specimen again."""
        self.model.unblank()
