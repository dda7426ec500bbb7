"""From a trained PyTorch module to the project's model format: ONNX."""

from __future__ import annotations

import io
import pathlib
import warnings

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from torch import nn

from adaptive_core.errors import ModelError

OPSET = 17


def to_onnx(
    module: nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: tuple[str, ...],
    dynamic_axes: dict[str, dict[int, str]] | None = None,
) -> bytes:
    """Trace a module with example ``inputs`` (in the order of its arguments) to an ONNX file in memory, opset 17."""
    buffer = io.BytesIO()
    was_training = module.training
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated, but it is the one that needs no further package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            buffer,  # type: ignore[arg-type]
            opset_version=OPSET,
            dynamo=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=dynamic_axes or {},
        )
    module.train(was_training)
    return buffer.getvalue()


def write_model(path: pathlib.Path, model: bytes) -> None:
    """Write a model; an interruption leaves the file before."""
    new = path.with_suffix(".new")
    new.write_bytes(model)
    new.replace(path)


def read_weights(path: pathlib.Path) -> dict[str, torch.Tensor]:
    """The tensors of an ONNX file by name; those of a module exported by :func:`to_onnx` have its own names.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except (OSError, ValueError, DecodeError) as error:
        raise ModelError(f"{path} is not a readable ONNX file: {error}.") from error
    weights = {
        tensor.name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
        for tensor in model.graph.initializer
    }
    # The exporter keeps one of several equal tensors and refers to it by the other names.
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    return weights
