"""Centring the disk, step by step: an iterator over the frames of one alignment.

    run = AlignmentEpisode(camera, shift, policy, settings)
    with contextlib.closing(run):
        for step in run:
            show(step)
    print(run.result)

Each step takes a frame that started after the last move, finds the disk, asks the policy, checks the move and makes it.
Whatever ends the run before the disk is centred (an error, closing the iterator, an exception in the caller's loop
while it is closed as above) puts the shift back to where it was.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import logging
import math
import time

import numpy as np

from adaptive_core.alignment import disk_finding
from adaptive_core.alignment.disk_finding import DiskMeasurement, DiskState, TrackingWindow
from adaptive_core.alignment.guards import AlignmentError as AlignmentError
from adaptive_core.alignment.guards import GrowthGuard, MemoryGuard, MoveBound, checked_control
from adaptive_core.alignment.policy import NOMINAL_GAIN_PX, SCREEN_PX, AlignmentPolicy, Decision, FloatArray, Sight
from adaptive_core.errors import InvalidInputError
from adaptive_core.ports import DiffractionShift, DiskCamera, ImageArray

Point = tuple[float, float]
_log = logging.getLogger(__name__)


class FinishReason(enum.Enum):
    """How an alignment ended."""

    ALIGNED = "aligned"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class AlignmentSettings:
    """What is asked for; validated.

    Attributes:
        largest_move: the shift never leaves a square of this half-width around where it was, in the control's unit.
        move_per_half_screen: change of the control that moves the disk by about half of the camera's width, within a
            factor of 2 or 3.
        target_px: ``(y, x)`` in the camera's frame; None for its middle.
        tolerance_px: the disk is centred within this distance, in px of the frame.
        radius_px: of the disk in px of the frame; None to estimate it from the first frame.
        saturation: level at which the camera saturates; None to recognise a plateau.
        most_frames: after this number of frames the alignment fails.
        continuous: go on after the disk is centred, against drift, until closed.
    """

    largest_move: float
    move_per_half_screen: float
    target_px: Point | None = None
    tolerance_px: float = 1.0
    radius_px: float | None = None
    saturation: float | None = None
    most_frames: int = 40
    continuous: bool = False

    def __post_init__(self) -> None:
        for name in ("largest_move", "move_per_half_screen", "tolerance_px"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidInputError(f"{name} must be positive, not {value}.")
        if self.most_frames < 2:
            raise InvalidInputError(f"An alignment needs at least 2 frames, not {self.most_frames}.")


@dataclasses.dataclass(frozen=True, eq=False)
class AlignmentStep:
    """One frame and what followed from it.

    Attributes:
        index: from 0.
        frame: (height, width), float32.
        disk: where the disk was found.
        target_px: ``(y, x)``.
        error_px: disk less target, px of the frame.
        control: value ``(y, x)`` at which the frame was taken.
        move: change of the control made after it.
        settled: whether the policy calls the disk centred.
        seconds: since the start.
    """

    index: int
    frame: ImageArray
    disk: DiskMeasurement
    target_px: Point
    error_px: Point
    control: Point
    move: Point
    settled: bool
    seconds: float

    @property
    def distance_px(self) -> float:
        """Distance of the disk from the target in px of the frame."""
        return math.hypot(*self.error_px)


@dataclasses.dataclass(frozen=True, eq=False)
class AlignmentResult:
    """How an alignment ended.

    Attributes:
        reason: ALIGNED, CANCELLED or FAILED.
        message: for the operator; empty unless it failed.
        frames: number of frames taken.
        residual_px: distance from the target that the policy expects, None if there was no frame.
        start, end: control before and after, ``(y, x)``; equal unless it was aligned.
        jacobian: (2, 2), px of the frame a unit of the control, to be remembered; None if it was not learnt.
        seconds: duration.
    """

    reason: FinishReason
    message: str
    frames: int
    residual_px: float | None
    start: Point
    end: Point
    jacobian: FloatArray | None
    seconds: float

    @property
    def applied(self) -> Point:
        """Change of the control ``(y, x)``."""
        return self.end[0] - self.start[0], self.end[1] - self.start[1]


class AlignmentEpisode(collections.abc.Iterator[AlignmentStep]):
    """One alignment; an iterator of steps. Closing it cancels and puts the shift back.

    ``jacobian`` (2, 2), px of the frame a unit of the control, is what an earlier alignment with the same optics
    learnt.
    """

    def __init__(
        self,
        camera: DiskCamera,
        shift: DiffractionShift,
        policy: AlignmentPolicy,
        settings: AlignmentSettings,
        jacobian: FloatArray | None = None,
    ) -> None:
        self._shift = shift
        self._start = shift.get()
        self._began = time.monotonic()
        self._loop = _Loop(camera, shift, policy, settings, jacobian, self._began)
        self.result: AlignmentResult | None = None

    def __iter__(self) -> AlignmentEpisode:
        return self

    def __next__(self) -> AlignmentStep:
        """The next step. Raises AlignmentError, DeviceError or ModelError after the shift has been put back."""
        if self.result is not None:
            raise StopIteration
        if self._loop.finished:
            self._finish(FinishReason.ALIGNED)
            raise StopIteration
        try:
            return self._loop.step()
        except BaseException as error:
            self._put_back()
            failed = isinstance(error, Exception)
            self._finish(FinishReason.FAILED if failed else FinishReason.CANCELLED, str(error))
            raise

    def close(self) -> None:
        """Cancel unless the disk is centred; in continuous mode, keep the shift if it has been centred."""
        if self.result is not None:
            return
        if self._loop.finished or self._loop.has_settled:
            self._finish(FinishReason.ALIGNED)
            return
        self._put_back()
        self._finish(FinishReason.CANCELLED)

    def undo(self) -> None:
        """Put the shift back to where it was before a finished alignment."""
        if self.result is None:
            raise InvalidInputError("An alignment can be undone once it has ended.")
        self._put_back()

    def _put_back(self) -> None:
        _log.info("putting the shift back to %s", self._start)
        self._shift.set(self._start)

    def _finish(self, reason: FinishReason, message: str = "") -> None:
        aligned = reason is FinishReason.ALIGNED
        self.result = AlignmentResult(
            reason,
            message,
            self._loop.frames,
            self._loop.residual_px,
            self._start,
            self._loop.control if aligned else self._start,
            self._loop.jacobian if aligned else None,
            time.monotonic() - self._began,
        )


_FRAMES_TO_TRACK = 5
"""From this frame on the disk is looked for near where it was, if the policy knows how it moves."""
_LOST_FRAMES = 2


class _Loop:
    """The state between the steps."""

    def __init__(
        self,
        camera: DiskCamera,
        shift: DiffractionShift,
        policy: AlignmentPolicy,
        settings: AlignmentSettings,
        jacobian: FloatArray | None,
        began: float,
    ) -> None:
        self._camera = camera
        self._shift = shift
        self._policy = policy
        self._settings = settings
        self._began = began
        self.control = shift.get()
        self._home = self.control
        self._after: float | None = None
        self._radius = settings.radius_px
        self._memory = MemoryGuard(jacobian, settings.tolerance_px)
        self._growth = GrowthGuard(settings.tolerance_px)
        self._bound: MoveBound | None = None
        self._decide: collections.abc.Callable[[Sight], Decision] | None = None
        self._moved: FloatArray | None = None
        self._scale = 0.0
        self._window: TrackingWindow | None = None
        self.frames = 0
        self.has_settled = False
        self.finished = False
        self.residual_px: float | None = None
        self.jacobian: FloatArray | None = None

    def step(self) -> AlignmentStep:
        """Take a frame, decide and move."""
        if self.frames >= self._settings.most_frames and not self.has_settled:
            raise AlignmentError(f"The disk is not centred after {self.frames} frames.")
        frame, disk = self._look()
        shape = np.array(frame.shape, dtype=np.float64)
        target = shape / 2 if self._settings.target_px is None else np.array(self._settings.target_px)
        if not ((target >= 0) & (target <= shape)).all():
            raise InvalidInputError(f"The target {tuple(target)} is not on the camera's frame of {frame.shape} px.")
        if disk.centre_px is None:
            raise AlignmentError("The disk is not on the camera.")
        error = np.array(disk.centre_px) - target
        self._scale = SCREEN_PX / float(shape.max())
        self._growth.check(float(np.hypot(*error)), disk.sigma_px, self.has_settled)
        if self._memory.check(error, np.array(self.control)):
            self._decide = None
        decide, bound = self._begun()
        bound.trust(self._remembered() if self._memory.is_confirmed else None)
        sight = Sight(
            error * self._scale,
            disk.sigma_px * self._scale,
            np.concatenate([-target, shape - target]) * self._scale,
            disk.bias_px * self._scale,
            self._moved,
        )
        decision = decide(sight)
        if not np.isfinite(decision.move).all():
            raise AlignmentError(f"The policy asked for a move that is not finite: {decision.move}.")
        bound.see(sight)
        self._moved = bound.shorten(sight, decision.move)
        settled = decision.settled and self._moved is decision.move
        move = self._moved * self._settings.move_per_half_screen
        control = checked_control(
            self._shift, np.array(self._home), np.array(self.control), move, self._settings.largest_move
        )
        step = AlignmentStep(
            self.frames,
            frame,
            disk,
            (float(target[0]), float(target[1])),
            (float(error[0]), float(error[1])),
            self.control,
            (float(move[0]), float(move[1])),
            settled,
            time.monotonic() - self._began,
        )
        if move.any():
            self.control = float(control[0]), float(control[1])
            self._after = self._shift.set(self.control)
        self._remember(decision, settled, disk, move)
        self.frames += 1
        return step

    def _look(self) -> tuple[ImageArray, DiskMeasurement]:
        """A frame that shows the disk. Raises AlignmentError."""
        for attempt in range(_LOST_FRAMES):
            frame, started = self._camera.grab(self._after)
            self._after = started
            if self._radius is None:
                self._radius = disk_finding.estimate_radius(frame)
            disk = self._find(frame)
            if disk.state is DiskState.SATURATED:
                raise AlignmentError("The camera is saturated: shorten the exposure.")
            if disk.state is not DiskState.NO_BEAM:
                return frame, disk
            if self.frames == 0:
                raise AlignmentError(f"No beam on the camera (score {disk.score:.1f}).")
            _log.info("no disk in frame %d, attempt %d", self.frames, attempt)
        raise AlignmentError(f"The disk was lost after {self.frames} frames.")

    def _find(self, frame: ImageArray) -> DiskMeasurement:
        disk = disk_finding.find_disk(frame, self._radius, window=self._window, saturation=self._settings.saturation)
        if disk.state is DiskState.NO_BEAM and self._window is not None:
            disk = disk_finding.find_disk(frame, self._radius, saturation=self._settings.saturation)
        return disk

    def _begun(self) -> tuple[collections.abc.Callable[[Sight], Decision], MoveBound]:
        """The policy at work, started anew if it is not, and what bounds its moves."""
        if self._decide is not None and self._bound is not None:
            return self._decide, self._bound
        tolerance = self._settings.tolerance_px * self._scale
        decide = self._policy.start(tolerance_px=tolerance, jacobian=self._remembered()).decide
        self._decide, self._bound, self._moved = decide, self._bound or MoveBound(), None
        return self._decide, self._bound

    def _remembered(self) -> FloatArray | None:
        """The remembered Jacobian in the policy's px and units, unless it has been forgotten."""
        if self._memory.jacobian is None:
            return None
        return self._memory.jacobian * self._settings.move_per_half_screen * self._scale

    def _remember(self, decision: Decision, settled: bool, disk: DiskMeasurement, move: FloatArray) -> None:
        if decision.jacobian is not None:
            self.jacobian = decision.jacobian / (self._settings.move_per_half_screen * self._scale)
        self.residual_px = float(np.hypot(*decision.error_px)) / self._scale
        if self.jacobian is not None and disk.centre_px is not None and self.frames >= _FRAMES_TO_TRACK:
            jump = float(np.hypot(*(self.jacobian @ move)))
            self._window = TrackingWindow(disk.centre_px, 2 * jump + 2 * disk.radius_px)
        if settled:
            self.has_settled = True
            self.finished = not self._settings.continuous


def nominal_move(mrad_per_px: float, frame_px: int, control_mrad_per_unit: float = 1.0) -> float:
    """``move_per_half_screen`` of a control in an angular unit on a camera whose px cover a known angle."""
    return NOMINAL_GAIN_PX / SCREEN_PX * frame_px * mrad_per_px / control_mrad_per_unit
