"""What keeps an alignment safe whatever the policy: guards that know nothing but frames and moves."""

from __future__ import annotations

import itertools
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
_STALE_FRAMES = 3
"""So many frames in a row that show no answer are no old frames any more: the moves do nothing that can be seen."""
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
    mirror: a move keeps the disk on the frame for both. Two answers to independent moves, or a Jacobian that is known,
    tell the response.

    Args:
        jacobian: (2, 2), px a unit, what is known; None if nothing is.
    """

    def __init__(self, jacobian: FloatArray | None = None) -> None:
        self._known = jacobian
        self._answers: list[tuple[FloatArray, FloatArray]] = []
        self._seen_px: FloatArray | None = None
        self._pending = np.zeros(2)
        self._unseen = np.zeros(2)
        self._silent_frames = 0

    def see(self, sight: Sight) -> None:
        """Learn from a frame; called once for each."""
        if self._seen_px is None or not self._pending.any():
            self._seen_px = sight.error_px
            return
        change = sight.error_px - self._seen_px
        least = max(_SMALLEST_ANSWER_PX, 10 * sight.sigma_px)
        if _length(change) < least:
            self._silent_frames += 1
            if self._silent_frames == _STALE_FRAMES:
                self._begin_anew(sight)
            return
        self._silent_frames, self._unseen = 0, np.zeros(2)
        if _length(change) < _SMALLEST_GAIN_PX * _length(self._pending):
            return
        independent = (answer for answer in reversed(self._answers) if _are_independent(answer[0], self._pending))
        self._answers = [*itertools.islice(independent, 1), (self._pending, change)]
        self._begin_anew(sight)

    def _begin_anew(self, sight: Sight) -> None:
        """Wait for an answer to the moves from here on."""
        self._seen_px, self._silent_frames = sight.error_px, 0
        self._pending, self._unseen = np.zeros(2), np.zeros(2)

    def trust(self, jacobian: FloatArray | None) -> None:
        """Take this for the response from now on; None to use nothing but what the moves have shown."""
        self._known = jacobian

    def shorten(self, sight: Sight, move: FloatArray) -> FloatArray:
        """The move (2,), or a part of it that keeps the disk on the frame; taken for made."""
        size = _length(move)
        if size == 0:
            return move
        to_edge = np.concatenate([sight.error_px - sight.limits_px[:2], sight.limits_px[2:] - sight.error_px])
        room = np.maximum(np.maximum(to_edge - _RIM_PX, to_edge / 2), 0.0)
        # What was moved and not yet seen may still come.
        fraction = max(float(room.min()) / LARGEST_GAIN_PX - _length(self._unseen), 0.0) / size
        coming, displacements = self._displacements(self._unseen), self._displacements(move)
        if displacements:
            known = min(_fraction_within(room - _used(c), d) for c, d in zip(coming, displacements, strict=True))
            fraction = max(fraction, known)
        made = move if fraction > _WHOLE else fraction * move
        self._pending, self._unseen = self._pending + made, self._unseen + made
        return made

    def _displacements(self, move: FloatArray) -> list[FloatArray]:
        """What the move may do, as far as it is known; none if nothing is."""
        if self._known is not None:
            return [self._known @ move]
        if len(self._answers) == 2:
            moves, changes = (np.stack(pair, -1) for pair in zip(*self._answers, strict=True))
            return [changes @ np.linalg.solve(moves, move)]
        if self._answers:
            before, change = (complex(*pair) for pair in self._answers[0])
            asked = complex(*move)
            plain, mirrored = change / before * asked, change / before.conjugate() * asked.conjugate()
            return [np.array([p.real, p.imag]) for p in (plain, mirrored)]
        return []


def _used(displacement: FloatArray) -> FloatArray:
    """Room (4,) that a displacement takes at most: px toward low y, low x, high y and high x."""
    return np.maximum(np.concatenate([-displacement, displacement]) + _DOUBT * _length(displacement), 0.0)


def _fraction_within(room: FloatArray, displacement: FloatArray) -> float:
    """The part of a displacement that stays within the room (4,)."""
    return float((np.maximum(room, 0.0) / np.maximum(_used(displacement), 1e-9)).min())


def _are_independent(one: FloatArray, other: FloatArray) -> bool:
    cross = abs(float(one[0] * other[1] - one[1] * other[0]))
    return cross > _INDEPENDENT * _length(one) * _length(other)


def _length(vector: FloatArray) -> float:
    return float(np.hypot(*vector))


_GROWTH = 1.1
_FRAMES_TO_LEARN = 5
"""While it learns how the disk moves, a policy may have to move it away from the target."""
_CONTRADICTION = 0.5
"""Part of what a remembered response predicts by which a frame must differ to contradict it."""
_NEAR = 12
"""Once the disk has been centred, errors that grow within this many tolerances of the target are a drift that the
policy is catching up with, and no reason to stop."""


def _grows_twice(distances_px: list[float], margin_px: float) -> bool:
    """Whether each of the last two distances is clearly larger than the one before."""
    if len(distances_px) < 3:
        return False
    first, second, third = distances_px[-3:]
    return second > max(_GROWTH * first, first + margin_px) and third > max(_GROWTH * second, second + margin_px)


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
        if has_settled and distance_px < _NEAR * self._tolerance_px:
            return
        if _grows_twice(self._distances_px, self._tolerance_px + 3 * min(sigma_px, 10.0)):
            first, second, third = self._distances_px[-3:]
            raise AlignmentError(
                f"The disk moved away from the target twice in a row: {first:.1f}, {second:.1f}, {third:.1f} px."
            )


class MemoryGuard:
    """Forgets a remembered Jacobian as soon as a frame contradicts it, or the disk moves away from the target twice in
    a row.

    A frame may show the disk where it is, or where it was before the last move.

    Attributes:
        jacobian: (2, 2), px of the frame a unit of the control; None once it is forgotten.
        is_confirmed: the moves have done what the Jacobian says.
    """

    def __init__(self, jacobian: FloatArray | None, tolerance_px: float) -> None:
        self.jacobian = jacobian
        self.is_confirmed = False
        self._margin_px = 4 * tolerance_px
        self._distances_px: list[float] = []
        self._first: tuple[FloatArray, FloatArray] | None = None
        self._last_control = np.zeros(2)

    def check(self, error_px: FloatArray, control: FloatArray) -> bool:
        """Whether it has just been forgotten; ``control`` (2,) is the one at which the frame was taken."""
        if self.jacobian is None:
            return False
        if self._first is None:
            self._first, self._last_control = (error_px, control), control
        self._distances_px.append(_length(error_px))
        first_px, start = self._first
        predicted = [self.jacobian @ (moment - start) for moment in (control, self._last_control)]
        self._last_control = control
        change, size = error_px - first_px, _length(predicted[0])
        contradicted = False
        if size > self._margin_px and _length(change) > 0.2 * size:
            excess = min((_length(change - p) - self._margin_px) / _length(p) for p in predicted if p.any())
            contradicted, self.is_confirmed = excess > _CONTRADICTION, excess < _DOUBT
        if contradicted or _grows_twice(self._distances_px, self._margin_px):
            _log.warning("the remembered response of the shift does not hold any more; measuring it again")
            self.jacobian, self.is_confirmed = None, False
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
