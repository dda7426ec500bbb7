"""What decides the moves that centre the disk: the protocol, and policies that are ONNX models.

Policies see the disk's position in px of a screen of 1024 px and answer with moves in units of which one moves the
disk by about 512 px (within a factor of 2 or 3, any rotation and mirror), so that they know no camera and no control.
"""

from __future__ import annotations

import dataclasses
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


@dataclasses.dataclass(frozen=True, eq=False)
class Sight:
    """What a policy is told of a frame; ``(y, x)`` in policy px.

    Attributes:
        error_px: the disk's centre less the target, (2,).
        sigma_px: expected standard deviation of it, each axis.
        limits_px: the frame's lowest and highest (y, x) less the target, (4,).
        bias_px: the part of ``sigma_px`` that is alike in every frame.
    """

    error_px: FloatArray
    sigma_px: float
    limits_px: FloatArray
    bias_px: float = 0.0


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
        """The next move; called once a frame, each time after the last move was made in full."""
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
        distance = float(np.hypot(*error_px))
        settled = distance < 0.6 * self._tolerance and self._last < 1.2 * self._tolerance
        self._last = distance
        return settled


MISS_LIMIT = 0.0015
MISS_GROWTH = 1.8
PATIENCE = 7
LARGEST_MISS = 0.3
"""A learned policy that says how sure it is stops when a miss of the tolerance is at most so probable; after
``PATIENCE`` frames it is content with ``MISS_GROWTH`` times more a frame: a bad instrument gets no better."""
SEEN = 0.7
"""The last frame must show the disk within this part of the tolerance, and one standard deviation more."""


def miss_limit(frames: int) -> float:
    """Largest chance of a miss with which a policy stops after this number of frames."""
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
    def __init__(self, model: LoadedModel, tolerance_px: float, jacobian: FloatArray | None) -> None:
        self._model = model
        self._tolerance = tolerance_px
        self._two_in_a_row = TwoInARow(tolerance_px)
        known = np.zeros(4) if jacobian is None else np.asarray(jacobian).reshape(4)
        self._known = known.astype(np.float32)[None]
        self._frames = 0
        shape = model.input_shapes.get("state")
        self._state = None if shape is None else np.zeros([size or 1 for size in shape], dtype=np.float32)

    def decide(self, sight: Sight) -> Decision:
        inputs = {
            "error_px": np.asarray(sight.error_px, dtype=np.float32)[None],
            "sigma_px": np.array([[sight.sigma_px]], dtype=np.float32),
            "limits_px": np.asarray(sight.limits_px, dtype=np.float32)[None],
            "known_jacobian": self._known,
            # No number of frames makes a bias smaller.
            "tolerance_px": np.array([[max(self._tolerance - sight.bias_px, 0.1 * self._tolerance)]], dtype=np.float32),
        }
        if self._state is not None:
            inputs["state"] = self._state
        outputs = self._model.run(**{name: inputs[name] for name in self._model.input_names})
        for name, output in outputs.items():
            if not np.isfinite(output).all():
                raise ModelError(f"{self._model.card.name}: the output {name} is not finite.")
        if self._state is not None:
            self._state = outputs["state_out"]
        self._frames += 1
        measured = np.asarray(sight.error_px, dtype=np.float64)
        error = outputs["estimate_px"][0].astype(np.float64) if "estimate_px" in outputs else measured
        settled = self._two_in_a_row(measured)
        if "miss_chance" in outputs:
            # The last frame must show a centred disk, as far as it can be measured; expecting one is not enough.
            seen = float(np.hypot(*measured)) < SEEN * self._tolerance + sight.sigma_px
            settled = seen and float(outputs["miss_chance"][0, 0]) < miss_limit(self._frames)
        jacobian = None
        if "jacobian" in outputs and (self._frames > 1 or self._known.any()):
            jacobian = outputs["jacobian"][0].astype(np.float64).reshape(2, 2)
        return Decision(outputs["move"][0].astype(np.float64), settled, error, jacobian)
