"""The panel's actions in one line each, for Swift's Python console and for scripts.

>>> from nionswift_plugin.adaptive_scan import console
>>> console.adaptive_scan(policy="spiral", segments=20)
>>> console.abort()
>>> console.continue_scan(segments=10)
>>> console.verify()
>>> console.complete_channels()
>>> console.policies()
>>> console.generators()
>>> console.settings()
>>> console.result()
>>> console.align(tolerance=0.5)
>>> console.abort_alignment()
>>> console.undo_alignment()
>>> console.alignment()
>>> console.ptychography(positions=250, defocus_nm=12)
>>> console.abort_ptychography()
>>> console.ptychography_policies()
>>> console.ptychography_result()

What is given to :func:`adaptive_scan` holds for this scan only; all else is as the panel shows it. Each action begins
and comes back at once, so that Swift stays free; in a script, which Swift runs on a thread of its own, ``wait()``
returns when it has ended:

>>> console.adaptive_scan(generator="linear-interpolation", coverage=0.02); result = console.wait()
"""

from __future__ import annotations

import collections.abc
import concurrent.futures
import dataclasses
import threading
import time
import typing

from nion.swift import Application
from nion.utils import Registry

from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan import PANEL_ID
from nionswift_plugin.adaptive_scan.alignment_settings import AlignmentChoices
from nionswift_plugin.adaptive_scan.panel import AdaptiveScanPanel
from nionswift_plugin.adaptive_scan.partial_scan_model import PartialScanModel
from nionswift_plugin.adaptive_scan.ptychography_settings import PtychographyChoices
from nionswift_plugin.adaptive_scan.settings import BudgetKind, PartialScanSettings

Window = typing.Any
T = typing.TypeVar("T")

_BUDGETS = {
    "segments": BudgetKind.SEGMENTS,
    "coverage": BudgetKind.COVERAGE,
    "dose_e_per_A2": BudgetKind.DOSE,
}


def adaptive_scan(*, window: Window = None, **changes: typing.Any) -> None:
    """Begin an adaptive scan.

    Args:
        window: a document window of Swift; the first one by default.
        changes: settings that differ for this scan, see :class:`PartialScanSettings`. ``segments``, ``coverage`` or
            ``dose_e_per_A2`` also makes that the budget.

    Raises:
        InvalidInputError: if there is no such setting, or no window. What else is wrong is told in the panel.
    """
    complete = _complete(changes)
    _perform(window, lambda model: model.start(**complete))


def continue_scan(*, window: Window = None, **changes: typing.Any) -> None:
    """Spend the budget once more on the last scan; arguments as for :func:`adaptive_scan`."""
    complete = _complete(changes)
    _perform(window, lambda model: model.continue_last(**complete))


def abort(*, window: Window = None) -> None:
    """Stop what is going on; what was measured is completed and kept."""
    _perform(window, lambda model: model.session.abort())


def verify(*, window: Window = None) -> None:
    """Raster the region of the last scan, and show raster and difference."""
    _perform(window, lambda model: model.session.verify())


def complete_channels(*, window: Window = None) -> None:
    """Complete the other channels of the last scan."""
    _perform(window, lambda model: model.session.complete_channels())


def policies(*, window: Window = None) -> list[str]:
    """Names for ``policy``; for a model of yours, the path of its file."""
    return _perform(window, lambda model: [line.name for line in model.models.menu.policies if line.usable])


def generators(*, window: Window = None) -> list[str]:
    """Names for ``generator``; for a model of yours, the path of its file."""
    return _perform(window, lambda model: [line.name for line in model.models.menu.generators if line.usable])


def settings(*, window: Window = None) -> PartialScanSettings:
    """The settings of the panel."""
    return _perform(window, lambda model: model.settings)


def result(*, window: Window = None) -> dict[str, typing.Any]:
    """What the panel says, and the figures of the last scan."""

    def read(model: PartialScanModel) -> dict[str, typing.Any]:
        outcome = model.session.outcome
        figures: dict[str, typing.Any] = {"status": model.session.status, "busy": model.session.is_busy}
        if outcome is not None and outcome.progress is not None:
            figures["finish_reason"] = str(outcome.reason)
            figures.update(dataclasses.asdict(outcome.progress), journal=str(outcome.journal))
        return figures

    return _perform(window, read)


def wait(
    timeout_s: float | None = None,
    *,
    of: collections.abc.Callable[..., dict[str, typing.Any]] = result,
    window: Window = None,
) -> dict[str, typing.Any]:
    """Wait until a scan has ended, and return its :func:`result`; for scripts only.

    Args:
        timeout_s: how long to wait; None waits for ever.
        of: what to wait for: :func:`result`, :func:`alignment` or :func:`ptychography_result`.
        window: a document window of Swift; the first one by default.

    Raises:
        InvalidInputError: in Swift's console, which would stop Swift.
        TimeoutError: if it takes longer.
    """
    if threading.current_thread() is threading.main_thread():
        raise InvalidInputError("wait() is for scripts; in the console it would keep Swift from going on.")
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while (figures := of(window=window))["busy"]:
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"The scan has not ended within {timeout_s} s.")
        time.sleep(0.02)
    return figures


def align(*, window: Window = None, **changes: typing.Any) -> None:
    """Begin to centre the bright-field disk; ``changes`` of :class:`AlignmentChoices` hold for this time only.

    Raises InvalidInputError if there is no such choice, or no window. What else is wrong is told in the panel.
    """
    _check_names(AlignmentChoices, changes, "choice")
    _on_panel(window, lambda panel: panel.alignment.start(**changes))


def abort_alignment(*, window: Window = None) -> None:
    """Stop the alignment; the shift goes back to where it was."""
    _on_panel(window, lambda panel: panel.alignment.session.abort())


def undo_alignment(*, window: Window = None) -> None:
    """Put the shift back to where it was before the last alignment."""
    _on_panel(window, lambda panel: panel.alignment.session.undo())


def alignment(*, window: Window = None) -> dict[str, typing.Any]:
    """What the panel says, and the figures of the last alignment."""

    def read(panel: AdaptiveScanPanel) -> dict[str, typing.Any]:
        session = panel.alignment.session
        outcome = session.outcome
        figures: dict[str, typing.Any] = {"status": session.status, "busy": session.is_busy}
        if outcome is not None and outcome.result is not None:
            result = outcome.result
            figures.update(
                finish_reason=outcome.reason.value,
                frames=result.frames,
                residual_px=result.residual_px,
                applied=result.applied,
                seconds=result.seconds,
            )
        return figures

    return _on_panel(window, read)


def ptychography(*, window: Window = None, **changes: typing.Any) -> None:
    """Begin a ptychographic scan; ``changes`` of :class:`PtychographyChoices` hold for this scan only.

    Raises InvalidInputError if there is no such choice, or no window. What else is wrong is told in the panel.
    """
    _check_names(PtychographyChoices, changes, "choice")
    _on_panel(window, lambda panel: panel.ptychography.start(**changes))


def abort_ptychography(*, window: Window = None) -> None:
    """Stop the ptychographic scan; what was taken is reconstructed and kept."""
    _on_panel(window, lambda panel: panel.ptychography.session.abort())


def ptychography_policies(*, window: Window = None) -> list[str]:
    """Names for ``policy``; for a model of yours, the path of its file."""
    return _on_panel(
        window, lambda panel: [line.name for line in panel.ptychography.models.menu.policies if line.usable]
    )


def ptychography_result(*, window: Window = None) -> dict[str, typing.Any]:
    """What the panel says, and the figures of the last ptychographic scan."""

    def read(panel: AdaptiveScanPanel) -> dict[str, typing.Any]:
        session = panel.ptychography.session
        outcome = session.outcome
        figures: dict[str, typing.Any] = {"status": session.status, "busy": session.is_busy}
        if outcome is not None:
            figures.update(
                finish_reason=str(outcome.reason),
                positions=0 if outcome.data is None else outcome.data.count,
                dose_e_per_A2=outcome.dose_e_per_A2,
                seconds=outcome.seconds,
                file=None if outcome.file is None else str(outcome.file),
                ssim_truth=outcome.similarity,
                resolution_A=outcome.resolution_A,
            )
        return figures

    return _on_panel(window, read)


def _check_names(choices: type, changes: dict[str, typing.Any], what: str) -> None:
    """Raises InvalidInputError for a change that the dataclass does not have."""
    names = [field.name for field in dataclasses.fields(choices)]
    for name in changes:
        if name not in names:
            raise InvalidInputError(f"There is no {what} {name!r}; there are {', '.join(names)}.")


def _complete(changes: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Changes of settings with the budget that they imply. Raises InvalidInputError."""
    _check_names(PartialScanSettings, changes, "setting")
    kinds = [kind for name, kind in _BUDGETS.items() if name in changes]
    if len(kinds) > 1:
        raise InvalidInputError("Give one of segments, coverage and dose_e_per_A2.")
    return {"budget": kinds[0], **changes} if kinds else changes


def _perform(window: Window, action: collections.abc.Callable[[PartialScanModel], T]) -> T:
    """Do something with the model of the partial scans of a window."""
    return _on_panel(window, lambda panel: action(panel.partial_scan))


def _on_panel(window: Window, action: collections.abc.Callable[[AdaptiveScanPanel], T]) -> T:
    """Do something with the panel of a window, on the user interface's thread, and wait for it."""
    document_controller = _window(window)

    def perform() -> T:
        panel = typing.cast(AdaptiveScanPanel | None, document_controller.find_dock_panel(PANEL_ID))
        if panel is None:
            raise InvalidInputError("The window has no panel Adaptive Scan.")
        return action(panel)

    if threading.current_thread() is threading.main_thread():
        return perform()
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def task() -> None:
        try:
            future.set_result(perform())
        except BaseException as error:  # it belongs to the caller
            future.set_exception(error)

    document_controller.queue_task(task)
    return future.result(timeout=30.0)


def _window(window: Window) -> Window:
    if window is not None:
        # A script's window is a facade of the real one.
        return getattr(window, "_document_controller", window)
    windows = _open_windows()
    if not windows:
        raise InvalidInputError("Swift has no open window.")
    return windows[0]


def _open_windows() -> list[Window]:
    application = typing.cast(Application.Application | None, Registry.get_component("application"))
    return [] if application is None else list(application.document_controllers)
