"""An alignment on a thread of its own, from its preparation to its end; Swift stays free meanwhile."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import logging
import threading
import time
import typing

from adaptive_core.alignment.episode import (
    AlignmentEpisode,
    AlignmentError,
    AlignmentResult,
    AlignmentStep,
    FinishReason,
)
from adaptive_core.errors import AdaptiveScanError, ScanCancelledError
from nionswift_plugin.adaptive_scan.alignment_preparation import PreparedAlignment
from nionswift_plugin.adaptive_scan.background import Task

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class AlignmentOutcome:
    """How an alignment ended.

    Attributes:
        reason: ALIGNED, CANCELLED or FAILED.
        error: a line for the operator if it failed.
        prepared: what was asked for; None if it could not be prepared.
        episode: the run, which can be undone; None if it did not begin.
        result: its figures; None if it did not begin, or if the shift could not be put back.
        seconds: from the request to the result.
    """

    reason: FinishReason
    error: str | None = None
    prepared: PreparedAlignment | None = None
    episode: AlignmentEpisode | None = None
    result: AlignmentResult | None = None
    seconds: float = 0.0


class AlignmentListener(typing.Protocol):
    """Hears of a run, on the run's thread."""

    def started(self, prepared: PreparedAlignment) -> None:
        """The first frame is about to be taken."""
        ...

    def stepped(self, step: AlignmentStep) -> None:
        """A frame was taken and the disk was moved."""
        ...

    def finished(self, outcome: AlignmentOutcome) -> None:
        """The devices have been put back; always the last call."""
        ...


class AlignmentTask(Task):
    """Prepares and runs an alignment on a thread of its own.

    Args:
        prepare: makes the alignment; may take a while.
        listener: is told what happens.
    """

    def __init__(self, prepare: collections.abc.Callable[[], PreparedAlignment], listener: AlignmentListener) -> None:
        super().__init__("adaptive alignment")
        self._prepare = prepare
        self._listener = listener
        self._prepared: PreparedAlignment | None = None
        self._has_settled = False

    def abort(self) -> None:
        """Stop soon; returns at once. The shift goes back unless the disk has been centred and only kept there."""
        self._aborted.set()
        if self._prepared is not None and not self._has_settled:
            self._prepared.camera.cancel()

    def _work(self) -> None:
        try:
            outcome = run_alignment(self._prepare_task(), self._listener, self._aborted, self._settled)
        except ScanCancelledError:
            outcome = AlignmentOutcome(FinishReason.CANCELLED)
        except AdaptiveScanError as error:
            outcome = AlignmentOutcome(FinishReason.FAILED, str(error))
        except Exception as error:
            logger.exception("An alignment could not be prepared.")
            outcome = AlignmentOutcome(FinishReason.FAILED, f"The alignment could not be prepared: {error!r}")
        self._listener.finished(outcome)

    def _prepare_task(self) -> PreparedAlignment:
        self._prepared = self._prepare()
        if self._aborted.is_set():
            raise ScanCancelledError("The alignment was stopped.")
        return self._prepared

    def _settled(self) -> None:
        self._has_settled = True


def run_alignment(
    prepared: PreparedAlignment,
    listener: AlignmentListener,
    aborted: threading.Event,
    settled: collections.abc.Callable[[], None] = lambda: None,
) -> AlignmentOutcome:
    """Align, tell the listener of each step, and remember what was learnt.

    Args:
        prepared: the alignment.
        listener: its ``started`` and ``stepped`` are called.
        aborted: ends it after the present frame.
        settled: called when the disk is centred; a later abort keeps it there.
    """
    began = time.monotonic()
    reason, message = FinishReason.FAILED, None
    episode: AlignmentEpisode | None = None
    try:
        with prepared.camera.session():
            listener.started(prepared)
            for measured_radius in (False, True):
                episode = prepared.episode(measured_radius=measured_radius)
                try:
                    _run(episode, listener, aborted, settled)
                except AlignmentError:
                    # A wrong calibration hides the disk from the first look; its radius is measured then.
                    seen = episode.result is None or episode.result.frames > 0
                    if seen or measured_radius or prepared.settings.radius_px is None:
                        raise
                else:
                    break
    except ScanCancelledError:
        reason = FinishReason.CANCELLED
    except AdaptiveScanError as error:
        message = str(error)
    except Exception as error:
        logger.exception("An alignment failed.")
        message = f"The alignment failed: {error!r}"
    result = None if episode is None else episode.result
    if reason is not FinishReason.CANCELLED and message is None and result is not None:
        reason = result.reason
        if reason is FinishReason.ALIGNED:
            prepared.remember(result)
    return AlignmentOutcome(reason, message, prepared, episode, result, time.monotonic() - began)


def _run(
    episode: AlignmentEpisode,
    listener: AlignmentListener,
    aborted: threading.Event,
    settled: collections.abc.Callable[[], None],
) -> None:
    with contextlib.closing(episode):
        for step in episode:
            if step.settled:
                settled()
            listener.stepped(step)
            if aborted.is_set():
                break


def result_line(outcome: AlignmentOutcome) -> str:
    """What the operator is told."""
    result = outcome.result
    if outcome.error is not None:
        back = " The shift is back where it was." if result is not None else ""
        return f"{outcome.error}{back}"
    if result is None or outcome.prepared is None:
        return "Aborted before the alignment began."
    if outcome.reason is FinishReason.CANCELLED:
        return f"Aborted after {frames_text(result.frames)}. The shift is back where it was."
    residual = "" if result.residual_px is None else f", {residual_text(result.residual_px, outcome.prepared)}"
    dy, dx = result.applied
    return (
        f"Centred: {frames_text(result.frames)} in {outcome.seconds:.2f} s{residual}.\n"
        f"{outcome.prepared.control} changed by (y, x) = ({dy:.4g}, {dx:.4g})."
    )


def frames_text(frames: int) -> str:
    """A number of frames."""
    return f"{frames} frame{'' if frames == 1 else 's'}"


def residual_text(residual_px: float, prepared: PreparedAlignment) -> str:
    """A distance from the target."""
    mrad = "" if prepared.mrad_per_px is None else f" ({residual_px * prepared.mrad_per_px:.3g} mrad)"
    return f"{residual_px:.3g} px{mrad} off"
