"""Writes alignment policies as ONNX files with their cards.

    python -m adaptive_core.training.alignment.export MODEL BENCHMARK...

puts the figures of benchmarks (the output of ``adaptive-scan benchmark alignment --json``, a file each) onto the card.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import pathlib
import sys
import tempfile
import typing

import torch

from adaptive_core.model_card import ModelCard, read_card, write_card


def export_policy(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    card: ModelCard,
    path: pathlib.Path,
) -> None:
    """Trace the module with the example inputs and write the ONNX file (opset 17, one file)."""
    with tempfile.TemporaryDirectory() as folder:
        plain = pathlib.Path(folder) / "model.onnx"
        torch.onnx.export(
            module, example, str(plain), input_names=inputs, output_names=outputs, opset_version=17, dynamo=False
        )
        model = plain.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(write_card(model, card))


def add_scores(path: pathlib.Path, benchmarks: collections.abc.Sequence[dict[str, typing.Any]]) -> None:
    """Replace the scores on a model's card by its rows in benchmarks, with the other policies' rows beside them."""
    model = path.read_bytes()
    card = read_card(model)
    scores = []
    for figures in benchmarks:
        rows = {row["policy"]: row for row in figures["policies"]}
        own = rows.pop(card.name)
        dataset = f"world {figures['world']}, {figures['trials']} rendered trials, seed {figures['seed']}"
        for metric in ("frames_mean", "frames_p95", "success", "off_screen", "rms_px"):
            others = {name: row[metric] for name, row in rows.items()}
            score = {"dataset": dataset, "metric": metric, "value": own[metric]}
            scores.append(score | ({"baselines": others} if others else {}))
    path.write_bytes(write_card(model, dataclasses.replace(card, scores=tuple(scores))))


if __name__ == "__main__":
    add_scores(pathlib.Path(sys.argv[1]), [json.loads(pathlib.Path(name).read_text()) for name in sys.argv[2:]])
