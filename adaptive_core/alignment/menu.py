"""The policies that an operator can choose from: learned ones of the model library first, then the classical ones."""

from __future__ import annotations

from adaptive_core.alignment.classical import CLASSICAL_POLICIES
from adaptive_core.alignment.policy import AlignmentPolicy, OnnxAlignmentPolicy
from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import ModelLibrary

KIND = "alignment_policy"
DEFAULT_STEM = "alignment_hybrid"
"""File name, without suffix, of the default policy."""


def policy_names(library: ModelLibrary | None = None) -> tuple[str, ...]:
    """Names of every policy, the default first."""
    entries = [e for e in (library or ModelLibrary()).list(KIND) if e.refusal is None]
    entries.sort(key=lambda entry: entry.path.stem != DEFAULT_STEM)
    return (*(entry.name for entry in entries), *(policy.name for policy in CLASSICAL_POLICIES))


def find_policy(name: str | None = None, library: ModelLibrary | None = None) -> AlignmentPolicy:
    """The policy with this name, of the model with this name, or of this ONNX file; None for the default.

    Raises InvalidInputError if there is none, ModelError if its model is refused.
    """
    models = library or ModelLibrary()
    if name is None:
        return OnnxAlignmentPolicy(models.load(DEFAULT_STEM, KIND))
    if name.endswith(".onnx"):
        return OnnxAlignmentPolicy(models.load(name, KIND))
    for policy in CLASSICAL_POLICIES:
        if policy.name == name:
            return policy
    for entry in models.list(KIND):
        if entry.refusal is None and name in (entry.name, entry.path.stem):
            return OnnxAlignmentPolicy(models.load(entry.path, KIND))
    raise InvalidInputError(f"There is no alignment policy {name!r}; there are {', '.join(policy_names(models))}.")
