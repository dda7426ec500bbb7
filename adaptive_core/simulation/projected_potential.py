"""A specimen as the electron wave sees it: projected potential, and diffraction patterns at any probe position."""

from __future__ import annotations

import collections.abc
import functools
import math

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage

from adaptive_core.scan_path import Point
from adaptive_core.simulation.ptychography_forward import transmission
from adaptive_core.simulation.ptychography_probe import ComplexArray, FloatArray, Optics, probe_wave

RealArray = npt.NDArray[np.float32]

_NM_IN_A = 10.0
_REACH = 3.0
"""Angles that are simulated at least, in convergence semi-angles: more than twice the aperture is dark-field detail."""
_PROBE_A = 32.0
"""Side of the square that holds a probe in focus with its tails."""


class ProjectedPotential:
    """A projected potential whose centre lies at (0, 0) nm; a smooth function, mirrored at its edges.

    Args:
        values_VA: shape (height, width), float32, V A.
        pixel_A: sampling, fine enough for all detail.
        optics: illumination that suits it.
    """

    def __init__(self, values_VA: RealArray, pixel_A: float, optics: Optics) -> None:
        self.values_VA, self.pixel_A, self.optics = values_VA, pixel_A, optics
        self._spline: RealArray = scipy.ndimage.spline_filter(values_VA, 3, np.float32, mode="reflect")

    def phase(self, positions_nm: FloatArray, optics: Optics) -> RealArray:
        """Phase shift (n,), float32, rad, at the positions (n, 2) nm."""
        coordinates = positions_nm.T * (_NM_IN_A / self.pixel_A) + _middle(self._spline.shape)
        potential = scipy.ndimage.map_coordinates(
            self._spline, coordinates, np.float32, 3, mode="reflect", prefilter=False
        )
        return np.asarray(potential * np.float32(optics.interaction_rad_per_VA))

    def seen_through(self, transfer: collections.abc.Callable[[FloatArray], FloatArray]) -> ProjectedPotential:
        """The potential with each spatial frequency (1/A) multiplied by its ``transfer``."""
        spectrum = scipy.fft.dctn(self.values_VA, norm="ortho")
        y, x = (np.arange(n) / (2 * n * self.pixel_A) for n in spectrum.shape)
        filtered = scipy.fft.idctn(spectrum * transfer(np.hypot(y[:, None], x)), norm="ortho")
        return ProjectedPotential(filtered.astype(np.float32), self.pixel_A, self.optics)

    def pattern(
        self, position_nm: Point, optics: Optics, mrad_per_px: float, side_px: int, beam_px: Point
    ) -> RealArray:
        """Diffraction pattern (side, side), float32, as fractions of the beam, by the multiplicative model (Eq. 1).

        Args:
            position_nm: of the probe.
            optics: the illumination.
            mrad_per_px: size of a detector px; intensities are sampled at their middles.
            side_px: of the detector.
            beam_px: where the direct beam is; the middle of pixel ``(i, j)`` is at ``(i, j)``.
        """
        extent_A = optics.extent_A(mrad_per_px)
        half = math.ceil(max(side_px / 2, _REACH * optics.convergence_mrad / mrad_per_px))
        window = 2 * scipy.fft.next_fast_len(half)
        probe = _probe(optics, window, extent_A)
        step_nm = extent_A / window / _NM_IN_A
        along = (np.arange(len(probe)) - len(probe) // 2) * step_nm
        grid = np.stack(np.meshgrid(along + position_nm[0], along + position_nm[1], indexing="ij"))
        phase = self.phase(grid.reshape(2, -1).T, optics).reshape(probe.shape)
        pixel = (round(beam_px[0]), round(beam_px[1]))
        # A tilt of the wave moves the pattern by the part of a pixel, the rest is moved as it is.
        turns = [
            np.exp(2j * np.pi * (b - p) * np.arange(len(probe)) / window) for b, p in zip(beam_px, pixel, strict=True)
        ]
        wave = np.zeros((window, window), np.complex64)
        wave[: len(probe), : len(probe)] = probe * transmission(phase) * turns[0][:, None] * turns[1]
        spectrum = scipy.fft.fft2(wave, norm="ortho", overwrite_x=True)
        return _placed(np.fft.fftshift(spectrum.real**2 + spectrum.imag**2), side_px, pixel)


@functools.lru_cache(maxsize=8)
def _probe(optics: Optics, window_px: int, extent_A: float) -> ComplexArray:
    """The probe in real space, its middle at ``n // 2``, cut to the square (n, n) that holds it."""
    whole = np.fft.fftshift(scipy.fft.ifft2(probe_wave(optics, window_px, extent_A), norm="ortho"))
    wide_A = _PROBE_A + 2 * abs(optics.defocus_A) * optics.convergence_mrad * 1e-3
    half = min(window_px // 2, math.ceil(wide_A / 2 / extent_A * window_px))
    part = slice(window_px // 2 - half, window_px // 2 + half)
    return np.asarray(whole[part, part], dtype=np.complex64)


def _placed(pattern: RealArray, side_px: int, beam_px: tuple[int, int]) -> RealArray:
    """A pattern, its direct beam at ``n // 2``, on a detector with the direct beam at ``beam_px``; dark beyond."""
    result = np.zeros((side_px, side_px), np.float32)
    source, target = [], []
    for beam in beam_px:
        shift = beam - len(pattern) // 2
        low, high = max(0, shift), min(side_px, shift + len(pattern))
        if high <= low:
            return result
        target.append(slice(low, high))
        source.append(slice(low - shift, high - shift))
    result[target[0], target[1]] = pattern[source[0], source[1]]
    return result


def _middle(shape: tuple[int, ...]) -> FloatArray:
    return np.array([[shape[0] / 2 - 0.5], [shape[1] / 2 - 0.5]])
