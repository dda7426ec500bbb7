"""The panel's section for adaptive ptychography: its widgets."""

from __future__ import annotations

import functools
import gettext

from nion.ui import Declarative

from nionswift_plugin.adaptive_scan.ptychography_model import PtychographyModel
from nionswift_plugin.adaptive_scan.widgets import (
    Section,
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

_OPTICS_WIDTH = 76
_OPTICS = (
    (_("Energy"), "model.energy_text", _("EHT"), _("keV"), _("Beam energy; empty reads the control EHT")),
    (
        _("Semi-angle"),
        "model.convergence_text",
        _("control"),
        _("mrad"),
        _("Of the convergence; empty reads the control ConvergenceAngle"),
    ),
    (_("Pixel"), "model.scale_text", _("Swift's"), _("mrad"), _("Of the unbinned camera; empty: its calibration")),
    (_("Electron"), "model.gain_text", _("Swift's"), _("counts"), _("Of one electron; empty: the calibration")),
    (_("Saturation"), "model.saturation_text", _("unknown"), _("counts"), _("At which a pixel of a frame saturates")),
    (_("Settle"), "model.settle_text", "", _("ms"), _("From a move of the probe until a frame may begin")),
)
"""Label, property, placeholder, unit and tool tip of each line."""


class PtychographySection(Section[PtychographyModel]):
    """Widgets on a :class:`PtychographyModel`.

    Attributes:
        title: of the section.
        optics_expanded: whether the settings of the optics are shown at first.
        policy_expanded: whether the policy's card is shown at first.
    """

    title = _("Adaptive Ptychography")
    optics_expanded = False
    policy_expanded = False

    def __init__(self, model: PtychographyModel) -> None:
        super().__init__(model)
        u = Declarative.DeclarativeUI()
        self.ui_view = u.create_column(
            row(_("Device"), menu("model.scans.names", "model.scans.index")),
            row(_("Camera"), menu("model.cameras.names", "model.cameras.index")),
            row(_("Policy"), menu("model.models.policy_titles", "model.models.policy_index")),
            row(
                _("Region"),
                region_menu(),
                u.create_stretch(),
            ),
            row(
                _("Positions"),
                _field("model.positions_text", "", _("Number of patterns")),
                label(_("in")),
                field("model.subsequences_text", "", _("The policy decides anew after each of them"), 44),
                label(_("sub-sequences")),
                u.create_stretch(),
            ),
            row(
                _("Exposure"),
                _field("model.exposure_text", _("Swift's"), _("Of a pattern, in ms; empty takes the camera's")),
                label(_("ms")),
                u.create_stretch(),
            ),
            row(
                _("Defocus"),
                _field(
                    "model.defocus_text",
                    _("as it is"),
                    _("Underfocus in nm, unless the policy chooses it; empty leaves it as it is"),
                ),
                label(_("nm")),
                u.create_stretch(),
            ),
            row(
                _("Stop at"),
                _field("model.stop_text", _("never"), _("SSIM of two successive live images at which the scan ends")),
                label(_("similarity of live images")),
                u.create_stretch(),
            ),
            text("model.prediction", 50),
            u.create_row(
                start_button(_("Take and reconstruct patterns"), 176),
                progress(),
                u.create_stretch(),
                spacing=8,
            ),
            text("session.status", 66),
            u.create_section(
                u.create_column(
                    *(
                        u.create_row(
                            label(title, width=_OPTICS_WIDTH),
                            _field(source, placeholder, tool_tip),
                            label(unit),
                            u.create_stretch(),
                            spacing=6,
                        )
                        for title, source, placeholder, unit, tool_tip in _OPTICS
                    ),
                    u.create_row(
                        u.create_check_box(
                            text=_("Rasters by synchronized acquisition"),
                            checked="@binding(model.synchronized)",
                            tool_tip=_("Even rows of positions are scanned at once, clocked by the camera"),
                        ),
                        u.create_stretch(),
                    ),
                    spacing=6,
                ),
                title=_("Optics and camera"),
                expanded="optics_expanded",
            ),
            u.create_section(
                u.create_column(u.create_text_browser(text="@binding(model.models.cards)", height=100)),
                title=_("About the policy"),
                expanded="policy_expanded",
            ),
            spacing=6,
        )
