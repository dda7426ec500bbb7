"""Gaussians of what the hybrid policy believes of a diffraction shift, as complex numbers y + i x; see
:mod:`adaptive_core.training.alignment.belief`.

Only elementary operations on real tensors are used, for ONNX knows no complex numbers.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

TERMS = 6
"""a, z, s, d, the error of c, the error of w."""


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussian:
    """Circular Gaussians of the six terms: mean y + i x (..., 6) and Hermitian covariance re + i im (..., 6, 6)."""

    y: Tensor
    x: Tensor
    re: Tensor
    im: Tensor

    def chosen(self, first: Tensor, other: Gaussian) -> Gaussian:
        """This where ``first`` (n, 1) is 1, the other where it is 0."""
        f, g = first[..., None], first[..., None, None]
        return Gaussian(
            f * self.y + (1 - f) * other.y,
            f * self.x + (1 - f) * other.x,
            g * self.re + (1 - g) * other.re,
            g * self.im + (1 - g) * other.im,
        )

    def position(self, h: tuple[Tensor, Tensor]) -> Tensor:
        """Mean of the position for the regressor h, (..., 2)."""
        y = (h[0] * self.y - h[1] * self.x).sum(-1, keepdim=True)
        x = (h[0] * self.x + h[1] * self.y).sum(-1, keepdim=True)
        return torch.cat([y, x], -1)

    def times_conjugate(self, h: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """P conj(h), (..., 6)."""
        hr, hi = h[0][..., None, :], h[1][..., None, :]
        return (self.re * hr + self.im * hi).sum(-1), (self.im * hr - self.re * hi).sum(-1)

    def variance(self, h: tuple[Tensor, Tensor]) -> Tensor:
        """Variance of the position, both axes together, (...,)."""
        re, im = self.times_conjugate(h)
        return (h[0] * re - h[1] * im).sum(-1)

    def update(self, h: tuple[Tensor, Tensor], error_px: Tensor, noise: Tensor) -> tuple[Gaussian, Tensor, Tensor]:
        """Kalman update with a measurement (..., 2) of variance ``noise`` (...,), both axes together; also its log
        density and squared normalised surprise (...,)."""
        re, im = self.times_conjugate(h)
        variance = ((h[0] * re - h[1] * im).sum(-1) + noise).clamp_min(1e-6)
        residual = error_px - self.position(h)
        gain_re, gain_im = re / variance[..., None], im / variance[..., None]
        ry, rx = residual[..., :1], residual[..., 1:]
        surprise2 = (residual.square().sum(-1) / variance).clamp(0.0, 1e6)
        updated = Gaussian(
            self.y + gain_re * ry - gain_im * rx,
            self.x + gain_re * rx + gain_im * ry,
            self.re - gain_re[..., :, None] * re[..., None, :] - gain_im[..., :, None] * im[..., None, :],
            self.im - gain_im[..., :, None] * re[..., None, :] + gain_re[..., :, None] * im[..., None, :],
        )
        return updated, -surprise2 - torch.log(variance) - math.log(math.pi), surprise2

    def merged(self, share: Tensor) -> Gaussian:
        """The Gaussian with the moments of the mixture along the second axis, with the shares (n, branches, K)."""
        w = share[..., None]
        y, x = (w * self.y).sum(1), (w * self.x).sum(1)
        dy, dx = self.y - y[:, None], self.x - x[:, None]
        wide = w[..., None]
        re = self.re + dy[..., :, None] * dy[..., None, :] + dx[..., :, None] * dx[..., None, :]
        im = self.im + dx[..., :, None] * dy[..., None, :] - dy[..., :, None] * dx[..., None, :]
        return Gaussian(y, x, (wide * re).sum(1), (wide * im).sum(1))

    def widened(self, variance: Tensor) -> Gaussian:
        """With more variance of a (...,), px^2."""
        corner = torch.zeros(TERMS, TERMS)
        corner[0, 0] = 1.0
        return Gaussian(self.y, self.x, self.re + variance[..., None, None] * corner, self.im)

    def shifted(self, backlash_px: Tensor) -> Gaussian:
        """With the mean error of w less by ``backlash_px`` (n, K, 1)."""
        return Gaussian(torch.cat([self.y[..., :5], self.y[..., 5:] - backlash_px], -1), self.x, self.re, self.im)

    def branched(self, variance: Tensor) -> Gaussian:
        """One copy a branch along a new second axis, each with its own more of variance of a (n, branches, K), px^2."""
        copies = Gaussian(self.y[:, None], self.x[:, None], self.re[:, None], self.im[:, None])
        widened = copies.widened(variance)
        like = torch.zeros_like(variance)[..., None]
        return Gaussian(copies.y + like, copies.x + like, widened.re, copies.im + like[..., None])

    def offset(self, frame: Tensor) -> Tensor:
        """Mean of a + d t, (..., 2)."""
        return torch.stack([self.y[..., 0] + frame * self.y[..., 3], self.x[..., 0] + frame * self.x[..., 3]], -1)

    @property
    def jacobian(self) -> Tensor:
        """J (..., 4) row by row."""
        zy, zx, sy, sx = self.y[..., 1], self.x[..., 1], self.y[..., 2], self.x[..., 2]
        return torch.stack([zy + sy, sx - zx, zx + sx, zy - sy], -1)

    @property
    def jacobian_metric(self) -> Tensor:
        """M (..., 2, 2) with E |dJ v|^2 = v^T M v."""
        both = self.re[..., 1, 1] + self.re[..., 2, 2]
        re, im = 2 * self.re[..., 1, 2], 2 * self.im[..., 1, 2]
        return torch.stack([torch.stack([both + re, -im], -1), torch.stack([-im, both - re], -1)], -2)


@dataclasses.dataclass(frozen=True, eq=False)
class Moment:
    """What a frame depends on besides the terms.

    Attributes:
        engaged, before: (n, K, 2), b and b_last.
        side: (n, K, 2), on which side of its play each axis is: the derivative of b with respect to w, times the gain.
        frame: (n, 1), t.
    """

    engaged: Tensor
    before: Tensor
    side: Tensor
    frame: Tensor

    def regressor(self, belief: Gaussian, creep: Tensor, moved_px: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """h (n, K, 6) of ``p = h . terms``, linearised at the belief; ``moved_px`` is the last move if J does not tell
        yet."""
        jacobian = belief.jacobian
        last = self.engaged - self.before
        v = self.engaged - creep * last
        moved = times(jacobian, last) if moved_px is None else moved_px
        slack = times(jacobian, self.side) / gain_px(jacobian)
        y, x = v[..., 0], v[..., 1]
        zero = torch.zeros_like(y)
        h_y = torch.stack([zero + 1, y, y, zero + self.frame, -moved[..., 0], slack[..., 0]], -1)
        h_x = torch.stack([zero, x, -x, zero, -moved[..., 1], slack[..., 1]], -1)
        return h_y, h_x


def gain_px(jacobian: Tensor) -> Tensor:
    """px a unit, (..., 1)."""
    return (jacobian.square().sum(-1, keepdim=True) / 2 + 1e3).sqrt()


def times(jacobian: Tensor, vector: Tensor) -> Tensor:
    """J v for J (..., 4) row by row and v (..., 2)."""
    y = jacobian[..., 0:1] * vector[..., 0:1] + jacobian[..., 1:2] * vector[..., 1:2]
    x = jacobian[..., 2:3] * vector[..., 0:1] + jacobian[..., 3:4] * vector[..., 1:2]
    return torch.cat([y, x], -1)


def damped_solve(jacobian: Tensor, damping: Tensor, position: Tensor) -> Tensor:
    """(J^T J + D)^-1 J^T p for D (..., 2, 2)."""
    a, b, c, d = (jacobian[..., i : i + 1] for i in range(4))
    right_y = a * position[..., :1] + c * position[..., 1:]
    right_x = b * position[..., :1] + d * position[..., 1:]
    yy = a * a + c * c + damping[..., 0, 0, None] + 1.0
    yx = a * b + c * d + damping[..., 0, 1, None]
    xx = b * b + d * d + damping[..., 1, 1, None] + 1.0
    determinant = (yy * xx - yx * yx).clamp_min(1e-3)
    solution: Tensor = torch.cat([xx * right_y - yx * right_x, yy * right_x - yx * right_y], -1) / determinant
    return solution


def length(vector: Tensor) -> Tensor:
    return (vector.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def length_under(vector: Tensor, metric: Tensor) -> Tensor:
    """sqrt(v^T M v / 2), (..., 1)."""
    y, x = vector[..., :1], vector[..., 1:]
    form = metric[..., 0, 0, None] * y * y + 2 * metric[..., 0, 1, None] * y * x + metric[..., 1, 1, None] * x * x
    return (form.clamp_min(0.0) / 2 + 1e-12).sqrt()
