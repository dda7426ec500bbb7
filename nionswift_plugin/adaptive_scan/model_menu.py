"""The models that a section of the panel offers, with what an operator reads about them."""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib
import typing

from adaptive_core.choices import Choice, default_choice
from adaptive_core.errors import ModelError
from adaptive_core.model_library import ModelEntry, ModelLibrary, add_model
from adaptive_core.partial_scan import catalogue as partial_scan
from adaptive_core.ptychography import catalogue as ptychography


@dataclasses.dataclass(frozen=True)
class MenuLine:
    """One line of a menu of models.

    Attributes:
        name: what the settings keep.
        title: what the operator reads.
        card: what is to be known about it, some lines of text.
        usable: False for a model that is refused; the card says why.
    """

    name: str
    title: str
    card: str
    usable: bool


@dataclasses.dataclass(frozen=True)
class ModelMenu:
    """The menus of policies and generators, and the lines that are chosen where the settings name none.

    Attributes:
        default_generators: one for each policy.
    """

    policies: tuple[MenuLine, ...] = ()
    generators: tuple[MenuLine, ...] = ()
    default_policy: int = 0
    default_generators: tuple[int, ...] = ()


def partial_scan_menu(library: ModelLibrary) -> ModelMenu:
    """Read the models for partial scans; may take a while."""
    policies, generators = partial_scan.policies(library), partial_scan.generators(library)
    return ModelMenu(
        _lines(policies),
        _lines(generators),
        policies.index(default_choice(policies, partial_scan.DEFAULT_POLICY)),
        tuple(generators.index(partial_scan.default_generator(policy.name, generators)) for policy in policies),
    )


def ptychography_menu(library: ModelLibrary) -> ModelMenu:
    """Read the policies for ptychographic scans; may take a while."""
    policies = ptychography.policies(library)
    return ModelMenu(
        _lines(policies), default_policy=policies.index(default_choice(policies, ptychography.DEFAULT_POLICY))
    )


def add_to_user_models(
    path: pathlib.Path, folder: pathlib.Path, kinds: collections.abc.Collection[str]
) -> tuple[str, pathlib.Path]:
    """Verify a model and copy it into the user's folder; its kind and its new path.

    Raises ModelError if it is refused, or is of none of the ``kinds``.
    """
    kind = ModelLibrary(shipped=folder).load(path).card.kind if path.parent != folder else None
    if kind is not None and kind not in kinds:
        raise ModelError(f"{path.name}: expected a model of the kind {' or '.join(kinds)}, found {kind}.")
    try:
        loaded = add_model(path, None, folder)
    except ModelError as error:
        raise ModelError(f"{path.name}: {error}") from error
    return loaded.card.kind, loaded.path


def _lines(choices: collections.abc.Iterable[Choice]) -> tuple[MenuLine, ...]:
    """A combo box of Swift finds its lines by their text, so every title must be another one."""
    lines: list[MenuLine] = []
    titles: set[str] = set()
    for choice in choices:
        plain = choice.title if choice.usable else f"{choice.title} (refused)"
        title, number = plain, 1
        while title in titles:
            number += 1
            title = f"{plain} {number}"
        titles.add(title)
        lines.append(MenuLine(choice.name, title, _card_text(choice), choice.usable))
    return tuple(lines)


def _card_text(choice: Choice) -> str:
    entry = choice.model
    if entry is None:
        return choice.description
    if entry.card is None:
        return f"Refused: {entry.refusal}\n{entry.path}"
    card = entry.card
    lines = [card.description, f"Trained on: {card.trained_on or 'not said'}."]
    lines += [_score_text(score) for score in card.scores]
    lines.append(f"{_size_text(entry)}, {_origin_text(entry)}, {card.licence or 'no licence given'}.")
    return "\n".join(line for line in lines if line)


def _score_text(score: collections.abc.Mapping[str, typing.Any]) -> str:
    conditions = ", ".join(f"{key} {_figure(score[key])}" for key in ("coverage", "probes") if key in score)
    baselines = ", ".join(f"{name} {_figure(value)}" for name, value in score.get("baselines", {}).items())
    text = f"{score['metric']} {_figure(score['value'])} on {score['dataset']}"
    return text + (f" ({conditions})" if conditions else "") + (f"; {baselines}" if baselines else "") + "."


def _figure(value: typing.Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _size_text(entry: ModelEntry) -> str:
    try:
        size = entry.path.stat().st_size
    except OSError:
        return "file missing"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"


def _origin_text(entry: ModelEntry) -> str:
    return "shipped" if entry.shipped else f"from {entry.path.parent}"
