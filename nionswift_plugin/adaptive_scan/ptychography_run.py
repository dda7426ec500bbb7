"""A ptychographic scan on a thread of its own, from its preparation to its final image; Swift stays free meanwhile."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import logging
import pathlib
import threading
import time
import typing

from adaptive_core.errors import AdaptiveScanError, InvalidInputError, ScanCancelledError
from adaptive_core.finish_reason import FinishReason
from adaptive_core.ptychography import scan_file
from adaptive_core.ptychography.episode import Episode, PtychographyStep
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.ptychography.scan_data import ScanData
from nionswift_plugin.adaptive_scan.background import Task
from nionswift_plugin.adaptive_scan.preparation import new_path
from nionswift_plugin.adaptive_scan.ptychography_preparation import PreparedPtychography

logger = logging.getLogger(__name__)

FILE_TITLE = "Adaptive Ptychography"

Prepare = collections.abc.Callable[[], PreparedPtychography]


@dataclasses.dataclass(frozen=True, eq=False)
class PtychographyOutcome:
    """How a ptychographic scan ended.

    Attributes:
        reason: COMPLETED, CANCELLED or FAILED.
        error: a line for the operator if something failed.
        prepared: what was asked for; None if it could not be prepared.
        data: every pattern that was taken; None without one.
        image: the final image, or the last live one where there is no final one.
        is_final: whether the image is the final one.
        file: the HDF5 file with the patterns and their positions.
        dose_e_per_A2: delivered dose; None if unknown.
        seconds: of the scan, without the final reconstruction.
        similarity: SSIM of the image with the truth; None where that is not known.
        resolution_A: of the image, by its correlation with the truth; likewise.
    """

    reason: FinishReason
    error: str | None = None
    prepared: PreparedPtychography | None = None
    data: ScanData | None = None
    image: Reconstruction | None = None
    is_final: bool = False
    file: pathlib.Path | None = None
    dose_e_per_A2: float | None = None
    seconds: float = 0.0
    similarity: float | None = None
    resolution_A: float | None = None

    @property
    def exposed_share(self) -> float | None:
        """Time for which the beam was on, waits included, over the exposures of the patterns; None if unknown."""
        if self.prepared is None or self.data is None or self.dose_e_per_A2 is None:
            return None
        planned = self.prepared.dose_e_per_A2(self.data.count / self.prepared.plan.positions)
        return None if planned is None else self.dose_e_per_A2 / planned


class PtychographyListener(typing.Protocol):
    """Hears of a run, on the run's thread."""

    def started(self, prepared: PreparedPtychography) -> None:
        """The scan begins."""
        ...

    def stepped(self, step: PtychographyStep) -> None:
        """A sub-sequence was taken and reconstructed."""
        ...

    def scanned(self) -> None:
        """The devices have been put back, and the patterns are written; the final reconstruction begins."""
        ...

    def finished(self, outcome: PtychographyOutcome) -> None:
        """Always the last call."""
        ...


class PtychographyTask(Task):
    """Prepares and runs a ptychographic scan on a thread of its own.

    Args:
        prepare: makes the scan; may take a while.
        folder: for the file with the patterns.
        listener: is told what happens.
    """

    def __init__(self, prepare: Prepare, folder: pathlib.Path, listener: PtychographyListener) -> None:
        super().__init__("adaptive ptychography")
        self._prepare = prepare
        self._folder = folder
        self._listener = listener
        self._given_up = threading.Event()
        self._prepared: PreparedPtychography | None = None
        self._is_scanned = False

    def abort(self) -> None:
        """Stop the scan soon, and reconstruct what was taken; once that is being done, leave it. Returns at once."""
        if self._is_scanned:
            self._given_up.set()
        self._abort(None if self._prepared is None else self._prepared.scanner.cancel)

    def give_up(self) -> None:
        """Stop soon, without a final reconstruction; returns at once."""
        self._given_up.set()
        self.abort()

    def _work(self) -> None:
        try:
            outcome = self._run()
        except AdaptiveScanError as error:
            outcome = PtychographyOutcome(FinishReason.FAILED, str(error))
        except Exception as error:
            logger.exception("A ptychographic scan could not be prepared.")
            outcome = PtychographyOutcome(FinishReason.FAILED, f"The scan could not be prepared: {error!r}")
        self._listener.finished(outcome)

    def _run(self) -> PtychographyOutcome:
        # An abort cancels what is prepared by then; one that comes before is seen here.
        self._prepared = prepared = self._prepare()
        if self._aborted.is_set():
            return PtychographyOutcome(FinishReason.CANCELLED)
        path = new_path(self._folder, FILE_TITLE)
        episode = prepared.episode()
        self._listener.started(prepared)
        began = time.perf_counter()
        reason, message, image = self._scan(episode)
        outcome = PtychographyOutcome(
            reason,
            message,
            prepared,
            episode.data,
            image,
            dose_e_per_A2=episode.dose_e_per_A2,
            seconds=time.perf_counter() - began,
        )
        return outcome if episode.data is None else self._finish(outcome, prepared, episode.data, path)

    def _scan(self, episode: Episode) -> tuple[FinishReason, str | None, Reconstruction | None]:
        """Why it ended, what went wrong, and the last live image."""
        image: Reconstruction | None = None
        try:
            # Closing the iterator puts the devices back, whatever happens to the listener.
            with contextlib.closing(_generator(episode)) as steps:
                for step in steps:
                    image = step.image
                    self._listener.stepped(step)
                    if self._aborted.is_set():
                        return FinishReason.CANCELLED, None, image
        except ScanCancelledError:
            return FinishReason.CANCELLED, None, image
        except AdaptiveScanError as error:
            return FinishReason.FAILED, str(error), image
        except Exception as error:
            logger.exception("A ptychographic scan failed.")
            return FinishReason.FAILED, f"The scan failed: {error!r}", image
        return FinishReason.COMPLETED, None, image

    def _finish(
        self, outcome: PtychographyOutcome, prepared: PreparedPtychography, data: ScanData, path: pathlib.Path
    ) -> PtychographyOutcome:
        """Write what was taken, and make the final image of it."""
        try:
            scan_file.write_scan(path, data)
            outcome = dataclasses.replace(outcome, file=path)
        except InvalidInputError as error:
            outcome = dataclasses.replace(outcome, error=_joined(outcome.error, str(error)))
        self._is_scanned = True
        self._listener.scanned()
        try:
            final = self._unless_given_up(lambda: prepared.final(data))
        except AdaptiveScanError as error:
            return dataclasses.replace(outcome, error=_joined(outcome.error, str(error)))
        except Exception as error:
            logger.exception("The final reconstruction failed.")
            line = f"The final reconstruction failed: {error!r}"
            return dataclasses.replace(outcome, error=_joined(outcome.error, line))
        return outcome if final is None else dataclasses.replace(outcome, image=final, is_final=True)

    def _unless_given_up(self, work: collections.abc.Callable[[], Reconstruction]) -> Reconstruction | None:
        """The result of some work; None if it is no longer wanted before it has come, and is left to end by itself."""
        results: list[Reconstruction] = []
        errors: list[Exception] = []
        done = threading.Event()

        def run() -> None:
            try:
                results.append(work())
            except Exception as error:  # it belongs to the other thread
                errors.append(error)
            done.set()

        threading.Thread(target=run, name="ptychographic reconstruction", daemon=True).start()
        while not (done.wait(0.02) or self._given_up.is_set()):
            pass
        if errors:
            raise errors[0]
        return results[0] if results else None


def _generator(episode: Episode) -> collections.abc.Generator[PtychographyStep, None, None]:
    """The episode's iterator, which is a generator that can be closed."""
    return typing.cast(collections.abc.Generator[PtychographyStep, None, None], episode.run())


def _joined(first: str | None, second: str) -> str:
    return second if first is None else f"{first} {second}"
