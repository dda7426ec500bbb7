"""The ptychographic scans of one window of Swift: start, abort; what they show, and what the operator is told."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import time

from nion.swift import DocumentController

from adaptive_core.finish_reason import FinishReason
from adaptive_core.ptychography.episode import PtychographyStep
from nionswift_plugin.adaptive_scan.acquisition import UPDATE_INTERVAL_S
from nionswift_plugin.adaptive_scan.background import Post, StepQueue, Steps
from nionswift_plugin.adaptive_scan.data_items import Metadata
from nionswift_plugin.adaptive_scan.ptychography_data_items import PtychographyItems
from nionswift_plugin.adaptive_scan.ptychography_preparation import PreparedPtychography
from nionswift_plugin.adaptive_scan.ptychography_run import Prepare, PtychographyOutcome, PtychographyTask
from nionswift_plugin.adaptive_scan.scan_session import dose_text, time_text
from nionswift_plugin.adaptive_scan.section_session import SectionSession

logger = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 4.0
"""How long a window that is closed waits for its scan to put the devices back and to write the patterns."""


class PtychographySession(SectionSession):
    """What is going on, and what was done last; for the user interface's thread.

    Observable properties: ``is_busy``, ``progress_percent``, ``status`` and ``outcome``.

    Args:
        document_controller: the window.
        post: has a function called on the user interface's thread.
        folder: for the files with the patterns.
    """

    def __init__(
        self, document_controller: DocumentController.DocumentController, post: Post, folder: pathlib.Path
    ) -> None:
        super().__init__()
        self.document_controller = document_controller
        self.progress_percent = 0
        self.outcome: PtychographyOutcome | None = None
        self._folder = folder
        self._closed = False
        self._steps = StepQueue(post)
        self._task: PtychographyTask | None = None

    def start(self, prepare: Prepare) -> None:
        """Begin a scan; does nothing while another one runs."""
        if self.is_busy or self._closed:
            return
        self._task = PtychographyTask(prepare, self._folder, _Display(self, self._steps))
        self._set(is_busy=True, progress_percent=0, status="Preparing ...")
        self._task.start()

    def abort(self) -> None:
        """Stop the scan and reconstruct what was taken; once that is being done, leave it. Returns at once."""
        if self._task is not None:
            self._set(status="Stopping ...")
            self._task.abort()

    def close(self) -> None:
        """Stop what is going on, and wait until the devices have been put back and the patterns are written."""
        self._closed = True
        task = self._task
        if task is not None:
            task.give_up()
            if not task.join(_CLOSE_TIMEOUT_S):
                logger.warning("The ptychographic scan did not stop within %s s.", _CLOSE_TIMEOUT_S)
        self._steps.finish()

    def _finished(self, outcome: PtychographyOutcome) -> None:
        """A scan has ended and is shown."""
        self._task = None
        completed = outcome.reason is FinishReason.COMPLETED
        self._set(outcome=outcome)
        self._set(progress_percent=100 if completed else 0, status=result_line(outcome), is_busy=False)
        if outcome.error is not None:
            self._warn("Adaptive Ptychography Failed", outcome.error)


class _Display:
    """Shows one run as it goes; hears of it on the run's thread."""

    def __init__(self, session: PtychographySession, steps: StepQueue) -> None:
        self._session = session
        self._steps = steps
        self._items: PtychographyItems | None = None
        self._prepared: PreparedPtychography | None = None
        self._began_s = self._last_s = 0.0

    def started(self, prepared: PreparedPtychography) -> None:
        self._prepared = prepared
        self._items = PtychographyItems(self._session.document_controller, prepared)
        self._began_s = time.monotonic()
        self._tell(f"Taking the first of {prepared.plan.subsequences} sub-sequences ...", 0.0)

    def stepped(self, step: PtychographyStep) -> None:
        items, prepared, now = self._items, self._prepared, time.monotonic()
        if items is None or prepared is None or now - self._last_s < UPDATE_INTERVAL_S:
            return
        items.show(step.data, step.image, {"dose_e_per_A2": step.dose_e_per_A2, "finish_reason": None})
        self._steps.add(items.make_all() if self._last_s == 0.0 else items.draw())
        done, planned = step.data.count, prepared.plan.positions
        left_s = (now - self._began_s) * (planned - done) / done
        dose = dose_text(step.dose_e_per_A2)
        self._tell(f"{done} of {planned} positions, {dose}, {time_text(left_s)} left", done / planned)
        self._last_s = now

    def scanned(self) -> None:
        self._tell("Reconstructing the final image ...", 1.0)

    def finished(self, outcome: PtychographyOutcome) -> None:
        items = self._items
        if items is not None and outcome.data is not None and outcome.image is not None:
            try:
                items.show(outcome.data, outcome.image, _figures(outcome), outcome.file)
            except Exception as error:
                outcome = _not_shown(outcome, error)
        self._steps.add(self._finish(outcome))

    def _tell(self, line: str, fraction: float) -> None:
        def tell() -> Steps:
            self._session._set(progress_percent=round(100 * fraction), status=line)
            yield

        self._steps.add(tell())

    def _finish(self, outcome: PtychographyOutcome) -> Steps:
        items = self._items
        try:
            if items is not None and outcome.image is not None:
                yield from items.make_all()
                yield from items.close()
                outcome = dataclasses.replace(outcome, similarity=items.similarity, resolution_A=items.resolution_A)
        except Exception as error:
            outcome = _not_shown(outcome, error)
        self._session._finished(outcome)


def _not_shown(outcome: PtychographyOutcome, error: Exception) -> PtychographyOutcome:
    """Whatever happens while results are shown, the scan has ended and its patterns are kept."""
    logger.error("The results of a ptychographic scan could not be shown.", exc_info=error)
    line = f"The results could not be shown: {error!r}."
    return dataclasses.replace(outcome, error=" ".join(filter(None, (outcome.error, line))))


def _figures(outcome: PtychographyOutcome) -> Metadata:
    """Metadata of the end."""
    return {
        "positions": 0 if outcome.data is None else outcome.data.count,
        "dose_e_per_A2": outcome.dose_e_per_A2,
        "seconds": outcome.seconds,
        "finish_reason": str(outcome.reason),
        "error": outcome.error,
        "is_final": outcome.is_final,
    }


def result_line(outcome: PtychographyOutcome) -> str:
    """What the operator is told."""
    if outcome.data is None:
        return outcome.error or "Aborted before a pattern was taken."
    count, prepared = outcome.data.count, outcome.prepared
    # A pattern that was lost may have been exposed only in part.
    most = "at most " if outcome.reason is FinishReason.FAILED and outcome.dose_e_per_A2 is not None else ""
    taken = f"{count} positions, {most}{dose_text(outcome.dose_e_per_A2)}, {time_text(outcome.seconds)}"
    if outcome.error is not None:
        beginning = f"{outcome.error} Kept: "
    elif outcome.reason is FinishReason.CANCELLED:
        beginning = "Aborted: "
    else:
        early = prepared is not None and count < prepared.plan.positions
        beginning = "Stopped early, the image has settled: " if early else "Completed: "
    truth = ""
    if outcome.similarity is not None and outcome.resolution_A is not None:
        truth = f"; SSIM {outcome.similarity:.3f} and {outcome.resolution_A:.2f} \N{ANGSTROM SIGN} against the truth"
    file = "" if outcome.file is None else f"\nPatterns: {outcome.file.name}"
    return f"{beginning}{taken}{truth}.{file}"
