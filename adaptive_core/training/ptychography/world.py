"""Simulated regions by the batch: measured and reconstructed with the torch twins, for training on any device.

Everything happens in the small real-space window of the binned detector, so that an episode of 250 patterns costs
milliseconds; the final comparison is left to the benchmark, which uses the whole window and the numpy engines.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from adaptive_core.ptychography.experiments import Experiment
from adaptive_core.ptychography.object_grid import ObjectGrid, limited, low_pass, object_grid
from adaptive_core.simulation import ptychography_specimens
from adaptive_core.simulation.ptychography_detector import binned
from adaptive_core.training.ptychography.torch_model import (
    TorchForwardModel,
    cut_window,
    gradient_descent,
    probe_waves,
    weighted_descent,
)

VALIDATION_SEED = 800_000
"""Regions of the validation have seeds from here on; training keeps below, tuning and benchmarks begin above."""

STABLE = 5.0
"""Largest product of the gradient descent's relative step and the largest illumination, over its mean in the object.

Tried at 0.05 to 0.6 on positions between the sparse grid, where the papers' step makes 1.8, and the atoms, where it
makes 18: no descent diverged up to 6.2, and each did from 7.9 on.
"""
_MARGIN = 5


def generator_at(seed: int, iteration: int, device: str = "cpu") -> torch.Generator:
    """Random numbers of an iteration, the same whether the run was interrupted before it or not."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + iteration)


@dataclasses.dataclass(frozen=True, eq=False)
class Patterns:
    """Measured sub-sequences of a batch of regions, of each: model, intensities (b, p, d, d), positions, defocus."""

    models: tuple[TorchForwardModel, ...] = ()
    intensities: tuple[Tensor, ...] = ()
    positions: tuple[Tensor, ...] = ()
    defocus_A: tuple[Tensor, ...] = ()

    def with_more(
        self, model: TorchForwardModel, intensities: Tensor, positions: Tensor, defocus_A: Tensor
    ) -> Patterns:
        """These and one more sub-sequence."""
        return Patterns(
            (*self.models, model),
            (*self.intensities, intensities),
            (*self.positions, positions),
            (*self.defocus_A, defocus_A),
        )


class World:
    """A pool of regions of one experiment.

    Args:
        settings: the experiment.
        seeds: of the regions.
        electrons: a pattern.
        binning: of the detector; the window shrinks with it.
        device: where everything lives.
    """

    def __init__(
        self, settings: Experiment, seeds: range, electrons: float, binning: int = 3, device: str = "cpu"
    ) -> None:
        self.settings, self.electrons, self.device = settings, electrons, torch.device(device)
        calibration = settings.calibration()
        window = object_grid(calibration).window_px
        self.grid: ObjectGrid = object_grid(calibration, window + -window % binning)
        self._binning = binning
        n = self.grid.shape[0]
        example = np.zeros((1, settings.detector_px, settings.detector_px), np.float32)
        shape, self._offset = binned(example, binning)
        self._detector = shape.shape[-1]
        self._window = self.grid.window_px // binning
        self._low_pass = torch.from_numpy(low_pass(calibration, self.grid)).to(self.device)
        sigma = np.float32(settings.optics.interaction_rad_per_VA)
        potentials, visible = [], []
        for seed in seeds:
            atoms = ptychography_specimens.BUILDERS[settings.specimen](seed, cell_A=settings.cell_A)
            potential = ptychography_specimens.projected_potential(atoms, n) * sigma
            potentials.append(torch.from_numpy(potential))
            visible.append(torch.from_numpy(limited(potential, calibration, settings.cell_A)))
        self._potentials = torch.stack(potentials).to(self.device)
        self._visible = torch.stack(visible).to(self.device)

    def __len__(self) -> int:
        return len(self._potentials)

    def region(self, chosen: Tensor) -> Tensor:
        """Potentials (b, n, n) of the chosen regions (b,)."""
        return self._potentials[chosen]

    def truth(self, chosen: Tensor) -> Tensor:
        """The same with the detail that an image can show."""
        return self._visible[chosen]

    def measure(
        self, potentials: Tensor, positions: Tensor, defocus_A: Tensor, generator: torch.Generator | None
    ) -> tuple[TorchForwardModel, Tensor, Tensor, Tensor]:
        """A sub-sequence at positions (b, p, 2) in [-1, 1], all at one defocus (scalar), as :class:`Patterns` take it.

        Gradients pass the counting as if its noise were added; without a generator there is none.
        """
        model = self._model(positions, defocus_A)
        exact = model.patterns(torch.polar(torch.ones_like(potentials), potentials))
        if generator is not None:
            counts = torch.poisson(exact.detach() * self.electrons, generator)
            exact = exact + (counts / self.electrons - exact.detach())
        return model, exact, positions, defocus_A

    def _model(self, positions: Tensor, defocus_A: Tensor) -> TorchForwardModel:
        settings = self.settings
        waves = probe_waves(settings.optics, self.grid.window_px, settings.cell_A, defocus_A)
        waves = cut_window(waves, self._window)
        origin = torch.tensor(self.grid.origin_A, device=self.device)
        positions_px = ((positions + 1) / 2 * settings.fov_A + origin) / self.grid.pixel_A
        return TorchForwardModel(waves, positions_px, self.grid.shape[0], self._detector, self._offset)

    def dealt(self, patterns: Patterns, batches: int, generator: torch.Generator) -> Patterns:
        """The same patterns, all taken at the last one's defocus, dealt at random as if they came in so many parts."""
        positions, intensities = torch.cat(patterns.positions, 1), torch.cat(patterns.intensities, 1)
        order = torch.randperm(positions.shape[1], generator=generator, device=self.device)
        new = Patterns()
        for chosen in torch.tensor_split(order, batches):
            model = self._model(positions[:, chosen], patterns.defocus_A[-1])
            new = new.with_more(model, intensities[:, chosen], positions[:, chosen], patterns.defocus_A[-1])
        return new

    def reconstruct(self, patterns: Patterns, epochs: int, start: Tensor | None = None) -> Tensor:
        """Potentials (b, n, n) from all sub-sequences, each of them a batch of the descent."""
        return weighted_descent(
            list(patterns.models),
            list(patterns.intensities),
            self.electrons / self._binning**2,
            self._low_pass,
            epochs,
            start=start,
        )

    def rop(self, patterns: Patterns, step: float, iterations: int = 5) -> Tensor:
        """Phases (b, n, n) by the papers' gradient descent from all sub-sequences; ``step`` is the relative one.

        Where probes crowd, the step is as much shorter as keeps the descent from diverging (:data:`STABLE`).
        """
        waves = probe_waves(
            self.settings.optics, self.grid.window_px, self.settings.cell_A, torch.zeros((), device=self.device)
        )
        brightest = float(cut_window(waves, self._window).abs().square().max())
        pixels, count = self.grid.shape[0] * self.grid.shape[1], sum(p.shape[1] for p in patterns.positions)
        illumination = sum(model.illumination() for model in patterns.models)
        crowding = torch.as_tensor(illumination).amax((1, 2), keepdim=True) * pixels / count
        absolute = (STABLE / crowding).clamp(max=step) * pixels / (4 * brightest)
        return gradient_descent(list(patterns.models), list(patterns.intensities), absolute, iterations).real

    def images(self, potentials: Tensor, pixels: int) -> Tensor:
        """The regions of potentials (b, n, n), interpolated, shape (b, 1, pixels, pixels)."""
        waves = []
        for n, origin in zip(self.grid.shape, self.grid.origin_A, strict=True):
            step = self.settings.fov_A / pixels
            places = (origin + (torch.arange(pixels, device=self.device) + 0.5) * step) / self.grid.pixel_A
            angle = 2 * torch.pi * places[:, None] * torch.fft.fftfreq(n, device=self.device)
            waves.append(torch.polar(torch.ones_like(angle), angle))
        spectrum = torch.fft.fft2(potentials) / potentials[0].numel()
        sampled: Tensor = (waves[0] @ spectrum @ waves[1].T).real[:, None]
        return sampled


def similarity(images: Tensor, references: Tensor) -> Tensor:
    """Differentiable twin of :func:`adaptive_core.ptychography.metrics.phase_ssim` for (b, 1, h, w); shape (b,)."""
    return similarity_map(images, references)[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN].mean((1, 2, 3))


def similarity_map(images: Tensor, references: Tensor, sigma_px: float = 1.5) -> Tensor:
    """Local SSIM, of the same shape (b, 1, h, w); its outermost 5 px repeat what is nearest inside them."""
    steps = torch.arange(-_MARGIN, _MARGIN + 1, device=images.device)
    window = torch.exp(-(steps**2) / (2 * sigma_px**2))
    kernel = (torch.outer(window, window) / window.sum() ** 2)[None, None]

    def local(values: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(values, kernel)

    x = images - images.mean((1, 2, 3), keepdim=True)
    y = references - references.mean((1, 2, 3), keepdim=True)
    span = y.amax((1, 2, 3), keepdim=True) - y.amin((1, 2, 3), keepdim=True)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mean_x, mean_y = local(x), local(y)
    variance_x, variance_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    inside = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return torch.nn.functional.pad(inside, (_MARGIN,) * 4, mode="replicate")
