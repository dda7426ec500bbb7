"""Every policy for ptychographic scans that an operator can choose, by name: built-in ones and ONNX models."""

from __future__ import annotations

import collections.abc
import dataclasses

import numpy as np

from adaptive_core.choices import Choice, list_choices, load_choice
from adaptive_core.model_library import ModelLibrary
from adaptive_core.ptychography import positions
from adaptive_core.ptychography.policy import (
    Move,
    Observation,
    OnnxPolicy,
    Policy,
    PolicyRun,
    PtychographyPlan,
    StaticPolicy,
    StoppingPolicy,
    TwoPassPolicy,
)
from adaptive_core.simulation.ptychography_probe import FloatArray

POLICY_KIND = "ptychography_policy"
ENCODER_KIND = "ptychography_encoder"
DEFAULT_POLICY = "sparse-grid"

_DESCRIPTIONS = {
    "sparse-grid": "Static: an even grid.",
    "halton": "Static: a Halton sequence.",
    "random": "Static: independent uniform positions.",
    "two-pass": "Adaptive: a sparse grid first, then the atoms that are found in its image.",
}


def policies(library: ModelLibrary) -> tuple[Choice, ...]:
    """Every policy: models first, then the built-in ones."""
    return list_choices(library, POLICY_KIND, _DESCRIPTIONS)


def policy(
    name: str,
    library: ModelLibrary,
    *,
    defocus_A: float | None = None,
    stop_similarity: float | None = None,
    seed: int = 0,
) -> Policy:
    """A policy by its built-in name, the name of a model or the path of an ONNX file.

    Args:
        name: of the policy.
        library: holds the models.
        defocus_A: where the policy does not choose the defocus itself; None leaves it as it is.
        stop_similarity: SSIM of two successive live images from which on the scan ends; None never ends it early.
        seed: of random positions.

    Raises:
        ModelError: a model that does not exist or is refused.
        InvalidInputError: a similarity outside (0, 1).
    """
    chosen = _policy(name, library, seed)
    if defocus_A is not None:
        chosen = DefocusedPolicy(chosen, defocus_A)
    return chosen if stop_similarity is None else StoppingPolicy(chosen, stop_similarity)


class DefocusedPolicy:
    """Another policy, at a defocus wherever it does not choose one itself."""

    def __init__(self, inner: Policy, defocus_A: float) -> None:
        self.name = inner.name
        self._inner, self._defocus_A = inner, defocus_A

    def start(self, plan: PtychographyPlan) -> PolicyRun:
        return _DefocusedRun(self._inner.start(plan), self._defocus_A)


class _DefocusedRun:
    def __init__(self, inner: PolicyRun, defocus_A: float) -> None:
        self._inner, self._defocus_A = inner, defocus_A

    def decide(self, observation: Observation) -> Move | None:
        move = self._inner.decide(observation)
        if move is None or move.defocus_A is not None:
            return move
        return dataclasses.replace(move, defocus_A=self._defocus_A)


def _policy(name: str, library: ModelLibrary, seed: int) -> Policy:
    if name == "two-pass":
        return TwoPassPolicy()
    if name == "random":
        return StaticPolicy(name, lambda count, fov: positions.random(count, fov, np.random.default_rng(seed)))
    if name in _SEQUENCES:
        return StaticPolicy(name, _SEQUENCES[name])
    model = load_choice(name, POLICY_KIND, library, _DESCRIPTIONS)
    return OnnxPolicy.load(library, str(model.path))


_SEQUENCES: collections.abc.Mapping[str, collections.abc.Callable[[int, positions.Region], FloatArray]] = {
    "sparse-grid": positions.sparse_grid,
    "halton": positions.halton,
}
