"""The menus of models in the panel."""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib
import threading
import typing

from nion.utils import Observable

from adaptive_core.model_library import ModelLibrary
from nionswift_plugin.adaptive_scan.background import Background, Post
from nionswift_plugin.adaptive_scan.model_menu import MenuLine, ModelMenu, add_to_user_models

LOAD_ONNX = "Load ONNX..."
"""The last line of every menu."""

M = typing.TypeVar("M")


@dataclasses.dataclass(frozen=True)
class ModelKinds(typing.Generic[M]):
    """What a section takes for models.

    Attributes:
        read: the menus of a library; may take a while.
        load: the models that settings name, of a library. Raises ModelError; may take a while.
        key: what of the settings decides which models those are.
        settings: the setting that names a model, by its kind; None for a kind that only other models name.
    """

    read: collections.abc.Callable[[ModelLibrary], ModelMenu]
    load: collections.abc.Callable[[typing.Any, ModelLibrary], M]
    key: collections.abc.Callable[[typing.Any], collections.abc.Hashable]
    settings: collections.abc.Mapping[str, str | None]


class Owner(typing.Protocol):
    """Whose models they are.

    Attributes:
        settings: name the chosen models.
    """

    settings: typing.Any

    def change(self, **changes: typing.Any) -> None:
        """Change settings."""
        ...

    def refresh(self) -> None:
        """The models may be other ones now."""
        ...

    def say(self, line: str) -> None:
        """Tell the operator something."""
        ...

    def ask_for_onnx(self) -> pathlib.Path | None:
        """Let the operator choose a file."""
        ...


class ModelChoices(Observable.Observable, typing.Generic[M]):
    """Which models there are and which are chosen; for the user interface's thread.

    Observable properties: ``policy_titles``, ``policy_index``, ``generator_titles``, ``generator_index``, ``cards``.

    Args:
        owner: holds the settings.
        folder: the user's models.
        background: reads the models.
        post: has a function called on the user interface's thread.
        kinds: what the owner takes for models.

    Attributes:
        menu: as it was read last; empty until then.
    """

    def __init__(
        self, owner: Owner, folder: pathlib.Path, background: Background, post: Post, kinds: ModelKinds[M]
    ) -> None:
        super().__init__()
        self.menu = ModelMenu()
        self._owner = owner
        self._folder = folder
        self._background = background
        self._post = post
        self._kinds = kinds
        self._library = ModelLibrary([folder])
        self._lock = threading.Lock()
        self._loaded: tuple[collections.abc.Hashable, M] | None = None
        self._changing_menus = False
        self._asking: str | None = None

    @property
    def policy_titles(self) -> list[str]:
        """Lines of the menu of policies; empty until the models have been read."""
        return _titles(self.menu.policies)

    @property
    def generator_titles(self) -> list[str]:
        """Lines of the menu of generators; empty until the models have been read."""
        return _titles(self.menu.generators)

    @property
    def policy_index(self) -> int:
        """The chosen policy; choosing the last line asks for a file."""
        return len(self.menu.policies) if self._asking == "policy" else self._policy

    @policy_index.setter
    def policy_index(self, index: int | None) -> None:
        self._choose("policy", self.menu.policies, index)

    @property
    def generator_index(self) -> int:
        """The chosen generator, by default the policy's own; choosing the last line asks for a file."""
        return len(self.menu.generators) if self._asking == "generator" else self._generator

    @generator_index.setter
    def generator_index(self, index: int | None) -> None:
        self._choose("generator", self.menu.generators, index)

    @property
    def _policy(self) -> int:
        return _index(self.menu.policies, self._owner.settings.policy, self.menu.default_policy)

    @property
    def _generator(self) -> int:
        own = self.menu.default_generators[self._policy] if self.menu.default_generators else 0
        return _index(self.menu.generators, self._owner.settings.generator, own)

    @property
    def cards(self) -> str:
        """What is to be known about the chosen models."""
        if not self.menu.policies:
            return ""
        chosen = [self.menu.policies[self._policy]]
        if self.menu.generators:
            chosen.append(self.menu.generators[self._generator])
        return "\n\n".join(f"{line.title}\n{line.card}" for line in chosen)

    def read(self) -> None:
        """Look again which models there are."""
        self._background.submit(
            "The list of models", lambda: self._kinds.read(self._library), self._show, self._owner.say
        )

    def load(self, settings: typing.Any) -> M:
        """The models that settings name, from any thread; may take a while. Raises ModelError."""
        key = self._kinds.key(settings)
        with self._lock:
            if self._loaded is None or self._loaded[0] != key:
                self._loaded = key, self._kinds.load(settings, self._library)
            return self._loaded[1]

    def ask(self) -> None:
        """Let the operator choose a file, verify it and choose it as a model."""
        path = self._owner.ask_for_onnx()
        if path is not None:
            self.add(path)

    def add(self, path: pathlib.Path) -> None:
        """Verify a model, copy it into the user's folder and choose it."""

        def add() -> tuple[str, pathlib.Path, ModelMenu]:
            kind, added = add_to_user_models(path, self._folder, self._kinds.settings)
            return kind, added, self._kinds.read(self._library)

        def choose(result: tuple[str, pathlib.Path, ModelMenu]) -> None:
            kind, added, menu = result
            self._show(menu)
            setting = self._kinds.settings[kind]
            if setting is not None:
                self._owner.change(**{setting: str(added)})
            self._owner.say(f"Added {added.name}.")

        self._background.submit("Loading a model", add, choose, self._owner.say)

    def settings_changed(self) -> None:
        """The owner's settings may name other models now."""
        self._notify("policy_index", "generator_index", "cards")

    def _choose(self, part: str, lines: tuple[MenuLine, ...], index: int | None) -> None:
        if index is None or self._changing_menus or not lines:
            return
        # A combo box answers what it is told to show; a default that it repeats must not become a choice.
        if index == (self._policy if part == "policy" else self._generator):
            return
        if index < len(lines):
            self._owner.change(**{part: lines[index].name})
        else:
            # A combo box that is not told of its last line would not hear of the line before it again.
            self._asking = part
            self._notify(f"{part}_index")
            # A dialog must not be opened while the menu is closing.
            self._post(self._ask_once)

    def _ask_once(self) -> None:
        try:
            self.ask()
        finally:
            self._asking = None
            self.settings_changed()

    def _show(self, menu: ModelMenu) -> None:
        with self._lock:
            self._loaded = None
        if menu == self.menu:
            return
        self.menu = menu
        # A combo box answers new lines with the index that it had before.
        self._changing_menus = True
        try:
            self._notify("policy_titles", "generator_titles")
        finally:
            self._changing_menus = False
        self.settings_changed()
        self._owner.refresh()

    def _notify(self, *names: str) -> None:
        for name in names:
            self.notify_property_changed(name)


def _titles(lines: collections.abc.Sequence[MenuLine]) -> list[str]:
    return [*(line.title for line in lines), LOAD_ONNX] if lines else []


def _index(lines: collections.abc.Sequence[MenuLine], name: str | None, default: int) -> int:
    return next((index for index, line in enumerate(lines) if line.name == name), default)
