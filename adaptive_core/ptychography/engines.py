"""Iterative engines: they turn patterns and a forward model into a potential. Plain numpy and scipy.fft.

Intensities ``J`` are fractions of the incident beam in FFT order. The gradient of a loss of the intensities by the
potential follows from the forward model's adjoint: with ``t = exp(i V)``, ``X = A t`` and ``w`` the derivative of the
loss by the intensity, it is ``-2i conj(t) A^H (w X)``.
"""

from __future__ import annotations

import collections.abc
import dataclasses

import numpy as np
import numpy.typing as npt
import scipy.fft

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.ptychography_forward import ForwardModel
from adaptive_core.simulation.ptychography_probe import ComplexArray

RealArray = npt.NDArray[np.float32]

_ABSORPTION = (-0.3, 3.0)
"""Bounds of the imaginary part: no specimen amplifies the wave, but noise may seem to; wrong data must not diverge."""


def squared_error(model: ForwardModel, potential: ComplexArray, intensities: RealArray) -> tuple[float, ComplexArray]:
    """Loss of Schloz et al., Eq. 2, and its gradient d/dRe(V) + i d/dIm(V), shape of the object, complex64."""
    transmission = np.exp(1j * potential).astype(np.complex64)
    waves = model.waves(transmission)
    residual = waves.real**2 + waves.imag**2 - intensities
    count = len(intensities)
    gradient = model.adjoint(residual * waves) * np.conj(transmission) * np.complex64(-4j / count)
    return float((residual.astype(np.float64) ** 2).sum() / count), gradient


def gradient_descent(
    model: ForwardModel,
    intensities: RealArray,
    step: float,
    iterations: int = 5,
    start: ComplexArray | None = None,
) -> tuple[ComplexArray, list[float]]:
    """Plain gradient descent of a complex potential with a fixed step (ROP as the papers use it, Eq. 2).

    Returns:
        The potential (height, width), complex64, in rad, and the loss before each iteration.
    """
    potential = np.zeros(model.object_px, np.complex64) if start is None else start.astype(np.complex64)
    losses = []
    for _ in range(iterations):
        loss, gradient = squared_error(model, potential, intensities)
        losses.append(loss)
        potential = potential - np.float32(step) * gradient
    return potential, losses


@dataclasses.dataclass(frozen=True)
class WeightedSettings:
    """Of the noise-weighted, preconditioned descent.

    Attributes:
        epochs: passes over all patterns.
        batch: patterns of one update; the patterns are dealt into batches of about this size at random.
        momentum: Nesterov momentum.
        damping: added to the illumination, as a fraction of its largest value, before dividing by it.
        step: factor of the preconditioned gradient.
        noise: electrons added to the intensity in the weight; half an electron keeps empty pixels from dominating.
        clip: largest magnitude of a relative residual.
        seed: of the batches.
        absorption: recover a complex potential, whose imaginary part absorbs.
    """

    epochs: int = 12
    batch: int = 62
    momentum: float = 0.8
    damping: float = 0.1
    step: float = 1.0
    noise: float = 0.5
    clip: float = 3.0
    seed: int = 0
    absorption: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not 0 <= self.momentum < 1 or not self.step > 0:
            raise InvalidInputError(f"A reconstruction needs epochs, a batch, a step and a momentum below 1: {self}.")


Batch = tuple[ForwardModel, RealArray]


def dealt(count: int, settings: WeightedSettings) -> list[npt.NDArray[np.intp]]:
    """Indices of the batches: every pattern once, in random order."""
    order = np.random.default_rng(settings.seed).permutation(count)
    return np.array_split(order, max(1, round(count / settings.batch)))


def weighted_descent(
    batches: collections.abc.Sequence[Batch],
    electrons: float,
    low_pass: RealArray,
    settings: WeightedSettings,
    start: RealArray | ComplexArray | None = None,
    watch: collections.abc.Callable[[RealArray | ComplexArray], None] | None = None,
) -> tuple[RealArray | ComplexArray, list[float]]:
    """Recover a potential: residuals in units of the counting noise, divided by the illumination, with momentum.

    The weight ``(I - J) / (I + noise)`` is the derivative of the Poisson likelihood, tamed where nothing is expected.

    Args:
        batches: forward models with their intensities; they may be made anew whenever they are asked for.
        electrons: incident electrons a pattern.
        low_pass: mask of the object's spectrum (FFT order), applied to every update.
        settings: see there.
        start: potential to start from (warm start).
        watch: is given a copy of the potential after each epoch.

    Returns:
        The potential (height, width), float32, or complex64 with absorption, in rad, and the mean squared weighted
        residual of each epoch.
    """
    potential: RealArray | ComplexArray = np.zeros(low_pass.shape, np.float32) if start is None else start
    potential = potential.astype(np.complex64) if settings.absorption else potential.real.astype(np.float32)
    velocity = np.zeros_like(potential)
    floor, clip = np.float32(settings.noise / electrons), settings.clip
    preconditioners: list[RealArray] = []
    losses = []
    for _ in range(settings.epochs):
        loss, pixels = 0.0, 0
        for index, (model, intensities) in enumerate(batches):
            if index == len(preconditioners):
                illumination = model.illumination()
                preconditioners.append(
                    0.5 * settings.step / (illumination + np.float32(settings.damping * illumination.max()))
                )
            transmission = np.exp(1j * potential).astype(np.complex64)
            waves = model.waves(transmission)
            expected = waves.real**2 + waves.imag**2
            weight = expected - intensities
            expected += floor
            weight /= expected
            np.clip(weight, -clip, clip, out=weight)
            loss += float(np.vdot(weight, weight))
            pixels += weight.size
            waves *= weight
            gradient = np.complex64(-1j) * (model.adjoint(waves) * np.conj(transmission))
            gradient = (gradient if settings.absorption else gradient.real) * preconditioners[index]
            update = scipy.fft.ifft2(scipy.fft.fft2(gradient) * low_pass)
            update = (update if settings.absorption else update.real).astype(potential.dtype)
            velocity = np.float32(settings.momentum) * velocity + update
            potential -= update + np.float32(settings.momentum) * velocity
            if settings.absorption:
                np.clip(potential.imag, *_ABSORPTION, out=potential.imag)
        losses.append(loss / pixels)
        if watch is not None:
            watch(potential.copy())
    return potential, losses
