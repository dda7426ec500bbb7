"""The lines of a menu from which an operator chooses a built-in algorithm or an ONNX model, by name."""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib

from adaptive_core.errors import ModelError
from adaptive_core.model_library import LoadedModel, ModelEntry, ModelLibrary


@dataclasses.dataclass(frozen=True)
class Choice:
    """One line of a menu.

    Attributes:
        name: what is kept and looked up: a built-in name, or the path of a model.
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


def list_choices(library: ModelLibrary, kind: str, built_in: collections.abc.Mapping[str, str]) -> tuple[Choice, ...]:
    """Every choice of a kind of models: models first, then the built-in ones, given with their descriptions."""
    models = [
        Choice(str(entry.path), entry.name, entry.refusal or (entry.card.description if entry.card else ""), entry)
        for entry in library.list()
        if entry.card is None or entry.card.kind == kind
    ]
    own = (Choice(name, name.replace("-", " ").capitalize(), text) for name, text in built_in.items())
    return (*models, *own)


def default_choice(choices: tuple[Choice, ...], name: str) -> Choice:
    """The choice of a built-in name, or the usable model of a file name; else the first that is built in."""
    for choice in choices:
        if choice.usable and name in (choice.name, pathlib.Path(choice.name).stem):
            return choice
    return next(choice for choice in choices if choice.model is None)


def load_choice(name: str, kind: str, library: ModelLibrary, built_in: collections.abc.Iterable[str]) -> LoadedModel:
    """A model by its name or path; the error for an unknown name tells the built-in ones too. Raises ModelError."""
    try:
        return library.load(name, kind)
    except ModelError as error:
        if name.endswith(".onnx"):
            raise
        raise ModelError(f"{error} Built in are {', '.join(built_in)}.") from error
