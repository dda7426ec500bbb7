"""What came of a scan: figures, and a picture."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import math
import pathlib
import statistics
import typing

from adaptive_core import metrics
from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan import Estimate, FinishReason, PartialImage, ScanStep
from adaptive_core.partial_scan.position_errors import PositionErrors
from adaptive_core.ports import ImageArray
from adaptive_core.scan_path import Action, Point, Size
from nionswift_plugin.adaptive_scan.command_line.scan_request import FoundScan


class Latencies:
    """Times of the segments of a run."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, float, float]] = []

    def add(self, step: ScanStep) -> None:
        """Note the times of one step."""
        self._steps.append((step.decide_s, step.scan_s, step.total_s))

    @property
    def medians_ms(self) -> dict[str, float | None]:
        """Medians in ms; None without a segment."""
        columns = zip(*self._steps, strict=True) if self._steps else ((), (), ())
        return {
            name: statistics.median(times) * 1e3 if times else None
            for name, times in zip(("decide", "scan", "total"), columns, strict=True)
        }


@dataclasses.dataclass(frozen=True)
class ScanReport:
    """The figures of a run; None for what is not known.

    Attributes:
        policy, generator, device: names.
        size_px: region (height, width).
        probes: measured probes.
        coverage: probes over pixels of the region.
        dose_e_per_A2: delivered electrons over the area of the region.
        mse, psnr_db, ssim: of the completion against the image without noise, both scaled to [-1, 1] by its range.
        drift_px, lag: position errors that were seen and corrected, as of
            :class:`adaptive_core.partial_scan.position_errors.PositionErrors`.
        latency_ms: medians a segment of deciding, scanning and both.
        seconds: time that the run took.
        finish_reason: COMPLETED, CANCELLED or FAILED.
        journal: the run's record.
    """

    policy: str
    generator: str
    device: str
    size_px: Size
    probes: int
    coverage: float
    dose_e_per_A2: float | None
    mse: float | None
    psnr_db: float | None
    ssim: float | None
    drift_px: Point | None
    lag: float | None
    latency_ms: dict[str, float | None]
    seconds: float
    finish_reason: str
    journal: str

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    def lines(self) -> collections.abc.Iterator[str]:
        """The report for a reader."""
        yield f"{self.finish_reason}: {self.policy} with {self.generator} on {self.device}"
        dose = "unknown dose" if self.dose_e_per_A2 is None else f"{self.dose_e_per_A2:.4g} e-/A^2"
        height, width = self.size_px
        yield f"{self.probes} probes on {height} x {width} px (coverage {self.coverage:.2%}), {dose}"
        if self.mse is not None and self.ssim is not None:
            psnr = "infinite" if self.psnr_db is None else f"{self.psnr_db:.1f} dB"
            yield f"MSE {self.mse:.4f}, PSNR {psnr}, SSIM {self.ssim:.3f}"
        if self.drift_px is not None and self.lag is not None:
            yield corrected_line(PositionErrors(self.drift_px, self.lag))


def corrected_line(errors: PositionErrors) -> str:
    """Position errors for a reader."""
    return f"Corrected: {errors}"


def scan_report(
    found: FoundScan,
    scan: PartialImage,
    estimate: Estimate | None,
    *,
    truth: ImageArray | None,
    dose_e_per_A2: float | None,
    latencies: Latencies,
    seconds: float,
    finish_reason: FinishReason,
    journal: pathlib.Path,
) -> ScanReport:
    """The figures of a run that has ended."""
    models = found.prepared.models
    errors = None if estimate is None else estimate.position_errors
    return ScanReport(
        policy=models.policy.name,
        generator=models.generator.name,
        device=found.prepared.scanner.device_id,
        size_px=scan.size_px,
        probes=scan.probes,
        coverage=scan.coverage,
        dose_e_per_A2=dose_e_per_A2,
        drift_px=None if errors is None else errors.drift_px,
        lag=None if errors is None else errors.lag,
        latency_ms=latencies.medians_ms,
        seconds=seconds,
        finish_reason=str(finish_reason),
        journal=str(journal),
        **_quality(estimate, truth),
    )


def _quality(estimate: Estimate | None, truth: ImageArray | None) -> dict[str, typing.Any]:
    if estimate is None or truth is None:
        return {"mse": None, "psnr_db": None, "ssim": None}
    psnr_db = metrics.psnr_db(estimate.image, truth)
    return {
        "mse": metrics.mse(estimate.image, truth),
        "psnr_db": psnr_db if math.isfinite(psnr_db) else None,
        "ssim": metrics.ssim(estimate.image, truth) if min(truth.shape) >= 11 else None,
    }


def write_picture(
    path: pathlib.Path,
    *,
    size_px: Size,
    actions: collections.abc.Sequence[Action],
    estimate: Estimate | None,
    truth: ImageArray | None,
    pixel_size_nm: float | None,
    caption: collections.abc.Iterable[str],
) -> pathlib.Path:
    """Write the picture of a run; its folder is made. Raises InvalidInputError if it cannot be written."""
    # Matplotlib takes longer to import than a scan takes.
    from adaptive_core.pictures import save_summary

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_summary(
            path,
            size_px=size_px,
            actions=[action.positions for action in actions],
            completion=None if estimate is None else estimate.image,
            predicted_error=None if estimate is None else estimate.error,
            truth=truth,
            pixel_size_nm=pixel_size_nm,
            caption="\n".join(caption),
        )
    except OSError as error:
        raise InvalidInputError(f"The picture {path} cannot be written: {error.strerror or error}.") from error
    return path
