"""The panel's section for the alignment of the bright-field disk: its widgets."""

from __future__ import annotations

import functools
import gettext

from nion.ui import Declarative, UserInterface

from nionswift_plugin.adaptive_scan.alignment_model import AlignmentModel
from nionswift_plugin.adaptive_scan.widgets import (
    LABEL_WIDTH,
    Section,
    button,
    field,
    label,
    menu,
    row,
    start_button,
    text,
)

_ = gettext.gettext

_SECOND_LABEL_WIDTH = 66

_field = functools.partial(field, width=70)


class AlignmentSection(Section[AlignmentModel]):
    """Widgets on an :class:`AlignmentModel`.

    Attributes:
        title: of the section.
        control_expanded: whether the settings of the control are shown at first.
    """

    title = _("Align BF Disk")
    control_expanded = False

    def __init__(self, model: AlignmentModel) -> None:
        super().__init__(model)
        u = Declarative.DeclarativeUI()
        targets = [_("Centre of the camera"), _("Centre of a detector"), _("Selected graphic")]
        self.ui_view = u.create_column(
            row(_("Camera"), menu("model.cameras.names", "model.cameras.index")),
            row(
                _("Control"),
                u.create_line_edit(
                    text="@binding(model.control_text)",
                    placeholder_text="@binding(model.default_control)",
                    tool_tip=_("2D control of the STEM controller that moves the disk"),
                ),
            ),
            row(_("Policy"), menu("model.policy_titles", "model.policy_index")),
            row(
                _("Target"),
                u.create_combo_box(
                    items=targets,
                    current_index="@binding(model.target_index)",
                    tool_tip=_("Graphic: a point, or the middle of an ellipse or rectangle, on an image of the camera"),
                ),
            ),
            u.create_row(
                label(_("Detector"), width=LABEL_WIDTH),
                u.create_line_edit(
                    text="@binding(model.detector_text)",
                    tool_tip=_("2D control with the angles (rad) of the middle of the detector on the camera"),
                ),
                spacing=6,
                visible="@binding(model.targets_detector)",
            ),
            row(
                _("Tolerance"),
                _field("model.tolerance_text", "", _("The disk is centred within this distance")),
                u.create_combo_box(items=["px", "mrad"], current_index="@binding(model.unit_index)", width=76),
                u.create_check_box(
                    text=_("Continuous"),
                    checked="@binding(model.continuous)",
                    tool_tip=_("Keep the disk centred, against drift, until stopped"),
                ),
                u.create_stretch(),
            ),
            text("model.state", 34),
            u.create_row(
                start_button(_("Move the disk to the target"), 120),
                button(_("Undo"), "undo", "model.can_undo", _("Put the shift back to where it was"), 84),
                u.create_stretch(),
                spacing=8,
            ),
            text("session.status", 50),
            u.create_section(
                u.create_column(
                    row(
                        _("Axis"),
                        _field("model.axis_text", "", _("Swift's name of the axes in which the control is set")),
                        label(_("Settle (ms)"), width=_SECOND_LABEL_WIDTH),
                        _field("model.settle_text", "", _("Time after a move until a frame may begin")),
                        u.create_stretch(),
                    ),
                    row(
                        _("Max. shift"),
                        _field(
                            "model.largest_shift_text",
                            "@binding(model.default_largest_shift)",
                            _("How far the control may go from where it is, in its own unit"),
                        ),
                        label(_("Limit"), width=_SECOND_LABEL_WIDTH),
                        _field("model.limit_text", _("none"), _("Largest value of the control, in its own unit")),
                        u.create_stretch(),
                    ),
                    row(
                        _("Half frame"),
                        _field(
                            "model.half_screen_text",
                            "@binding(model.default_half_screen)",
                            _("Change of the control for half of the camera; empty: by the calibration"),
                        ),
                        u.create_stretch(),
                    ),
                    spacing=6,
                ),
                title=_("Settings of the control"),
                expanded="control_expanded",
            ),
            spacing=6,
        )

    def undo(self, widget: UserInterface.Widget) -> None:
        """Put the shift back."""
        self.model.session.undo()
