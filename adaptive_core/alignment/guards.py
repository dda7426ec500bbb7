"""What keeps an alignment safe whatever the policy: guards that know nothing but frames and moves."""

from __future__ import annotations

import logging

import numpy as np

from adaptive_core.alignment.policy import NOMINAL_GAIN_PX, FloatArray, Sight
from adaptive_core.errors import AdaptiveScanError
from adaptive_core.ports import DiffractionShift

_log = logging.getLogger(__name__)


class AlignmentError(AdaptiveScanError):
    """The disk could not be centred; the shift has been put back to where it was."""


LARGEST_GAIN_PX = 2.2 * NOMINAL_GAIN_PX
"""Largest plausible gain of a control that nobody has seen at work, policy px a unit."""
_RIM_PX = 16.0
"""Moves stay this far from the edge of the frame, policy px; a disk that is nearer already goes half of the way."""
_DOUBT = 0.15
"""A measured response is right up to this fraction of the displacement, in any direction: shear, backlash, creep."""
_SMALLEST_ANSWER_PX = 8.0
_SMALLEST_GAIN_PX = 0.12 * NOMINAL_GAIN_PX
"""A frame that shows less than this, or less than this many px a unit, does not show the moves yet."""
_WHOLE = 0.999
"""A move of which more than this can be made is made."""
_INDEPENDENT = 0.3
"""Least sine of the angle between two moves that together tell the response."""


class MoveBound:
    """Shortens moves that could drive the disk off the frame, in policy px and units.

    Until a frame has shown an answer to the moves, their displacement is any that the largest plausible gain allows:
    a move is at most the distance to the nearest edge over this gain. One answer leaves two responses, one for each
    mirror: a move keeps the disk on the frame for both. Two answers to independent moves, or a remembered Jacobian,
    tell the response.

    Args:
        jacobian: (2, 2), px a unit, what is remembered; None if nothing is.
    """

    def __init__(self, jacobian: FloatArray | None = None) -> None:
        self._remembered = jacobian
        self._answers: list[tuple[FloatArray, FloatArray]] = []
        self._seen_px: FloatArray | None = None
        self._pending = np.zeros(2)

    def see(self, sight: Sight) -> None:
        """Learn from a frame; called once for each."""
        if self._seen_px is None or not self._pending.any():
            self._seen_px = sight.error_px
            return
        change = sight.error_px - self._seen_px
        least = max(_SMALLEST_ANSWER_PX, 10 * sight.sigma_px, _SMALLEST_GAIN_PX * _length(self._pending))
        if _length(change) < least:
            return
        if self._answers and not _are_independent(self._answers[-1][0], self._pending):
            self._answers.pop()
        self._answers = [*self._answers[-1:], (self._pending, change)]
        self._seen_px, self._pending = sight.error_px, np.zeros(2)

    def forget_memory(self) -> None:
        """Use nothing but what the moves of this alignment have shown."""
        self._remembered = None

    def shorten(self, sight: Sight, move: FloatArray) -> FloatArray:
        """The move (2,), or a part of it that keeps the disk on the frame; taken for made."""
        size = _length(move)
        if size == 0:
            return move
        to_edge = np.concatenate([sight.error_px - sight.limits_px[:2], sight.limits_px[2:] - sight.error_px])
        room = np.maximum(np.maximum(to_edge - _RIM_PX, to_edge / 2), 0.0)
        fraction = float(room.min()) / (LARGEST_GAIN_PX * size)
        displacements = self._displacements(move)
        if displacements:
            fraction = max(fraction, min(_fraction_within(room, displacement) for displacement in displacements))
        made = move if fraction > _WHOLE else fraction * move
        self._pending = self._pending + made
        return made

    def _displacements(self, move: FloatArray) -> list[FloatArray]:
        """What the move may do, as far as it is known; none if nothing is."""
        if self._remembered is not None:
            return [self._remembered @ move]
        if len(self._answers) == 2:
            moves, changes = (np.stack(pair, -1) for pair in zip(*self._answers, strict=True))
            return [changes @ np.linalg.solve(moves, move)]
        if self._answers:
            before, change = (complex(*pair) for pair in self._answers[0])
            asked = complex(*move)
            plain, mirrored = change / before * asked, change / before.conjugate() * asked.conjugate()
            return [np.array([p.real, p.imag]) for p in (plain, mirrored)]
        return []


def _fraction_within(room: FloatArray, displacement: FloatArray) -> float:
    """The part of a displacement that stays within ``room`` (4,): px toward low y, low x, high y and high x."""
    toward = np.concatenate([-displacement, displacement]) + _DOUBT * _length(displacement)
    return float((room / np.maximum(toward, 1e-9)).min())


def _are_independent(one: FloatArray, other: FloatArray) -> bool:
    cross = abs(float(one[0] * other[1] - one[1] * other[0]))
    return cross > _INDEPENDENT * _length(one) * _length(other)


def _length(vector: FloatArray) -> float:
    return float(np.hypot(*vector))


_GROWTH = 1.1
_FRAMES_TO_LEARN = 5
"""While it learns how the disk moves, a policy may have to move it away from the target."""
_NEAR = 12
"""Once the disk has been centred, errors that grow within this many tolerances of the target are a drift that the
policy is catching up with, and no reason to stop."""


class GrowthGuard:
    """Aborts after two growing errors in a row, once the policy has learnt how the disk moves."""

    def __init__(self, tolerance_px: float) -> None:
        self._tolerance_px = tolerance_px
        self._distances_px: list[float] = []

    def check(self, distance_px: float, sigma_px: float, has_settled: bool) -> None:
        """Called once a frame. Raises AlignmentError."""
        self._distances_px.append(distance_px)
        if len(self._distances_px) < _FRAMES_TO_LEARN + 3:
            return
        margin = self._tolerance_px + 3 * min(sigma_px, 10.0)
        first, second, third = self._distances_px[-3:]
        if has_settled and third < _NEAR * self._tolerance_px:
            return
        if second > max(_GROWTH * first, first + margin) and third > max(_GROWTH * second, second + margin):
            raise AlignmentError(
                f"The disk moved away from the target twice in a row: {first:.1f}, {second:.1f}, {third:.1f} px."
            )


class MemoryGuard:
    """Forgets a remembered Jacobian if a first move in a wrong direction could drive the disk off the frame, or if the
    first move did something else; a frame without any change says nothing.

    Attributes:
        jacobian: (2, 2), px of the frame a unit of the control; None once it is forgotten.
    """

    def __init__(self, jacobian: FloatArray | None, tolerance_px: float) -> None:
        self.jacobian = jacobian
        self._tolerance_px = tolerance_px
        self._is_tested = jacobian is None
        self._first_error: FloatArray | None = None

    def check(self, error_px: FloatArray, room_px: float, shift: FloatArray) -> bool:
        """Whether it has just been forgotten; ``shift`` is how far the control is from where it was."""
        if self._is_tested or self.jacobian is None:
            return False
        if self._first_error is None:
            self._first_error = error_px
            if _length(error_px) > 0.9 * room_px:
                self.jacobian = None
            return self.jacobian is None
        predicted = self.jacobian @ shift
        change = error_px - self._first_error
        size = _length(predicted)
        if _length(change) < 0.2 * size or size < 4 * self._tolerance_px:
            return False
        self._is_tested = True
        if _length(change - predicted) > 0.5 * size + 4 * self._tolerance_px:
            _log.warning("the remembered response of the shift does not hold any more; measuring it again")
            self.jacobian = None
        return self.jacobian is None


def checked_control(
    shift: DiffractionShift, home: FloatArray, control: FloatArray, move: FloatArray, largest_move: float
) -> FloatArray:
    """The control after a move. Raises AlignmentError if it is beyond the limits; nothing has moved then."""
    wanted = control + move
    away = float(np.abs(wanted - home).max())
    if away > largest_move:
        raise AlignmentError(
            f"The disk cannot be centred within the largest move of {largest_move:.4g}: "
            f"a shift by {away:.4g} was asked for."
        )
    if _length(wanted) > shift.limit:
        raise AlignmentError(
            f"The disk cannot be centred within the control's limit of {shift.limit:.4g}: "
            f"({wanted[0]:.4g}, {wanted[1]:.4g}) was asked for."
        )
    return wanted
