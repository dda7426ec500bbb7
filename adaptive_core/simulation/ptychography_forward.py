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
        self._index: npt.NDArray[np.intp] | None = None
        self.shifts_px = positions_px  # of each probe from the corner of its own window
        if object_px != (window, window):
            corner = np.round(positions_px).astype(np.intp) - window // 2
            self.shifts_px = positions_px - corner
            steps = np.arange(window)
            rows = (corner[:, 0, None] + steps) % object_px[0]
            columns = (corner[:, 1, None] + steps) % object_px[1]
            self._index = rows[:, :, None] * object_px[1] + columns[:, None, :]
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
        exit_waves = self.probes * self.patches(transmission)
        spectrum = scipy.fft.fft(exit_waves, axis=-1, norm="ortho", workers=self.workers, overwrite_x=True)
        # Only the columns that the detector sees are transformed along the other axis.
        narrow = np.empty((*spectrum.shape[:-1], self.detector_px), np.complex64)
        for wide, cut in self._columns():
            narrow[..., cut] = spectrum[..., wide]
        narrow = scipy.fft.fft(narrow, axis=-2, norm="ortho", workers=self.workers, overwrite_x=True)
        if self.detector_px == self.window_px:
            return np.asarray(narrow)
        cut_waves = np.empty((len(narrow), self.detector_px, self.detector_px), np.complex64)
        for wide, cut in self._columns():
            cut_waves[:, cut] = narrow[:, wide]
        return cut_waves

    def patches(self, transmission: ComplexArray) -> ComplexArray:
        """The object in each probe's window, (p, w, w), or the object itself where the window is all of it."""
        return transmission if self._index is None else np.asarray(transmission.ravel()[self._index])

    def adjoint(self, detector_waves: ComplexArray) -> ComplexArray:
        """The adjoint of :meth:`waves`: an object of shape ``object_px`` from waves of shape (p, d, d)."""
        return self._scatter(self.back_to_exit(detector_waves) * np.conj(self.probes))

    def back_to_exit(self, detector_waves: ComplexArray) -> ComplexArray:
        """The exit waves (p, w, w) that the inverse Fourier transform gives for waves on the detector (p, d, d)."""
        count, window = len(self.probes), self.window_px
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
        start = self.shifts_px - window // 2 if self._index is None else np.zeros((1, 2))
        from_start = (np.arange(window) - start[:, :, None]) % window
        ramps = np.exp(-2j * np.pi * np.asarray(offset_px)[:, None] * from_start / window).astype(np.complex64)
        return np.asarray(ramps[:, 0, :, None] * ramps[:, 1, None, :])

    def _columns(self) -> tuple[tuple[slice, slice], ...]:
        positive, negative = self._blocks
        return (positive, negative) if self.detector_px > 1 else (positive,)

    def _scatter(self, patches: npt.NDArray[np.complex64] | RealArray) -> ComplexArray:
        if self._index is None:
            return np.asarray(patches.sum(0), dtype=np.complex64)
        flat, size = self._index.ravel(), self.object_px[0] * self.object_px[1]
        total = np.bincount(flat, patches.real.ravel(), size).astype(np.complex64)
        if np.iscomplexobj(patches):
            total += 1j * np.bincount(flat, patches.imag.ravel(), size).astype(np.float32)
        return total.reshape(self.object_px)
