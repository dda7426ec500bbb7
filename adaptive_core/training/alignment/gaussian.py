"""Gaussians of what the hybrid policy believes of a diffraction shift, as complex numbers y + i x; see
:mod:`adaptive_core.training.alignment.belief`.

ONNX knows no complex numbers: m of them are 2 m real ones, first all y and then all x; a complex matrix A + i B is the
real [[A, -B], [B, A]], so that sums, products and adjoints (here: transposes) are those of the complex ones. Vectors
are rows. Tensors have four axes, (worlds, hypotheses, rows, columns), so that a step is few and large operations: in a
graph of a few hundred small ones it is their number that takes the time.
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
COLUMNS = 2 * TERMS
BRANCHES = 3
"""Explanations of a frame: fresh, stale (it shows what the last one did), a jump of the disk."""
_A, _Z, _S, _D, _C, _W = range(TERMS)


def _real(matrix: collections.abc.Sequence[collections.abc.Sequence[complex]]) -> Tensor:
    array = np.array(matrix)
    return torch.tensor(np.block([[array.real, -array.imag], [array.imag, array.real]]), dtype=torch.float32)


def _jacobian_map() -> Tensor:
    """(12, 4), terms to J row by row: J e_y = z + s, J e_x = i (z - s)."""
    both = torch.zeros(COLUMNS, 4)
    both[[_Z, _S], 0] = 1.0
    both[[TERMS + _Z, TERMS + _S], 1] = torch.tensor([-1.0, 1.0])
    both[[TERMS + _Z, TERMS + _S], 2] = 1.0
    both[[_Z, _S], 3] = torch.tensor([1.0, -1.0])
    return both


_IDENTITY = torch.eye(COLUMNS)
_MINUS_TURN = _real((-1j * np.eye(TERMS)).tolist())
"""(12, 12), times -i; of rows, from the right: times i."""
OFFSET = _IDENTITY[[_A, TERMS + _A]]
"""(2, 12), a position as terms: all of it is a."""
TO_JACOBIAN = _jacobian_map()
FROM_JACOBIAN = TO_JACOBIAN.T / 2
"""(4, 12), J row by row as terms."""
_METRIC = _real([[0, 1, 1, 0, 0, 0], [0, 1j, -1j, 0, 0, 0]])[:2]
"""(2, 12), of which row j gives J e_j."""
_READ = torch.cat(
    [
        TO_JACOBIAN[:, [0, 2, 1, 3]],
        _IDENTITY[[_Z, TERMS + _Z, _S, TERMS + _S]].T,
        OFFSET.T,
        (OFFSET + _IDENTITY[[_D, TERMS + _D]]).T,
        _IDENTITY[[_C, _W]].T,
    ],
    1,
)
"""(12, 14), terms to the transpose of J, z and s, a, a + d, and the real parts of the errors of c and w."""


def _regressor_map() -> Tensor:
    """(8, 24), from (1, t, v, m, push) to the y and the x row of a regressor."""
    # Rows: what 1, t, vy, vx, my, mx, py and px contribute to the complex row (1, v, conj v, t, -m, -p).
    parts = np.zeros((8, TERMS), dtype=complex)
    parts[0, _A] = parts[1, _D] = parts[2, _Z] = parts[2, _S] = 1
    parts[3, _Z], parts[3, _S] = 1j, -1j
    parts[4, _C] = parts[6, _W] = -1
    parts[5, _C] = parts[7, _W] = -1j
    return torch.stack([_real([row.tolist()]).flatten() for row in parts])


_REGRESSOR = _regressor_map()
_LATER = OFFSET.T @ _REGRESSOR[1:4].reshape(3, 2, COLUMNS)
"""(3, 12, 12), what one frame, and a command further on by one unit in y and in x, add to the identity."""
_BOTH_AXES = torch.eye(BRANCHES).repeat_interleave(2, 0)
"""(6, 3), the branch of each row of the update: y and x of the first one, and so on."""
_IS_JUMP = torch.tensor([[0.0], [0.0], [1.0]])
_JUMP_OF_OFFSET = torch.cat([torch.zeros(2 * BRANCHES - 2, COLUMNS), OFFSET])
_SMALLEST_GAIN_PX = 32.0
_ONLY_W = _IDENTITY[_W]
_OF_OFFSET = OFFSET.T @ OFFSET
_WANDER = torch.diag(torch.tensor([0.0, 0.3, 0.3, 0.003, 0.0003, 0.003]).square().repeat(2))
"""Variances by which z and s (px a unit), d (px a frame), c and w (px) grow from frame to frame."""
_ROUNDING = 1 + 1e-5 * _IDENTITY
"""Variances grow by what the rounding of a difference may take from them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """Means of what a Gaussian tells.

    Attributes:
        response: (n, K, 2, 2), the transpose of J: a row that is a move times this is what it does to the disk.
        gain_px: (n, K, 1, 1), px a unit.
        offset, next_offset: (n, K, 1, 2), a and a + d.
        creep_error, backlash_error: (n, K, 1, 1), real parts of the errors of c, and of w in px.
    """

    response: Tensor
    gain_px: Tensor
    offset: Tensor
    next_offset: Tensor
    creep_error: Tensor
    backlash_error: Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussian:
    """Circular Gaussians of the six terms: mean (n, K, 1, 12) and covariance (n, K, 12, 12) of both axes together."""

    mean: Tensor
    covariance: Tensor

    def position(self, regressor: Tensor) -> Tensor:
        """Means for regressors (n, K, 2 m, 12): (n, K, 2 m, 1)."""
        return (self.mean * regressor).sum(-1, keepdim=True)

    def twice_variance(self, regressor: Tensor) -> Tensor:
        """Of a position with the regressor (n, K, 2, 12), of both axes together: (n, K, 1, 1)."""
        return (regressor @ self.covariance * regressor).sum((-1, -2), keepdim=True)

    def update(
        self, regressor: Tensor, error_px: Tensor, noise: Tensor, jump: Tensor, chances: Tensor, later: Tensor
    ) -> tuple[Gaussian, Tensor, Tensor, Tensor]:
        """Kalman updates under the three explanations of a frame, merged into one Gaussian by their moments.

        Args:
            regressor: (n, K, 6, 12), y and x of each branch.
            error_px: (n, 1, 6, 1), what was measured, for each of these rows.
            noise: (n, 1, 1, 1), its variance, both axes together.
            jump: (), variance of a jump, both axes together.
            chances: (n, K, 3, 1), of the branches.
            later: (n, 1, 1, 1), 0 leaves everything as it is, 1 updates.

        Returns:
            The Gaussian, log density of the measurement (n, K, 1, 1), shares of the branches (n, K, 3, 1), zeros where
            nothing was updated, and squared normalised surprises (n, K, 3, 1).
        """
        spread = regressor @ self.covariance
        jumps = jump * (_BOTH_AXES @ _IS_JUMP)
        variance = (regressor * spread).sum(-1, keepdim=True).clamp_min(0.0) + (noise + jumps)
        residual = error_px - self.position(regressor)
        surprise2 = _BOTH_AXES.T @ (residual * residual / variance)
        scores = torch.log(chances * (1 / math.pi) / variance[:, :, ::2]) - surprise2
        evidence = torch.logsumexp(scores, -2, keepdim=True)
        share = torch.softmax(scores, -2) * later

        gain = (spread + jump * _JUMP_OF_OFFSET) / variance
        steps = _BOTH_AXES.T @ (gain * residual)
        step = share.transpose(-1, -2) @ steps
        apart = steps - step
        offset = OFFSET.expand(*apart.shape[:2], *OFFSET.shape)
        factors = torch.cat([gain, apart, apart @ _MINUS_TURN, offset], -2)
        taken = -_BOTH_AXES @ share * variance
        weights = torch.cat([taken, share, share, jump * _IS_JUMP.T.expand(2, -1) @ share], -2)
        covariance = self.covariance * _ROUNDING + factors.transpose(-1, -2) @ (factors * weights)
        return Gaussian(self.mean + step, covariance), evidence, share, surprise2

    def a_frame_later(self, still: Tensor, moving: Tensor, square: Tensor, move: Tensor) -> Gaussian:
        """With more variance of a, ``still`` (K, 1, 1) and ``moving`` (K, 1, 1) times ``square`` (n, K, 1, 1), px^2,
        and a little of all else, which may change with time; of the same positions with the command counted from a
        ``move`` (n, 2) further on, and the time from one frame later, so that numbers stay small however long a disk is
        kept centred."""
        later = torch.addmm((_IDENTITY + _LATER[0]).reshape(1, -1), move, _LATER[1:].reshape(2, -1))
        later = later.reshape(-1, 1, COLUMNS, COLUMNS)
        backwards = later.transpose(-1, -2)
        covariance = self.covariance + square * (moving * _OF_OFFSET) + (still * _OF_OFFSET + _WANDER)
        return Gaussian(self.mean @ backwards, later @ covariance @ backwards)

    def without_backlash_error(self, found_px: Tensor) -> Gaussian:
        """With the mean error of w less by ``found_px`` (n, K, 1, 1)."""
        return Gaussian(self.mean - found_px * _ONLY_W, self.covariance)

    def read(self) -> Reading:
        """What it tells."""
        flat, terms, offset, next_offset, creep, backlash = torch.split_with_sizes(
            self.mean @ _READ, [4, 4, 2, 2, 1, 1], -1
        )
        # J^T J is |z|^2 + |s|^2 on average.
        gain = torch.linalg.vector_norm(terms, dim=-1, keepdim=True).clamp_min(_SMALLEST_GAIN_PX)
        return Reading(_square(flat), gain, offset, next_offset, creep, backlash)

    @property
    def jacobian_metric(self) -> Tensor:
        """M (n, K, 2, 2) with E |dJ v|^2 = v M v^T."""
        return _METRIC @ self.covariance @ _METRIC.T


def circular(upper: Tensor) -> Tensor:
    """A matrix (n, K, 12, 12) from its upper half (n, K, 6, 12)."""
    return torch.cat([upper, upper @ _MINUS_TURN], -2)


def regressor(times: Tensor, command: Tensor, moved_px: Tensor, push_px: Tensor) -> Tensor:
    """Regressors (n, K, 2 m, 12) of m moments: the y and the x row of each.

    Args:
        times: (m,), t of each moment.
        command: (n, K, m, 2), v.
        moved_px: (n, K, m, 2), the last move, of which a part is late.
        push_px: (n, K, m, 2), by which a larger w would hold the disk back.
    """
    moments = torch.stack([torch.ones_like(times), times], 1).expand(*command.shape[:2], -1, 2)
    rows = torch.cat([moments, command, moved_px, push_px], -1) @ _REGRESSOR
    return rows.reshape(*rows.shape[:2], 2 * len(times), COLUMNS)


def _square(flat: Tensor) -> Tensor:
    """(n, K, 2, 2) from four numbers (n, K, 1, 4), row by row."""
    return flat.reshape(*flat.shape[:2], 2, 2)


_ADJUGATE = torch.tensor([[0.0, 0, 0, 1], [0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]])


def symmetric_solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Rows x with x A = b, for symmetric A (n, K, 2, 2) and b (n, K, 1, 2)."""
    flat = matrix.reshape(*matrix.shape[:2], 1, 4)
    adjugate = flat @ _ADJUGATE
    twice_determinant = (flat * adjugate).sum(-1, keepdim=True).clamp_min(4e-3)
    return right @ _square(adjugate) * 2 / twice_determinant
