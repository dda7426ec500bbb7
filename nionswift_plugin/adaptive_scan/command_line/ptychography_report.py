"""A ptychographic scan of the command line: carried out, reconstructed, and reported."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import pathlib
import time

from adaptive_core.errors import AdaptiveScanError, InvalidInputError, ScanCancelledError
from adaptive_core.finish_reason import FinishReason
from adaptive_core.ports import ImageArray
from adaptive_core.ptychography import metrics, reconstruction, scan_file
from adaptive_core.ptychography.episode import Episode, PtychographyStep
from adaptive_core.ptychography.policy import PtychographyPlan
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.ptychography.scan_data import ScanData
from adaptive_core.ptychography.summary_picture import Look, save_summary
from nionswift_plugin.adaptive_scan.ptychography_preparation import FINAL


@dataclasses.dataclass(frozen=True, eq=False)
class PtychographyRun:
    """A scan that is ready to run.

    Attributes:
        episode: the scan.
        plan: its plan.
        policy, device, camera: names; a recording has no camera.
        pixel_A: sampling of the images.
        known_phase: the true phase of the region on (height, width) px, None where it is not known.
        cancel: stops the scan, from a signal handler.
    """

    episode: Episode
    plan: PtychographyPlan
    policy: str
    device: str
    camera: str | None
    pixel_A: float
    known_phase: collections.abc.Callable[[tuple[int, int]], ImageArray | None]
    cancel: collections.abc.Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Quality:
    """Of an image against the true phase; None where that is not known."""

    ssim: float | None
    frc_resolution_A: float | None


@dataclasses.dataclass(frozen=True)
class PartReport:
    """A sub-sequence: patterns so far, the live image's quality, and the times of policy and all of it."""

    positions: int
    ssim: float | None
    frc_resolution_A: float | None
    decision_ms: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class PtychographyReport:
    """The figures of a scan; None for what is not known.

    Attributes:
        finish_reason: COMPLETED, CANCELLED or FAILED.
        policy, device, camera: names.
        positions: patterns taken.
        planned_positions: patterns asked for.
        electrons: incident electrons a pattern.
        dose_e_per_A2: delivered to the region, waits without a blanker included.
        defocus_nm: of the last pattern.
        subsequences: one after the other.
        final: quality of the final image.
        scan_seconds, final_seconds: of the scan with its live images, and of the final reconstruction.
        scan_file, picture: what was written.
    """

    finish_reason: FinishReason
    policy: str
    device: str
    camera: str | None
    positions: int
    planned_positions: int
    electrons: float | None
    dose_e_per_A2: float | None
    defocus_nm: float | None
    subsequences: tuple[PartReport, ...]
    final: Quality | None
    scan_seconds: float
    final_seconds: float | None
    scan_file: str | None = None
    picture: str | None = None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    def lines(self) -> list[str]:
        """For people."""
        dose = "an unknown dose" if self.dose_e_per_A2 is None else f"{self.dose_e_per_A2:.3g} e-/A^2"
        defocus = "" if not self.defocus_nm else f", {self.defocus_nm:.3g} nm underfocus"
        taken = f"{self.positions} of {self.planned_positions} positions"
        lines = [f"{self.finish_reason}: {taken}, {self.policy}, {dose}{defocus}"]
        if self.final is not None and self.final.ssim is not None:
            lines.append(f"against the truth: SSIM {self.final.ssim:.3f}, {self.final.frc_resolution_A:.2f} A")
        final = "" if self.final_seconds is None else f", final image in {self.final_seconds:.2f} s"
        lines.append(f"scan in {self.scan_seconds:.1f} s{final}")
        return lines + [
            f"{name}: {path}" for name, path in (("scan", self.scan_file), ("picture", self.picture)) if path
        ]


class _Looks:
    """The live images of a scan and what is told of them."""

    def __init__(self, run: PtychographyRun) -> None:
        self.images: list[Look] = []
        self.parts: list[PartReport] = []
        self.truth: ImageArray | None = None
        self._run = run
        self._began = time.perf_counter()

    def add(self, step: PtychographyStep) -> None:
        phase = step.image.phase(self._run.pixel_A)
        if not self.images:
            self.truth = self._run.known_phase((phase.shape[0], phase.shape[1]))
        self.images.append(Look(step.data.count, phase))
        now = time.perf_counter()
        quality = _quality(phase, self.truth, self._run.pixel_A)
        decision_ms, seconds = 1e3 * step.decision_s, now - self._began
        self.parts.append(
            PartReport(
                step.data.count, quality.ssim, quality.frc_resolution_A, round(decision_ms, 3), round(seconds, 3)
            )
        )
        self._began = time.perf_counter()


def carry_out(run: PtychographyRun, out: pathlib.Path | None) -> tuple[PtychographyReport, AdaptiveScanError | None]:
    """Scan, reconstruct and write; whatever goes wrong, the patterns are kept. The report, and why it failed."""
    looks, reason, failure = _Looks(run), FinishReason.COMPLETED, None
    began = time.perf_counter()
    try:
        with contextlib.closing(run.episode.run()) as steps:  # type: ignore[type-var]
            for step in steps:
                looks.add(step)
    except (ScanCancelledError, KeyboardInterrupt):
        reason = FinishReason.CANCELLED
    except AdaptiveScanError as error:
        reason, failure = FinishReason.FAILED, error
    scan_seconds = time.perf_counter() - began
    data, final = run.episode.data, None
    report = PtychographyReport(
        finish_reason=reason,
        policy=run.policy,
        device=run.device,
        camera=run.camera,
        positions=0 if data is None else data.count,
        planned_positions=run.plan.positions,
        electrons=run.plan.calibration.electrons,
        dose_e_per_A2=run.episode.dose_e_per_A2,
        defocus_nm=None if data is None else float(data.defocus_of_each()[-1]) / 10 + 0.0,  # no -0
        subsequences=tuple(looks.parts),
        final=None,
        scan_seconds=round(scan_seconds, 3),
        final_seconds=None,
    )
    if data is None:
        return report, failure
    if out is not None:
        scan_file.write_scan(out / "scan.h5", data)
        report = dataclasses.replace(report, scan_file=str(out / "scan.h5"))
    if looks.images:
        final = reconstruction.final(data, settings=FINAL)
        quality = _quality(final.phase(run.pixel_A), looks.truth, run.pixel_A)
        report = dataclasses.replace(report, final=quality, final_seconds=round(final.seconds, 3))
        if out is not None:
            report = dataclasses.replace(
                report, picture=str(_draw(out / "summary.png", run, data, looks, final, report))
            )
    return report, failure


def _draw(
    path: pathlib.Path,
    run: PtychographyRun,
    data: ScanData,
    looks: _Looks,
    final: Reconstruction,
    report: PtychographyReport,
) -> pathlib.Path:
    try:
        save_summary(
            path,
            data=data,
            looks=looks.images,
            final=final,
            pixel_A=run.pixel_A,
            truth=looks.truth,
            caption="\n".join(dataclasses.replace(report, scan_file=None).lines()),
        )
    except OSError as error:
        raise InvalidInputError(f"The picture cannot be written to {path}: {error.strerror or error}.") from error
    return path


def _quality(phase: ImageArray, truth: ImageArray | None, pixel_A: float) -> Quality:
    if truth is None:
        return Quality(None, None)
    side = min(phase.shape)
    top, left = ((n - side) // 2 for n in phase.shape)
    square = (slice(top, top + side), slice(left, left + side))
    resolution_A = metrics.resolution_A(phase[square], truth[square], pixel_A)
    return Quality(round(metrics.phase_ssim(phase, truth), 4), round(resolution_A, 3))
