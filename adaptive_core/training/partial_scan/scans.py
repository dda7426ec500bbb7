"""From a truth and probe positions to what a model sees: measured values, standardised, on the pixels of the region.

The one thing that a model knows of the intensities is what was measured, so values are standardised with the mean and
the standard deviation of the *measured* values; the scan loop's own accumulator does it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.truths import shot_noise
from adaptive_core.scan_path import Positions, Size, rasterize
from adaptive_core.simulation.scan_errors import ScanErrors

FloatArray = npt.NDArray[np.float64]
FloatImage = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class PartialScan:
    """A partial scan as a generator sees it.

    Attributes:
        partial: shape (2, height, width), float32: standardised mean value of each measured pixel, and 1 there.
        mean, sd: of the measured values, in the units of the truth; ``image * sd + mean`` undoes the standardisation.
    """

    partial: FloatImage
    mean: float
    sd: float


def measure(truth: FloatImage, positions: FloatArray, dose: float | None, rng: np.random.Generator) -> FloatArray:
    """Values at the positions, shape (n,), in the units of ``truth``, which is in [-1, 1].

    Args:
        dose: electrons that a probe detects where the truth is 1; None for no noise.
    """
    values = truth[rasterize(positions, (truth.shape[0], truth.shape[1]))].astype(np.float64)
    return values if dose is None else shot_noise(values, dose, rng)


def misplaced(positions: FloatArray, size_px: Size, rng: np.random.Generator) -> FloatArray:
    """Where the beam goes when the scan is imperfect and is asked for ``positions``, shape (n, 2) px.

    Shear, radial distortion and drift (:class:`~adaptive_core.simulation.scan_errors.ScanErrors`, a pixel standing for
    a nanometre), and a displacement of each probe and of each run of 20 probes; all of random strength.
    """
    half = np.asarray(size_px, dtype=np.float64) / 2
    errors = ScanErrors(
        shear=rng.uniform(-0.03, 0.03),
        radial_distortion=rng.uniform(-0.03, 0.03),
        distortion_radius_nm=float(half.max()),
        drift_nm_per_s=(rng.normal(), rng.normal()),
    )
    second_us = np.linspace(0, 1e6, len(positions))
    runs = rng.normal(0, 10 ** rng.uniform(-1, 0), (-(-len(positions) // 20), 2)).repeat(20, axis=0)[: len(positions)]
    probes = rng.normal(0, 10 ** rng.uniform(-1, 0.2), positions.shape)
    return errors.distort(positions - half) + half - errors.drift(second_us) + runs + probes


def partial_scan(values: FloatArray, positions: FloatArray, size_px: Size) -> PartialScan:
    """Measured values, shape (n,), as the scan loop gives them to a model: by the loop's own accumulator."""
    scan = PartialImage(size_px)
    scan.add(Positions(positions), np.asarray(values, dtype=np.float32)[None])
    return PartialScan(scan.model_input()[0], *scan.scale())


def sample(images: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Values of images, shape (B, H, W), at positions, shape (B, N, 2) ``(y, x)`` px, bilinearly; shape (B, N).

    Pixel centres are at half-integers; beyond the outermost ones the value of the nearest edge counts.
    """
    height, width = images.shape[1:]
    scale = torch.tensor([2.0 / height, 2.0 / width], dtype=positions.dtype, device=positions.device)
    where = (positions * scale - 1.0).flip(-1)[:, None]
    values = torch.nn.functional.grid_sample(
        images[:, None], where, mode="bilinear", padding_mode="border", align_corners=False
    )
    return values[:, 0, 0]


def sample_nearest(images: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """As :func:`sample`, with the value of the pixel that holds the position: what a scan measures."""
    height, width = images.shape[1:]
    rows = positions[..., 0].floor().long().clamp(0, height - 1)
    columns = positions[..., 1].floor().long().clamp(0, width - 1)
    return images.flatten(1).gather(1, rows * width + columns)


def splat(values: torch.Tensor, positions: torch.Tensor, size_px: Size, nearest: bool = False) -> torch.Tensor:
    """Partial scans, shape (B, 2, H, W), from values, shape (B, N), at positions, shape (B, N, 2) px.

    A value is shared among the four nearest pixels by bilinear weights, which makes the result differentiable in the
    positions; the second channel is the sum of a pixel's weights, at most 1, and the first the weighted mean value
    times that. At pixel centres, and with ``nearest``, it equals :func:`partial_scan`.
    """
    height, width = size_px
    batch = len(values)
    centred = positions - 0.5
    corner = positions.floor() if nearest else centred.detach().floor()
    fraction = centred - corner
    weights: list[torch.Tensor] = []
    indices: list[torch.Tensor] = []
    for dy, dx in ((0, 0),) if nearest else ((0, 0), (0, 1), (1, 0), (1, 1)):
        y, x = corner[..., 0] + dy, corner[..., 1] + dx
        # Weight beyond the region goes to the nearest edge pixel, which is the one that the product samples there.
        indices.append(y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long())
        if nearest:
            weights.append(torch.ones_like(y))
        else:
            along_y = fraction[..., 0] if dy else 1 - fraction[..., 0]
            along_x = fraction[..., 1] if dx else 1 - fraction[..., 1]
            weights.append(along_y * along_x)
    index, weight = torch.cat(indices, 1), torch.cat(weights, 1)
    repeated = values.repeat(1, len(weights))
    empty = torch.zeros(batch, height * width, dtype=values.dtype, device=values.device)
    total = empty.scatter_add(1, index, weight)
    mean = empty.scatter_add(1, index, weight * repeated) / total.clamp(min=1e-6)
    mask = total.clamp(max=1.0)
    return torch.stack([mean * mask, mask], dim=1).view(batch, 2, height, width)
