"""Diffraction patterns with the places where they were taken, and the checks before anything is made of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography.pattern_frames import bright_field_disk
from adaptive_core.simulation.ptychography_probe import FloatArray, Optics

RealArray = npt.NDArray[np.float32]

_EDGE = 1e-6
"""Distance by which rounding may carry a position over the region's edge."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What is known of an instrument before a scan.

    Attributes:
        optics: the illumination.
        mrad_per_px: size of a detector pixel.
        detector_px: side of the square patterns.
        fov_A: scanned region (height, width).
        electrons: incident electrons a pattern; None when unknown, then the mean pattern tells.
        saturation: counts at which a detector pixel saturates; None when unknown.
        beam_px: where the direct beam lies from pixel ``d // 2``, ``(y, x)``.
    """

    optics: Optics
    mrad_per_px: float
    detector_px: int
    fov_A: tuple[float, float]
    electrons: float | None = None
    saturation: float | None = None
    beam_px: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        half = self.mrad_per_px * self.detector_px / 2
        if not self.mrad_per_px > 0 or self.detector_px < 8:
            raise InvalidInputError(
                f"The detector needs pixels of positive size and 8 px or more, not {self.mrad_per_px} mrad "
                f"and {self.detector_px} px."
            )
        if self.optics.convergence_mrad >= half:
            raise InvalidInputError(
                f"The detector reaches {half:.4g} mrad and must show the whole bright-field disk of "
                f"{self.optics.convergence_mrad:.4g} mrad; check its calibration ({self.mrad_per_px:.4g} mrad a pixel)."
            )
        if not (min(self.fov_A) > 0 and np.isfinite(self.fov_A).all()):
            raise InvalidInputError(f"The scanned region must have a positive size, not {self.fov_A} A.")
        if self.electrons is not None and not self.electrons > 0:
            raise InvalidInputError(f"The number of electrons a pattern must be positive, not {self.electrons}.")
        if not max(map(abs, self.beam_px)) <= self.detector_px / 8:
            raise InvalidInputError(
                f"The direct beam must be within {self.detector_px / 8:g} px of the patterns' middle, not at "
                f"({self.beam_px[0]:.3g}, {self.beam_px[1]:.3g}) px from it."
            )

    @property
    def window_A(self) -> float:
        """Side of the real-space window that a pattern samples."""
        return self.optics.extent_A(self.mrad_per_px)

    def offset_px(self, binning: int = 1) -> tuple[float, float]:
        """Where the centres of pixels, binned or not, lie from multiples of their size in angle, ``(y, x)``."""
        return -self.beam_px[0] / binning, -self.beam_px[1] / binning


@dataclasses.dataclass(frozen=True, eq=False)
class ScanData:
    """An irregular 4D-STEM scan.

    Attributes:
        calibration: the instrument.
        patterns: shape (p, d, d), float32, counts, the direct beam at pixel ``d // 2`` but for ``calibration.beam_px``.
        positions_A: shape (p, 2), float64, ``(y, x)`` from the region's top left corner.
        defocus_A: of each pattern, shape (p,), float64; None for the optics' own.

    Raises:
        InvalidInputError: for shapes that do not agree, positions outside the region or patterns without any counts.
    """

    calibration: Calibration
    patterns: RealArray
    positions_A: FloatArray
    defocus_A: FloatArray | None = None

    def __post_init__(self) -> None:
        side = self.calibration.detector_px
        if self.patterns.ndim != 3 or self.patterns.shape[1:] != (side, side) or len(self.patterns) == 0:
            raise InvalidInputError(
                f"The calibration expects patterns of {side} x {side} px, not the shape {self.patterns.shape}."
            )
        if self.positions_A.shape != (len(self.patterns), 2):
            raise InvalidInputError(
                f"{len(self.patterns)} patterns need positions of the shape ({len(self.patterns)}, 2), "
                f"not {self.positions_A.shape}."
            )
        if self.defocus_A is not None and self.defocus_A.shape != (len(self.patterns),):
            raise InvalidInputError(f"The defocus needs one value a pattern, not the shape {self.defocus_A.shape}.")
        check_positions(self.positions_A, self.calibration.fov_A)
        check_patterns(self.patterns, self.calibration.saturation)

    @property
    def count(self) -> int:
        """Number of patterns."""
        return len(self.patterns)

    @property
    def electrons(self) -> float:
        """Incident electrons a pattern: as calibrated, else the mean count, which misses what the detector misses."""
        if self.calibration.electrons is not None:
            return self.calibration.electrons
        return float(self.patterns.sum(dtype=np.float64) / self.count)

    def with_more(self, other: ScanData) -> ScanData:
        """This scan and another one of the same instrument, one after the other."""
        if other.calibration != self.calibration:
            raise InvalidInputError("Only scans with the same calibration can be joined.")
        defocus = None
        if self.defocus_A is not None or other.defocus_A is not None:
            defocus = np.concatenate([self.defocus_of_each(), other.defocus_of_each()])
        return ScanData(
            self.calibration,
            np.concatenate([self.patterns, other.patterns]),
            np.concatenate([self.positions_A, other.positions_A]),
            defocus,
        )

    def defocus_of_each(self) -> FloatArray:
        """Defocus of each pattern, shape (p,), float64, A."""
        if self.defocus_A is not None:
            return self.defocus_A
        return np.full(self.count, self.calibration.optics.defocus_A)


def check_positions(positions: FloatArray, region: tuple[float, float], unit: str = "A") -> None:
    """Refuse positions (p, 2) that are not finite or lie outside a region (height, width) of the same unit."""
    if not np.isfinite(positions).all():
        raise InvalidInputError("Probe positions must be finite.")
    outside = ((positions < -_EDGE) | (positions > np.asarray(region) + _EDGE)).any(1)
    if outside.any():
        first = positions[outside][0]
        raise InvalidInputError(
            f"{int(outside.sum())} of {len(positions)} probe positions lie outside the region of "
            f"{region[0]:g} x {region[1]:g} {unit}, the first one at ({first[0]:.4g}, {first[1]:.4g}) {unit}."
        )


def check_patterns(patterns: RealArray, saturation: float | None = None) -> None:
    """Refuse patterns that are not finite, are negative, are all zero or are saturated."""
    if not np.isfinite(patterns).all():
        raise InvalidInputError("Diffraction patterns must be finite.")
    totals = patterns.sum((1, 2), dtype=np.float64)
    if (totals <= 0).any():
        raise InvalidInputError(f"{int((totals <= 0).sum())} of {len(patterns)} diffraction patterns have no counts.")
    if (patterns < 0).any():
        raise InvalidInputError("Diffraction patterns must not be negative; subtract no more than the dark level.")
    if saturation is not None and (saturated := (patterns >= saturation).any((1, 2))).any():
        raise InvalidInputError(
            f"{int(saturated.sum())} of {len(patterns)} diffraction patterns reach the detector's limit of "
            f"{saturation:g} counts; shorten the exposure."
        )


def check_disk(data: ScanData, tolerance: float = 0.1) -> None:
    """Refuse data whose bright-field disk contradicts the calibration, before anything is reconstructed from them.

    Its radius and its place may differ by the fraction ``tolerance`` of the convergence semi-angle, and the radius by
    half a pixel more, the place by a pixel or more.
    """
    calibration = data.calibration
    disk = bright_field_disk(data.patterns.mean(0, dtype=np.float64))
    size, stated = calibration.mrad_per_px, calibration.optics.convergence_mrad
    found = disk.radius_px * size
    if not abs(found - stated) <= tolerance * stated + size / 2:
        raise InvalidInputError(
            f"The bright-field disk has a radius of {found:.3g} mrad, which does not fit the convergence semi-angle of "
            f"{stated:.3g} mrad; check the aperture and the detector's {size:.3g} mrad a pixel."
        )
    middle = [calibration.detector_px // 2 + beam for beam in calibration.beam_px]
    off = [at - expected for at, expected in zip(disk.centre_px, middle, strict=True)]
    if not max(map(abs, off)) <= max(1.0, tolerance * stated / size):
        raise InvalidInputError(
            f"The bright-field disk is ({off[0]:+.1f}, {off[1]:+.1f}) px away from where the calibration has the "
            "direct beam; centre the patterns."
        )
