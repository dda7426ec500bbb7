"""Policies that are ONNX models; the card says what they observe and what their actions mean."""

from __future__ import annotations

import dataclasses
import math
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError, ModelError
from adaptive_core.model_library import LoadedModel
from adaptive_core.partial_scan.generator import Generator
from adaptive_core.partial_scan.plan import ScanPlan
from adaptive_core.partial_scan.policy import Observation, PolicyRun
from adaptive_core.scan_path import Action, FloatArray, Point, Positions, Segment

FloatInput = npt.NDArray[np.float32]


class OnnxPolicy:
    """A learned policy.

    Actions (``card.action``): "direction" of the next segment from where the last one ended (Ede 2021, section 2.1),
    a free "segment" anywhere, or a batch of "positions". Coordinates in models map the region to [-1, 1].
    """

    def __init__(self, model: LoadedModel) -> None:
        if model.card.kind != "partial_scan_policy":
            raise ModelError(
                f"{model.card.name}: expected a model of the kind partial_scan_policy, found {model.card.kind}."
            )
        self.model = model
        self.name = model.card.name

    def plan(self, plan: ScanPlan) -> ScanPlan:
        """The plan with the segments that this policy was trained for."""
        card = self.model.card
        return dataclasses.replace(
            plan,
            probes_per_segment=card.probes_per_segment or plan.probes_per_segment,
            probe_spacing_px=card.probe_spacing_px or plan.probe_spacing_px,
        )

    def start(self, plan: ScanPlan, generator: Generator) -> OnnxPolicyRun:
        card = self.model.card
        for what, trained, asked in (
            ("probes a segment", card.probes_per_segment, plan.probes_per_segment),
            ("px between probes", card.probe_spacing_px, plan.probe_spacing_px),
        ):
            if trained is not None and abs(trained - asked) > 1e-3:
                raise InvalidInputError(f"The policy {self.name} was trained for {trained:g} {what}, not {asked:g}.")
        length = plan.probes_per_segment * plan.probe_spacing_px
        if card.action == "direction" and 2 * length > min(plan.setup.size_px):
            raise InvalidInputError(
                f"The policy {self.name} walks in steps of {length:.0f} px and needs a region of at least "
                f"{2 * length:.0f} px a side, not {plan.setup.size_px}."
            )
        return OnnxPolicyRun(self.model, plan)


class OnnxPolicyRun(PolicyRun):
    """Carries the recurrent state and turns outputs into actions in px."""

    def __init__(self, model: LoadedModel, plan: ScanPlan) -> None:
        self._model = model
        self._plan = plan
        self._half = np.asarray(plan.setup.size_px, dtype=np.float64) / 2
        shape = model.input_shapes.get("state")
        self._state = None if shape is None else np.zeros([side or 1 for side in shape], dtype=np.float32)
        self._inputs = model.input_names
        self.needs_estimate = "estimate" in model.input_names
        self._multiple = model.card.size_multiple or 1

    def decide(self, observation: Observation) -> Action:
        outputs = self._model.run(**{name: self._input(name, observation) for name in self._inputs})
        for name, output in outputs.items():
            if not np.isfinite(output).all():
                raise ModelError(f"{self._model.card.name}: the output {name} is not finite.")
        if self._state is not None:
            self._state = outputs["state_out"]
        return self._ACTIONS[self._model.card.action or ""](self, observation, outputs)

    def _input(self, name: str, observation: Observation) -> FloatInput:
        scan = observation.scan
        if name == "values":
            probes = self._plan.probes_per_segment
            values = np.zeros((1, probes), dtype=np.float32)
            if scan.values:
                last = scan.standardise(scan.values[-1][0])[-probes:]
                values[0, : len(last)] = last
            return values
        if name == "position":
            return np.asarray([self._to_model(self._last_end(observation))], dtype=np.float32)
        if name == "remaining":
            return np.asarray([[observation.remaining]], dtype=np.float32)
        if name == "partial":
            return scan.model_input(self._multiple)
        if name == "estimate":
            padded = np.zeros_like(scan.model_input(self._multiple))
            if observation.estimate is not None:
                padded[..., : scan.size_px[0], : scan.size_px[1]] = observation.estimate.standardised
            return padded
        if name == "state" and self._state is not None:
            return self._state
        raise ModelError(f"{self._model.card.name}: the input {name!r} is not one that a partial scan provides.")

    def _last_end(self, observation: Observation) -> FloatArray:
        actions = observation.scan.actions
        return np.asarray(actions[-1].positions[-1] if actions else self._half, dtype=np.float64)

    def _to_model(self, position: FloatArray) -> FloatArray:
        return np.asarray(position / self._half - 1, dtype=np.float64)

    def _to_px(self, position: npt.NDArray[np.float32]) -> FloatArray:
        """Model coordinates to px; what is outside moves to the nearest edge, as exposure outside is never planned."""
        return np.asarray((np.clip(position, -1, 1).astype(np.float64) + 1) * self._half, dtype=np.float64)

    def _direction(self, observation: Observation, outputs: dict[str, FloatInput]) -> Action:
        start = self._last_end(observation)
        return step_in_direction(start, outputs["direction"][0], self._plan)

    def _segment(self, observation: Observation, outputs: dict[str, FloatInput]) -> Action:
        ends = self._to_px(outputs["segment"][0].reshape(2, 2))
        if np.allclose(*ends):
            raise ModelError(f"{self._model.card.name}: the two ends of the segment {outputs['segment'][0]} coincide.")
        return Segment(_point(ends[0]), _point(ends[1]), self._plan.probes_per_segment)

    def _positions(self, observation: Observation, outputs: dict[str, FloatInput]) -> Action:
        return Positions(self._to_px(outputs["positions"][0]))

    _ACTIONS: typing.ClassVar[dict[str, typing.Callable[..., Action]]] = {
        "direction": _direction,
        "segment": _segment,
        "positions": _positions,
    }


def step_in_direction(start: FloatArray, direction: npt.NDArray[typing.Any], plan: ScanPlan) -> Segment:
    """The segment from one probe spacing beyond ``start`` in a direction ``(dy, dx)`` of any length.

    A component of the direction that would lead out of the region is reflected, so that the probe stays inside.
    """
    # Plain numbers: for a single point they are several times faster than small arrays.
    dy, dx = map(float, direction)
    norm = math.hypot(dy, dx)
    # A model may answer exactly zero, for which no direction is better than another.
    unit = (dy / norm, dx / norm) if norm > 1e-12 else (0.0, 1.0)
    length = plan.probe_spacing_px * plan.probes_per_segment
    first, last = [], []
    for origin, component, side in zip(start.tolist(), unit, plan.setup.size_px, strict=True):
        inward = component if 0 <= origin + component * length <= side else -component
        first.append(origin + inward * plan.probe_spacing_px)
        last.append(origin + inward * length)
    return Segment((first[0], first[1]), (last[0], last[1]), plan.probes_per_segment)


def _point(position: FloatArray) -> Point:
    return float(position[0]), float(position[1])
