"""What decides the moves that centre the disk: the protocol, and policies that are ONNX models.

Policies see the disk's position in px of a screen of 1024 px and answer with moves in units of which one moves the
disk by about 512 px (within a factor of 2 or 3, any rotation and mirror), so that they know no camera and no control.
"""

from __future__ import annotations

import dataclasses
import math
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import ModelError
from adaptive_core.model_library import LoadedModel

FloatArray = npt.NDArray[np.float64]
SCREEN_PX = 1024.0
"""Size of the policies' screen."""
NOMINAL_GAIN_PX = 512.0
"""px by which one unit of the policies' control moves the disk, nominally."""

LONGEST_MOVE = 1.5
"""Length of the longest move of a policy, in units of its control."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sight:
    """What a policy is told of a frame; ``(y, x)`` in policy px.

    Attributes:
        error_px: the disk's centre less the target, (2,).
        sigma_px: expected standard deviation of it, each axis.
        limits_px: the frame's lowest and highest (y, x) less the target, (4,).
        bias_px: the part of ``sigma_px`` that is alike in every frame.
        moved: (2,), what was moved since the policy's last answer, which a guard may have shortened; None if it was
            what the policy asked for.
    """

    error_px: FloatArray
    sigma_px: float
    limits_px: FloatArray
    bias_px: float = 0.0
    moved: FloatArray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """What a policy answers.

    Attributes:
        move: (2,), to be added to the control, in policy units.
        settled: the disk is on the target once this last small move is made.
        error_px: (2,), where the policy believes the disk to be, less the target.
        jacobian: (2, 2) px a unit, what the policy believes; None as long as it does not know.
    """

    move: FloatArray
    settled: bool
    error_px: FloatArray
    jacobian: FloatArray | None = None


class AlignmentRun(typing.Protocol):
    """A policy at work on one alignment."""

    def decide(self, sight: Sight) -> Decision:
        """The next move; called once a frame, each time after the last move was made."""
        ...


class AlignmentPolicy(typing.Protocol):
    """A way to centre the disk."""

    @property
    def name(self) -> str:
        """Shown in menus."""
        ...

    def start(self, tolerance_px: float = 1.0, jacobian: FloatArray | None = None) -> AlignmentRun:
        """Begin; ``jacobian`` (2, 2) px a unit is what was measured before with the same optics."""
        ...


class TwoInARow:
    """The stop rule of policies that do not judge themselves: the error is within 0.6 and was within 1.2 tolerances."""

    def __init__(self, tolerance_px: float) -> None:
        self._tolerance = tolerance_px
        self._last = np.inf

    def __call__(self, error_px: FloatArray) -> bool:
        distance = math.hypot(*error_px)
        settled = distance < 0.6 * self._tolerance and self._last < 1.2 * self._tolerance
        self._last = distance
        return settled


MISS_LIMIT = 0.0012
MISS_GROWTH = 1.8
PATIENCE = 7
LARGEST_MISS = 0.5
"""A learned policy that says how sure it is stops when its bound on the chance of a miss of the tolerance is at most
this; after ``PATIENCE`` frames it is content with ``MISS_GROWTH`` times more a frame: a bad instrument gets no better.
Bounds from 0.3 to 0.5 are true chances of 0.12 to 0.25."""
SEEN = 0.78
"""The last frame must show the disk within this part of the tolerance, and one standard deviation more."""


def miss_limit(frames: int) -> float:
    """Largest bound on the chance of a miss with which a policy stops after this number of frames."""
    return min(MISS_LIMIT * MISS_GROWTH ** max(0, frames - PATIENCE), LARGEST_MISS)


class OnnxAlignmentPolicy:
    """A learned policy of the kind ``alignment_policy``."""

    def __init__(self, model: LoadedModel) -> None:
        if model.card.kind != "alignment_policy":
            raise ModelError(
                f"{model.card.name}: expected a model of the kind alignment_policy, found {model.card.kind}."
            )
        self.model = model
        self.name = model.card.name

    def start(self, tolerance_px: float = 1.0, jacobian: FloatArray | None = None) -> AlignmentRun:
        """Begin an alignment; a model that does not take a known Jacobian begins without it."""
        return _OnnxRun(self.model, tolerance_px, jacobian)


class _OnnxRun:
    # After the frame has been looked at, the caches hold none of this: each numpy call of a step takes microseconds.
    def __init__(self, model: LoadedModel, tolerance_px: float, jacobian: FloatArray | None) -> None:
        self._tolerance = tolerance_px
        self._two_in_a_row = TwoInARow(tolerance_px)
        self._known = [0.0] * 4 if jacobian is None else np.asarray(jacobian).reshape(4).tolist()
        self._model = model.bound()
        self._outputs = self._model.outputs
        self._says_chance = "miss_chance" in self._outputs
        self._asked = np.zeros(2)
        self._frames = 0

    def decide(self, sight: Sight) -> Decision:
        moved = self._asked if sight.moved is None else sight.moved
        if self._frames > 0:
            if moved is not self._asked:
                self._answer_again(moved)
            self._model.carry_state()
        measured = sight.error_px.tolist()
        # No number of frames makes a bias smaller.
        tolerance = max(self._tolerance - sight.bias_px, 0.1 * self._tolerance)
        self._model.write(
            {
                "error_px": measured,
                "sigma_px": [sight.sigma_px],
                "limits_px": sight.limits_px.tolist(),
                "known_jacobian": self._known,
                "tolerance_px": [tolerance],
                "largest_move": [LONGEST_MOVE],
                "moved": moved.tolist(),
            }
        )
        self._model.run()
        self._frames += 1
        if self._says_chance:
            # The last frame must show a centred disk, as far as it can be measured; expecting one is not enough.
            seen_inside = math.hypot(*measured) < SEEN * self._tolerance + sight.sigma_px
            settled = seen_inside and float(self._outputs["miss_chance"][0, 0]) < miss_limit(self._frames)
        else:
            settled = self._two_in_a_row(sight.error_px)
        self._asked = self._outputs["move"][0].astype(np.float64)
        error = self._outputs["estimate_px"][0].astype(np.float64) if "estimate_px" in self._outputs else sight.error_px
        jacobian = None
        if "jacobian" in self._outputs and (self._frames > 1 or any(self._known)):
            jacobian = self._outputs["jacobian"].astype(np.float64).reshape(2, 2)
        return Decision(self._asked, settled, error, jacobian)

    def _answer_again(self, moved: FloatArray) -> None:
        """Let a model that can know it remember that it moved by no more than this."""
        if "largest_move" in self._model.input_names:
            self._model.write({"largest_move": [math.hypot(*moved)]})
            self._model.run()
