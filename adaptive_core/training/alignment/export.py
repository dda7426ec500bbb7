"""Writes alignment policies as ONNX files with their cards."""

from __future__ import annotations

import pathlib
import tempfile

import torch

from adaptive_core.model_card import ModelCard, write_card


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
