"""The widgets of which the panel's sections are made."""

from __future__ import annotations

import gettext
import typing

from nion.ui import Declarative, UserInterface

from nionswift_plugin.adaptive_scan.section_model import SectionModel

_ = gettext.gettext

LABEL_WIDTH = 62

Description = typing.Any
M = typing.TypeVar("M", bound=SectionModel[typing.Any])


class Section(Declarative.Handler, typing.Generic[M]):
    """Widgets on a model, which it closes.

    Attributes:
        model: state of the section.
        session: what it runs.
    """

    def __init__(self, model: M) -> None:
        super().__init__()
        self.model = model
        self.session = model.session

    def close(self) -> None:
        """Called by Swift when the panel goes."""
        self.model.close()
        super().close()

    def start_or_abort(self, widget: UserInterface.Widget) -> None:
        """The button."""
        self.model.start_or_abort()


def row(title: str, *widgets: Description) -> Description:
    """A line of the section: its label and what is chosen there."""
    return Declarative.DeclarativeUI().create_row(label(title, width=LABEL_WIDTH), *widgets, spacing=6)


def label(text: str, **sizes: typing.Any) -> Description:
    """A word beside a widget."""
    return Declarative.DeclarativeUI().create_label(text=text, text_alignment_vertical="vcenter", **sizes)


def text(source: str, height: int) -> Description:
    """Text of several lines; all of it can be read by pointing at it."""
    return Declarative.DeclarativeUI().create_label(
        text=f"@binding({source})",
        tool_tip=f"@binding({source})",
        word_wrap=True,
        height=height,
        text_alignment_vertical="top",
    )


def menu(items: str, index: str) -> Description:
    """A combo box."""
    return Declarative.DeclarativeUI().create_combo_box(
        items_ref=f"@binding({items})", current_index=f"@binding({index})"
    )


def field(source: str, placeholder: str, tool_tip: str, width: int) -> Description:
    """A line to type in."""
    return Declarative.DeclarativeUI().create_line_edit(
        text=f"@binding({source})", placeholder_text=placeholder, tool_tip=tool_tip, width=width
    )


def button(title: str, action: str, enabled: str | None, tool_tip: str, width: int) -> Description:
    """A push button; ``enabled`` names what enables it, None leaves it enabled."""
    options = {} if enabled is None else {"enabled": f"@binding({enabled})"}
    return Declarative.DeclarativeUI().create_push_button(
        text=title, on_clicked=action, tool_tip=tool_tip, width=width, **options
    )


def start_button(tool_tip: str, width: int) -> Description:
    """Starts what the section does, and aborts it while it runs."""
    return button("@binding(model.button_text)", "start_or_abort", None, tool_tip, width)


def progress() -> Description:
    """How far that is."""
    return Declarative.DeclarativeUI().create_progress_bar(value="@binding(session.progress_percent)", width=140)


def region_menu() -> Description:
    """Where to scan."""
    return Declarative.DeclarativeUI().create_combo_box(
        items=[_("Whole field of view"), _("Selected rectangle"), _("Swift's subscan")],
        current_index="@binding(model.region_index)",
    )
