"""The network that completes partial scans; its inputs and outputs are those of the model format."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

SIZE_MULTIPLE = 16
STEM_CHANNELS = 20  # partial scan (2), fill and bending at 4 pixels each, and 4 figures of the whole scan
_LOG_VARIANCE_RANGE = (-11.0, 4.0)


class MultigridFill(nn.Module):
    """Fill a partial scan by averaging measured pixels down a pyramid and interpolating smoothly back up.

    On the way up each level is relaxed towards the solution of the biharmonic equation that passes through its measured
    pixels, by Chebyshev's semi-iteration (Golub and Van Loan, Matrix Computations, section 11.2.8), so the result is
    close to that of a thin-plate spline at a small part of its cost. It has no parameters; the network only has to
    improve on it. Smooth weights in place of a mask make it differentiable in where they are.
    """

    relaxations = (8, 8, 16, 16)  # from the coarsest level to the finest
    smallest_eigenvalue = 0.01  # of the equation on a gap between measured pixels; wider gaps are for coarser levels

    kernel: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        blur = (row[:, None] * row[None])[None, None]
        twice = functional.conv2d(functional.pad(blur, (2, 2, 2, 2)), blur)
        # -(1 - blur)^2, a negative biharmonic operator with eigenvalues between -1 and 0.
        residual = 2 * functional.pad(blur, (1, 1, 1, 1)) - twice
        residual[0, 0, 2, 2] -= 1
        self.register_buffer("kernel", residual, persistent=False)

    def forward(self, partial: torch.Tensor) -> torch.Tensor:
        """Map (B, 2, H, W) to the filled image (B, 1, H, W)."""
        with torch.autocast(partial.device.type, enabled=False):
            pyramid = [partial]
            for _ in self.relaxations:
                # Sums, saturated: a coarse pixel counts as known as soon as one fine pixel in it is.
                coarse = functional.avg_pool2d(pyramid[-1], 2) * 4
                pyramid.append(coarse / coarse[:, 1:].clamp(min=1.0))
            # Beyond the coarsest level, a wide average; where there is nothing the measured mean, 0, stays.
            coarse = pyramid[-1]
            wide = functional.avg_pool2d(functional.avg_pool2d(coarse, 5, 1, 2), 5, 1, 2)
            filled = coarse[:, :1] + (1 - coarse[:, 1:]) * wide[:, :1] / (wide[:, 1:] + 1e-2)
            for level, steps in zip(pyramid[-2::-1], self.relaxations, strict=True):
                known, free = level[:, :1], 1 - level[:, 1:]
                raised = functional.interpolate(filled, scale_factor=2.0, mode="bilinear", align_corners=False)
                filled = self._relax(known + free * raised, free, steps)
        return filled

    def bending(self, filled: torch.Tensor) -> torch.Tensor:
        """Minus the biharmonic operator of an image (B, 1, H, W): how sharply each pixel bends what surrounds it.

        At a measured pixel it says how badly the others would have predicted it.
        """
        return functional.conv2d(functional.pad(filled, (2, 2, 2, 2), mode="replicate"), self.kernel)

    def _relax(self, filled: torch.Tensor, free: torch.Tensor, steps: int) -> torch.Tensor:
        centre, radius = (1 + self.smallest_eigenvalue) / 2, (1 - self.smallest_eigenvalue) / 2
        change, before, ratio = torch.zeros_like(filled), 0.0, radius / centre
        for step in range(steps):
            gain = 1 / centre if step == 0 else 2 * ratio / radius
            change = ratio * before * change + gain * free * self.bending(filled)
            filled = filled + change
            before, ratio = ratio, 1 / (2 * centre / radius - ratio)
        return filled


class SpectralGate(nn.Module):
    """Keeps what repeats: channels are mixed and gated in Fourier space, so that a lattice carries across a gap.

    The Fourier transform is written as products with cosine and sine matrices because ONNX runtimes have no fast 2D
    transform of any size. Gates see the logarithm of the magnitude relative to its mean, which makes them independent
    of the size of the image. After the fast Fourier convolutions of Chi et al. (NeurIPS 2020).
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.inner = inner
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.mix = nn.Conv2d(2 * inner, 2 * inner, 1, bias=False)
        self.gate = nn.Conv2d(inner, inner, 1)
        self.expand = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)  # type: ignore[arg-type]

    @staticmethod
    def _angles(rows: torch.Tensor, columns: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        # The product is reduced modulo the length first: float32 angles of large products would be inexact.
        product = rows[:, None] * columns[None]
        return 2 * math.pi / length * (product - torch.floor(product / length) * length)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to a correction of the same shape."""
        reduced = self.reduce(x)
        height, width = x.shape[2], x.shape[3]
        with torch.autocast(x.device.type, enabled=False):
            reduced = reduced.float()
            rows = torch.arange(height, device=x.device).float()
            columns = torch.arange(width, device=x.device).float()
            half = torch.arange(width // 2 + 1, device=x.device).float()
            n_rows, n_columns = rows.new_ones(()) * height, rows.new_ones(()) * width
            across = self._angles(columns, half, n_columns)
            down = self._angles(rows, rows, n_rows)
            cos_down, sin_down = torch.cos(down), torch.sin(down)
            cos_across, sin_across = torch.cos(across), torch.sin(across)
            scale = torch.rsqrt(n_rows * n_columns)
            real, imaginary = reduced @ cos_across, -(reduced @ sin_across)
            real, imaginary = cos_down @ real + sin_down @ imaginary, cos_down @ imaginary - sin_down @ real
            spectrum = self.mix(torch.cat([real, imaginary], 1) * scale)
            real, imaginary = spectrum[:, : self.inner], spectrum[:, self.inner :]
            magnitude = torch.log(real * real + imaginary * imaginary + 1e-6)
            gate = torch.sigmoid(self.gate(magnitude - magnitude.mean(dim=(2, 3), keepdim=True)))
            real, imaginary = real * gate, imaginary * gate
            real, imaginary = cos_down @ real - sin_down @ imaginary, cos_down @ imaginary + sin_down @ real
            # The frequencies that the half spectrum leaves out are conjugates: all but the first and last count twice.
            twice = torch.where((half > 0) & (half * 2 < n_columns), 2.0, 1.0)
            back = real @ (twice[:, None] * cos_across.T) - imaginary @ (twice[:, None] * sin_across.T)
            filtered = back * scale
        correction: torch.Tensor = self.expand(filtered)
        return correction


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and, on request, a spectral gate, added to the input; nothing depends on the size."""

    def __init__(self, channels: int, spectral: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.spectral = SpectralGate(channels, spectral) if spectral else None
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        y: torch.Tensor = x + self.second(functional.relu(self.first(x)))
        return y if self.spectral is None else y + self.spectral(x)


class Generator(nn.Module):
    """Completes a partial scan and predicts the logarithm of its squared error.

    A U-Net on a smooth interpolation at half resolution (targets are smooth), with spectral gates at its coarser
    levels. It is told how well measured pixels agree with each other, pixel by pixel and on the whole, from which it
    can tell noise from structure. Everything is in standardised units; inputs and outputs are those of the model kind
    partial_scan_generator.
    """

    def __init__(
        self, channels: tuple[int, int, int] = (32, 64, 128), blocks: tuple[int, int, int] = (2, 2, 3)
    ) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.fill = MultigridFill()
        self.stem = nn.Conv2d(STEM_CHANNELS, fine, 3, padding=1)
        self.encode_fine = nn.Sequential(*(ResidualBlock(fine) for _ in range(blocks[0])))
        self.to_middle = nn.Conv2d(fine, middle, 2, stride=2)
        self.encode_middle = self._blocks(middle, blocks[1], middle // 2)
        self.to_coarse = nn.Conv2d(middle, coarse, 2, stride=2)
        self.centre = self._blocks(coarse, blocks[2], coarse // 4)
        self.from_coarse = nn.Conv2d(coarse, 4 * middle, 1)
        self.decode_middle = self._blocks(middle, blocks[1], middle // 2)
        self.from_middle = nn.Conv2d(middle, 4 * fine, 1)
        self.decode_fine = nn.Sequential(*(ResidualBlock(fine) for _ in range(blocks[0])))
        self.head = nn.Conv2d(fine, 8, 3, padding=1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)

    @staticmethod
    def _blocks(channels: int, count: int, spectral: int) -> nn.Sequential:
        return nn.Sequential(*(ResidualBlock(channels, spectral if i == 0 else 0) for i in range(count)))

    @staticmethod
    def _agreement(bending: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Figures (B, 4, 1, 1) of scans: logarithms of three means of the bending, and of the coverage.

        Noise bends all measured pixels alike, and structure only some: the means differ then.
        """
        with torch.autocast(bending.device.type, enabled=False):
            measured = mask.sum(dim=(2, 3), keepdim=True).clamp(min=1.0)
            size = bending.abs()
            root = size.square().sum(dim=(2, 3), keepdim=True) / measured
            mean = size.sum(dim=(2, 3), keepdim=True) / measured
            logarithm = (mask * torch.log(size + 1e-4)).sum(dim=(2, 3), keepdim=True) / measured
            coverage = mask.mean(dim=(2, 3), keepdim=True)
            logarithms = [0.5 * torch.log(root + 1e-8), torch.log(mean + 1e-4), logarithm, torch.log(coverage + 1e-4)]
            return torch.cat(logarithms, 1) / 4

    def forward(self, partial: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map partial scans (B, 2, H, W), H and W multiples of 16, to images and log variances (B, 1, H, W)."""
        filled = self.fill(partial)
        bending = self.fill.bending(filled.float()) * partial[:, 1:]
        maps = functional.pixel_unshuffle(torch.cat([partial, filled, bending], 1), 2)
        figures = self._agreement(bending, partial[:, 1:]).expand(-1, -1, maps.shape[2], maps.shape[3])
        fine = self.encode_fine(self.stem(torch.cat([maps, figures], 1)))
        middle = self.encode_middle(self.to_middle(fine))
        coarse = self.centre(self.to_coarse(middle))
        middle = self.decode_middle(middle + functional.pixel_shuffle(self.from_coarse(coarse), 2))
        fine = self.decode_fine(fine + functional.pixel_shuffle(self.from_middle(middle), 2))
        out = functional.pixel_shuffle(self.head(fine), 2).float()
        return filled + out[:, :1], out[:, 1:].clamp(*_LOG_VARIANCE_RANGE)
