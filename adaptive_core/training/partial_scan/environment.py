"""The world of a policy that walks: differentiable rollouts along connected segments.

The rules are those of the scan loop: the first segment starts at the centre, each starts one probe spacing beyond the
end of the last, and a component of a direction that would leave the region is reflected.
"""

from __future__ import annotations

import dataclasses
import typing

import torch

from adaptive_core.scan_path import Size
from adaptive_core.training.partial_scan.paths import PROBE_SPACING_PX, PROBES_PER_SEGMENT, SEGMENT_PX
from adaptive_core.training.partial_scan.scans import sample, sample_nearest, splat


@dataclasses.dataclass
class Rollout:
    """Walks over a batch of truths (B, H, W).

    Attributes:
        positions: (B, N, 2) px, differentiable in the policy's directions.
        values: (B, N) measured values in units of the truth.
        ends: (B, T + 1, 2) px, the centre and the end of each segment.
        directions: (B, T, 2) unit vectors that were carried out, before reflection.
        observed: (B, T, P) values that the policy saw before each step, standardised.
        over_edge: (B, T) whether a direction would have left the region.
    """

    positions: torch.Tensor
    values: torch.Tensor
    ends: torch.Tensor
    directions: torch.Tensor
    observed: torch.Tensor
    over_edge: torch.Tensor


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


class Walker(typing.Protocol):
    """A policy that turns by what it sees along its last segment."""

    @property
    def state_size(self) -> int:
        """Length S of the recurrent state."""
        ...

    def __call__(
        self, values: torch.Tensor, position: torch.Tensor, remaining: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, P), (B, 2), (B, 1) and (B, S) to the direction (B, 2), of any length, and the next state (B, S)."""
        ...


def rollout(
    policy: Walker,
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
    device = truths.device
    size = torch.tensor([height, width], dtype=torch.float32, device=device)
    offsets = torch.arange(1, PROBES_PER_SEGMENT + 1, device=device)[:, None] * PROBE_SPACING_PX
    position = (size / 2).expand(batch, 2)
    state = torch.zeros(batch, policy.state_size, device=device)
    seen = torch.zeros(batch, PROBES_PER_SEGMENT, device=device)
    angle = torch.zeros(batch, device=device)
    ends, paths, values, directions, observed, over_edge = [position], [], [], [], [], []
    for step in range(segments):
        remaining = torch.full((batch, 1), 1 - step / segments, device=device)
        observed.append(seen)
        # No gradient flows into what the policy sees, as in the paper: it would pass through every step of the walk.
        out, state = policy(seen.detach(), position.detach() / size * 2 - 1, remaining, state)
        direction = unit(out)
        if noise_rad:
            angle = 0.9 * angle + noise_rad * torch.randn(batch, device=device)
            direction = turned(direction, angle)
        directions.append(direction)
        inside = reflected(position, direction, size)
        over_edge.append((inside != direction).any(dim=1))
        path = position[:, None] + offsets * inside[:, None]
        measured = sample_nearest(truths, path) if nearest else sample(truths, path)
        if dose is not None:
            measured = measured + _shot_noise(measured.detach(), dose)
        paths.append(path)
        values.append(measured)
        position = path[:, -1]
        ends.append(position)
        mean, sd = standardisation(torch.cat(values, 1))
        seen = (measured - mean) / sd
    by_step = (torch.stack(rows, 1) for rows in (ends, directions, observed, over_edge))
    return Rollout(torch.cat(paths, 1), torch.cat(values, 1), *by_step)


def walked(truths: torch.Tensor, path: torch.Tensor, dose: torch.Tensor | None = None) -> Rollout:
    """Truths (B, H, W) measured along one path (T * P, 2) px, in segments of P probes, as by a policy.

    ``dose`` is that of :func:`rollout`.
    """
    positions = path.expand(len(truths), -1, -1)
    values = sample_nearest(truths, positions)
    if dose is not None:
        values = values + _shot_noise(values, dose)
    segments = positions.view(len(truths), -1, PROBES_PER_SEGMENT, 2)
    centre = torch.tensor(truths.shape[1:], device=path.device).expand(len(truths), 1, 2) / 2
    ends = torch.cat([centre, segments[:, :, -1]], dim=1)
    observed = torch.zeros(*segments.shape[:3], device=path.device)
    return Rollout(positions, values, ends, unit(ends.diff(dim=1)), observed, torch.zeros_like(observed[..., 0]).bool())


def completed(
    generator: typing.Callable[[torch.Tensor], tuple[torch.Tensor, ...]],
    values: torch.Tensor,
    positions: torch.Tensor,
    size_px: Size,
    bfloat16: bool = False,
    nearest: bool = False,
) -> torch.Tensor:
    """Completions (B, H, W), in units of the values (B, N) measured at positions (B, N, 2) px.

    Differentiable in both; with ``nearest`` a value goes to its pixel, as in a scan, and only the values are.
    """
    mean, sd = standardisation(values)
    partial = splat((values - mean) / sd, positions, size_px, nearest)
    with torch.autocast(values.device.type, torch.bfloat16, enabled=bfloat16):
        image = generator(partial.contiguous(memory_format=torch.channels_last))[0]
    return image[:, 0].float() * sd[..., None] + mean[..., None]


def _shot_noise(values: torch.Tensor, dose: torch.Tensor) -> torch.Tensor:
    """Deviations of values in [-1, 1] counted with ``dose`` electrons at 1, as :func:`scans.measure` counts them."""
    expected = dose * (0.1 + 0.45 * (values + 1)).clamp(min=0)
    return (torch.poisson(expected) - expected) / dose / 0.45
