"""Who is compared in the benchmark: paths, the generators that complete them, and completions without learning."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import pathlib
import typing

from adaptive_core import static_path
from adaptive_core.errors import ModelError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan import catalogue
from adaptive_core.partial_scan.benchmark.classical import BIHARMONIC, WIENER, Biharmonic, Wiener
from adaptive_core.partial_scan.generator import BUILT_IN_GENERATORS, Generator
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.partial_scan.plan import ScanPlan
from adaptive_core.partial_scan.policy import Policy
from adaptive_core.partial_scan.static_policy import FULL_RASTER, STATIC_POLICIES, StaticPolicy
from adaptive_core.scan_path import FloatArray, Size

GRID_COMPLETIONS = ("nearest-interpolation", "linear-interpolation", BIHARMONIC)
"""Completions of the uniform grid without learning."""
_CLASSICAL: collections.abc.Mapping[str, type[Biharmonic] | type[Wiener]] = {BIHARMONIC: Biharmonic, WIENER: Wiener}
_BLIND = frozenset({"position", "remaining"})


@dataclasses.dataclass(frozen=True)
class Rival:
    """One line of the table: a policy, by its label, and the name of what completes its scans."""

    policy: str
    generator: str


def static_positions(name: str, plan: ScanPlan) -> FloatArray:
    """Positions, shape (n, 2) px, of one of the static paths of the menu, or of the full raster."""
    if name == FULL_RASTER:
        return full_raster(plan.setup.size_px)
    return StaticPolicy(name).positions(plan)


def full_raster(size_px: Size) -> FloatArray:
    """The centre of every pixel, line by line, shape (height * width, 2) px."""
    return static_path.uniform_grid(size_px, size_px[0] * size_px[1])


def is_static(policy: str) -> bool:
    """Whether a policy of this label is one of the static paths or the full raster."""
    return policy == FULL_RASTER or policy in STATIC_POLICIES


@dataclasses.dataclass(frozen=True)
class Models:
    """Finds the models of a benchmark; it can be sent to another process.

    Attributes:
        generator: name or file of the generator that serves every path.
        folder: where further generators are looked for before the shipped ones; None for the shipped ones alone.
        policies: the sources of the policies by their labels.
    """

    generator: str = catalogue.DEFAULT_GENERATOR
    folder: pathlib.Path | None = None
    policies: tuple[tuple[str, str], ...] = ()

    def generators_of(self, policy: str) -> list[str]:
        """What completes a policy's scans: its own generator where there is one, and the one that serves all."""
        names = [catalogue.own_generator(policy), self.generator]
        return list(dict.fromkeys(name for name in names if name == self.generator or self._file(name) is not None))

    def load_generator(self, name: str) -> Generator:
        """A generator by a name of :meth:`generators_of`, or a completion without learning. Raises ModelError."""
        if name in _CLASSICAL:
            return _CLASSICAL[name]()
        if name in BUILT_IN_GENERATORS or name.endswith(".onnx"):
            return catalogue.generator(name, _library())
        found = self._file(name)
        return catalogue.generator(name if found is None else str(found), _library())

    def load_policy(self, label: str) -> Policy:
        """An adaptive policy by its label. Raises ModelError."""
        return catalogue.policy(dict(self.policies)[label], _library())

    def adaptive(self, label: str) -> bool:
        """Whether a policy looks at what was measured before it decides."""
        if is_static(label):
            return False
        policy = self.load_policy(label)
        return not isinstance(policy, OnnxPolicy) or not _BLIND.issuperset(policy.model.card.observes)

    def _file(self, name: str) -> pathlib.Path | None:
        folders = [folder for folder in (self.folder, _library().shipped) if folder is not None]
        return next((path for folder in folders if (path := folder / f"{name}.onnx").is_file()), None)


def policy_sources(names: collections.abc.Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """Label and source of the adaptive policies of these names or files; None for every usable one of the menu.

    Static paths are left out, since they are in every table. Raises ModelError.
    """
    if names is None:
        choices = [choice for choice in catalogue.policies(_library()) if choice.usable]
        names = [choice.name for choice in choices]
    sources: dict[str, str] = {}
    for name in names:
        label = pathlib.Path(name).stem if name.endswith(".onnx") else name
        if is_static(label):
            continue
        if label in sources and sources[label] != name:
            raise ModelError(f"Two policies are named {label}: {sources[label]} and {name}.")
        catalogue.policy(name, _library())
        sources[label] = name
    return tuple(sources.items())


@functools.cache
def _library() -> ModelLibrary:
    """One library a process, so that each model is loaded once."""
    return ModelLibrary()


def rivals(models: Models, noisy: bool) -> list[Rival]:
    """Every line of the table, in its order; the full raster only where noise tells it from the truth."""
    found = [Rival(name, generator) for name in STATIC_POLICIES for generator in models.generators_of(name)]
    found += [Rival("uniform-grid", completion) for completion in GRID_COMPLETIONS]
    if noisy:
        found += [Rival(FULL_RASTER, generator) for generator in (*models.generators_of(FULL_RASTER), WIENER)]
    found += [Rival(label, generator) for label, _ in models.policies for generator in models.generators_of(label)]
    return found


def described(models: Models, table: collections.abc.Iterable[Rival]) -> dict[str, typing.Any]:
    """Name on the card and SHA-256 of every model in the table, by the name that it has there."""
    found: dict[str, typing.Any] = {}
    for rival in table:
        loaded: list[tuple[str, object]] = [(rival.generator, models.load_generator(rival.generator))]
        if not is_static(rival.policy):
            loaded.append((rival.policy, models.load_policy(rival.policy)))
        for name, what in loaded:
            if (model := getattr(what, "model", None)) is not None:
                found[name] = {"name": model.card.name, "sha256": model.sha256}
    return found
