"""``adaptive-scan models``: list, show, verify and add models."""

from __future__ import annotations

import argparse
import json
import pathlib

from adaptive_core.errors import ModelError
from adaptive_core.model_card import KINDS
from adaptive_core.model_library import ModelEntry, ModelLibrary, add_model
from nionswift_plugin.adaptive_scan.swift_folders import user_folders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    listing = actions.add_parser("list", help="list every model with its kind, or why it is refused")
    listing.add_argument("--kind", choices=KINDS, help="only models of this kind")
    show = actions.add_parser("show", help="show the card of a model")
    show.add_argument("model", metavar="NAME|PATH")
    verify = actions.add_parser("verify", help="verify models and run them on a test input")
    verify.add_argument("models", metavar="NAME|PATH", nargs="*", help="(default: every model)")
    add = actions.add_parser("add", help="verify an ONNX file and copy it into your models folder")
    add.add_argument("file", type=pathlib.Path, metavar="FILE")
    add.add_argument("--card", type=pathlib.Path, metavar="CARD.json", help="the card to give it (default: its own)")
    add.add_argument("--replace", action="store_true", help="replace a model of the same file name")


def run(options: argparse.Namespace) -> int:
    """Do what was asked for."""
    folder = user_folders().models
    library = ModelLibrary([folder])
    if options.action == "list":
        for entry in library.list(options.kind):
            print(_line(entry))
    elif options.action == "show":
        model = library.load(options.model)
        print(
            json.dumps({**json.loads(model.card.to_json()), "sha256": model.sha256, "file": str(model.path)}, indent=2)
        )
    elif options.action == "verify":
        _verify(library, options.models)
    else:
        card = None if options.card is None else _read_card(options.card)
        print(f"Added {add_model(options.file, card, folder, options.replace).path}.")
    return 0


def _line(entry: ModelEntry) -> str:
    if entry.card is None:
        return f"{entry.path.stem}: refused: {entry.refusal}"
    origin = "shipped" if entry.shipped else str(entry.path)
    return f"{entry.path.stem}: {entry.card.kind}, {entry.card.name} ({origin})"


def _verify(library: ModelLibrary, names: list[str]) -> None:
    """Verify each model and say so. Raises ModelError if one was refused."""
    refused = 0
    names = names or [str(entry.path) for entry in library.list()]
    for name in names:
        try:
            model = library.load(name)
            print(f"{model.path.stem}: good, {model.card.kind}, SHA-256 {model.sha256}")
        except ModelError as error:
            refused += 1
            print(f"{pathlib.Path(name).stem}: refused: {error}")
    if refused:
        raise ModelError(f"{refused} of {len(names)} models refused.")


def _read_card(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"The card {path} cannot be read: {' '.join(str(error).split())}.") from error
