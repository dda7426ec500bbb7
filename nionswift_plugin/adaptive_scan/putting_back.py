"""Putting an instrument back: steps of a way out, none of which hides the error that led there."""

from __future__ import annotations

import logging
import types
import typing

from adaptive_core.errors import DeviceError

logger = logging.getLogger(__name__)

ExitStep = typing.Callable[[type[BaseException] | None, BaseException | None, types.TracebackType | None], None]
"""What ``contextlib.ExitStack.push`` takes."""


def putting_back(device: str, what: str, action: typing.Callable[[], object]) -> ExitStep:
    """A step that puts ``what`` of a device back.

    If it fails on the way out of an error it is logged, else it raises DeviceError.
    """

    def put_back(_type: object, error: BaseException | None, _traceback: object) -> None:
        try:
            action()
        except Exception as failure:  # vendors raise what they like
            message = f"{device}: {what} could not be put back: {failure!r}"
            if error is None:
                raise DeviceError(message) from failure
            logger.warning(message)

    return put_back
