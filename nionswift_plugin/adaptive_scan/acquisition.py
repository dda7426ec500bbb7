"""A scan on a thread of its own, from its preparation to its end; Swift stays free meanwhile.

Swift's own ``Acquisition.start_acquire`` is not used: it sleeps for half a second on the user interface's thread before
it starts, and for 5 ms after every step.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import logging
import pathlib
import statistics
import time
import typing

from adaptive_core.errors import AdaptiveScanError
from adaptive_core.partial_scan import Episode, Estimate, FinishReason, PartialImage, ScanStep
from adaptive_core.ports import ImageArray
from nionswift_plugin.adaptive_scan.background import Task
from nionswift_plugin.adaptive_scan.preparation import PreparedScan

logger = logging.getLogger(__name__)

UPDATE_INTERVAL_S = 0.14
"""Time between two updates: about 7 Hz. A faster display slows the scan."""
_FAST_PIXELS = 512 * 512
"""Larger regions are updated the less often: an update takes time for each of their pixels."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a scan has come.

    Attributes:
        fraction: of the budget that is spent, from 0 to 1.
        probes: probes so far.
        segments: actions so far.
        coverage: probes over pixels of the region.
        dose_e_per_A2: delivered dose; None if unknown.
        seconds: since the beam was taken.
        seconds_left: at the present speed.
        predicted_error: RMS error of the latest completion as its generator predicts it, in units of the standard
            deviation of the measured values; None if not predicted.
    """

    fraction: float
    probes: int
    segments: int
    coverage: float
    dose_e_per_A2: float | None
    seconds: float
    seconds_left: float
    predicted_error: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Update:
    """What a running scan shows.

    Attributes:
        progress: how far it has come.
        measured: mean measured value of each pixel, NaN elsewhere (height, width).
        estimate: a completion that has not been shown yet.
        actions: number of finished actions, see ``PartialImage.actions``.
    """

    progress: Progress
    measured: ImageArray
    estimate: Estimate | None


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """How a scan ended.

    Attributes:
        prepared: what was asked for; None if it could not be prepared.
        reason: COMPLETED, CANCELLED or FAILED.
        error: a line for the operator if it failed.
        scan: everything that was measured; None if nothing was started.
        estimate: the completion of everything that was measured; None without one.
        progress: how far it came.
        journal: the file that tells it again.
        overhead_s: mean time of a segment beyond its probes, completions for the policy included; None without a
            segment.
    """

    prepared: PreparedScan | None
    reason: FinishReason
    error: str | None = None
    scan: PartialImage | None = None
    estimate: Estimate | None = None
    progress: Progress | None = None
    journal: pathlib.Path | None = None
    overhead_s: float | None = None


class Listener(typing.Protocol):
    """Hears of a run, on the run's thread."""

    def started(self, prepared: PreparedScan, scan: PartialImage, journal: pathlib.Path) -> None:
        """The scan begins; ``scan`` grows while it runs."""
        ...

    def updated(self, update: Update) -> None:
        """There is something new to show."""
        ...

    def finished(self, outcome: Outcome) -> None:
        """The device has been put back; always the last call."""
        ...


class ScanRun(Task):
    """Prepares and runs a scan on a thread of its own.

    Args:
        prepare: makes the scan, see :mod:`preparation`; may take a while.
        journals: folder for the journal.
        listener: is told what happens.
    """

    def __init__(
        self, prepare: collections.abc.Callable[[], PreparedScan], journals: pathlib.Path, listener: Listener
    ) -> None:
        super().__init__("adaptive scan")
        self._prepare = prepare
        self._journals = journals
        self._listener = listener
        self._prepared: PreparedScan | None = None

    def abort(self) -> None:
        """Stop soon, keeping what was measured; returns at once."""
        self._abort(None if self._prepared is None else self._prepared.scanner.cancel)

    def _work(self) -> None:
        try:
            outcome = self._run()
        except AdaptiveScanError as error:
            outcome = Outcome(None, FinishReason.FAILED, str(error))
        except Exception as error:
            logger.exception("An adaptive scan could not be prepared.")
            outcome = Outcome(None, FinishReason.FAILED, f"The scan could not be prepared: {error!r}")
        self._listener.finished(outcome)

    def _run(self) -> Outcome:
        # An abort cancels what is prepared by then; one that comes before is seen here.
        self._prepared = prepared = self._prepare()
        if self._aborted.is_set():
            return Outcome(None, FinishReason.CANCELLED)
        episode, journal = prepared.begin(self._journals)
        self._listener.started(prepared, episode.scan, journal.path)
        meter = _Meter(episode)
        error: str | None = None
        try:
            # Closing the iterator puts the device back, whatever happens to the listener.
            with contextlib.closing(_generator(episode)) as steps:
                for step in steps:
                    if meter.is_due(step):
                        self._listener.updated(meter.update(step))
                    if self._aborted.is_set():
                        break
        except AdaptiveScanError as failure:
            error = str(failure)
        except Exception as failure:
            logger.exception("An adaptive scan failed.")
            error = f"The scan failed: {failure!r}"
        return Outcome(
            prepared,
            episode.finish_reason or FinishReason.FAILED,
            error,
            episode.scan,
            episode.estimate,
            meter.progress(),
            journal.path,
            meter.overhead_s,
        )


def _generator(episode: Episode) -> collections.abc.Generator[ScanStep, None, None]:
    """The episode's iterator, which is a generator that can be closed."""
    return typing.cast(collections.abc.Generator[ScanStep, None, None], episode.run())


class _Meter:
    """Measures a run: its progress, and when to show it."""

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._begin = time.perf_counter()
        self._first_probes = episode.scan.probes
        # A scan that is over by then is shown once; showing it as it goes would only make it slower.
        self._last = self._begin
        self._dwell_s = episode.plan.setup.dwell_us * 1e-6
        height, width = episode.plan.setup.size_px
        self._interval_s = UPDATE_INTERVAL_S * max(1.0, height * width / _FAST_PIXELS)
        self._overheads: list[float] = []
        self._unseen: Estimate | None = None

    def is_due(self, step: ScanStep) -> bool:
        """Take note of a step; whether to show it."""
        self._overheads.append(step.total_s - step.action.probes * self._dwell_s)
        self._unseen = step.estimate or self._unseen
        return time.perf_counter() - self._last >= self._interval_s

    def update(self, step: ScanStep) -> Update:
        self._last = time.perf_counter()
        estimate, self._unseen = self._unseen, None
        return Update(self.progress(), self._episode.scan.image(), estimate)

    @property
    def overhead_s(self) -> float | None:
        return max(statistics.fmean(self._overheads), 0.0) if self._overheads else None

    def progress(self) -> Progress:
        episode = self._episode
        plan, scan = episode.plan, episode.scan
        seconds = time.perf_counter() - self._begin
        left = plan.remaining(episode.segments, scan.probes, episode.beam_on_us)
        done = scan.probes - self._first_probes
        return Progress(
            1.0 - left,
            scan.probes,
            episode.segments,
            scan.coverage,
            episode.dose_e_per_A2,
            seconds,
            left * plan.probes * seconds / done if done else 0.0,
            None if episode.estimate is None else episode.estimate.predicted_error,
        )
