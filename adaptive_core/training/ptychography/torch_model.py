"""Torch twins of the forward model and of the weighted reconstruction, for batches of data sets, on any device.

They equal :mod:`adaptive_core.simulation.ptychography_forward` and :mod:`adaptive_core.ptychography.engines` (tested)
and are differentiable by the probe positions and the defocus. Shapes: ``b`` data sets, ``p`` positions, window ``w``,
detector ``d``, square object ``n``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.ptychography_probe import Optics


def probe_waves(optics: Optics, window_px: int, extent_A: float, defocus_A: Tensor) -> Tensor:
    """Probes at the origin in reciprocal space, complex64, FFT order, of the shape of ``defocus_A`` and (w, w)."""
    device = defocus_A.device
    frequency = torch.fft.fftfreq(window_px, 1 / window_px, device=device) / extent_A
    angle = torch.hypot(frequency[:, None], frequency) * optics.wavelength_A * 1e3
    pixel = optics.wavelength_A / extent_A * 1e3
    aperture = ((optics.convergence_mrad - angle) / pixel + 0.5).clamp(0.0, 1.0)
    alpha = angle * 1e-3
    chi = -defocus_A[..., None, None] * alpha**2 / 2 + optics.cs_mm * 1e7 * alpha**4 / 4
    norm = aperture.square().sum().sqrt()
    waves: Tensor = torch.polar((aperture / norm).expand_as(chi), -2 * math.pi / optics.wavelength_A * chi)
    return waves


def cut_window(waves: Tensor, window_px: int) -> Tensor:
    """Twin of :func:`adaptive_core.simulation.ptychography_probe.cut_window`."""
    index = torch.fft.fftfreq(window_px, 1 / window_px, device=waves.device).round().long() % waves.shape[-1]
    real = torch.fft.ifft2(waves, norm="ortho")[..., index[:, None], index[None, :]]
    norm = real.abs().square().sum((-2, -1), keepdim=True).sqrt()
    spectrum: Tensor = torch.fft.fft2(real / norm, norm="ortho")
    return spectrum


class TorchForwardModel:
    """Waves on the detector for ``b`` data sets of ``p`` positions each.

    Args:
        waves: probes in reciprocal space, broadcast to (b, p, w, w), complex64.
        positions_px: (b, p, 2) in px of the object; differentiable but for the choice of the window.
        object_px: side n of the object.
        detector_px: side d of the detector.
        offset_px: as in the numpy model.
    """

    def __init__(self, waves: Tensor, positions_px: Tensor, object_px: int, detector_px: int, offset_px: float = 0.0):
        window = waves.shape[-1]
        if detector_px > window or window > object_px:
            raise InvalidInputError(
                f"The detector ({detector_px} px) must fit the window ({window} px), and that the object {object_px}."
            )
        self.object_px, self.detector_px, self.window_px = object_px, detector_px, window
        self._index: Tensor | None = None
        device = positions_px.device
        shifts = positions_px
        if window != object_px:
            corner = positions_px.detach().round().long() - window // 2
            shifts = positions_px - corner
            steps = torch.arange(window, device=device)
            rows = (corner[..., 0, None] + steps) % object_px
            columns = (corner[..., 1, None] + steps) % object_px
            sets = torch.arange(len(positions_px), device=device)[:, None, None, None] * object_px**2
            self._index = (sets + rows[..., :, None] * object_px + columns[..., None, :]).flatten()
        angle = -2 * math.pi * shifts[..., None] * torch.fft.fftfreq(window, device=device)
        ramps = torch.polar(torch.ones_like(angle), angle)
        probes = torch.fft.ifft2(waves * ramps[:, :, 0, :, None] * ramps[:, :, 1, None, :], norm="ortho")
        if offset_px:
            turn = -2 * math.pi * offset_px / window * torch.arange(window, device=device)
            ramp = torch.polar(torch.ones_like(turn), turn)
            probes = probes * ramp[:, None] * ramp
        self.probes = probes
        positive, negative = (detector_px + 1) // 2, detector_px // 2
        self._seen = torch.cat([torch.arange(positive), torch.arange(window - negative, window)]).to(device)

    def waves(self, transmission: Tensor) -> Tensor:
        """Waves on the detector (b, p, d, d) for objects (b, n, n)."""
        spectrum = torch.fft.fft2(self.probes * self._patches(transmission), norm="ortho")
        seen: Tensor = spectrum[..., self._seen[:, None], self._seen]
        return seen

    def patterns(self, transmission: Tensor) -> Tensor:
        """Intensities (b, p, d, d), FFT order, fractions of the beam."""
        waves = self.waves(transmission)
        return waves.real.square() + waves.imag.square()

    def adjoint(self, detector_waves: Tensor) -> Tensor:
        """Adjoint of :meth:`waves`, (b, n, n)."""
        padded = detector_waves.new_zeros(*detector_waves.shape[:2], self.window_px, self.window_px)
        padded[..., self._seen[:, None], self._seen] = detector_waves
        return self._scatter(torch.fft.ifft2(padded, norm="ortho") * self.probes.conj())

    def illumination(self) -> Tensor:
        """Sum of the probes' intensities (b, n, n)."""
        return self._scatter((self.probes.real.square() + self.probes.imag.square()).to(self.probes.dtype)).real

    def _patches(self, objects: Tensor) -> Tensor:
        if self._index is None:
            return objects[:, None]
        return objects.flatten()[self._index].view(self.probes.shape)

    def _scatter(self, patches: Tensor) -> Tensor:
        if self._index is None:
            return patches.sum(1)
        sets, n = len(patches), self.object_px
        total = torch.zeros(sets * n * n, 2, device=patches.device, dtype=patches.real.dtype)
        total = total.index_add(0, self._index, torch.view_as_real(patches).reshape(-1, 2))
        return torch.view_as_complex(total).view(sets, n, n)


def weighted_descent(
    models: list[TorchForwardModel],
    intensities: list[Tensor],
    electrons: float,
    low_pass: Tensor,
    epochs: int,
    momentum: float = 0.8,
    damping: float = 0.1,
    noise: float = 0.5,
    clip: float = 3.0,
    start: Tensor | None = None,
) -> Tensor:
    """Twin of :func:`adaptive_core.ptychography.engines.weighted_descent` for data sets side by side.

    Args:
        models: one for each batch of positions.
        intensities: (b, p, d, d) for each of them.
        electrons: a pattern.
        low_pass: mask (n, n).
        epochs: passes over all batches.
        momentum, damping, noise, clip: as in ``WeightedSettings``.
        start: potentials (b, n, n) to start from.

    Returns:
        Potentials (b, n, n), float32, differentiable by whatever the models and the intensities depend on.
    """
    n = models[0].object_px
    sets = len(intensities[0])
    potential = torch.zeros(sets, n, n, device=low_pass.device) if start is None else start
    velocity = torch.zeros_like(potential)
    preconditioners = []
    for model in models:
        illumination = model.illumination()
        preconditioners.append(0.5 / (illumination + damping * illumination.amax((-2, -1), keepdim=True)))
    for _ in range(epochs):
        for model, measured, preconditioner in zip(models, intensities, preconditioners, strict=True):
            transmission = torch.polar(torch.ones_like(potential), potential)
            waves = model.waves(transmission)
            expected = waves.real.square() + waves.imag.square()
            weight = ((expected - measured) / (expected + noise / electrons)).clamp(-clip, clip)
            gradient = (model.adjoint(waves * weight) * transmission.conj()).imag * preconditioner
            update = torch.fft.ifft2(torch.fft.fft2(gradient) * low_pass).real
            velocity = momentum * velocity + update
            potential = potential - (update + momentum * velocity)
    return potential


def gradient_descent(
    models: list[TorchForwardModel],
    intensities: list[Tensor],
    step: float | Tensor,
    iterations: int = 5,
    start: Tensor | None = None,
) -> Tensor:
    """Twin of :func:`adaptive_core.ptychography.engines.gradient_descent` for data sets side by side (ROP, Eq. 2).

    All positions count in every iteration, in whatever batches they come. ``step`` is one for all sets, or (b, 1, 1).
    Returns potentials (b, n, n), complex64.
    """
    sets, n = len(intensities[0]), models[0].object_px
    count = sum(measured.shape[1] for measured in intensities)
    potential = torch.zeros(sets, n, n, dtype=torch.complex64, device=intensities[0].device) if start is None else start
    for _ in range(iterations):
        transmission = torch.exp(1j * potential)
        gradient = torch.zeros_like(potential)
        for model, measured in zip(models, intensities, strict=True):
            waves = model.waves(transmission)
            residual = waves.real.square() + waves.imag.square() - measured
            gradient = gradient + model.adjoint(residual * waves)
        potential = potential - step * gradient * transmission.conj() * (-4j / count)
    return potential
