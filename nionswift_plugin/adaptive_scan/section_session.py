"""What the sessions of the panel's sections share: what they tell the operator."""

from __future__ import annotations

import typing

from nion.swift.model import Notification
from nion.utils import Observable


class SectionSession(Observable.Observable):
    """What is going on in a section; for the user interface's thread.

    Observable properties: ``is_busy`` and ``status``, and those of subclasses.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_busy = False
        self.status = ""

    def say(self, line: str) -> None:
        """Tell the operator something."""
        if not self.is_busy:
            self._set(status=line)

    def _set(self, **values: typing.Any) -> None:
        for name, value in values.items():
            if getattr(self, name) != value:
                setattr(self, name, value)
                self.notify_property_changed(name)

    def _warn(self, title: str, line: str) -> None:
        """Show a notification of Swift."""
        Notification.notify(
            Notification.Notification("adaptive_scan.error", "\N{WARNING SIGN} Adaptive Scan", title, line)
        )
