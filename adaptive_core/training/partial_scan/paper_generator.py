"""The paper's generator, its losses and its learning rate (Ede 2021, sections 2.3, S1 and S2)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

SIZE_MULTIPLE = 4
LOSSES = ("mse", "sobel", "maximum-region")
_REGION_PX = 5


def _layer(inputs: int, outputs: int, stride: int = 1, transposed: bool = False) -> nn.Sequential:
    """A 3x3 convolution with ReLU and then batch normalisation; Xavier weights, zero biases."""
    convolution: nn.Conv2d | nn.ConvTranspose2d
    if transposed:
        convolution = nn.ConvTranspose2d(inputs, outputs, 3, stride, padding=1, output_padding=stride - 1)
    else:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
    return nn.Sequential(_xavier(convolution), nn.ReLU(), nn.BatchNorm2d(outputs))


def _xavier(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Conv2d | nn.ConvTranspose2d:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class _SkipThree(nn.Module):
    """Three convolutions; the skip is added between the last activation and its batch normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_layer(channels, channels), _layer(channels, channels))
        self.last = _xavier(nn.Conv2d(channels, channels, 3, padding=1))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(x + functional.relu(self.last(self.body(x))))
        return y


class PaperGenerator(nn.Module):
    """Completes partial scans by a residual network (Ede 2021, fig. S1b). It does not predict its error."""

    def __init__(self, channels: tuple[int, int, int] = (32, 64, 128), blocks: int = 5) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.layers = nn.Sequential(
            _layer(2, fine),
            _layer(fine, middle, stride=2),
            _layer(middle, coarse, stride=2),
            *(_SkipThree(coarse) for _ in range(blocks)),
            _layer(coarse, middle, stride=2, transposed=True),
            _layer(middle, fine, stride=2, transposed=True),
            _layer(fine, fine),
            _xavier(nn.Conv2d(fine, 1, 3, padding=1, bias=False)),
        )

    def forward(self, partial: torch.Tensor) -> tuple[torch.Tensor]:
        """Map partial scans (B, 2, H, W), H and W multiples of 4, to images (B, 1, H, W), standardised."""
        return (self.layers(partial).float(),)


def completion_loss(completed: torch.Tensor, truths: torch.Tensor, name: str = "mse") -> torch.Tensor:
    """Loss (B,) of completions (B, H, W) of truths (B, H, W) in [-1, 1], at most 4 as by Eq. 13.

    "mse" is the mean squared error, "sobel" adds that of the Sobel derivatives (Eq. 23), and "maximum-region" takes the
    largest mean over a region of 5 x 5 px (section S2).
    """
    squared = (completed - truths).square()
    if name == "maximum-region":
        loss = functional.avg_pool2d(squared[:, None], _REGION_PX, 1).amax(dim=(1, 2, 3))
    else:
        loss = squared.mean(dim=(1, 2))
    # Clipped before the derivatives are added: 4 is the largest mean squared error of intensities in [-1, 1].
    loss = loss.clamp(max=4.0)
    if name == "sobel":
        loss = loss + sobel(completed - truths).square().sum(dim=1).mean(dim=(1, 2))
    return loss


def sobel(images: torch.Tensor) -> torch.Tensor:
    """Vertical and horizontal Sobel derivatives (B, 2, H, W) of images (B, H, W), edges reflected."""
    along = torch.tensor([[-1.0, -2.0, -1.0], [0.0, 0.0, 0.0], [1.0, 2.0, 1.0]], device=images.device)
    kernels = torch.stack([along, along.T])[:, None]
    return functional.conv2d(functional.pad(images[:, None], (1, 1, 1, 1), mode="reflect"), kernels)


def decayed_rate(progress: float, cyclic: bool) -> float:
    """Factor of the generator's learning rate at ``progress`` m/M from 0 to 1 (Eq. 12).

    An exponential decay to (3/4)^5, with ``cyclic`` times nine triangles between 1 and 1/5.
    """
    decay = math.exp(5 * progress * math.log(0.75))
    if not cyclic:
        return decay
    phase = (9 * progress) % 1.0
    return decay * (0.2 + 0.8 * abs(1 - 2 * phase))
