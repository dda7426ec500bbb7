"""The multiplicative model of ptychography, with its exact adjoint (Schloz et al. 2022/2023, Eq. 1).

    I_p = |F[psi(r - R_p) t(r)]|^2

The operator from the transmission function to the waves on the detector is linear; everything that inverts it needs
only that operator and its adjoint. The object is periodic; its pixel ``(i, j)`` is a sample at ``(i, j) * pixel``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.ptychography_probe import ComplexArray, FloatArray, shifted

RealArray = npt.NDArray[np.float32]

_EVERY = slice(None)
_CACHED_PX = 65536
"""Window pixels of the patterns that are transformed together: half a megabyte, which a core's cache holds."""


def transmission(potential_rad: npt.NDArray[np.floating] | npt.NDArray[np.complexfloating]) -> ComplexArray:
    """exp(i V) of a projected potential in rad, real or complex; an imaginary part absorbs."""
    return np.asarray(np.exp(1j * potential_rad), dtype=np.complex64)


class ForwardModel:
    """Waves on the detector for a set of probe positions.

    Args:
        wave: probe in reciprocal space at the origin, (w, w) complex64 in FFT order, or one a position (p, w, w).
        positions_px: probe positions (p, 2), float64, ``(y, x)`` in px of the object.
        object_px: shape of the object (height, width), at least the window; a window as large as the object wraps.
        detector_px: side of the square detector, at most w; its pixels are the window's reciprocal pixels.
        offset_px: where the centres of the detector's pixels lie from the reciprocal pixels, ``(y, x)``, as it happens
            when pixels are binned in pairs, or when the direct beam lies between pixels.
        workers: threads of the Fourier transforms.
    """

    def __init__(
        self,
        wave: ComplexArray,
        positions_px: FloatArray,
        object_px: tuple[int, int],
        detector_px: int,
        offset_px: tuple[float, float] = (0.0, 0.0),
        workers: int = 1,
    ) -> None:
        window = wave.shape[-1]
        if detector_px > window or window > min(object_px):
            raise InvalidInputError(
                f"The detector ({detector_px} px) must fit the window ({window} px), and that the object {object_px}."
            )
        self.object_px = object_px
        self.detector_px = detector_px
        self.workers = workers
        self._corners: npt.NDArray[np.intp] | None = None  # of the windows, within the object
        self.shifts_px = positions_px  # of each probe from the corner of its own window
        if object_px != (window, window):
            corners = np.round(positions_px).astype(np.intp) - window // 2
            self.shifts_px = positions_px - corners
            self._corners = corners % np.asarray(object_px)
        self.probes = shifted(wave, self.shifts_px)
        self.tilt = np.ones((1, 1, 1), np.complex64)
        if any(offset_px):
            self.tilt = self._tilt(offset_px)
            self.probes *= self.tilt
        positive, negative = (detector_px + 1) // 2, detector_px // 2
        self._blocks = ((slice(0, positive), slice(0, positive)), (slice(-negative, None), slice(positive, None)))

    @property
    def window_px(self) -> int:
        """Side of the real-space window in px."""
        return int(self.probes.shape[-1])

    def waves(self, transmission: ComplexArray) -> ComplexArray:
        """Waves on the detector, shape (p, d, d), complex64, FFT order, for an object of shape ``object_px``."""
        detector = self.detector_px
        waves = np.empty((len(self.probes), detector, detector), np.complex64)
        for part in self._parts():
            exit_waves = self.probes[part] * self.patches(transmission, part)
            spectrum = scipy.fft.fft(exit_waves, axis=-1, norm="ortho", workers=self.workers, overwrite_x=True)
            # Only the columns that the detector sees are transformed along the other axis.
            narrow = np.empty((*spectrum.shape[:-1], detector), np.complex64)
            for wide, cut in self._columns():
                narrow[..., cut] = spectrum[..., wide]
            narrow = scipy.fft.fft(narrow, axis=-2, norm="ortho", workers=self.workers, overwrite_x=True)
            for wide, cut in self._columns():
                waves[part, cut] = narrow[:, wide]
        return waves

    def patches(self, transmission: ComplexArray, part: slice = _EVERY) -> ComplexArray:
        """The object in each probe's window, (p, w, w), or the object itself where the window is all of it."""
        if self._corners is None:
            return transmission
        window = self.window_px
        repeated = np.pad(transmission, (0, window), mode="wrap")
        corners = self._corners[part]
        cut = np.empty((len(corners), window, window), np.complex64)
        for patch, (row, column) in zip(cut, corners, strict=True):
            patch[...] = repeated[row : row + window, column : column + window]
        return cut

    def adjoint(self, detector_waves: ComplexArray) -> ComplexArray:
        """The adjoint of :meth:`waves`: an object of shape ``object_px`` from waves of shape (p, d, d)."""
        total = np.zeros(self.object_px, np.complex64)
        for part in self._parts():
            total += self._scatter(self.back_to_exit(detector_waves[part]) * np.conj(self.probes[part]), part)
        return total

    def back_to_exit(self, detector_waves: ComplexArray) -> ComplexArray:
        """The exit waves (p, w, w) that the inverse Fourier transform gives for waves on the detector (p, d, d)."""
        count, window = len(detector_waves), self.window_px
        tall = np.zeros((count, window, self.detector_px), np.complex64)
        for wide, cut in self._columns():
            tall[:, wide] = detector_waves[:, cut]
        tall = scipy.fft.ifft(tall, axis=-2, norm="ortho", workers=self.workers, overwrite_x=True)
        full = np.zeros((count, window, window), np.complex64)
        for wide, cut in self._columns():
            full[..., wide] = tall[..., cut]
        return np.asarray(scipy.fft.ifft(full, axis=-1, norm="ortho", workers=self.workers, overwrite_x=True))

    def patterns(self, transmission: ComplexArray) -> RealArray:
        """Diffraction patterns (p, d, d), float32, FFT order, as fractions of the incident beam."""
        waves = self.waves(transmission)
        return np.asarray(waves.real**2 + waves.imag**2)

    def illumination(self) -> RealArray:
        """Sum of the probes' intensities on the object, shape ``object_px``, float32."""
        return np.asarray(self._scatter(self.probes.real**2 + self.probes.imag**2).real, dtype=np.float32)

    def _tilt(self, offset_px: tuple[float, float]) -> ComplexArray:
        """The phase ramp that moves the pattern by parts of a pixel, shape (1, w, w), or (p, w, w) without cutting."""
        window = self.window_px
        # Where the window is all of the object, a probe goes on beyond the edge: its ramp is cut opposite to it.
        start = self.shifts_px - window // 2 if self._corners is None else np.zeros((1, 2))
        from_start = (np.arange(window) - start[:, :, None]) % window
        ramps = np.exp(-2j * np.pi * np.asarray(offset_px)[:, None] * from_start / window).astype(np.complex64)
        return np.asarray(ramps[:, 0, :, None] * ramps[:, 1, None, :])

    def _columns(self) -> tuple[tuple[slice, slice], ...]:
        positive, negative = self._blocks
        return (positive, negative) if self.detector_px > 1 else (positive,)

    def _parts(self) -> list[slice]:
        """Slices of the patterns that are transformed together."""
        step = max(1, _CACHED_PX // self.window_px**2)
        return [slice(start, start + step) for start in range(0, len(self.probes), step)]

    def _scatter(self, patches: npt.NDArray[np.complex64] | RealArray, part: slice = _EVERY) -> ComplexArray:
        if self._corners is None:
            return np.asarray(patches.sum(0), dtype=np.complex64)
        window, (height, width) = self.window_px, self.object_px
        total = np.zeros((height + window, width + window), np.complex64)
        for patch, (row, column) in zip(patches, self._corners[part], strict=True):
            total[row : row + window, column : column + window] += patch
        # What went over the edge comes in on the other side.
        total[:window] += total[height:]
        total[:, :window] += total[:, width:]
        return total[:height, :width]
