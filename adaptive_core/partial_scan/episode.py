"""One adaptive partial scan: observe, decide, act, show, until the budget is spent.

It knows no user interface, thread of an application or vendor. Cancelling is closing the iterator.
"""

from __future__ import annotations

import collections.abc
import concurrent.futures
import dataclasses
import logging
import time

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import AdaptiveScanError, InvalidInputError, ScanCancelledError
from adaptive_core.finish_reason import FinishReason
from adaptive_core.journal import JournalEntry, JournalWriter
from adaptive_core.partial_scan.calibration import calibrated
from adaptive_core.partial_scan.finishing import finished
from adaptive_core.partial_scan.generator import Estimate, Generator
from adaptive_core.partial_scan.held_out import hold_out
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.plan import ScanPlan
from adaptive_core.partial_scan.policy import Observation, Policy, first_probes
from adaptive_core.ports import PathScanner
from adaptive_core.scan_path import Action

logger = logging.getLogger(__name__)

MOST_UNJUDGED = 1.2
"""A scan that may end at a predicted error has at most this many times the probes of the completion that tells it."""
FIRST_JUDGED = 1 / 16
"""Part of the budget from which on this holds; to wait for completions of less would only cost time."""


@dataclasses.dataclass(frozen=True, eq=False)
class ScanStep:
    """One finished action.

    Attributes:
        index: number of this action, from 0.
        action: where the probe went.
        values: shape (channels, probes), float32, detector units.
        decide_s: time that the policy took, with the completion if it observes one.
        scan_s: time that the device took.
        total_s: time since the end of the step before, the caller's own time not included.
        probes: probes so far.
        coverage: probes so far over pixels of the region.
        dose_e_per_A2: delivered dose so far, waiting included; None if unknown.
        remaining: fraction of the budget that is left.
        estimate: a completion newer than the last one shown, None if there is none.
    """

    index: int
    action: Action
    values: npt.NDArray[np.float32]
    decide_s: float
    scan_s: float
    total_s: float
    probes: int
    coverage: float
    dose_e_per_A2: float | None
    remaining: float
    estimate: Estimate | None


class Episode:
    """A partial scan, its data and its outcome.

    Args:
        scanner: the device, set up for ``plan.setup``.
        policy: chooses the actions.
        generator: completes the scan.
        plan: region, budget and seed.
        journal: where to record every action; None records nothing.
        scan: an earlier scan of the same region to go on with. The budget counts it.
        display_interval_s: shortest time between two live completions.

    Attributes:
        scan: everything measured so far, at any time and after any outcome.
        estimate: the latest completion; of all that was measured once the iterator has ended, however it ended.
        finish_reason: None while the scan runs.

    Raises:
        InvalidInputError: if the plan, policy, generator and scanner do not fit together; nothing has moved then.
    """

    def __init__(
        self,
        scanner: PathScanner,
        policy: Policy,
        generator: Generator,
        plan: ScanPlan,
        journal: JournalWriter | None = None,
        scan: PartialImage | None = None,
        display_interval_s: float = 0.125,
    ) -> None:
        if scanner.setup != plan.setup:
            raise InvalidInputError(f"The plan is for {plan.setup}, the scanner is set up for {scanner.setup}.")
        if plan.setup.dwell_us < scanner.abilities.shortest_dwell_us:
            raise InvalidInputError(
                f"The dwell time must be at least {scanner.abilities.shortest_dwell_us} us on this device, "
                f"not {plan.setup.dwell_us} us."
            )
        channels = len(plan.setup.channels)
        if scan is not None and (scan.size_px, scan.channels) != (plan.setup.size_px, channels):
            raise InvalidInputError(
                f"The earlier scan has {scan.size_px} px and {scan.channels} channels, "
                f"the plan has {plan.setup.size_px} px and {channels} channels; both must agree."
            )
        self.plan = plan
        self.scan = PartialImage(plan.setup.size_px, channels) if scan is None else scan.snapshot()
        self.estimate: Estimate | None = None
        self._earlier_us = self.scan.beam_on_us - scanner.beam_on_us
        self._overhead_us = 0.0
        self._scale = 1.0
        self.finish_reason: FinishReason | None = None
        self._scanner, self._generator, self._journal = scanner, generator, journal
        self._interval_s = display_interval_s
        self._policy_run = policy.start(plan, generator)
        if self.scan.probes:
            self._policy_run.resume(self.scan, plan)
        if journal is not None:
            for action, values in zip(self.scan.actions, self.scan.values, strict=True):
                journal.append(JournalEntry(action.positions, values, kind=action.kind))

    @property
    def beam_on_us(self) -> float:
        """Time for which the specimen was exposed, an earlier scan, waiting and failed commands included (us)."""
        return self._earlier_us + self._scanner.beam_on_us

    @property
    def dose_e_per_A2(self) -> float | None:
        """Delivered dose (e-/A^2) of all of that time; None if unknown."""
        return self.plan.dose_meter.dose_e_per_A2(self.beam_on_us)

    @property
    def segments(self) -> int:
        """Number of finished actions."""
        return len(self.scan.actions)

    def run(self) -> collections.abc.Iterator[ScanStep]:
        """Carry out the plan, one step after another; close the iterator to cancel.

        Live completions are made beside the scan, at the display's rate. However the iterator ends, the device has been
        put back, the journal closed and ``estimate`` holds the completion of everything that was measured. A scan that
        ran to its end is completed at corrected positions, and its predicted error calibrated, by its own probes.

        Raises:
            DeviceError: if the device fails. What was measured is kept.
            ModelError: if a model answers with values that are not finite. What was measured is kept.
        """
        reason = FinishReason.FAILED
        try:
            with _LiveCompletion(self._generator, self._interval_s) as live, self._scanner.session():
                yield from self._steps(live)
            self._finish()
            reason = FinishReason.COMPLETED
        except GeneratorExit:
            reason = FinishReason.CANCELLED
            self._complete()
            raise
        except ScanCancelledError:
            # The scanner was stopped in the middle of an action, which closing the iterator cannot do.
            reason = FinishReason.CANCELLED
            self._complete()
        except Exception:
            self._complete_after_failure()
            raise
        finally:
            self.finish_reason = reason
            self.scan.beam_on_us = self.beam_on_us
            self._close_journal(reason)

    def _steps(self, live: _LiveCompletion) -> collections.abc.Iterator[ScanStep]:
        while (probes_left := self._probes_left()) > 0:
            begin = time.perf_counter()
            estimate: Estimate | None = None
            if self._policy_run.needs_estimate and self.scan.probes:
                estimate = self.estimate = self._generator.complete(self.scan)
            action = self._policy_run.decide(Observation(self.scan, self.estimate, self._remaining()))
            if action is None:
                return
            action = first_probes(action, probes_left)
            self._scanner.check(action)
            decided = time.perf_counter()
            before_us = self.beam_on_us
            values = self._scanner.scan(action)
            scanned = time.perf_counter()
            self.scan.add(action, values)
            self._overhead_us = self.beam_on_us - before_us - action.probes * self.plan.setup.dwell_us
            if self._journal is not None:
                self._journal.append(
                    JournalEntry(
                        action.positions,
                        values,
                        kind=action.kind,
                        decide_s=decided - begin,
                        scan_s=scanned - decided,
                        dose_e_per_A2=self.dose_e_per_A2,
                    )
                )
            if estimate is None:
                estimate = live.poll(self.scan, self._probes_to_judge())
                if estimate is not None and self.estimate is not None and estimate.probes < self.estimate.probes:
                    estimate = None
                self.estimate = estimate or self.estimate
            yield ScanStep(
                index=self.segments - 1,
                action=action,
                values=values,
                decide_s=decided - begin,
                scan_s=scanned - decided,
                total_s=time.perf_counter() - begin,
                probes=self.scan.probes,
                coverage=self.scan.coverage,
                dose_e_per_A2=self.dose_e_per_A2,
                remaining=self._remaining(),
                estimate=estimate,
            )
            if self._seen_enough():
                return

    def _complete(self) -> None:
        if self.scan.probes:
            self.estimate = self._generator.complete(self.scan)

    def _finish(self) -> None:
        """Complete all that was measured as well as can be."""
        self._complete()
        if self.estimate is not None:
            self.estimate = finished(self.estimate, self.scan, self._generator)

    def _calibrate(self) -> None:
        """Complete all that was measured, and find by how much the generator over- or underrates its error."""
        self._complete()
        if self.estimate is None:
            return
        plain = self.estimate.predicted_error
        self.estimate = calibrated(self.estimate, self.scan, hold_out(self.scan, self._generator))
        if plain and self.estimate.predicted_error is not None:
            self._scale = self.estimate.predicted_error / plain

    def _complete_after_failure(self) -> None:
        try:
            self._complete()
        except AdaptiveScanError:
            # It may be the failure that led here, and must not hide another one.
            logger.warning("What was measured before the failure could not be completed.", exc_info=True)

    def _close_journal(self, reason: FinishReason) -> None:
        if self._journal is None:
            return
        try:
            if self.estimate is not None:
                self._journal.write_estimate(self.segments, self.estimate.image, self.estimate.error)
        finally:
            self._journal.close(reason)

    def _probes_left(self) -> int:
        # The next command will cost about as much beam time besides its dwell time as the last one.
        return self.plan.probes_left(self.segments, self.scan.probes, self.beam_on_us + self._overhead_us)

    def _remaining(self) -> float:
        return self.plan.remaining(self.segments, self.scan.probes, self.beam_on_us + self._overhead_us)

    def _probes_to_judge(self) -> float:
        """How many probes a completion has to know before the scan goes on."""
        judged = 0 if self.estimate is None else self.estimate.probes
        if self.plan.budget.predicted_error is None:
            return 0.0
        if self.scan.probes <= max(MOST_UNJUDGED * judged, FIRST_JUDGED * self.plan.probes):
            return 0.0
        return self.scan.probes / MOST_UNJUDGED

    def _seen_enough(self) -> bool:
        limit = self.plan.budget.predicted_error
        predicted = None if self.estimate is None else self.estimate.predicted_error
        if limit is None or predicted is None or self._scale * predicted > limit:
            return False
        # A calibration takes several completions, so that it is asked only where the scan may end.
        self._calibrate()
        return self.estimate is not None and (self.estimate.predicted_error or 0.0) <= limit


class _LiveCompletion:
    """Completes snapshots of the scan on a thread of its own, at most one at a time and not faster than the display."""

    def __init__(self, generator: Generator, interval_s: float) -> None:
        self._generator = generator
        self._interval_s = interval_s
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="completion")
        self._pending: concurrent.futures.Future[Estimate] | None = None
        self._last = time.perf_counter()

    def __enter__(self) -> _LiveCompletion:
        return self

    def __exit__(self, *args: object) -> None:
        # A completion that still runs is not waited for: it is about to be replaced by one of the whole scan.
        self._pool.shutdown(wait=False, cancel_futures=True)

    def poll(self, scan: PartialImage, least_probes: float) -> Estimate | None:
        """The completion that has become ready, if any; begins the next one when it is time. Raises its exception.

        Unless ``least_probes`` is 0, it waits for a completion that knows at least so many probes.
        """
        estimate = None
        is_waiting = least_probes > 0
        while True:
            if self._pending is not None and (is_waiting or self._pending.done()):
                estimate, self._pending = self._pending.result(), None
                is_waiting = estimate.probes < least_probes
            if self._pending is None and (is_waiting or time.perf_counter() - self._last >= self._interval_s):
                self._last = time.perf_counter()
                self._pending = self._pool.submit(self._generator.complete, scan.snapshot())
            if not is_waiting:
                return estimate
