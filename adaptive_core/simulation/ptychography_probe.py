"""The convergent electron probe: wavelength, aperture and aberrations.

Lengths are in A and angles in mrad. Reciprocal grids are in FFT order; a square window of ``n`` px and of the side
``extent_A`` samples spatial frequencies in steps of ``1 / extent_A``, that is of ``wavelength / extent_A`` in angle.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import constants

from adaptive_core.errors import InvalidInputError

ComplexArray = npt.NDArray[np.complex64]
FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Optics:
    """The illumination of a STEM.

    Attributes:
        energy_kev: beam energy in keV.
        convergence_mrad: semi-angle of the aperture.
        defocus_A: positive is underfocus (C10 = -defocus).
        cs_mm: third-order spherical aberration.
    """

    energy_kev: float
    convergence_mrad: float
    defocus_A: float = 0.0
    cs_mm: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.energy_kev <= 2000:
            raise InvalidInputError(f"The beam energy must be from 1 to 2000 keV, not {self.energy_kev}.")
        if not 0 < self.convergence_mrad <= 200:
            raise InvalidInputError(f"The convergence angle must be in (0, 200] mrad, not {self.convergence_mrad}.")
        if not (math.isfinite(self.defocus_A) and math.isfinite(self.cs_mm)):
            raise InvalidInputError(f"Aberrations must be finite, not {self.defocus_A} A and {self.cs_mm} mm.")

    @property
    def wavelength_A(self) -> float:
        """Relativistic electron wavelength in A."""
        energy = self.energy_kev * 1e3 * constants.e
        momentum_c = math.sqrt(energy * (energy + 2 * constants.m_e * constants.c**2))
        return float(constants.h * constants.c / momentum_c * 1e10)

    @property
    def interaction_rad_per_VA(self) -> float:
        """Interaction constant sigma: phase (rad) for each V A of projected potential."""
        mass = constants.m_e + self.energy_kev * 1e3 * constants.e / constants.c**2
        sigma = 2 * math.pi * mass * constants.e * self.wavelength_A * 1e-10 / constants.h**2
        return float(sigma * 1e-10)

    def extent_A(self, mrad_per_px: float) -> float:
        """Side of the real-space window that belongs to a detector with pixels of ``mrad_per_px``."""
        return self.wavelength_A / (mrad_per_px * 1e-3)

    def at_defocus(self, defocus_A: float) -> Optics:
        """The same illumination at another defocus."""
        return dataclasses.replace(self, defocus_A=defocus_A)


def angles_mrad(optics: Optics, window_px: int, extent_A: float) -> FloatArray:
    """Scattering angle of each reciprocal pixel, shape (n, n), float64, mrad, FFT order."""
    frequency = np.fft.fftfreq(window_px, 1 / window_px) / extent_A
    return np.asarray(np.hypot(*np.meshgrid(frequency, frequency, indexing="ij")) * optics.wavelength_A * 1e3)


def probe_wave(optics: Optics, window_px: int, extent_A: float) -> ComplexArray:
    """The probe at the origin in reciprocal space, shape (n, n), complex64, FFT order, sum of squares 1.

    The aperture's edge is one reciprocal pixel wide; the aberration function is
    ``2 pi / wavelength (-defocus a^2 / 2 + Cs a^4 / 4)`` of the angle ``a``.
    """
    angle = angles_mrad(optics, window_px, extent_A)
    pixel = optics.wavelength_A / extent_A * 1e3
    if optics.convergence_mrad >= pixel * window_px / 2:
        raise InvalidInputError(
            f"The aperture of {optics.convergence_mrad:g} mrad must lie within the {pixel * window_px / 2:.4g} mrad "
            "that the real-space sampling resolves."
        )
    aperture = np.clip((optics.convergence_mrad - angle) / pixel + 0.5, 0.0, 1.0)
    alpha = angle * 1e-3
    chi = (2 * np.pi / optics.wavelength_A) * (-optics.defocus_A * alpha**2 / 2 + optics.cs_mm * 1e7 * alpha**4 / 4)
    wave = aperture * np.exp(-1j * chi)
    return np.asarray(wave / np.sqrt((aperture**2).sum()), dtype=np.complex64)


def cut_window(wave: ComplexArray, window_px: int) -> ComplexArray:
    """The probe in a smaller real-space window of the same sampling, renormalised, in reciprocal space (FFT order).

    A window that holds the probe is enough for a fast reconstruction; the finer reciprocal detail is given up.
    """
    n = wave.shape[-1]
    index = np.fft.fftfreq(window_px, 1 / window_px).astype(int) % n
    real = scipy.fft.ifft2(wave, norm="ortho")[..., index[:, None], index[None, :]]
    real /= np.sqrt((np.abs(real) ** 2).sum((-2, -1), keepdims=True))
    return np.asarray(scipy.fft.fft2(real, norm="ortho"), dtype=np.complex64)


def shifted(wave: ComplexArray, shifts_px: FloatArray) -> ComplexArray:
    """Real-space probes moved by ``shifts_px`` (p, 2), shape (p, n, n), complex64; ``wave`` is (n, n) or (p, n, n)."""
    frequency = np.fft.fftfreq(wave.shape[-1])
    ramps = np.exp(-2j * np.pi * shifts_px[:, :, None] * frequency).astype(np.complex64)
    spectrum = wave * ramps[:, 0, :, None] * ramps[:, 1, None, :]
    return np.asarray(scipy.fft.ifft2(spectrum, norm="ortho", overwrite_x=True))
