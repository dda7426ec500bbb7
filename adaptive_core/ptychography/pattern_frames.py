"""From the frames of a camera to diffraction patterns: dark level, bright-field disk, cut and binning."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import DeviceDataError, InvalidInputError
from adaptive_core.simulation.ptychography_probe import Optics

RealArray = npt.NDArray[np.float32]
Point = tuple[float, float]

REACH = 1.55
"""Half the side of a pattern in convergence semi-angles: the bright field and a little dark field."""
WINDOW_A = 24.0
"""The least real-space window of a pattern in focus; it limits the binning."""
LARGEST_PX = 512
_TAILS_A = 10.0
"""Least room for a probe around the shadow of its aperture."""
_DARK_SIGMAS = 3.0


@dataclasses.dataclass(frozen=True)
class Disk:
    """The bright-field disk of a pattern.

    Attributes:
        centre_px: ``(y, x)``; the middle of pixel ``(i, j)`` is at ``(i, j)``.
        radius_px: radius of a disk of the same area.
    """

    centre_px: Point
    radius_px: float


def bright_field_disk(pattern: npt.NDArray[np.floating]) -> Disk:
    """The plateau of a pattern or of a mean of patterns (height, width).

    Its height is the median of the pixels above a fifth of the brightest one. A pixel belongs to it in part if its
    intensity lies between a quarter and three quarters of that, so that the rim is found to parts of a pixel.
    """
    bright = pattern[pattern > 0.2 * np.quantile(pattern, 0.999)]
    if len(bright) == 0:
        return Disk((math.nan, math.nan), 0.0)
    inside = np.clip(2 * pattern / np.median(bright) - 0.5, 0.0, 1.0)
    area = float(inside.sum(dtype=np.float64))
    rows, columns = (inside.sum(axis, dtype=np.float64) @ np.arange(inside.shape[1 - axis]) for axis in (1, 0))
    return Disk((float(rows) / area, float(columns) / area), math.sqrt(area / math.pi))


@dataclasses.dataclass(frozen=True, eq=False)
class DarkLevel:
    """What a camera shows without a beam.

    Attributes:
        level: shape (height, width), float32, counts; or a number.
        noise: standard deviation of a pixel in one frame, counts.
    """

    level: RealArray | float = 0.0
    noise: float = 0.0

    @classmethod
    def of(cls, frames: RealArray) -> DarkLevel:
        """From frames (n, height, width) without a beam, two or more."""
        if len(frames) < 2:
            raise InvalidInputError(f"The dark level needs 2 frames or more, not {len(frames)}.")
        return cls(np.asarray(frames.mean(0)), float(np.sqrt(frames.var(0, ddof=1).mean())))

    def subtracted(self, frame: RealArray) -> RealArray:
        """The frame without the dark level; what does not rise above the noise by 3 standard deviations is zero."""
        signal = np.asarray(frame - self.level, dtype=np.float32)
        signal[signal <= np.float32(_DARK_SIGMAS * self.noise)] = 0.0
        return signal


@dataclasses.dataclass(frozen=True)
class PatternCut:
    """The square of a frame that becomes a pattern.

    Attributes:
        detector_px: side of a pattern.
        binning: frame px a pattern px.
    """

    detector_px: int
    binning: int = 1

    @classmethod
    def fitting(cls, optics: Optics, mrad_per_px: float, frame_px: tuple[int, int], binning: int) -> PatternCut:
        """Patterns that reach 1.55 convergence angles, or as far as frames (height, width) with the disk in the middle.

        Raises:
            InvalidInputError: the frames do not show the whole disk with a margin of one pattern px, or patterns would
                be larger than 512 px.
        """
        size = mrad_per_px * binning
        wished = round(REACH * optics.convergence_mrad / size)
        half = min(wished, min(frame_px) // (2 * binning))
        if half * size < optics.convergence_mrad + size:
            raise InvalidInputError(
                f"The camera reaches {half * size:.3g} mrad and must show the bright-field disk of "
                f"{optics.convergence_mrad:.3g} mrad; shorten the camera length."
            )
        if 2 * half > LARGEST_PX:
            raise InvalidInputError(
                f"Patterns of {2 * half} px are too large, {LARGEST_PX} px is the limit: the defocus of "
                f"{optics.defocus_A / 10:.4g} nm needs pixels of {size:.3g} mrad; go nearer to focus."
            )
        return cls(2 * half, binning)

    def patterns(self, frames: RealArray, centre_px: Point) -> tuple[RealArray, Point]:
        """Cut and bin frames (n, height, width) whose direct beam is at ``centre_px``.

        Returns:
            Patterns (n, d, d), float32, and where their direct beam lies from pixel ``d // 2``, in pattern px.

        Raises:
            DeviceDataError: the square leaves the frame.
        """
        d, b = self.detector_px, self.binning
        first = [centre - d // 2 * b - (b - 1) / 2 for centre in centre_px]
        corner = [round(start) for start in first]
        if any(c < 0 or c + d * b > side for c, side in zip(corner, frames.shape[1:], strict=True)):
            raise DeviceDataError(
                f"The bright-field disk is at ({centre_px[0]:.1f}, {centre_px[1]:.1f}) px of the camera's "
                f"{frames.shape[1]} x {frames.shape[2]} px, too far from the middle for patterns of {d * b} px; "
                "align it first."
            )
        cut = frames[:, corner[0] : corner[0] + d * b, corner[1] : corner[1] + d * b]
        patterns = cut.reshape(-1, d, b, d, b).sum((2, 4), dtype=np.float32) if b > 1 else cut
        beam_y, beam_x = ((start - c) / b for start, c in zip(first, corner, strict=True))
        return np.ascontiguousarray(patterns, dtype=np.float32), (beam_y, beam_x)


def largest_binning(optics: Optics, mrad_per_px: float) -> int:
    """The strongest binning whose real-space window holds the probe: 24 A, and twice the radius of its defocus.

    Raises:
        InvalidInputError: even the window of unbinned pixels does not hold the defocused probe.
    """
    wide_A, window_A = 2 * abs(optics.defocus_A) * optics.convergence_mrad * 1e-3, optics.extent_A(mrad_per_px)
    if wide_A + _TAILS_A > window_A:
        raise InvalidInputError(
            f"At a defocus of {optics.defocus_A / 10:.4g} nm the probe is {wide_A / 10:.3g} nm wide, but camera pixels "
            f"of {mrad_per_px:.3g} mrad show a window of {window_A / 10:.3g} nm; go nearer to focus."
        )
    return max(1, math.floor(window_A / (WINDOW_A + wide_A)))
