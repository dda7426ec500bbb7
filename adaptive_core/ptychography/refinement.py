"""Refinement of probe positions and of the probe, from what the object does not explain.

Both start from the same difference of exit waves: the waves on the detector are given the measured amplitudes, and the
change is carried back to the object. A position follows it along the derivative of its probe (Gauss-Newton, two
unknowns a pattern); the probe follows the aberrations that explain the mean of all changes, each brought back to the
origin.

The object has by then explained most of what is wrong with the positions or the probe, so that a plain step is far too
small: it is multiplied by a gain, and limited in length.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft

from adaptive_core.simulation.ptychography_forward import ForwardModel
from adaptive_core.simulation.ptychography_probe import ComplexArray, FloatArray

RealArray = npt.NDArray[np.float32]

POSITION_GAIN = 40.0
POSITION_LIMIT_PX = 0.3
ABERRATION_GAIN = 20.0
ABERRATION_LIMIT_RAD = 0.5


def exit_differences(
    model: ForwardModel, transmission: ComplexArray, intensities: RealArray, floor: float
) -> ComplexArray:
    """Change of the exit waves (p, w, w) that gives the detector's waves the measured amplitudes, noise-weighted."""
    waves = model.waves(transmission)
    expected = waves.real**2 + waves.imag**2
    weight = np.clip((intensities - expected) / (expected + np.float32(floor)), -3.0, 3.0) * np.float32(0.5)
    return model.back_to_exit(waves * weight)


def position_steps(model: ForwardModel, transmission: ComplexArray, differences: ComplexArray) -> FloatArray:
    """Moves of the probes (p, 2) in px of the object, ``(y, x)``, that explain the differences.

    The mean move is taken out: a shift of everything cannot be seen.
    """
    frequency = 2j * np.pi * np.fft.fftfreq(model.window_px).astype(np.float32)
    spectrum = scipy.fft.fft2(model.probes * np.conj(model.tilt))
    patch = model.patches(transmission) * model.tilt
    along_y = -scipy.fft.ifft2(spectrum * frequency[:, None]) * patch
    along_x = -scipy.fft.ifft2(spectrum * frequency[None, :]) * patch

    def inner(a: ComplexArray, b: ComplexArray) -> FloatArray:
        return np.asarray(np.einsum("pij,pij->p", a.conj(), b).real, dtype=np.float64)

    yy, xx, yx = inner(along_y, along_y), inner(along_x, along_x), inner(along_y, along_x)
    right_y, right_x = inner(along_y, differences), inner(along_x, differences)
    determinant = yy * xx - yx**2
    steps = np.stack([xx * right_y - yx * right_x, yy * right_x - yx * right_y], axis=1) / determinant[:, None]
    steps = np.clip(POSITION_GAIN * steps, -POSITION_LIMIT_PX, POSITION_LIMIT_PX)
    return np.asarray(steps - steps.mean(0))


def refined_probe(
    wave: ComplexArray, model: ForwardModel, transmission: ComplexArray, differences: ComplexArray
) -> ComplexArray:
    """The probe (w, w), reciprocal, with defocus, twofold astigmatism, coma and Cs changed as the differences tell."""
    at_origin = scipy.fft.fft2(differences * np.conj(model.patches(transmission) * model.tilt), norm="ortho")
    frequency = np.fft.fftfreq(model.window_px)
    back = np.exp(2j * np.pi * model.shifts_px[:, :, None] * frequency).astype(np.complex64)
    change = np.einsum("pij,pi,pj->ij", at_origin, back[:, 0], back[:, 1]) / len(differences)
    power = np.abs(wave) ** 2
    inside = power > 0.5 * power.max()
    y, x = np.meshgrid(frequency, frequency, indexing="ij") / np.hypot(frequency[:, None], frequency)[inside].max()
    square = y**2 + x**2
    # A constant and a tilt cannot be seen; they are fitted so that they do not pass for something else.
    terms = np.stack([np.ones_like(y), y, x, square, y**2 - x**2, y * x, y * square, x * square, square**2], axis=-1)
    phase = (change[inside] / wave[inside]).imag
    fitted = np.linalg.lstsq(terms[inside], phase, rcond=None)[0] * ABERRATION_GAIN
    fitted[:3] = 0.0
    fitted *= min(1.0, ABERRATION_LIMIT_RAD / max(float(np.abs(fitted).max()), 1e-12))
    return np.asarray(wave * np.exp(1j * (terms @ fitted)), dtype=np.complex64)
