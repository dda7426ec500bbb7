"""Every policy and generator that an operator can choose, by name: built-in ones and ONNX models."""

from __future__ import annotations

import collections.abc
import pathlib

from adaptive_core.choices import Choice, default_choice, list_choices, load_choice
from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan.error_policy import PredictedErrorPolicy
from adaptive_core.partial_scan.generator import BUILT_IN_GENERATORS, Generator, OnnxGenerator, built_in_generator
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.partial_scan.policy import Policy
from adaptive_core.partial_scan.refinement_policy import RefinementPolicy
from adaptive_core.partial_scan.static_policy import FULL_RASTER, STATIC_POLICIES, StaticPolicy

POLICY_KIND = "partial_scan_policy"
GENERATOR_KIND = "partial_scan_generator"
DEFAULT_POLICY = RefinementPolicy.name
"""Of the adaptive policies the one with the least error on validation images, see docs/partial_scan_policies.md."""
DEFAULT_GENERATOR = "partial_scan_generator"
"""Serves every policy that has none of its own."""
DENOISER = "partial_scan_denoiser"
"""That of the full raster."""

_POLICIES = {
    RefinementPolicy.name: "Adaptive: an even first look, then single positions where the predicted error is largest.",
    PredictedErrorPolicy.name: "Adaptive: free segments where the generator predicts the largest error.",
    "spiral": "Static: an Archimedean spiral from the centre.",
    "serpentine": "Static: a serpentine raster of the same length.",
    "uniform-grid": "Static: an even grid of single positions.",
    "blue-noise": "Static: irregular positions at even distances; a lattice cannot alias.",
    "halton": "Static: a Halton sequence of single positions.",
    "random-segments": "Static: straight segments of random place and direction.",
    FULL_RASTER: "Static: every pixel once, denoised. At equal dose it has less error than any sparse scan; "
    "needs a coverage of 100 % and a dwell time as short as the dose asks for.",
}
_ADAPTIVE: dict[str, collections.abc.Callable[[], Policy]] = {
    RefinementPolicy.name: RefinementPolicy,
    PredictedErrorPolicy.name: PredictedErrorPolicy,
}
_GENERATORS = {
    "linear-interpolation": "Linear interpolation between measured pixels; no predicted error.",
    "nearest-interpolation": "The nearest measured pixel; no predicted error.",
}


def policies(library: ModelLibrary) -> tuple[Choice, ...]:
    """Every policy: models first, then the built-in ones."""
    return list_choices(library, POLICY_KIND, _POLICIES)


def generators(library: ModelLibrary) -> tuple[Choice, ...]:
    """Every generator: models first, then the built-in ones."""
    return list_choices(library, GENERATOR_KIND, _GENERATORS)


def own_generator(policy: str) -> str:
    """File name, less its suffix, of the generator that was trained for a policy alone, whose name or file is given."""
    if policy == FULL_RASTER:
        return DENOISER
    return f"{DEFAULT_GENERATOR}_{pathlib.Path(policy).stem.removeprefix(f'{POLICY_KIND}_').replace('-', '_')}"


def default_generator(policy: str, choices: tuple[Choice, ...]) -> Choice:
    """What completes a policy's scans best: its own generator, or where there is none the one that serves all."""
    own = own_generator(policy)
    found = default_choice(choices, own)
    return found if pathlib.Path(found.name).stem == own else default_choice(choices, DEFAULT_GENERATOR)


def policy(name: str, library: ModelLibrary) -> Policy:
    """A policy by its built-in name, the name of a model or the path of an ONNX file. Raises ModelError."""
    if name in _ADAPTIVE:
        return _ADAPTIVE[name]()
    if name in (*STATIC_POLICIES, FULL_RASTER):
        return StaticPolicy(name)
    return OnnxPolicy(load_choice(name, POLICY_KIND, library, _POLICIES))


def generator(name: str, library: ModelLibrary) -> Generator:
    """A generator by its built-in name, the name of a model or the path of an ONNX file. Raises ModelError."""
    if name in BUILT_IN_GENERATORS:
        return built_in_generator(name)
    return OnnxGenerator(load_choice(name, GENERATOR_KIND, library, _GENERATORS))
