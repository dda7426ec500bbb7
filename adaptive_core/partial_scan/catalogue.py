"""Every policy and generator that an operator can choose, by name: built-in ones and ONNX models."""

from __future__ import annotations

import dataclasses
import pathlib

from adaptive_core.errors import ModelError
from adaptive_core.model_library import LoadedModel, ModelEntry, ModelLibrary
from adaptive_core.partial_scan.error_policy import PredictedErrorPolicy
from adaptive_core.partial_scan.generator import BUILT_IN_GENERATORS, Generator, OnnxGenerator, built_in_generator
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.partial_scan.policy import Policy
from adaptive_core.partial_scan.static_policy import STATIC_POLICIES, StaticPolicy

POLICY_KIND = "partial_scan_policy"
GENERATOR_KIND = "partial_scan_generator"
DEFAULT_POLICY = PredictedErrorPolicy.name
"""Of the adaptive policies the one with the least error on validation images, see docs/models.md."""
DEFAULT_GENERATOR = "partial_scan_generator"


@dataclasses.dataclass(frozen=True)
class Choice:
    """One line of a menu.

    Attributes:
        name: what to give to :func:`policy` or :func:`generator`: a built-in name, or the path of a model.
        title: what the operator reads.
        description: a sentence on what it does; for a refused model, why it was refused.
        model: the model's entry in the library; None if it is built in.
    """

    name: str
    title: str
    description: str
    model: ModelEntry | None = None

    @property
    def usable(self) -> bool:
        """Whether it can be chosen; a refused model stays in the menu with its reason."""
        return self.model is None or self.model.refusal is None


_DESCRIPTIONS = {
    "spiral": "Static: an Archimedean spiral from the centre.",
    "serpentine": "Static: a serpentine raster of the same length.",
    "uniform-grid": "Static: an even grid of single positions.",
    "halton": "Static: a Halton sequence of single positions.",
    "random-segments": "Static: straight segments of random place and direction.",
    "predicted-error": "Adaptive: free segments where the generator predicts the largest error.",
    "linear-interpolation": "Linear interpolation between measured pixels; no predicted error.",
    "nearest-interpolation": "The nearest measured pixel; no predicted error.",
}


def policies(library: ModelLibrary) -> tuple[Choice, ...]:
    """Every policy: models first, then the built-in ones."""
    return _choices(library, POLICY_KIND, (PredictedErrorPolicy.name, *STATIC_POLICIES))


def generators(library: ModelLibrary) -> tuple[Choice, ...]:
    """Every generator: models first, then the built-in ones."""
    return _choices(library, GENERATOR_KIND, BUILT_IN_GENERATORS)


def policy(name: str, library: ModelLibrary) -> Policy:
    """A policy by its built-in name, the name of a model or the path of an ONNX file. Raises ModelError."""
    if name == PredictedErrorPolicy.name:
        return PredictedErrorPolicy()
    if name in STATIC_POLICIES:
        return StaticPolicy(name)
    return OnnxPolicy(_load(name, POLICY_KIND, library, (PredictedErrorPolicy.name, *STATIC_POLICIES)))


def generator(name: str, library: ModelLibrary) -> Generator:
    """A generator by its built-in name, the name of a model or the path of an ONNX file. Raises ModelError."""
    if name in BUILT_IN_GENERATORS:
        return built_in_generator(name)
    return OnnxGenerator(_load(name, GENERATOR_KIND, library, BUILT_IN_GENERATORS))


def _load(name: str, kind: str, library: ModelLibrary, built_in: tuple[str, ...]) -> LoadedModel:
    try:
        return library.load(name, kind)
    except ModelError as error:
        if name.endswith(".onnx"):
            raise
        raise ModelError(f"{error} Built in are {', '.join(built_in)}.") from error


def _choices(library: ModelLibrary, kind: str, built_in: tuple[str, ...]) -> tuple[Choice, ...]:
    models = [
        Choice(str(entry.path), entry.name, entry.refusal or (entry.card.description if entry.card else ""), entry)
        for entry in library.list()
        if entry.card is None or entry.card.kind == kind
    ]
    return (*models, *(Choice(name, name.replace("-", " ").capitalize(), _DESCRIPTIONS[name]) for name in built_in))


def default_choice(choices: tuple[Choice, ...], name: str) -> Choice:
    """The choice of a built-in name, or the usable model of a file name; else the first that is built in."""
    for choice in choices:
        if choice.usable and name in (choice.name, pathlib.Path(choice.name).stem):
            return choice
    return next(choice for choice in choices if choice.model is None)
