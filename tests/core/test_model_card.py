"""Cards: strict JSON, and metadata of ONNX files that the onnx package reads and writes the same way."""

import dataclasses
import json

import onnx
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st

from adaptive_core import model_wire
from adaptive_core.errors import ModelError
from adaptive_core.model_card import CARD_KEY, KINDS, ModelCard, read_card, read_metadata, write_card

CARD = tiny_models.GENERATOR_CARD
PROTO = tiny_models.model(
    [tiny_models.node("Neg", "x", "y")],
    {"x": (1, 2)},
    {"y": (1, 2)},
)
PLAIN = PROTO.SerializeToString()


def changed(**fields):
    """The JSON of a card with some fields changed; those that are None are left out."""
    data = json.loads(CARD.to_json())
    data.update(fields)
    return json.dumps({name: value for name, value in data.items() if value != "left out"})


def metadata(model):
    return {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}


@pytest.mark.parametrize(
    "card", [CARD, tiny_models.POLICY_CARD, tiny_models.ALIGNMENT_CARD], ids=lambda card: card.kind
)
def test_json_round_trip(card):
    assert ModelCard.from_json(card.to_json()) == card
    assert "\n" not in card.to_json()


@given(
    st.builds(
        ModelCard,
        kind=st.just("partial_scan_policy"),
        name=st.text("aÅ-ß中 ", min_size=1, max_size=80).filter(str.isprintable),
        description=st.text(),
        action=st.sampled_from(sorted(KINDS["partial_scan_policy"].actions)),
        observes=st.lists(st.sampled_from(sorted(KINDS["partial_scan_policy"].observations)), unique=True).map(tuple),
        probes_per_segment=st.integers(1, 1000),
        probe_spacing_px=st.floats(1e-3, 1e3),
        values=st.just("standardised"),
        trained_on=st.text(),
        training=st.dictionaries(
            st.text(), st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        ),
        sources=st.lists(st.text()).map(tuple),
    )
)
def test_any_card_survives_its_file(card):
    model = write_card(PLAIN, card)
    assert read_card(model) == card
    assert metadata(model) == {CARD_KEY: card.to_json()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "must be a JSON object, not list"),
        ('{"format_version": NaN}', "NaN is not allowed"),
        (changed(format_version=2), "format version 2; expected 1"),
        (changed(format_version="left out"), "format version none; expected 1"),
        (changed(name="left out", licence="left out"), "lacks licence, name"),
        (changed(colour="blue"), "unknown fields: colour"),
        (changed(kind="cat"), "unknown kind 'cat'; expected one of alignment_policy, partial_scan_generator"),
        (changed(kind=3), "kind of the model's card must be str, not 3"),
        (changed(name=""), "one line of 1 to 80 characters"),
        (changed(name="two\nlines"), "one line of 1 to 80 characters"),
        (changed(action="direction"), "action of a partial_scan_generator must be null, not 'direction'"),
        (changed(observes=["values"]), "may list nothing, not values"),
        (changed(observes="values"), "observes of the model's card must be a list"),
        (changed(size_multiple=None), "The card of a partial_scan_generator needs size_multiple"),
        (changed(size_multiple=0), "size_multiple of the model's card must be positive, not 0"),
        (changed(size_multiple=8.5), "size_multiple of the model's card must be int or null, not 8.5"),
        (changed(size_multiple=True), "size_multiple of the model's card must be int or null, not True"),
        (changed(values="raw"), "\"standardised\" or null, not 'raw'"),
        (changed(scores=[{"mse": 1}]), "needs dataset, metric and value"),
        (changed(sources=[1]), "sources of the model's card must hold text only"),
        (changed(training=[]), "training of the model's card must be dict"),
    ],
)
def test_a_bad_card_is_refused_with_the_reason(text, message):
    with pytest.raises(ModelError) as error:
        ModelCard.from_json(text)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action": None}, "The card of a partial_scan_policy needs action"),
        ({"action": "jump"}, "must be one of direction, positions, segment, not 'jump'"),
        ({"observes": ("values", "values")}, "twice"),
        ({"observes": ("state",)}, "may list only estimate, partial, position, remaining, values, not state"),
        ({"probe_spacing_px": None}, 'action "direction" needs probe_spacing_px'),
        ({"probe_spacing_px": float("inf")}, "must be positive, not inf"),
        ({"probes_per_segment": None}, "needs probes_per_segment"),
    ],
)
def test_a_bad_policy_card_is_refused_with_the_reason(fields, message):
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(tiny_models.POLICY_CARD, **fields)


def test_a_card_replaces_another_and_keeps_everything_else():
    proto = onnx.load_from_string(PLAIN)
    for key, value in (("maker", "someone"), (CARD_KEY, "old"), ("empty", ""), (CARD_KEY, "older")):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    model = write_card(proto.SerializeToString(), CARD)
    assert metadata(model) == {"maker": "someone", "empty": "", CARD_KEY: CARD.to_json()}
    assert read_metadata(model) == metadata(model)
    assert write_card(model, CARD) == model
    after = onnx.load_from_string(model)
    del after.metadata_props[:], proto.metadata_props[:]
    assert after == proto
    onnx.checker.check_model(onnx.load_from_string(model))


@given(st.dictionaries(st.text(), st.text()))
def test_metadata_is_what_the_onnx_package_writes(properties):
    proto = onnx.load_from_string(PLAIN)
    onnx.helper.set_model_props(proto, properties)
    assert read_metadata(proto.SerializeToString()) == properties


def test_a_model_without_a_card_is_refused_with_a_hint():
    with pytest.raises(ModelError, match=r"has no card .* models add FILE --card"):
        read_card(PLAIN)


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_never_crashes(content):
    with pytest.raises(ModelError):
        read_card(content)


@given(st.integers(0, len(tiny_models.generator()) - 1))
def test_a_file_cut_short_has_no_card(size):
    with pytest.raises(ModelError):
        read_card(tiny_models.generator()[:size])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00", "field number 0"),
        (b"\x0b", "wire type 3"),
        (b"\x0a\x05ab", "cut short"),
        (b"\x08", "cut short"),
        (b"\x08" + b"\xff" * 10, "longer than 10 bytes"),
        (b"\x70\x01", "expected bytes for metadata, found a number"),
        (b"\x72\x03\x0a\x01\xff", "metadata is no UTF-8 text"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(content, message):
    with pytest.raises(ModelError, match=message):
        read_metadata(content)


@given(st.integers(1, 2**29 - 1), st.binary(max_size=300))
def test_fields_are_read_as_they_are_written(number, content):
    encoded = model_wire.encode_bytes(number, content)
    assert [(n, bytes(value), end) for n, value, end in model_wire.fields(memoryview(encoded))] == [
        (number, content, len(encoded))
    ]
