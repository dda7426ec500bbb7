"""The scans of one window of Swift: start, abort, continue, verify; what they show, and what the operator is told."""

from __future__ import annotations

import collections.abc
import dataclasses
import logging
import pathlib
import threading
import typing

import numpy as np
from nion.swift import DocumentController

from adaptive_core.errors import AdaptiveScanError, InvalidInputError, ScanCancelledError
from adaptive_core.partial_scan import FinishReason, PartialImage
from adaptive_core.scan_path import Action
from nionswift_plugin.adaptive_scan.acquisition import Outcome, Progress, ScanRun, Update
from nionswift_plugin.adaptive_scan.background import Post, StepQueue, Steps
from nionswift_plugin.adaptive_scan.data_items import (
    COMPLETED,
    DIFFERENCE,
    RASTER,
    Frame,
    Metadata,
    ResultItems,
    free_suffix,
    item_title,
    show_items,
)
from nionswift_plugin.adaptive_scan.live_items import add_item
from nionswift_plugin.adaptive_scan.preparation import PreparedScan
from nionswift_plugin.adaptive_scan.section_session import SectionSession
from nionswift_plugin.adaptive_scan.verification import Verification, raster_scanner, take_raster

logger = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 8.0
"""How long a window that is closed waits for its scan to put the device back, and to complete what was measured; two
completions of 1024 x 1024 px take half of it."""

_PREPARING = "Preparing ..."

Prepare = collections.abc.Callable[[], PreparedScan]


class ScanSession(SectionSession):
    """What is going on, and what was done last; for the user interface's thread.

    Observable properties: ``is_busy``, ``progress_percent``, ``status`` and ``outcome``.

    Args:
        document_controller: the window.
        post: has a function called on the user interface's thread.
        journals: folder for journals.
    """

    def __init__(
        self, document_controller: DocumentController.DocumentController, post: Post, journals: pathlib.Path
    ) -> None:
        super().__init__()
        self.document_controller = document_controller
        self.journals = journals
        self.progress_percent = 0
        self.outcome: Outcome | None = None
        self._post = post
        self._closed = False
        self._abort: collections.abc.Callable[[], None] | None = None
        self._steps = StepQueue(post)
        self._display: _Display | None = None
        self._run: ScanRun | None = None

    def start(self, prepare: Prepare) -> None:
        """Begin a scan; does nothing while another one runs."""
        self._begin(prepare, None)

    def continue_with(self, prepare: collections.abc.Callable[[PreparedScan, PartialImage], PreparedScan]) -> None:
        """Go on with the last scan in its data items; does nothing while one runs or if there is none."""
        outcome = self.outcome
        if outcome is not None and outcome.prepared is not None and outcome.scan is not None:
            prepared, scan = outcome.prepared, outcome.scan
            items = None if self._display is None else self._display.items
            self._begin(lambda: prepare(prepared, scan), items)

    def abort(self) -> None:
        """Stop what is going on, keeping what was measured; returns at once."""
        if self._abort is not None:
            self._set(status="Stopping ...")
            self._abort()

    def verify(self) -> None:
        """Raster the region of the last scan and show raster and difference; does nothing while a scan runs."""
        outcome = self.outcome
        if outcome is None or outcome.prepared is None or outcome.estimate is None:
            return
        prepared, completion = outcome.prepared, outcome.estimate.image
        try:
            scanner = raster_scanner(prepared)
        except InvalidInputError as error:
            self.say(str(error))
            return

        def work() -> collections.abc.Callable[[], str]:
            verification = Verification.of(completion, take_raster(scanner))
            frame = Frame.of(prepared, outcome.journal)
            dose_e_per_A2 = prepared.plan.dose_meter.dose_e_per_A2(scanner.beam_on_us)
            return lambda: self._show_verification(verification, frame, prepared.plan.setup.channels[0], dose_e_per_A2)

        self._work("Verifying ...", work, scanner.cancel)

    def complete_channels(self) -> None:
        """Complete the other recorded channels of the last scan; does nothing while a scan runs."""
        outcome = self.outcome
        if outcome is None or outcome.prepared is None or outcome.scan is None or not outcome.scan.probes:
            return
        prepared, scan = outcome.prepared, outcome.scan
        if outcome.estimate is not None and outcome.estimate.position_errors is not None:
            scan = outcome.estimate.position_errors.corrected(scan)
        names = prepared.plan.setup.channels

        def work() -> collections.abc.Callable[[], str]:
            images = {
                names[index]: prepared.models.generator.complete(scan, index).image for index in range(1, len(names))
            }
            frame = Frame.of(prepared, outcome.journal)
            return lambda: self._show_channels(images, frame)

        self._work("Completing the other channels ...", work, lambda: None)

    def close(self) -> None:
        """Stop what is going on and wait until the device has been put back."""
        self._closed = True
        if self._abort is not None:
            self._abort()
        if self._run is not None and not self._run.join(_CLOSE_TIMEOUT_S):
            logger.warning("The scan device did not stop within %s s.", _CLOSE_TIMEOUT_S)
        self._steps.finish()

    def _begin(self, prepare: Prepare, earlier: ResultItems | None) -> None:
        if self.is_busy or self._closed:
            return
        display = _Display(self, self._steps, earlier)
        run = ScanRun(prepare, self.journals, display)
        self._display, self._run, self._abort = display, run, run.abort
        self._set(is_busy=True, progress_percent=0, status=_PREPARING)
        run.start()

    def _work(
        self,
        status: str,
        work: collections.abc.Callable[[], collections.abc.Callable[[], str]],
        abort: collections.abc.Callable[[], None],
    ) -> None:
        """Do something on another thread, then show it; ``work`` returns what shows it and says what there is."""
        if self.is_busy or self._closed:
            return
        self._abort = abort
        self._set(is_busy=True, progress_percent=0, status=status)

        def run() -> None:
            try:
                show = work()
            except ScanCancelledError as error:
                line = str(error)
                self._post(lambda: self._done(line))
            except AdaptiveScanError as error:
                line = str(error)
                self._post(lambda: self._fail(line))
            except Exception as error:
                logger.exception("%s failed.", status)
                line = repr(error)
                self._post(lambda: self._fail(line))
            else:
                self._post(lambda: self._steps.add(self._show(show)))

        threading.Thread(target=run, name="adaptive scan work", daemon=True).start()

    def _show(self, show: collections.abc.Callable[[], str]) -> Steps:
        """Show what was done, then say so."""
        try:
            line = show()
        except Exception as error:
            logger.exception("What was done could not be shown.")
            self._fail(f"It could not be shown: {error!r}")
        else:
            self._steps.add(self._done_later(line))
        yield

    def _done_later(self, line: str) -> Steps:
        self._done(line)
        yield

    def _done(self, status: str, percent: int = 100) -> None:
        self._abort = None
        self._set(progress_percent=percent, status=status, is_busy=False)

    def _fail(self, line: str) -> None:
        self._done(line, 0)
        self._warn("Adaptive Scan Failed", line)

    def _finished(self, outcome: Outcome) -> None:
        """A scan has ended and is shown."""
        self._run = None
        if outcome.prepared is not None:
            self.outcome = outcome
            self.notify_property_changed("outcome")
        if outcome.error is not None:
            kept = "" if outcome.scan is None or not outcome.scan.probes else f" {_kept(outcome)}"
            self._fail(f"{outcome.error}{kept}")
        else:
            self._done(_result_line(outcome), 100 if outcome.reason is FinishReason.COMPLETED else 0)

    def _scanning(self) -> None:
        """The device has been taken; the first update may be long in coming."""
        if self.is_busy and self.status == _PREPARING:
            self._set(status="Scanning ...")

    def _progressed(self, progress: Progress) -> None:
        self._set(progress_percent=round(100 * progress.fraction), status=_progress_line(progress))

    def _show_verification(
        self, verification: Verification, frame: Frame, channel: str, dose_e_per_A2: float | None
    ) -> str:
        document_model = self.document_controller.document_model
        figures: Metadata = {
            "rmse": verification.rmse,
            "psnr_db": verification.psnr_db if np.isfinite(verification.psnr_db) else None,
            "ssim": verification.ssim,
            "raster_dose_e_per_A2": dose_e_per_A2,
        }
        suffix = free_suffix(document_model, RASTER)
        items = [
            add_item(self.document_controller, f"{item_title(role)}{suffix}", frame.xdata(data, channel, figures))
            for role, data in ((DIFFERENCE, verification.difference), (RASTER, verification.raster))
        ]
        self._steps.add(show_items(self.document_controller, items))
        ssim = "" if verification.ssim is None else f", SSIM {verification.ssim:.3f}"
        return (
            f"Against a raster: RMS error {verification.rmse:.4g}, PSNR {verification.psnr_db:.1f} dB{ssim}. "
            f"The raster took {dose_text(dose_e_per_A2)}."
        )

    def _show_channels(self, images: collections.abc.Mapping[str, typing.Any], frame: Frame) -> str:
        document_model = self.document_controller.document_model
        items = []
        for name, image in images.items():
            role = f"{COMPLETED}, {name}"
            title = f"{item_title(role)}{free_suffix(document_model, role)}"
            items.append(add_item(self.document_controller, title, frame.xdata(image, name, {})))
        self._steps.add(show_items(self.document_controller, items))
        return f"Completed {', '.join(images)}." if images else "Only one channel was recorded."


class _Display:
    """Shows one run as it goes; hears of it on the run's thread."""

    def __init__(self, session: ScanSession, steps: StepQueue, earlier: ResultItems | None) -> None:
        self.items: ResultItems | None = None
        self._session = session
        self._steps = steps
        self._earlier = earlier
        self._actions: collections.abc.Sequence[Action] = ()
        self._update: Update | None = None
        self._is_asked_for = False

    def started(self, prepared: PreparedScan, scan: PartialImage, journal: pathlib.Path) -> None:
        self._actions = scan.actions
        controller = self._session.document_controller
        self.items = ResultItems(controller, prepared, Frame.of(prepared, journal), self._earlier)
        self._session._post(self._session._scanning)

    def updated(self, update: Update) -> None:
        if self.items is None:
            return
        figures = _figures(update.progress, None)
        self.items.show(update.measured, update.estimate, self._actions, figures, is_final=False)
        # One update waits at most, the newest.
        is_waiting, self._update = self._update is not None, update
        if not is_waiting:
            self._steps.add(self._show_update(self.items))
        if not self._is_asked_for:
            self._is_asked_for = True
            self._steps.add(self.items.make_all())

    def finished(self, outcome: Outcome) -> None:
        if self.items is not None and outcome.scan is not None:
            figures = _figures(outcome.progress, outcome)
            self.items.show(outcome.scan.image(), outcome.estimate, outcome.scan.actions, figures, is_final=True)
        self._steps.add(self._finish(outcome, self.items))

    def _show_update(self, items: ResultItems) -> Steps:
        update, self._update = self._update, None
        if update is not None:
            self._session._progressed(update.progress)
            yield from items.draw(self._actions)

    def _finish(self, outcome: Outcome, items: ResultItems | None) -> Steps:
        try:
            if items is not None:
                if not items.is_made:
                    yield from items.make_all()
                yield from items.close()
        except Exception as error:
            logger.exception("The results of a scan could not be shown.")
            line = f"The results could not be shown ({error!r}); they are in the journal {outcome.journal}."
            outcome = dataclasses.replace(outcome, error=" ".join(filter(None, (outcome.error, line))))
        self._session._finished(outcome)
        if items is not None:
            yield from items.draw(self._actions)


def _figures(progress: Progress | None, outcome: Outcome | None) -> Metadata:
    """Metadata that change while a scan runs."""
    figures: Metadata = {"finish_reason": None, "error": None}
    if progress is not None:
        figures.update(
            probes=progress.probes,
            segments=progress.segments,
            coverage=progress.coverage,
            dose_e_per_A2=progress.dose_e_per_A2,
            seconds=progress.seconds,
            predicted_error=progress.predicted_error,
        )
    if outcome is not None:
        errors = None if outcome.estimate is None else outcome.estimate.position_errors
        found = None if errors is None else dataclasses.asdict(errors)
        figures.update(finish_reason=str(outcome.reason), error=outcome.error, position_errors=found)
    return figures


def dose_text(dose_e_per_A2: float | None) -> str:
    """A dose as the operator reads it."""
    if dose_e_per_A2 is None:
        return "an unknown dose"
    return f"{dose_e_per_A2:.3g} e-/\N{ANGSTROM SIGN}\N{SUPERSCRIPT TWO}"


def percent_text(fraction: float) -> str:
    """A fraction as the operator reads it."""
    return f"{100 * fraction:.0f} %" if fraction >= 1 else f"{100 * fraction:.3g} %"


def time_text(seconds: float) -> str:
    """A time as the operator reads it."""
    if seconds >= 90:
        return f"{seconds / 60:.1f} min"
    if seconds < 0.1:
        return "less than 0.1 s"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _progress_line(progress: Progress) -> str:
    return (
        f"{progress.probes} probes, {percent_text(progress.coverage)}, {dose_text(progress.dose_e_per_A2)}, "
        f"{time_text(progress.seconds_left)} left{_error_text(progress.predicted_error)}"
    )


def _error_text(predicted_error: float | None) -> str:
    """The predicted error, in the unit in which a scan may be told to stop at it."""
    return "" if predicted_error is None else f"; predicted error {predicted_error:.2g} SD"


def _result_line(outcome: Outcome) -> str:
    if outcome.scan is None or outcome.progress is None:
        return "Aborted before the scan began."
    if outcome.reason is FinishReason.COMPLETED:
        progress = outcome.progress
        errors = None if outcome.estimate is None else outcome.estimate.position_errors
        corrected = "" if errors is None else f"; corrected {errors}"
        return (
            f"Completed: {progress.probes} probes, {percent_text(progress.coverage)}, "
            f"{dose_text(progress.dose_e_per_A2)} in {time_text(progress.seconds)}"
            f"{_error_text(progress.predicted_error)}{corrected}."
        )
    return f"Aborted. {_kept(outcome)}"


def _kept(outcome: Outcome) -> str:
    probes = 0 if outcome.scan is None else outcome.scan.probes
    if not probes:
        return "Nothing was measured."
    completed = "completed and kept" if outcome.estimate is not None else "kept"
    dose = dose_text(outcome.progress.dose_e_per_A2 if outcome.progress else None)
    return f"What was measured is {completed}: {probes} probes, {dose}."
