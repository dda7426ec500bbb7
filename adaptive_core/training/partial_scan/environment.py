"""The world of a policy that walks: differentiable rollouts along connected segments.

The rules are those of the scan loop: the first segment starts at the centre, each starts one probe spacing beyond the
end of the last, and a component of a direction that would leave the region is reflected.
"""

from __future__ import annotations

import dataclasses

import torch

from adaptive_core.scan_path import Size
from adaptive_core.training.partial_scan.paths import PROBE_SPACING_PX, PROBES_PER_SEGMENT, SEGMENT_PX
from adaptive_core.training.partial_scan.policy_network import RecurrentPolicy
from adaptive_core.training.partial_scan.scans import sample, sample_nearest, splat


@dataclasses.dataclass
class Rollout:
    """Walks over a batch of truths (B, H, W).

    Attributes:
        positions: (B, N, 2) px, differentiable in the policy's directions.
        values: (B, N) measured values in units of the truth.
        ends: (B, T + 1, 2) px, the centre and the end of each segment.
        directions: (B, T, 2) unit vectors that were carried out, before reflection.
    """

    positions: torch.Tensor
    values: torch.Tensor
    ends: torch.Tensor
    directions: torch.Tensor

    def standardisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation (B, 1) of all measured values."""
        return standardisation(self.values)

    def partial(self, size_px: Size) -> torch.Tensor:
        """The generator's input (B, 2, H, W), differentiable in the positions."""
        mean, sd = self.standardisation()
        return splat((self.values - mean) / sd, self.positions, size_px)


def standardisation(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (B, 1) of measured values (B, N), with the scan loop's rule for constants."""
    mean = values.mean(dim=1, keepdim=True)
    variance = (values - mean).square().mean(dim=1, keepdim=True)
    varies = variance > (1e-6 * mean.abs()) ** 2 + 1e-12
    sd = torch.where(varies, variance.clamp(min=1e-12).sqrt(), mean.abs().clamp(min=1.0))
    return mean, sd


def reflected(start: torch.Tensor, direction: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Directions (B, 2) with each component flipped that would leave the region of ``size`` (2,) px."""
    end = start + direction * SEGMENT_PX
    return torch.where((end < 0) | (end > size), -direction, direction)


def unit(direction: torch.Tensor) -> torch.Tensor:
    """Directions (B, 2) of length 1."""
    return direction / direction.square().sum(dim=-1, keepdim=True).clamp(min=1e-12).sqrt()


def turned(direction: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Directions (B, 2) rotated by angles (B,) in rad (Ede 2021, Eq. 2)."""
    cos, sin = angle.cos(), angle.sin()
    y, x = direction.unbind(dim=-1)
    return torch.stack([cos * y + sin * x, cos * x - sin * y], dim=-1)


def rollout(
    policy: RecurrentPolicy,
    truths: torch.Tensor,
    segments: int,
    noise_rad: float = 0.0,
    dose: torch.Tensor | None = None,
    nearest: bool = False,
) -> Rollout:
    """Walk over truths, shape (B, H, W) in [-1, 1].

    Args:
        policy: decides each direction from the values of the segment before.
        segments: number T of segments.
        noise_rad: scale of the Ornstein-Uhlenbeck exploration that turns directions (Ede 2021, Eqs. 2-3).
        dose: electrons a probe, (B, 1), for shot noise; None for none.
        nearest: measure pixels as a scan does, instead of interpolating, for a score.
    """
    batch, height, width = truths.shape
    size = torch.tensor([height, width], dtype=torch.float32)
    offsets = torch.arange(1, PROBES_PER_SEGMENT + 1)[:, None] * PROBE_SPACING_PX
    position = (size / 2).expand(batch, 2)
    state = torch.zeros(batch, policy.state_size)
    observed = torch.zeros(batch, PROBES_PER_SEGMENT)
    angle = torch.zeros(batch)
    ends, paths, values, directions = [position], [], [], []
    for step in range(segments):
        remaining = torch.full((batch, 1), 1 - step / segments)
        # No gradient flows into what the policy sees, as in the paper: it would pass through every step of the walk.
        out, state = policy(observed.detach(), position.detach() / size * 2 - 1, remaining, state)
        direction = unit(out)
        if noise_rad:
            angle = 0.9 * angle + noise_rad * torch.randn(batch)
            direction = turned(direction, angle)
        directions.append(direction)
        path = position[:, None] + offsets * reflected(position, direction, size)[:, None]
        measured = sample_nearest(truths, path) if nearest else sample(truths, path)
        if dose is not None:
            measured = measured + _shot_noise(measured.detach(), dose)
        paths.append(path)
        values.append(measured)
        position = path[:, -1]
        ends.append(position)
        mean, sd = standardisation(torch.cat(values, 1))
        observed = (measured - mean) / sd
    return Rollout(torch.cat(paths, 1), torch.cat(values, 1), *(torch.stack(rows, 1) for rows in (ends, directions)))


def _shot_noise(values: torch.Tensor, dose: torch.Tensor) -> torch.Tensor:
    """Deviations of values in [-1, 1] counted with ``dose`` electrons at 1, as :func:`scans.measure` counts them."""
    expected = dose * (0.1 + 0.45 * (values + 1)).clamp(min=0)
    return (torch.poisson(expected) - expected) / dose / 0.45
