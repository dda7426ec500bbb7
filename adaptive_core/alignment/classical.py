"""Controllers without learning, behind the same protocol as the learned policies.

Two probe moves and then Newton's method, plain or with a guard against frames that have not changed; Broyden's method;
recursive least squares; and, for benchmarks, Newton's method that is told the true Jacobian.
"""

from __future__ import annotations

import dataclasses
import typing

import numpy as np

from adaptive_core.alignment.policy import (
    NOMINAL_GAIN_PX,
    AlignmentRun,
    Decision,
    FloatArray,
    Sight,
    TwoInARow,
)

PROBE = 0.1
"""Size of a probe move in units of the control."""
LARGEST_MOVE = 1.0
_SMALLEST_GAIN_PX = 0.12 * NOMINAL_GAIN_PX
"""A move that shows less than this many px a unit was not seen: the frame is taken for an old one."""


@dataclasses.dataclass(frozen=True)
class Newton:
    """Two probe moves, then Newton's method with the Jacobian that they gave, or with one that is known.

    Attributes:
        guarded: a frame that shows no change after a move is not used, and no move is made on it.
        broyden: the Jacobian is corrected after each move (Broyden's good update).
    """

    guarded: bool = True
    broyden: bool = False

    @property
    def name(self) -> str:
        """Shown in menus."""
        return ("Guarded two-probe Newton" if self.guarded else "Two-probe Newton") + (
            " with Broyden's update" if self.broyden else ""
        )

    def start(self, tolerance_px: float = 1.0, jacobian: FloatArray | None = None) -> AlignmentRun:
        """Begin an alignment."""
        return _NewtonRun(self, tolerance_px, jacobian)


class _NewtonRun:
    def __init__(self, policy: Newton, tolerance_px: float, jacobian: FloatArray | None) -> None:
        self._policy = policy
        self._stop = TwoInARow(tolerance_px)
        self._jacobian = None if jacobian is None else np.asarray(jacobian, dtype=np.float64)
        self._columns: list[FloatArray] = []
        self._error = np.zeros(2)
        self._move = np.zeros(2)
        self._held = False

    def decide(self, sight: Sight) -> Decision:
        error = np.asarray(sight.error_px, dtype=np.float64)
        settled = self._stop(error)
        if not self._held:
            self._move = _made(self._move, sight)
        move_size = float(np.hypot(*self._move))
        change = error - self._error
        frozen = float(np.hypot(*change)) < _SMALLEST_GAIN_PX * move_size and move_size * NOMINAL_GAIN_PX > 8
        if self._policy.guarded and frozen and not self._held:
            # Wait for a frame that shows the move; the error is still that of before the move.
            self._held = True
            return Decision(np.zeros(2), settled, error, self._jacobian)
        self._held = False
        if move_size > 0:
            self._learn(change)
        self._error = error
        self._move = self._next()
        return Decision(self._move, settled, error, self._jacobian)

    def _learn(self, change: FloatArray) -> None:
        if self._jacobian is None:
            axis = len(self._columns)
            self._columns.append(change / self._move[axis])
            if len(self._columns) == 2:
                self._jacobian = np.stack(self._columns, -1)
        elif self._policy.broyden:
            self._jacobian = _broyden(self._jacobian, self._move, change)

    def _next(self) -> FloatArray:
        if self._jacobian is not None:
            return newton_move(self._jacobian, self._error)
        probe = np.zeros(2)
        probe[len(self._columns)] = PROBE
        return probe


@dataclasses.dataclass(frozen=True)
class Broyden:
    """Broyden's method from a nominal Jacobian, in a trust region that follows the quality of its predictions."""

    radius: float = 0.1
    name: str = "Broyden"

    def start(self, tolerance_px: float = 1.0, jacobian: FloatArray | None = None) -> AlignmentRun:
        """Begin an alignment."""
        return _BroydenRun(self.radius, tolerance_px, jacobian)


class _BroydenRun:
    def __init__(self, radius: float, tolerance_px: float, jacobian: FloatArray | None) -> None:
        self._stop = TwoInARow(tolerance_px)
        self._jacobian = NOMINAL_GAIN_PX * np.eye(2) if jacobian is None else np.asarray(jacobian, dtype=np.float64)
        self._radius = radius
        self._error: FloatArray | None = None
        self._move = np.zeros(2)

    def decide(self, sight: Sight) -> Decision:
        error = np.asarray(sight.error_px, dtype=np.float64)
        if self._error is not None:
            self._move = _made(self._move, sight)
            change, predicted = error - self._error, self._jacobian @ self._move
            quality = float(np.hypot(*(change - predicted))) / max(float(np.hypot(*predicted)), 1.0)
            if quality < 0.35:
                self._radius = min(4 * self._radius, LARGEST_MOVE)
            elif quality >= 0.8:
                self._radius = max(self._radius / 2, 0.05)
            self._jacobian = _broyden(self._jacobian, self._move, change)
        self._error = error
        self._move = newton_move(self._jacobian, error, smallest=0.2, largest=self._radius)
        return Decision(self._move, self._stop(error), error, self._jacobian)


@dataclasses.dataclass(frozen=True)
class RecursiveLeastSquares:
    """Recursive least squares on the Jacobian with forgetting; the second move corrects along the first and probes
    across."""

    forgetting: float = 0.98
    name: str = "Recursive least squares"

    def start(self, tolerance_px: float = 1.0, jacobian: FloatArray | None = None) -> AlignmentRun:
        """Begin an alignment."""
        return _LeastSquaresRun(self.forgetting, tolerance_px, jacobian)


class _LeastSquaresRun:
    def __init__(self, forgetting: float, tolerance_px: float, jacobian: FloatArray | None) -> None:
        self._stop = TwoInARow(tolerance_px)
        self._known = jacobian is not None
        self._jacobian = np.zeros((2, 2)) if jacobian is None else np.asarray(jacobian, dtype=np.float64)
        self._covariance = np.eye(2) * (0.1 if self._known else 1.0) * NOMINAL_GAIN_PX**2
        self._forgetting = forgetting
        self._error = np.zeros(2)
        self._move = np.zeros(2)
        self._frames = 0

    def decide(self, sight: Sight) -> Decision:
        error = np.asarray(sight.error_px, dtype=np.float64)
        if self._frames > 0:
            self._move = _made(self._move, sight)
            change = error - self._error
            spread = self._covariance @ self._move
            noise = 2 * 0.6**2 * 0.5 + (0.03 * float(np.hypot(*change))) ** 2
            gain = spread / (noise + float(self._move @ spread))
            self._jacobian = self._jacobian + np.outer(change - self._jacobian @ self._move, gain)
            self._covariance = (self._covariance - np.outer(gain, spread)) / self._forgetting
        if self._frames == 0 and not self._known:
            move = np.array([PROBE, 0.0])
        elif self._frames == 1 and not self._known:
            column = self._jacobian[:, 0]
            along = -float(column @ error) / max(float(column @ column), 100.0)
            move = np.array([np.clip(along, -0.7, 0.7), PROBE])
        else:
            move = newton_move(self._jacobian, error)
        self._frames += 1
        self._error, self._move = error, move
        return Decision(move, self._stop(error), error, self._jacobian if self._frames > 2 else None)


@dataclasses.dataclass(frozen=True, eq=False)
class TrueJacobian:
    """Newton's method that is told the Jacobian (2, 2) px a unit, for comparison only."""

    jacobian: FloatArray
    name: str = "Newton with the true Jacobian"

    def start(self, tolerance_px: float = 1.0, jacobian: FloatArray | None = None) -> AlignmentRun:
        """Begin an alignment."""
        return _NewtonRun(Newton(guarded=False), tolerance_px, self.jacobian)


def newton_move(
    jacobian: FloatArray, error_px: FloatArray, smallest: float = 0.05, largest: float = LARGEST_MOVE
) -> FloatArray:
    """The move that brings the error to zero; singular values below ``smallest`` of the largest are raised to it."""
    left, values, right = np.linalg.svd(jacobian)
    values = np.maximum(values, max(smallest * values[0], 1e-6))
    move = -(right.T @ ((left.T @ error_px) / values))
    size = float(np.hypot(*move))
    return typing.cast(FloatArray, move * min(1.0, largest / max(size, 1e-12)))


def _made(asked: FloatArray, sight: Sight) -> FloatArray:
    """The last move as it was made."""
    return asked if sight.moved is None else sight.moved


def _broyden(jacobian: FloatArray, move: FloatArray, change: FloatArray, smallest_px: float = 8.0) -> FloatArray:
    """Broyden's update; moves as small as the noise teach nothing."""
    size2 = float(move @ move)
    if size2**0.5 * NOMINAL_GAIN_PX <= smallest_px:
        return jacobian
    return jacobian + np.outer(change - jacobian @ move, move) / size2


CLASSICAL_POLICIES: tuple[Newton | Broyden | RecursiveLeastSquares, ...] = (
    Newton(guarded=True),
    Newton(guarded=False),
    Broyden(),
    RecursiveLeastSquares(),
)
"""The classical policies of the menu."""
