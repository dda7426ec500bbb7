"""The alignments of one window of Swift: align, abort, undo; what they show, and what the operator is told."""

from __future__ import annotations

import collections.abc
import dataclasses
import logging
import threading
import time

from nion.swift import DocumentController

from adaptive_core.alignment.episode import AlignmentStep, FinishReason
from adaptive_core.errors import AdaptiveScanError
from nionswift_plugin.adaptive_scan.alignment_data_items import TraceItem
from nionswift_plugin.adaptive_scan.alignment_preparation import PreparedAlignment
from nionswift_plugin.adaptive_scan.alignment_run import (
    AlignmentOutcome,
    AlignmentTask,
    frames_text,
    residual_text,
    result_line,
)
from nionswift_plugin.adaptive_scan.background import Post, StepQueue, Steps
from nionswift_plugin.adaptive_scan.section_session import SectionSession

logger = logging.getLogger(__name__)

UPDATE_INTERVAL_S = 0.14
"""Time between two updates: about 7 Hz. A faster display slows the alignment."""
_CLOSE_TIMEOUT_S = 4.0
"""How long a window that is closed waits for its alignment to put the shift back."""


class AlignmentSession(SectionSession):
    """What is going on, and what was done last; for the user interface's thread.

    Observable properties: ``is_busy``, ``status``, ``outcome`` and ``can_undo``.

    Args:
        document_controller: the window.
        post: has a function called on the user interface's thread.
    """

    def __init__(self, document_controller: DocumentController.DocumentController, post: Post) -> None:
        super().__init__()
        self.document_controller = document_controller
        self.can_undo = False
        self.outcome: AlignmentOutcome | None = None
        self._post = post
        self._closed = False
        self._steps = StepQueue(post)
        self._task: AlignmentTask | None = None
        self._asked_s = 0.0

    def start(self, prepare: collections.abc.Callable[[], PreparedAlignment]) -> None:
        """Begin an alignment; does nothing while another one runs."""
        if self.is_busy or self._closed:
            return
        self._asked_s = time.monotonic()
        self._task = AlignmentTask(prepare, _Display(self, self._steps))
        self._set(is_busy=True, can_undo=False, status="Looking for the disk ...")
        self._task.start()

    def abort(self) -> None:
        """Stop what is going on and put the shift back, unless the disk is only kept centred; returns at once."""
        if self._task is not None:
            self._set(status="Stopping ...")
            self._task.abort()

    def undo(self) -> None:
        """Put the shift back to where it was before the last alignment; does nothing if there is none."""
        outcome = self.outcome
        if self.is_busy or not self.can_undo or self._closed or outcome is None or outcome.episode is None:
            return
        episode = outcome.episode
        self._set(is_busy=True, can_undo=False, status="Putting the shift back ...")

        def work() -> None:
            try:
                episode.undo()
            except AdaptiveScanError as error:
                line = str(error)
            else:
                line = "Undone: the shift is where it was before the alignment."
            self._post(lambda: self._set(status=line, is_busy=False))

        threading.Thread(target=work, name="adaptive alignment undo", daemon=True).start()

    def close(self) -> None:
        """Stop what is going on and wait until the shift has been put back."""
        self._closed = True
        task = self._task
        if task is not None:
            task.abort()
            if not task.join(_CLOSE_TIMEOUT_S):
                logger.warning("The alignment did not stop within %s s.", _CLOSE_TIMEOUT_S)
        self._steps.finish()

    def _finished(self, outcome: AlignmentOutcome) -> None:
        """An alignment has ended and is shown."""
        self._task = None
        outcome = dataclasses.replace(outcome, seconds=time.monotonic() - self._asked_s)
        self._set(outcome=outcome)
        aligned = outcome.reason is FinishReason.ALIGNED
        self._set(can_undo=aligned and outcome.result is not None, status=result_line(outcome), is_busy=False)
        # What is refused before the disk moves stands beside the button.
        if outcome.error is not None and outcome.prepared is not None:
            self._warn("The Disk Was Not Centred", result_line(outcome))


class _Display:
    """Shows one run as it goes; hears of it on the run's thread."""

    def __init__(self, session: AlignmentSession, steps: StepQueue) -> None:
        self._session = session
        self._steps = steps
        self._trace: TraceItem | None = None
        self._prepared: PreparedAlignment | None = None
        self._step: AlignmentStep | None = None
        self._last_s = 0.0

    def started(self, prepared: PreparedAlignment) -> None:
        self._prepared = prepared
        self._trace = TraceItem(self._session.document_controller, prepared)
        self._steps.add(self._trace.make())

    def stepped(self, step: AlignmentStep) -> None:
        now = time.monotonic()
        is_due = now - self._last_s >= UPDATE_INTERVAL_S
        if self._trace is not None:
            self._trace.push(step, shown=is_due)
        if is_due:
            self._last_s = now
            # One update waits at most, the newest.
            is_waiting, self._step = self._step is not None, step
            if not is_waiting:
                self._steps.add(self._show_step())

    def finished(self, outcome: AlignmentOutcome) -> None:
        self._steps.add(self._finish(outcome))

    def _show_step(self) -> Steps:
        step, self._step = self._step, None
        if step is None or self._trace is None or self._prepared is None:
            return
        distance = residual_text(step.distance_px, self._prepared)
        settled = "On target" if step.settled else "Moving"
        self._session._set(status=f"{settled}: {frames_text(step.index + 1)}, {distance}")
        yield from self._trace.draw()

    def _finish(self, outcome: AlignmentOutcome) -> Steps:
        # The operator is told first: the disk is centred, whatever is still to be drawn.
        self._session._finished(outcome)
        yield
        if self._trace is not None:
            yield from self._trace.close(outcome.result)
            yield from self._trace.draw()
