"""The grid on which the object is reconstructed, and how it is cut and resampled for comparison."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import numpy.typing as npt
import scipy.fft

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography.scan_data import Calibration
from adaptive_core.simulation.ptychography_probe import FloatArray

RealArray = npt.NDArray[np.float32]

INFORMATION_LIMIT = 2.12
"""Low-pass edge in units of the convergence angle: two apertures' width and a little dark field."""
_EDGE_MRAD = 8.0
_MARGIN_A = 5.0
_ROUNDING_A = 1e-6
"""A margin of 5 A is one of 5 A however its length was rounded."""


@dataclasses.dataclass(frozen=True)
class ObjectGrid:
    """A periodic object that holds the region and a margin for the probe's tails.

    Attributes:
        window_px: side of the window that a pattern samples.
        shape: (height, width) in px, at least the window.
        pixel_A: sampling.
        origin_A: where the region's top left corner lies, from the first sample.
    """

    window_px: int
    shape: tuple[int, int]
    pixel_A: float
    origin_A: tuple[float, float]

    def to_px(self, positions_A: FloatArray) -> FloatArray:
        """Positions (p, 2) of the region in px of the object."""
        return np.asarray((positions_A + np.asarray(self.origin_A)) / self.pixel_A, dtype=np.float64)


def object_grid(calibration: Calibration, window_px: int | None = None) -> ObjectGrid:
    """The grid for a calibration; by default as coarse as the information limit allows.

    A region that leaves a margin of 5 A in the window is reconstructed in the window alone, which needs no cutting.
    """
    limit = INFORMATION_LIMIT * calibration.optics.convergence_mrad / calibration.mrad_per_px
    window = window_px or scipy.fft.next_fast_len(max(math.ceil(2 * (limit + 3)), calibration.detector_px))
    if window < calibration.detector_px:
        raise InvalidInputError(f"A window of {window} px is smaller than the detector ({calibration.detector_px} px).")
    extent = calibration.window_A
    pixel = extent / window

    def side(length: float) -> int:
        if length + _MARGIN_A <= extent + _ROUNDING_A:
            return window
        # Half a window on both sides holds every probe without wrapping.
        return int(scipy.fft.next_fast_len(max(window + 1, math.ceil((length + min(extent, 12.0)) / pixel))))

    height, width = calibration.fov_A
    shape = (side(height), side(width))
    if window in shape and shape != (window, window):
        shape = (max(shape[0], window + 1), max(shape[1], window + 1))
    origin = ((shape[0] * pixel - height) / 2, (shape[1] * pixel - width) / 2)
    return ObjectGrid(window, shape, pixel, origin)


def transfer(calibration: Calibration, frequency: FloatArray) -> FloatArray:
    """How much of a spatial frequency (1/A) a reconstruction can show: all of it, ending softly at its limit."""
    angle_mrad = frequency * calibration.optics.wavelength_A * 1e3
    limit = INFORMATION_LIMIT * calibration.optics.convergence_mrad
    return np.asarray(np.clip((limit - angle_mrad) / _EDGE_MRAD + 0.5, 0.0, 1.0), dtype=np.float64)


def low_pass(calibration: Calibration, grid: ObjectGrid) -> RealArray:
    """Reciprocal mask (height, width), float32, FFT order, that ends softly at the information limit."""
    rows, columns = (np.fft.fftfreq(n, grid.pixel_A) for n in grid.shape)
    return np.asarray(transfer(calibration, np.hypot(rows[:, None], columns)), dtype=np.float32)


def limited(potential: RealArray, calibration: Calibration, extent_A: float) -> RealArray:
    """A known square potential of the side ``extent_A`` with no more detail than a reconstruction can show."""
    line = np.fft.fftfreq(len(potential), extent_A / len(potential))
    mask = transfer(calibration, np.hypot(line[:, None], line))
    return np.asarray(np.fft.ifft2(np.fft.fft2(potential) * mask).real, dtype=np.float32)


def region_image(
    potential: npt.NDArray[np.floating], grid: ObjectGrid, fov_A: tuple[float, float], pixel_A: float
) -> RealArray:
    """The region of a real potential on pixels of about ``pixel_A``, float32, by Fourier interpolation.

    The region is divided into whole pixels, as many as come closest to ``pixel_A``, and sampled at their centres.
    """
    height, width = (max(1, round(length / pixel_A)) for length in fov_A)
    return image_at(potential, grid, fov_A, (height, width))


def image_at(
    potential: npt.NDArray[np.floating], grid: ObjectGrid, fov_A: tuple[float, float], shape: tuple[int, int]
) -> RealArray:
    """The same on a given number of pixels (height, width)."""
    rows, columns = (
        _interpolation(n, origin / grid.pixel_A, length / grid.pixel_A, pixels)
        for n, origin, length, pixels in zip(grid.shape, grid.origin_A, fov_A, shape, strict=True)
    )
    return np.asarray(rows @ potential.astype(np.float32, copy=False) @ columns.T)


@functools.lru_cache(maxsize=32)
def _interpolation(count: int, start_px: float, length_px: float, pixels: int) -> RealArray:
    """Fourier interpolation along an axis as a matrix (pixels, count), float32: real signals need no transform."""
    places = start_px + (np.arange(pixels) + 0.5) * length_px / pixels
    frequency = 2 * np.pi * np.fft.fftfreq(count)
    to, back = places[:, None] * frequency, frequency[:, None] * np.arange(count)
    return np.asarray((np.cos(to) @ np.cos(back) + np.sin(to) @ np.sin(back)) / count, dtype=np.float32)
