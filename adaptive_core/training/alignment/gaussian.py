"""Gaussians of what the hybrid policy believes of a diffraction shift, as complex numbers y + i x; see
:mod:`adaptive_core.training.alignment.belief`.

ONNX knows no complex numbers: m of them are 2 m real ones, first all y and then all x; a complex matrix A + i B is the
real [[A, -B], [B, A]], so that sums, products and adjoints (here: transposes) are those of the complex ones. Tensors
have four axes, (worlds, hypotheses, rows, columns), so that a step is few and large operations.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

TERMS = 6
"""a, z, s, d, the error of c, the error of w."""
ROWS = 2 * TERMS
_A, _Z, _S, _D, _C, _W = range(TERMS)


def _real(matrix: collections.abc.Sequence[collections.abc.Sequence[complex]]) -> Tensor:
    array = np.array(matrix)
    return torch.tensor(np.block([[array.real, -array.imag], [array.imag, array.real]]), dtype=torch.float32)


def _jacobian_map() -> Tensor:
    """(4, 12), terms to J row by row: J e_y = z + s, J e_x = i (z - s)."""
    both = torch.zeros(4, ROWS)
    both[0, [_Z, _S]] = 1.0
    both[1, [TERMS + _Z, TERMS + _S]] = torch.tensor([-1.0, 1.0])
    both[2, [TERMS + _Z, TERMS + _S]] = 1.0
    both[3, [_Z, _S]] = torch.tensor([1.0, -1.0])
    return both


TURN = _real((1j * np.eye(TERMS)).tolist())
"""(12, 12), times i."""
OFFSET = _real(np.eye(TERMS)[:, :1].tolist())
"""(12, 2), a position as terms: all of it is a."""
TO_JACOBIAN = _jacobian_map()
FROM_JACOBIAN = TO_JACOBIAN.T / 2
"""(12, 4), J row by row as terms."""
_METRIC = _real([[0, 1, 1, 0, 0, 0], [0, 1j, -1j, 0, 0, 0]])[:2]
"""(2, 12), of which row j gives J e_j."""


def _regressor_map() -> Tensor:
    """(24, 8), from (1, t, v, -moved, slack) to the transpose of the regressor, (12, 2) row by row."""
    # Columns: what 1, t, vy, vx, my, mx, sy and sx contribute to the complex row (1, v, conj v, t, -m, s).
    parts = np.zeros((8, TERMS), dtype=complex)
    parts[0, _A] = parts[1, _D] = parts[2, _Z] = parts[2, _S] = parts[6, _W] = 1
    parts[3, _Z], parts[3, _S], parts[4, _C], parts[5, _C], parts[7, _W] = 1j, -1j, -1, -1j, 1j
    return torch.stack([_real([row.tolist()]).T.reshape(2 * ROWS) for row in parts], 1)


_REGRESSOR = _regressor_map()
_BRANCHES = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
"""(2, 3), the frame that each branch (fresh, stale, jump) takes it to be: this one or the last."""
_BRANCH_COLUMNS = torch.kron(torch.eye(2), _BRANCHES)
_ONLY_W = _real([[0.0]] * _W + [[1.0]])[:, :1]
_WANDER = torch.diag(torch.tensor([0.0, 0.3, 0.3, 0.003, 0.0003, 0.003]).square().repeat(2))
"""Variances by which z and s (px a unit), d (px a frame), c and w (px) grow from frame to frame."""
_ROUNDING = 1 + 1e-5 * torch.eye(ROWS)
"""Variances grow by what the rounding of a difference may take from them."""
_IS_JUMP = torch.tensor([[0.0, 0.0, 1.0]])


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussian:
    """Circular Gaussians of the six terms: mean (n, K, 12, 1) and covariance (n, K, 12, 12) of both axes together."""

    mean: Tensor
    covariance: Tensor

    def where(self, condition: Tensor, other: Gaussian) -> Gaussian:
        """This where the condition (n, 1, 1, 1) holds, else the other."""
        return Gaussian(
            torch.where(condition, self.mean, other.mean), torch.where(condition, self.covariance, other.covariance)
        )

    def position(self, regressor: Tensor) -> Tensor:
        """Means for regressors (n, K, 12, 2 m): (n, K, 2, m)."""
        flat = (self.mean * regressor).sum(-2)
        return flat.reshape(*flat.shape[:2], 2, -1)

    def variance(self, regressor: Tensor) -> Tensor:
        """Variance of a position, both axes together, for a regressor (n, K, 12, 2): (n, K, 1, 1)."""
        column = regressor[..., :1]
        return (column * (self.covariance @ column)).sum(-2, keepdim=True)

    def update(
        self, regressor: Tensor, error_px: Tensor, noise: Tensor, jump: Tensor, log_chances: Tensor
    ) -> tuple[Gaussian, Tensor, Tensor, Tensor]:
        """Kalman updates under the three explanations of a frame, merged into one Gaussian by their moments.

        Args:
            regressor: (n, K, 12, 4), of this frame and of the last one (y, y, x, x).
            error_px: (n, 1, 2, 1), what was measured.
            noise: (n, 1, 1, 1), its variance, both axes together.
            jump: (), variance of a jump, both axes together.
            log_chances: (n, K, 1, 3), of the branches fresh, stale and jump.

        Returns:
            The Gaussian, log density of the measurement (n, K, 1, 1), shares of the branches (n, K, 1, 3) and squared
            normalised surprises (n, K, 1, 3).
        """
        jumps = _IS_JUMP * jump
        spread = self.covariance @ regressor
        variance = (regressor * spread).sum(-2, keepdim=True)[..., :2].clamp_min(0.0) @ _BRANCHES + (noise + jumps)
        residual = (error_px - self.position(regressor)) @ _BRANCHES
        surprise2 = (residual.square().sum(-2, keepdim=True) / variance).clamp(0.0, 1e6)
        scores = log_chances - surprise2 - torch.log(variance) - math.log(math.pi)
        evidence = torch.logsumexp(scores, -1, keepdim=True)
        share = torch.softmax(scores, -1)

        variances = torch.cat([variance, variance], -1)
        # Gains (12, 6): the y and then the x of each branch; the jump is one of a.
        gain = (spread @ _BRANCH_COLUMNS + _both_axes(jumps)) / variances
        steps = gain * residual.flatten(2)[..., None, :]
        steps = steps[..., :3] + steps[..., 3:]
        step = (steps * share).sum(-1, keepdim=True)
        apart = steps - step
        factors = torch.cat([gain, apart, TURN @ apart], -1)
        taken = -share * variance
        weights = torch.cat([taken, taken, share, share], -1)
        # The right half follows from the left one; computed by itself it would not stay so.
        taken_from = self.covariance * _ROUNDING + (share * jumps).sum(-1, keepdim=True) * (OFFSET @ OFFSET.T)
        left = taken_from[..., :TERMS] + (factors * weights) @ factors[..., :TERMS, :].transpose(-1, -2)
        return Gaussian(self.mean + step, circular(left)), evidence, share, surprise2

    def widened(self, variance: Tensor) -> Gaussian:
        """A frame later: with more variance (n, K, 1, 1) of a, px^2, and a little of all else, which may change with
        time."""
        return Gaussian(self.mean, self.covariance + (variance * (OFFSET @ OFFSET.T) + _WANDER))

    def at(self, move: Tensor) -> Gaussian:
        """Of the same positions with the command counted from a ``move`` (n, 1, 2, 1) further on, and the time from
        one frame later, so that numbers stay small however long a disk is kept centred."""
        shift = _paired(_REGRESSOR[:, 1:2] + _REGRESSOR[:, 2:4] @ move)
        spread = self.covariance @ shift
        half = spread + OFFSET @ (shift.transpose(-1, -2) @ spread) / 2
        # Only a changes: F P F^T with F = 1 + OFFSET shift^T.
        change = OFFSET @ half.transpose(-1, -2)
        mean = self.mean + OFFSET @ (shift.transpose(-1, -2) @ self.mean)
        return Gaussian(mean, self.covariance + change + change.transpose(-1, -2))

    def without_backlash_error(self, found_px: Tensor) -> Gaussian:
        """With the mean error of w less by ``found_px`` (n, K, 1, 1)."""
        return Gaussian(self.mean - found_px * _ONLY_W, self.covariance)

    @property
    def offset(self) -> Tensor:
        """Mean of a, (n, K, 2, 1)."""
        return OFFSET.T @ self.mean

    @property
    def drift(self) -> Tensor:
        """Mean of d, (n, K, 2, 1)."""
        return self.mean[..., _D::TERMS, :]

    @property
    def creep_error(self) -> Tensor:
        """Real part of the mean error of c, (n, K, 1, 1)."""
        return self.mean[..., _C : _C + 1, :]

    @property
    def backlash_error(self) -> Tensor:
        """Real part of the mean error of w, (n, K, 1, 1) px."""
        return self.mean[..., _W : _W + 1, :]

    @property
    def jacobian(self) -> Tensor:
        """J (n, K, 2, 2)."""
        return as_jacobian(TO_JACOBIAN @ self.mean)

    @property
    def jacobian_metric(self) -> Tensor:
        """M (n, K, 2, 2) with E |dJ v|^2 = v^T M v."""
        return _METRIC @ self.covariance @ _METRIC.T


def circular(left: Tensor) -> Tensor:
    """A matrix (n, K, 12, 12) from its left half (n, K, 12, 6)."""
    return torch.cat([left, TURN @ left], -1)


def _both_axes(of_branches: Tensor) -> Tensor:
    """A variance of a for each branch (1, 3), as columns (12, 6)."""
    return torch.cat([OFFSET[:, :1] * of_branches, OFFSET[:, 1:] * of_branches], -1)


def regressor(time: Tensor, command: Tensor, moved_px: Tensor, slack_px: Tensor) -> Tensor:
    """Transposed regressors (n, K, 12, 2 m) of m moments: the y of each, and then the x of each.

    Args:
        time: (1, m), t.
        command: (n, K, 2, m), v.
        moved_px: (n, K, 2, m), the last move, of which a part is late.
        slack_px: (n, K, 2, m), derivative of the position with respect to w.
    """
    constant = _REGRESSOR[:, :1] + _REGRESSOR[:, 1:2] * time
    return _paired(_REGRESSOR[:, 2:] @ torch.cat([command, moved_px, slack_px], -2) + constant)


def _paired(columns: Tensor) -> Tensor:
    """(n, K, 24, m), of which each second row is an x, as (n, K, 12, 2 m)."""
    return columns.reshape(*columns.shape[:2], ROWS, 2 * columns.shape[-1])


def as_jacobian(flat: Tensor) -> Tensor:
    """J (n, K, 2, 2) from its four numbers, row by row."""
    return flat.reshape(*flat.shape[:2], 2, 2)


def gain_px(jacobian: Tensor) -> Tensor:
    """px a unit, (n, K, 1, 1)."""
    return (jacobian.square().sum((-1, -2), keepdim=True) / 2 + 1e3).sqrt()


_ADJUGATE = torch.tensor([[0.0, 0, 0, 1], [0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]])


def damped_solve(jacobian: Tensor, damping: Tensor, position: Tensor) -> Tensor:
    """(J^T J + D)^-1 J^T p for J and D (n, K, 2, 2)."""
    transposed = jacobian.transpose(-1, -2)
    normal = transposed @ jacobian + damping + torch.eye(2)
    flat = normal.reshape(*normal.shape[:2], 1, 4)
    adjugate = flat @ _ADJUGATE
    determinant = (flat * adjugate).sum(-1, keepdim=True).clamp_min(2e-3) / 2
    return as_jacobian(adjugate) @ (transposed @ position) / determinant


def length(vector: Tensor) -> Tensor:
    """Of vectors (n, K, 2, 1): (n, K, 1, 1)."""
    return (vector.square().sum(-2, keepdim=True) + 1e-6).sqrt()


def length_under(vector: Tensor, metric: Tensor) -> Tensor:
    """sqrt(v^T M v / 2), (n, K, 1, 1)."""
    return (square_under(vector, metric) / 2 + 1e-12).sqrt()


def square_under(vector: Tensor, metric: Tensor) -> Tensor:
    """v^T M v, (n, K, 1, 1)."""
    return (vector * (metric @ vector)).sum(-2, keepdim=True).clamp_min(0.0)
