"""Tiny ONNX models of every kind, good and bad, for tests: each is built in a millisecond."""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib
import typing

import onnx
from onnx import TensorProto, helper

from adaptive_core.model_card import ModelCard, write_card

Dimensions = collections.abc.Sequence[int | str]
Tensors = collections.abc.Mapping[str, Dimensions]

GENERATOR_CARD = ModelCard(
    kind="partial_scan_generator",
    name="Tiny generator",
    description="Gives the measured pixels back.",
    size_multiple=8,
    values="standardised",
    trained_on="nothing",
    training={"config": "none", "seed": 0},
    scores=({"dataset": "none", "metric": "mse", "value": 1.0, "baselines": {"zero": 2.0}},),
    licence="GPL-3.0-or-later",
    sources=("https://doi.org/10.1088/2632-2153/abf5b6",),
)
POLICY_CARD = ModelCard(
    kind="partial_scan_policy",
    name="Tiny policy",
    description="Acts without thinking.",
    action="direction",
    observes=("values",),
    probes_per_segment=20,
    probe_spacing_px=2**0.5,
    values="standardised",
    trained_on="nothing",
)
ALIGNMENT_CARD = ModelCard(kind="alignment_policy", name="Tiny alignment", description="Moves half of the way.")

Nodes = collections.abc.Sequence[onnx.NodeProto]


def node(op: str, inputs: str, outputs: str, **attributes: typing.Any) -> onnx.NodeProto:
    """A node; names are separated by blanks."""
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def constant(
    name: str, values: typing.Any, dims: collections.abc.Sequence[int], data_type: int = TensorProto.FLOAT
) -> onnx.NodeProto:
    """A node that gives a constant tensor."""
    return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, data_type, dims, values))


def model(nodes: Nodes, inputs: Tensors, outputs: Tensors, data_type: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """An ONNX model of opset 17 without a card."""
    tensors = [
        [helper.make_tensor_value_info(name, data_type, list(dims)) for name, dims in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(list(nodes), "tiny", *tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_card(proto: onnx.ModelProto, card: ModelCard) -> bytes:
    """The bytes of an ONNX file with this card."""
    return write_card(proto.SerializeToString(), card)


def generator(log_variance: bool = True, **card: typing.Any) -> bytes:
    """Gives the measured pixels back as the image, and a log variance of -1 at measured and 0 at other pixels."""
    nodes = [
        constant("one", [1, 1], [2], TensorProto.INT64),
        node("Split", "partial one", "image mask", axis=1),
        node("Neg", "mask", "log_variance"),
    ]
    names = ("image", "log_variance") if log_variance else ("image",)
    outputs: dict[str, Dimensions] = dict.fromkeys(names, (1, 1, "H", "W"))
    proto = model(nodes if log_variance else nodes[:2], {"partial": (1, 2, "H", "W")}, outputs)
    return with_card(proto, dataclasses.replace(GENERATOR_CARD, **card))


def direction_policy(direction: tuple[float, float] = (0.6, 0.8), **card: typing.Any) -> bytes:
    """Always answers the same direction, and counts its decisions in a recurrent state of 4 numbers."""
    nodes = [
        constant("direction", direction, [1, 2]),
        constant("one", [1.0], [1]),
        node("Add", "state one", "state_out"),
    ]
    changed = dataclasses.replace(POLICY_CARD, **card)
    probes = changed.probes_per_segment or 1
    inputs = {"values": (1, probes), "state": (1, 4)}
    return with_card(model(nodes, inputs, {"direction": (1, 2), "state_out": (1, 4)}), changed)


def segment_policy(segment: tuple[float, float, float, float] = (-0.5, -0.5, 0.5, 0.5), **card: typing.Any) -> bytes:
    """Always answers the same free segment, mirrored after the middle of the budget."""
    nodes = [
        constant("segment_before", segment, [1, 4]),
        constant("half", [0.5], [1]),
        node("Sub", "remaining half", "side"),
        node("Sign", "side", "sign"),
        node("Mul", "segment_before sign", "segment"),
    ]
    changed = dataclasses.replace(POLICY_CARD, action="segment", observes=("remaining",), **card)
    return with_card(model(nodes, {"remaining": (1, 1)}, {"segment": (1, 4)}), changed)


def positions_policy(probes: int = 16, **card: typing.Any) -> bytes:
    """Answers positions on a diagonal around where the last action ended; looks at the generator's estimate."""
    diagonal = [-0.2 + 0.4 * i / max(probes - 1, 1) for i in range(probes) for _ in range(2)]
    nodes = [
        constant("diagonal", diagonal, [1, probes, 2]),
        constant("quarter", [0.25], [1]),
        constant("nothing", [0.0], [1]),
        node("Mul", "position quarter", "near"),
        node("ReduceMean", "estimate", "level", axes=[2, 3], keepdims=0),
        node("Mul", "level nothing", "no_level"),
        node("Add", "near no_level", "centre"),
        node("Add", "diagonal centre", "positions"),
    ]
    changed = dataclasses.replace(
        POLICY_CARD, action="positions", observes=("position", "estimate"), probes_per_segment=probes, **card
    )
    inputs = {"position": (1, 2), "estimate": (1, 2, "H", "W")}
    return with_card(model(nodes, inputs, {"positions": (1, probes, 2)}), changed)


def alignment_policy(**card: typing.Any) -> bytes:
    """Moves half of the error back, and remembers the error."""
    nodes = [
        constant("gain", [-0.5], [1]),
        node("Mul", "error_px gain", "move"),
        node("Add", "state zero", "state_out"),
    ]
    nodes.insert(0, constant("zero", [0.0], [1]))
    inputs = {"error_px": (1, 2), "state": (1, 2)}
    return with_card(
        model(nodes, inputs, {"move": (1, 2), "state_out": (1, 2)}), dataclasses.replace(ALIGNMENT_CARD, **card)
    )


def ptychography_encoder() -> bytes:
    """Compresses an image of 8 px a side by its mean along one of them."""
    nodes = [node("ReduceMean", "potential", "code", axes=[1, 2], keepdims=0)]
    card = dataclasses.replace(ALIGNMENT_CARD, kind="ptychography_encoder", name="Tiny encoder")
    return with_card(model(nodes, {"potential": (1, 1, 8, 8)}, {"code": (1, 8)}), card)


def ptychography_policy(positions: int, defocus_A: float, **training: typing.Any) -> bytes:
    """Answers points on a diagonal and, in turn, their mirror images, at a defocus; looks at the live image's code."""
    diagonal = [-0.8 + 1.6 * i / max(positions - 1, 1) for i in range(positions) for _ in range(2)]
    nodes = [
        constant("diagonal", diagonal, [1, positions, 2]),
        constant("mirror", [1.0, -1.0], [1, 1, 2]),
        constant("defocus_A", [defocus_A], [1, 1]),
        node("Mul", "positions mirror", "mirrored"),
        node("Add", "diagonal mirrored", "sum"),
        constant("half", [0.5], [1]),
        node("Mul", "sum half", "next_positions"),
    ]
    card = ModelCard(
        kind="ptychography_policy",
        name="Tiny ptychography",
        description="Walks along a diagonal.",
        observes=("code",),
        probes_per_segment=positions,
        training=training,
    )
    inputs: Tensors = {"code": (1, 8), "positions": (1, positions, 2)}
    outputs: Tensors = {"next_positions": (1, positions, 2), "defocus_A": (1, 1)}
    return with_card(model(nodes, inputs, outputs), card)


def nan_generator(when_measured: bool = False) -> bytes:
    """Answers NaN: always, or only once more than half of the pixels are measured, which no check beforehand finds."""
    threshold = 0.5 if when_measured else -1.0
    nodes = [
        constant("one", [1, 1], [2], TensorProto.INT64),
        constant("threshold", [threshold], [1]),
        constant("nan", [float("nan")], [1]),
        node("Split", "partial one", "measured mask", axis=1),
        node("ReduceMean", "mask", "coverage", axes=[2, 3], keepdims=1),
        node("Greater", "coverage threshold", "bad"),
        node("Where", "bad nan measured", "image"),
    ]
    proto = model(nodes, {"partial": (1, 2, "H", "W")}, {"image": (1, 1, "H", "W")})
    return with_card(proto, dataclasses.replace(GENERATOR_CARD, name="Tiny NaN generator"))


def nan_policy(after: int = 0) -> bytes:
    """A direction policy that answers NaN after so many decisions; from 2 on, no check before a scan finds it."""
    nodes = [
        constant("good", [0.6, 0.8], [1, 2]),
        constant("nan", [float("nan")], [1]),
        constant("one", [1.0], [1]),
        constant("after", [float(after)], [1]),
        node("GreaterOrEqual", "state after", "bad"),
        node("Where", "bad nan good", "direction"),
        node("Add", "state one", "state_out"),
    ]
    inputs = {"values": (1, 20), "state": (1, 1)}
    proto = model(nodes, inputs, {"direction": (1, 2), "state_out": (1, 1)})
    return with_card(proto, dataclasses.replace(POLICY_CARD, name="Tiny NaN policy"))


def save(folder: pathlib.Path, name: str, content: bytes) -> pathlib.Path:
    """Write a model into a folder, which is made if need be, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path
