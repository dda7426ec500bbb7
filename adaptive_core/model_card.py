"""What a model is: the card inside its ONNX file, and the kinds of models that the loops can use.

The card is a JSON string in the file's metadata, ``ModelProto.metadata_props`` with the key ``adaptive_scan_card``, so
that a model is one file. Reading and writing it needs neither the onnx package nor a run of the model.

Dimensions of the tensors in :data:`KINDS`, all float32, are written as

* a number: exactly this size;
* ``H`` and ``W``: height and width of an image, which the model must leave free;
* ``P``: the card's ``probes_per_segment``;
* another letter: a size of the model's own choice, fixed in the file and the same wherever the letter stands.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import math
import types
import typing

from adaptive_core import model_wire
from adaptive_core.errors import ModelError

CARD_KEY = "adaptive_scan_card"
FORMAT_VERSION = 1
STANDARDISED = "standardised"
FREE_DIMENSIONS = frozenset({"H", "W"})
PROBES_DIMENSION = "P"

Shape = tuple[int | str, ...]
Shapes = collections.abc.Mapping[str, Shape]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a kind of model takes and gives; the shapes' notation is explained at the top of this module.

    Attributes:
        inputs: tensors that every model of this kind takes.
        observations: tensors that it may take; a card's ``observes`` lists those that it does.
        outputs: tensors that every model of this kind gives.
        optional_outputs: tensors that it may give.
        actions: for a policy, the output by the card's ``action``.
        needs: fields of the card that this kind cannot do without.
        recurrent: whether it may carry a ``state`` [1, S] (zeros at the start) to ``state_out`` [1, S].
    """

    inputs: Shapes = dataclasses.field(default_factory=dict)
    observations: Shapes = dataclasses.field(default_factory=dict)
    outputs: Shapes = dataclasses.field(default_factory=dict)
    optional_outputs: Shapes = dataclasses.field(default_factory=dict)
    actions: collections.abc.Mapping[str, Shapes] = dataclasses.field(default_factory=dict)
    needs: tuple[str, ...] = ()
    recurrent: bool = False


STATE_SHAPE: Shape = (1, "S")

KINDS: collections.abc.Mapping[str, Kind] = {
    # Completes a partial scan. `partial`: channel 0 is the standardised mean value at measured pixels and 0 elsewhere,
    # channel 1 is 1 at measured pixels. `log_variance`: log of the predicted squared error (standardised units^2).
    "partial_scan_generator": Kind(
        inputs={"partial": (1, 2, "H", "W")},
        outputs={"image": (1, 1, "H", "W")},
        optional_outputs={"log_variance": (1, 1, "H", "W")},
        needs=("size_multiple", "values"),
    ),
    # Chooses the next part of a scan. `values`: those of the last action; `position`: where it ended, (y, x) with the
    # region mapped to [-1, 1]; `remaining`: fraction of the budget left; `estimate`: the generator's two outputs.
    "partial_scan_policy": Kind(
        observations={
            "values": (1, "P"),
            "position": (1, 2),
            "remaining": (1, 1),
            "partial": (1, 2, "H", "W"),
            "estimate": (1, 2, "H", "W"),
        },
        actions={
            "direction": {"direction": (1, 2)},  # (dy, dx) from the last end
            "segment": {"segment": (1, 4)},  # (y0, x0, y1, x1) in [-1, 1]
            "positions": {"positions": (1, "P", 2)},  # (y, x) in [-1, 1]
        },
        needs=("action", "probes_per_segment", "values"),
        recurrent=True,
    ),
    # Moves a diffraction disk onto its target. All in px of a screen of 1024 px, (y, x), and in units of the control of
    # which one moves the disk by about 512 px. `error_px`: disk less target; `sigma_px`: its standard deviation, each
    # axis; `limits_px`: lowest and highest (y, x) of the screen less the target; `known_jacobian`: px a unit, row by
    # row, zeros when it is unknown; `tolerance_px`: the disk is centred within it; `largest_move`: length of the
    # longest move that will be made; `moved`: what was made since the last frame, which may be shorter than the last
    # `move`. `estimate_px`: the error as the model believes it to be; `miss_chance`: bound on the chance that after the
    # move it is beyond the tolerance; `jacobian`: px a unit, as the model believes.
    "alignment_policy": Kind(
        inputs={"error_px": (1, 2)},
        observations={
            "sigma_px": (1, 1),
            "limits_px": (1, 4),
            "known_jacobian": (1, 4),
            "tolerance_px": (1, 1),
            "largest_move": (1, 1),
            "moved": (1, 2),
        },
        outputs={"move": (1, 2)},
        optional_outputs={"estimate_px": (1, 2), "miss_chance": (1, 1), "jacobian": (1, 4)},
        recurrent=True,
    ),
    # Compresses an intermediate reconstruction of the potential (Schloz et al. 2022, appendix A).
    "ptychography_encoder": Kind(inputs={"potential": (1, 1, "Y", "X")}, outputs={"code": (1, "K")}),
    # Chooses the next sub-sequence of probe positions (Schloz et al. 2022, Eqs. 3-5), (y, x) in [-1, 1]; the first one
    # is its answer to zeros. `code`: of the live image, by the encoder that training["encoder"] names; `dose`: common
    # logarithm of the planned e/A^2; `defocus_A`: of the next sub-sequence, positive for underfocus.
    "ptychography_policy": Kind(
        inputs={"positions": (1, "P", 2)},
        observations={"code": (1, "K"), "dose": (1, 1)},
        outputs={"next_positions": (1, "P", 2)},
        optional_outputs={"defocus_A": (1, 1)},
        needs=("probes_per_segment",),
        recurrent=True,
    ),
}
"""Every kind of model that is understood; a new kind is added here and nowhere else."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """The tensors that a model with a certain card must have, and those that it may have."""

    inputs: Shapes
    optional_inputs: Shapes
    outputs: Shapes
    optional_outputs: Shapes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model is, as its maker says.

    Attributes:
        kind: one of :data:`KINDS`.
        name: shown in menus; one line of at most 80 characters.
        description: a sentence or two for the operator.
        action: for a policy, one of its kind's ``actions``: what its output means.
        observes: names of the optional observations that it takes as inputs.
        probes_per_segment: probe positions of one action (the dimension P).
        probe_spacing_px: distance of the probe positions of a segment in px; needed by the action "direction".
        size_multiple: images are padded to a multiple of this number of px.
        values: "standardised": values are given less their mean and divided by their standard deviation, so that a
            model never sees detector units; None for kinds that see none.
        trained_on: specimens, images or simulations.
        training: how it was trained: config, seed, command, minutes, ...
        scores: each with ``dataset``, ``metric`` and ``value`` at least, and better with the baselines beside them.
        licence: SPDX identifier.
        sources: papers, data and code.
        format_version: version of this format.
    """

    kind: str
    name: str
    description: str = ""
    action: str | None = None
    observes: tuple[str, ...] = ()
    probes_per_segment: int | None = None
    probe_spacing_px: float | None = None
    size_multiple: int | None = None
    values: str | None = None
    trained_on: str = ""
    training: collections.abc.Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    scores: tuple[collections.abc.Mapping[str, typing.Any], ...] = ()
    licence: str = ""
    sources: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        _check_types(self)
        _check_meaning(self)

    @property
    def signature(self) -> Signature:
        """The tensors of a model with this card."""
        kind = KINDS[self.kind]
        state = {"state": STATE_SHAPE} if kind.recurrent else {}
        state_out = {"state_out": STATE_SHAPE} if kind.recurrent else {}
        return Signature(
            inputs={**kind.inputs, **{name: kind.observations[name] for name in self.observes}},
            optional_inputs=state,
            outputs={**kind.outputs, **(kind.actions[self.action] if self.action is not None else {})},
            optional_outputs={**kind.optional_outputs, **state_out},
        )

    def to_json(self) -> str:
        """The card as one line of JSON with all of its fields."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelCard:
        """Parse a card; every field must be there and no other. Raises ModelError."""
        try:
            data = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"The model's card is not valid JSON: {error}.") from error
        if not isinstance(data, dict):
            raise ModelError(f"The model's card must be a JSON object, not {type(data).__name__}.")
        if data.get("format_version") != FORMAT_VERSION:
            found = data.get("format_version", "none")
            raise ModelError(f"The model's card has format version {found}; expected {FORMAT_VERSION}.")
        expected = {field.name for field in dataclasses.fields(cls)}
        if missing := expected - data.keys():
            raise ModelError(f"The model's card lacks {_listed(missing)}.")
        if unknown := data.keys() - expected:
            raise ModelError(f"The model's card has unknown fields: {_listed(unknown)}.")
        for name in ("observes", "scores", "sources"):
            if not isinstance(data[name], list):
                raise ModelError(f"{name} of the model's card must be a list, not {data[name]!r}.")
            data[name] = tuple(data[name])
        return cls(**data)


def read_metadata(model: bytes) -> dict[str, str]:
    """The metadata of an ONNX file, given as its bytes. Raises ModelError if they are no ONNX file."""
    properties: dict[str, str] = {}
    for number, value, _ in model_wire.fields(memoryview(model)):
        if number == _METADATA_PROPS:
            key, text = model_wire.string_pair(value, "metadata")
            properties[key] = text
    return properties


def read_card(model: bytes) -> ModelCard:
    """The card of an ONNX file, given as its bytes. Raises ModelError if it has none, or one that is refused."""
    text = read_metadata(model).get(CARD_KEY)
    if text is None:
        raise ModelError(
            f"The model has no card (metadata {CARD_KEY!r}); give it one with: models add FILE --card CARD.json."
        )
    return ModelCard.from_json(text)


def write_card(model: bytes, card: ModelCard) -> bytes:
    """The bytes of an ONNX file with the card in place of any card that it has; all else is kept byte by byte."""
    kept = bytearray()
    start = 0
    for number, value, end in model_wire.fields(memoryview(model)):
        if number != _METADATA_PROPS or model_wire.string_pair(value, "metadata")[0] != CARD_KEY:
            kept += model[start:end]
        start = end
    entry = model_wire.encode_bytes(1, CARD_KEY.encode()) + model_wire.encode_bytes(2, card.to_json().encode())
    return bytes(kept) + model_wire.encode_bytes(_METADATA_PROPS, entry)


_METADATA_PROPS = 14  # ModelProto.metadata_props: repeated StringStringEntryProto {1: key, 2: value}


_TYPES: collections.abc.Mapping[str, tuple[type, ...]] = {
    "format_version": (int,),
    "kind": (str,),
    "name": (str,),
    "description": (str,),
    "action": (str, types.NoneType),
    "observes": (tuple,),
    "probes_per_segment": (int, types.NoneType),
    "probe_spacing_px": (int, float, types.NoneType),
    "size_multiple": (int, types.NoneType),
    "values": (str, types.NoneType),
    "trained_on": (str,),
    "training": (dict,),
    "scores": (tuple,),
    "licence": (str,),
    "sources": (tuple,),
}


def _check_types(card: ModelCard) -> None:
    for name, allowed in _TYPES.items():
        value = getattr(card, name)
        if not isinstance(value, allowed) or isinstance(value, bool):
            expected = " or ".join("null" if t is types.NoneType else t.__name__ for t in allowed)
            raise ModelError(f"{name} of the model's card must be {expected}, not {value!r}.")
    for name in ("observes", "sources"):
        if not all(isinstance(item, str) for item in getattr(card, name)):
            raise ModelError(f"{name} of the model's card must hold text only, not {getattr(card, name)!r}.")
    for score in card.scores:
        if not isinstance(score, dict) or not {"dataset", "metric", "value"} <= score.keys():
            raise ModelError(f"A score of the model's card needs dataset, metric and value, not {score!r}.")


def _check_meaning(card: ModelCard) -> None:
    if card.format_version != FORMAT_VERSION:
        raise ModelError(f"The model's card has format version {card.format_version}; expected {FORMAT_VERSION}.")
    if card.kind not in KINDS:
        raise ModelError(f"The model is of the unknown kind {card.kind!r}; expected one of {_listed(KINDS)}.")
    kind = KINDS[card.kind]
    if not 0 < len(card.name) <= 80 or not card.name.isprintable():
        raise ModelError(f"The model's name must be one line of 1 to 80 characters, not {card.name[:100]!r}.")
    for name in kind.needs:
        if getattr(card, name) is None:
            raise ModelError(f"The card of a {card.kind} needs {name}.")
    if card.action is not None and card.action not in kind.actions:
        expected = f"one of {_listed(kind.actions)}" if kind.actions else "null"
        raise ModelError(f"action of a {card.kind} must be {expected}, not {card.action!r}.")
    if unknown := set(card.observes) - kind.observations.keys():
        expected = f"only {_listed(kind.observations)}" if kind.observations else "nothing"
        raise ModelError(f"observes of a {card.kind} may list {expected}, not {_listed(unknown)}.")
    if len(set(card.observes)) != len(card.observes):
        raise ModelError(f"observes of the model's card lists something twice: {_listed(card.observes)}.")
    if card.action == "direction" and card.probe_spacing_px is None:
        raise ModelError('The card of a policy with the action "direction" needs probe_spacing_px.')
    for name in ("probes_per_segment", "probe_spacing_px", "size_multiple"):
        value = getattr(card, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ModelError(f"{name} of the model's card must be positive, not {value}.")
    if card.values not in (None, STANDARDISED):
        raise ModelError(f'values of the model\'s card must be "{STANDARDISED}" or null, not {card.values!r}.')


def _refuse_constant(name: str) -> typing.NoReturn:
    raise ValueError(f"{name} is not allowed")


def _listed(names: collections.abc.Iterable[str]) -> str:
    return ", ".join(sorted(names))
