"""What a model must be before it may run: checks on the bytes of its file, on its signature and on its answers."""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core import model_wire
from adaptive_core.errors import ModelError
from adaptive_core.model_card import FREE_DIMENSIONS, PROBES_DIMENSION, ModelCard, Shape

FloatArrays = dict[str, npt.NDArray[np.float32]]
Run = collections.abc.Callable[[FloatArrays], FloatArrays]

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})

# Where the messages of onnx.proto3 hold others that can hold nodes or tensors: {message: {field: message}}. A node can
# hold whole graphs in its attributes (If, Loop, Scan), and a model functions and training graphs beside its graph.
_NESTED: typing.Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "opset": {},
    "tensor": {},
}
_DOMAIN: typing.Final = {"opset": 1, "node": 7, "function": 10}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of TensorProto


def check_file(model: bytes) -> None:
    """Refuse an ONNX file that is not self-contained or standard, before onnxruntime sees it. Raises ModelError.

    * External data would make onnxruntime read whatever file the model names.
    * Operators of another domain need a library to be loaded, or exist in some builds of onnxruntime only.
    """
    if not any(number == 7 for number, _, _ in model_wire.fields(memoryview(model))):
        raise ModelError("Not an ONNX file: it holds no graph.")
    pending: list[tuple[str, memoryview]] = [("model", memoryview(model))]
    while pending:
        what, content = pending.pop()
        nested, domain = _NESTED[what], _DOMAIN.get(what)
        for number, value, _ in model_wire.fields(content):
            if number in nested:
                pending.append((nested[number], model_wire.message(value, nested[number])))
            elif number == domain:
                _check_domain(what, model_wire.text(value, "domain"))
            elif what == "tensor" and number == _EXTERNAL_DATA:
                key, location = model_wire.string_pair(value, "external data")
                raise ModelError(f"The model keeps data in another file ({key} {location!r}); expected one file.")
            elif what == "tensor" and number == _DATA_LOCATION and value != 0:
                raise ModelError("The model keeps data in another file; expected one file.")


def _check_domain(what: str, domain: str) -> None:
    if domain not in STANDARD_DOMAINS:
        raise ModelError(f"The model needs operators of the domain {domain!r} ({what}); expected standard ONNX only.")


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """What an ONNX file declares of an input or output; ``shape`` holds None where a dimension is free."""

    name: str
    shape: tuple[int | None, ...]
    type: str


def check_signature(
    card: ModelCard, inputs: collections.abc.Sequence[TensorInfo], outputs: collections.abc.Sequence[TensorInfo]
) -> None:
    """Compare a model's inputs and outputs with what its card promises. Raises ModelError.

    The shapes of outputs are often not declared; :func:`check_answers` compares the real ones.
    """
    signature = card.signature
    _check_names("inputs", inputs, signature.inputs, signature.optional_inputs)
    _check_names("outputs", outputs, signature.outputs, signature.optional_outputs)
    takes_state = any(tensor.name == "state" for tensor in inputs)
    if takes_state != any(tensor.name == "state_out" for tensor in outputs):
        found = "the input state only" if takes_state else "the output state_out only"
        raise ModelError(f"The model has {found}; expected both state and state_out, or neither.")
    for tensor in (*inputs, *outputs):
        if tensor.type != "tensor(float)":
            raise ModelError(f"The tensor {tensor.name} is a {tensor.type}; expected tensor(float), that is float32.")
    shapes = {**signature.inputs, **signature.optional_inputs}
    sizes: dict[str, int] = {}
    for tensor in inputs:
        expected = shapes[tensor.name]
        if not _takes(tensor.shape, expected, card, sizes):
            raise ModelError(
                f"The input {tensor.name} has the shape {_shape_text(tensor.shape)}; "
                f"expected {_expected_text(expected, card)}."
            )


def check_answers(card: ModelCard, inputs: collections.abc.Sequence[TensorInfo], run: Run) -> None:
    """Run a model on zeros and on seeded noise, state carried; its answers must be finite and of the right shape."""
    signature = card.signature
    shapes = {**signature.inputs, **signature.optional_inputs}
    expected_outputs = {**signature.outputs, **signature.optional_outputs}
    multiple = card.size_multiple or 1
    height = multiple * math.ceil(32 / multiple)
    sizes: dict[str, int] = {"H": height, "W": height + multiple}
    if card.probes_per_segment is not None:
        sizes[PROBES_DIMENSION] = card.probes_per_segment
    for tensor in inputs:
        sizes.update(
            {
                letter: size
                for letter, size in zip(shapes[tensor.name], tensor.shape, strict=True)
                if isinstance(letter, str) and size is not None
            }
        )
    first = {name: np.zeros(_sized(shapes[name], sizes), np.float32) for name in (tensor.name for tensor in inputs)}
    random = np.random.default_rng(0)
    second = {name: random.standard_normal(zeros.shape, np.float32) for name, zeros in first.items()}
    if "partial" in second:
        mask = random.random(second["partial"].shape[2:]) < 0.05
        second["partial"][0, 0] *= mask
        second["partial"][0, 1] = mask
    for feed in (first, second):
        answer = run(feed)
        for name, output in answer.items():
            _check_answer(name, output, expected_outputs[name], card, sizes)
        if "state_out" in answer:
            second["state"] = answer["state_out"]


def _check_answer(
    name: str, output: npt.NDArray[np.float32], expected: Shape, card: ModelCard, sizes: dict[str, int]
) -> None:
    for letter, size in zip(expected, output.shape, strict=False):
        if isinstance(letter, str):
            sizes.setdefault(letter, size)
    if output.shape != _sized(expected, sizes):
        raise ModelError(
            f"The output {name} has the shape {_shape_text(output.shape)} on a test input; "
            f"expected {_expected_text(expected, card)}, here {_shape_text(_sized(expected, sizes))}."
        )
    if not np.isfinite(output).all():
        raise ModelError(f"The output {name} is not finite on a test input.")


def _sized(shape: Shape, sizes: collections.abc.Mapping[str, int]) -> tuple[int, ...]:
    return tuple(side if isinstance(side, int) else sizes.get(side, 0) for side in shape)


def _takes(found: tuple[int | None, ...], expected: Shape, card: ModelCard, sizes: dict[str, int]) -> bool:
    """Whether an input with the declared shape takes the expected one; letters are bound in ``sizes``."""
    if len(found) != len(expected):
        return False
    for size, side in zip(found, expected, strict=True):
        if side in FREE_DIMENSIONS:
            if size is not None:
                return False
            continue
        wanted = card.probes_per_segment if side == PROBES_DIMENSION else side
        if isinstance(wanted, str):
            if size is None or size < 1 or sizes.setdefault(wanted, size) != size:
                return False
        elif size is not None and size != wanted:
            return False
    return True


def _check_names(
    what: str,
    found: collections.abc.Sequence[TensorInfo],
    required: collections.abc.Iterable[str],
    optional: collections.abc.Iterable[str],
) -> None:
    names, wanted, allowed = {tensor.name for tensor in found}, set(required), set(optional)
    if not wanted <= names <= wanted | allowed:
        more = f" and optionally {', '.join(sorted(allowed))}" if allowed else ""
        raise ModelError(
            f"The model has the {what} {', '.join(sorted(names)) or 'none'}; "
            f"expected {', '.join(sorted(wanted)) or 'none'}{more}."
        )


def _shape_text(shape: collections.abc.Iterable[object]) -> str:
    return "[" + ", ".join("free" if side is None else str(side) for side in shape) + "]"


def _expected_text(shape: Shape, card: ModelCard) -> str:
    """For people: ``[1, 2, H, W] with free H, W``."""
    text = _shape_text(card.probes_per_segment if side == PROBES_DIMENSION else side for side in shape)
    free = [side for side in shape if side in FREE_DIMENSIONS]
    fixed = [side for side in shape if isinstance(side, str) and side not in FREE_DIMENSIONS | {PROBES_DIMENSION}]
    notes = [f"{' and '.join(map(str, free))} free"] if free else []
    notes += [f"a fixed {' and '.join(fixed)}"] if fixed else []
    return f"{text} with {' and '.join(notes)}" if notes else text
