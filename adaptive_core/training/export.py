"""From a trained PyTorch module to the project's model format: ONNX."""

from __future__ import annotations

import io
import math
import pathlib
import warnings

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from torch import nn

from adaptive_core.errors import ModelError

OPSET = 17
_LARGE = 1024  # numbers


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


def with_half_weights(model: bytes) -> bytes:
    """An ONNX file of nearly half the size: large float32 weights are kept as float16 and cast when it is loaded."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) >= _LARGE:
            half = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16))
            half.name = f"{tensor.name}.half"
            casts.append(onnx.helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT))
            tensor.CopyFrom(half)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return bytes(proto.SerializeToString())


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
        if node.op_type in ("Identity", "Cast") and node.input[0] in weights:
            tensor = weights[node.input[0]]
            weights[node.output[0]] = tensor.float() if node.op_type == "Cast" else tensor
    return weights
