"""The networks of Schloz et al.: a convolutional autoencoder and the recurrent network of stacked GRUs."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from adaptive_core.errors import InvalidInputError


@dataclasses.dataclass(frozen=True)
class NetworkSize:
    """Sizes of the networks.

    Attributes:
        image_px: side of the autoencoder's input.
        channels: of the encoder's convolutions, each of which halves the side.
        hidden: of a GRU layer and of the mixing layers.
        layers: stacked GRU layers.
    """

    image_px: int
    channels: tuple[int, ...]
    hidden: int
    layers: int = 2

    def __post_init__(self) -> None:
        if self.image_px % 2 ** len(self.channels):
            raise InvalidInputError(
                f"{len(self.channels)} halvings do not divide an image of {self.image_px} px; take a multiple of "
                f"{2 ** len(self.channels)}."
            )

    @property
    def code(self) -> int:
        """Length of the compressed representation."""
        return int((self.image_px // 2 ** len(self.channels)) ** 2 * self.channels[-1])


PAPER = NetworkSize(512, (16, 32, 64, 128, 256, 512), 2048)
SMALL = NetworkSize(128, (8, 16, 32, 32), 256)
SIZES = {"paper": PAPER, "small": SMALL}


class Autoencoder(nn.Module):
    """Compresses an image of the potential (appendix A): 3 x 3 convolutions, halving, and their mirror image.

    The papers give a kernel of 3, a stride of 1 and halved sides; the halving is done by average pooling here, and
    batch normalisation makes training start at once. One channel, the phase: the intermediate reconstruction recovers
    no absorption.
    """

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.size = size
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        before = 1
        for channels in size.channels:
            down += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.AvgPool2d(2)]
            step = nn.ConvTranspose2d(channels, before, 4, stride=2, padding=1)
            up = [step, nn.BatchNorm2d(before), nn.ReLU(), *up]
            before = channels
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up[:-2])

    def encode(self, potential: Tensor) -> Tensor:
        """Code (b, K) of standardised images (b, 1, image_px, image_px)."""
        code: Tensor = self.down(potential).flatten(1)
        return code

    def forward(self, potential: Tensor) -> Tensor:
        """The image as it comes back from its code."""
        restored: Tensor = self.up(self.down(potential))
        return restored


class Encoder(nn.Module):
    """The encoding half, with the standardisation of its input, for export."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, potential: Tensor) -> Tensor:
        """Code (1, K) of a phase (1, 1, image_px, image_px) in rad."""
        return self.autoencoder.encode(standardised(potential))


def standardised(images: Tensor) -> Tensor:
    """Images (b, 1, h, w) with zero mean and unit variance each (Settings)."""
    mean, spread = images.mean((1, 2, 3), keepdim=True), images.std((1, 2, 3), keepdim=True)
    return (images - mean) / spread.clamp(min=1e-6)


class ScanPolicy(nn.Module):
    """From what was measured to the next sub-sequence (Eqs. 3-5), positions as (y, x) in [-1, 1] of the region.

    ``L = FC_R(R)``, ``C = FC_z(z)``, ``X = FC_LC([L, C])``, stacked GRUs, ``R' = FC_H(H)``.

    Args:
        size: of the networks.
        positions: of a sub-sequence.
    """

    def __init__(self, size: NetworkSize, positions: int) -> None:
        super().__init__()
        self.size, self.positions = size, positions
        hidden = size.hidden
        self.location = nn.Linear(2 * positions, hidden)
        self.structure = nn.Linear(size.code, hidden)
        self.mixed = nn.Linear(2 * hidden, hidden)
        self.cells = nn.ModuleList(nn.GRUCell(hidden, hidden) for _ in range(size.layers))
        self.head = nn.Linear(hidden, 2 * positions)

    @property
    def state_size(self) -> int:
        """Length of the recurrent state of all layers."""
        return self.size.hidden * self.size.layers

    def forward(self, code: Tensor, positions: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Next positions (b, p, 2) and state (b, S) from the code (b, K), the last positions and the state."""
        location = torch.relu(self.location(positions.flatten(1)))
        structure = torch.relu(self.structure(code))
        flow = torch.relu(self.mixed(torch.cat([location, structure], 1)))
        states = []
        for cell, before in zip(self.cells, state.chunk(len(self.cells), 1), strict=True):
            flow = cell(flow, before)
            states.append(flow)
        following = self.head(flow).view(-1, self.positions, 2)
        return following, torch.cat(states, 1)


REFERENCE_LOG_DOSE = 4.0
_REACH = 0.15
_FRAME_REACH = 0.4


class LayoutPolicy(nn.Module):
    """A learned layout of the whole scan, its defocus, and what the recurrent network changes about it.

    Each sub-sequence has a frame, its middle and the logarithms of its height and width, in which its layout lies; the
    network moves and stretches the frame, and moves each position in it. Layout and defocus depend linearly on the
    logarithm of the dose. The state is that of the recurrent network and a register that counts the sub-sequences, so
    that the first one, too, is the answer to zeros.

    Args:
        size: of the networks.
        layout: sub-sequences (t, p, 2) in [-1, 1] to start from.
        defocus_A: to start from.
    """

    def __init__(self, size: NetworkSize, layout: Tensor, defocus_A: float) -> None:
        super().__init__()
        self.layout = nn.Parameter(layout.clone())
        self.layout_by_dose = nn.Parameter(torch.zeros_like(layout))
        self.frame = nn.Parameter(torch.zeros(len(layout), 4))
        self.defocus = nn.Parameter(torch.tensor([defocus_A / 100, 0.0]))
        self.inner = ScanPolicy(size, layout.shape[1])
        self.frame_head = nn.Linear(size.hidden, 4)
        for head in (self.inner.head, self.frame_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    @property
    def positions(self) -> int:
        """Of a sub-sequence."""
        return self.inner.positions

    @property
    def state_size(self) -> int:
        """Length of the state (b, S)."""
        return self.inner.state_size + len(self.layout)

    def forward(self, code: Tensor, positions: Tensor, dose: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Next positions (b, p, 2), defocus (b, 1) in A and state (b, S).

        ``dose`` (b, 1) is the common logarithm of the planned dose in e/A^2.
        """
        memory, register = state[:, : self.inner.state_size], state[:, self.inner.state_size :]
        change, memory = self.inner(code, positions, memory)
        now = torch.cat([torch.ones_like(register[:, :1]), register[:, :-1]], 1)
        step = now - register
        # Before anything was seen there is nothing to adapt to.
        seen = 1 - step[:, :1]
        frame = seen * _FRAME_REACH * torch.tanh(self.frame_head(memory[:, -self.inner.size.hidden :]))
        following, defocus_A = self.placed(step, dose, seen[:, :, None] * _REACH * torch.tanh(change), frame)
        return following, defocus_A, torch.cat([memory, now], 1)

    def placed(
        self, step: Tensor, dose: Tensor, change: Tensor | None = None, frame: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Positions (b, p, 2) and defocus (b, 1) in A; ``step`` (b, t) is 1 at the present sub-sequence.

        Without a ``change`` (b, p, 2) of the layout and one of the ``frame`` (b, 4) nothing is adapted.
        """
        relative = dose - REFERENCE_LOG_DOSE
        flat = step @ self.layout.flatten(1) + relative * (step @ self.layout_by_dose.flatten(1))
        layout = flat.view(len(step), self.positions, 2)
        own = step @ self.frame
        if change is not None:
            layout = layout + change
        if frame is not None:
            own = own + frame
        middle, stretch = own[:, None, :2], torch.exp(own[:, None, 2:])
        defocus_A = 100 * (self.defocus[0] + self.defocus[1] * relative)
        return (middle + stretch * layout).clamp(-1, 1), defocus_A
