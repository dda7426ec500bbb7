"""The panel's section for adaptive partial scans: its widgets."""

from __future__ import annotations

import gettext
import typing

from nion.ui import Declarative, UserInterface

from nionswift_plugin.adaptive_scan.partial_scan_model import PartialScanModel

_ = gettext.gettext

_LABEL_WIDTH = 62
_FIELD_WIDTH = 60

Description = typing.Any


class PartialScanSection(Declarative.Handler):
    """Widgets on a :class:`PartialScanModel`, which it closes.

    Attributes:
        title: of the section.
        models_expanded: whether the cards of the models are shown at first.
    """

    title = _("Partial Scan")
    models_expanded = False

    def __init__(self, model: PartialScanModel) -> None:
        super().__init__()
        self.model = model
        self.session = model.session
        u = Declarative.DeclarativeUI()
        regions = [_("Whole field of view"), _("Selected rectangle"), _("Swift's subscan")]
        budgets = [_("Segments"), _("Coverage (%)"), _("Dose (e-/\N{ANGSTROM SIGN}\N{SUPERSCRIPT TWO})")]
        self.ui_view = u.create_column(
            _row(_("Device"), _menu("model.device_names", "model.device_index")),
            _row(_("Channel"), _menu("model.channel_names", "model.channel_index")),
            _row(_("Policy"), _menu("model.models.policy_titles", "model.models.policy_index")),
            _row(_("Generator"), _menu("model.models.generator_titles", "model.models.generator_index")),
            _row(
                _("Region"),
                u.create_combo_box(items=regions, current_index="@binding(model.region_index)"),
                _field("model.size_text", _("Swift's"), _("Pixels along the longer side; empty takes Swift's pixels")),
                _label(_("px")),
            ),
            _row(
                _("Budget"),
                u.create_combo_box(items=budgets, current_index="@binding(model.budget_index)"),
                _field("model.budget_text", "", _("What the scan may spend")),
            ),
            _row(
                _("Stop at"),
                _field("model.stop_text", _("never"), _("Predicted RMS error at which the scan ends early")),
                _label(_("predicted error (SD)")),
                u.create_stretch(),
            ),
            _row(
                _("Dwell"),
                _field("model.dwell_text", _("Swift's"), _("Dwell time a probe; empty takes Swift's")),
                _label(_("\N{MICRO SIGN}s")),
                u.create_stretch(),
                _label(_("Beam")),
                _field(
                    "model.beam_text", _("unknown"), _("Beam current in pA, or the control that holds it in A"), 108
                ),
            ),
            u.create_row(
                u.create_check_box(text=_("Restart the live view afterwards"), checked="@binding(model.restart_view)"),
                u.create_stretch(),
            ),
            _text("model.prediction", 34),
            u.create_row(
                u.create_push_button(text="@binding(model.button_text)", on_clicked="start_or_abort", width=120),
                u.create_progress_bar(value="@binding(session.progress_percent)", width=140),
                u.create_stretch(),
                spacing=8,
            ),
            _text("session.status", 50),
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

    def close(self) -> None:
        """Called by Swift when the panel goes."""
        self.model.close()
        super().close()

    def start_or_abort(self, widget: UserInterface.Widget) -> None:
        """The button."""
        self.model.start_or_abort()

    def continue_last(self, widget: UserInterface.Widget) -> None:
        """Another budget for the last scan."""
        self.model.continue_last()

    def verify(self, widget: UserInterface.Widget) -> None:
        """Raster the region of the last scan."""
        self.session.verify()

    def complete_channels(self, widget: UserInterface.Widget) -> None:
        """Complete the other channels of the last scan."""
        self.session.complete_channels()

    def unblank(self, widget: UserInterface.Widget) -> None:
        """Let the beam onto the specimen again."""
        self.model.unblank()


def _row(label: str, *widgets: Description) -> Description:
    return Declarative.DeclarativeUI().create_row(_label(label, width=_LABEL_WIDTH), *widgets, spacing=6)


def _label(text: str, **sizes: typing.Any) -> Description:
    return Declarative.DeclarativeUI().create_label(text=text, text_alignment_vertical="vcenter", **sizes)


def _text(text: str, height: int) -> Description:
    """Text of several lines; all of it can be read by pointing at it."""
    return Declarative.DeclarativeUI().create_label(
        text=f"@binding({text})",
        tool_tip=f"@binding({text})",
        word_wrap=True,
        height=height,
        text_alignment_vertical="top",
    )


def _menu(items: str, index: str) -> Description:
    return Declarative.DeclarativeUI().create_combo_box(
        items_ref=f"@binding({items})", current_index=f"@binding({index})"
    )


def _field(text: str, placeholder: str, tool_tip: str, width: int = _FIELD_WIDTH) -> Description:
    return Declarative.DeclarativeUI().create_line_edit(
        text=f"@binding({text})", placeholder_text=placeholder, tool_tip=tool_tip, width=width
    )


def _button(text: str, action: str, enabled: str, tool_tip: str) -> Description:
    return Declarative.DeclarativeUI().create_push_button(
        text=text, on_clicked=action, enabled=f"@binding({enabled})", tool_tip=tool_tip, width=74
    )
