"""Bad models of each sort are refused with what was expected and what was found."""

import dataclasses
import pathlib

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_models
from onnx import TensorProto, helper
from tiny_models import GENERATOR_CARD, POLICY_CARD, constant, model, node, with_card

from adaptive_core import model_checks
from adaptive_core.errors import ModelError
from adaptive_core.model_library import LoadedModel

PARTIAL = {"partial": (1, 2, "H", "W")}
IMAGE = {"image": (1, 1, "H", "W")}
ONE = constant("one", [1, 1], [2], TensorProto.INT64)
SPLIT = node("Split", "partial one", "image mask", axis=1)
OPSETS = [helper.make_opsetid("", 17)]


def load(content):
    return LoadedModel(content, pathlib.Path("model.onnx"))


def external_tensor(name="w"):
    tensor = helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return tensor


def generator_with(*nodes, initializers=(), functions=(), opsets=OPSETS):
    graph = model([ONE, SPLIT, *nodes], PARTIAL, IMAGE).graph
    graph.initializer.extend(initializers)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def subgraph(*nodes, initializers=()):
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])
    return helper.make_graph(list(nodes), "branch", [], [output], initializer=list(initializers))


def conditional(graph):
    return [constant("yes", [True], [], TensorProto.BOOL), node("If", "yes", "w", then_branch=graph, else_branch=graph)]


def function(*nodes, domain="", opsets=OPSETS):
    return helper.make_function(domain, "Local", [], ["out"], list(nodes), opsets)


def sparse_external():
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    return helper.make_sparse_tensor(external_tensor(), indices, [1])


def location_only():
    tensor = external_tensor()
    del tensor.external_data[:]
    return tensor


OUT = helper.make_node("Constant", [], ["out"], value=external_tensor("out"))
EXTERNAL = {
    "initializer": generator_with(initializers=[external_tensor()]),
    "location without a file": generator_with(initializers=[location_only()]),
    "constant": generator_with(helper.make_node("Constant", [], ["w"], value=external_tensor())),
    "sparse constant": generator_with(helper.make_node("Constant", [], ["w"], sparse_value=sparse_external())),
    "branch": generator_with(*conditional(subgraph(OUT))),
    "initializer of a branch of a branch": generator_with(
        *conditional(subgraph(*conditional(subgraph(initializers=[external_tensor("out")]))))
    ),
    "function": generator_with(functions=[function(OUT)]),
}

FOREIGN = node("Identity", "one", "out", domain="com.example")
CUSTOM = {
    "import": generator_with(opsets=[*OPSETS, helper.make_opsetid("com.example", 1)]),
    "node": generator_with(FOREIGN),
    "Microsoft's operators": generator_with(node("Gelu", "image", "out", domain="com.microsoft")),
    "branch": generator_with(*conditional(subgraph(FOREIGN))),
    "function": generator_with(functions=[function(node("Identity", "x", "out", domain="com.example"))]),
    "function of another domain": generator_with(functions=[function(domain="com.example")]),
    "import of a function": generator_with(functions=[function(opsets=[helper.make_opsetid("com.example", 1)])]),
}


@pytest.fixture
def no_session(monkeypatch):
    """Fails the test if onnxruntime gets to see the model."""

    def refuse(*_args, **_options):
        pytest.fail("onnxruntime saw a model that had to be refused before")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("proto", EXTERNAL.values(), ids=EXTERNAL.keys())
def test_external_data_is_refused_before_onnxruntime_can_open_it(proto):
    with pytest.raises(ModelError, match=r"keeps data in another file.*expected one file"):
        load(with_card(proto, GENERATOR_CARD))


@pytest.mark.usefixtures("no_session")
def test_external_data_as_the_onnx_package_saves_it_is_refused(tmp_path):
    proto = generator_with(initializers=[onnx.numpy_helper.from_array(np.ones(4096, np.float32), "w")])
    onnx.save(proto, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    with pytest.raises(ModelError, match=r"location 'weights\.bin'"):
        model_checks.check_file((tmp_path / "model.onnx").read_bytes())


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("proto", CUSTOM.values(), ids=CUSTOM.keys())
def test_custom_operators_are_refused(proto):
    with pytest.raises(ModelError, match=r"operators of the domain 'com\.\w+' .*expected standard ONNX only"):
        load(with_card(proto, GENERATOR_CARD))


def test_a_model_in_onnxruntimes_own_format_is_refused(tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(tiny_models.generator(), options, providers=["CPUExecutionProvider"])
    with pytest.raises(ModelError, match="Not an ONNX file"):
        load((tmp_path / "model.ort").read_bytes())


def image_from(*nodes, card=GENERATOR_CARD, inputs=PARTIAL, outputs=IMAGE, data_type=TensorProto.FLOAT):
    return with_card(model(nodes, inputs, outputs, data_type), card)


def policy_from(inputs, outputs, *nodes, **card):
    return with_card(model(nodes, inputs, outputs), dataclasses.replace(POLICY_CARD, **card))


STEP = constant("direction", [0.6, 0.8], [1, 2])
DIRECTION = {"direction": (1, 2)}
PASS_ON = node("Identity", "state", "state_out")
SIGNATURES = {
    "other input": (
        image_from(ONE, node("Split", "scan one", "image mask", axis=1), inputs={"scan": (1, 2, "H", "W")}),
        "has the inputs scan; expected partial.",
    ),
    "other output": (
        image_from(ONE, node("Split", "partial one", "picture mask", axis=1), outputs={"picture": (1, 1, "H", "W")}),
        "has the outputs picture; expected image and optionally log_variance.",
    ),
    "double": (
        image_from(ONE, SPLIT, data_type=TensorProto.DOUBLE),
        "The tensor partial is a tensor(double); expected tensor(float), that is float32.",
    ),
    "half": (
        image_from(ONE, SPLIT, data_type=TensorProto.FLOAT16),
        "The tensor partial is a tensor(float16); expected tensor(float), that is float32.",
    ),
    "rank": (
        image_from(ONE, node("Split", "partial one", "image mask", axis=0), inputs={"partial": (2, "H", "W")}),
        "The input partial has the shape [2, free, free]; expected [1, 2, H, W] with H and W free.",
    ),
    "channels": (
        image_from(node("ReduceMean", "partial", "image", axes=[1], keepdims=1), inputs={"partial": (1, 3, "H", "W")}),
        "The input partial has the shape [1, 3, free, free]; expected [1, 2, H, W] with H and W free.",
    ),
    "fixed size": (
        image_from(ONE, SPLIT, inputs={"partial": (1, 2, 96, 96)}, outputs={"image": (1, 1, 96, 96)}),
        "The input partial has the shape [1, 2, 96, 96]; expected [1, 2, H, W] with H and W free.",
    ),
    "probes": (
        policy_from({"values": (1, 16)}, DIRECTION, STEP),
        "The input values has the shape [1, 16]; expected [1, 20].",
    ),
    "free state": (
        policy_from({"values": (1, 20), "state": (1, "S")}, {**DIRECTION, "state_out": (1, "S")}, STEP, PASS_ON),
        "The input state has the shape [1, free]; expected [1, S] with a fixed S.",
    ),
    "state is not given back": (
        policy_from({"values": (1, 20), "state": (1, 4)}, DIRECTION, STEP),
        "The model has the input state only; expected both state and state_out, or neither.",
    ),
    "state from nowhere": (
        policy_from({"values": (1, 20)}, {**DIRECTION, "state_out": (1, 20)}, STEP, node("Neg", "values", "state_out")),
        "The model has the output state_out only; expected both state and state_out, or neither.",
    ),
    "observes more": (
        policy_from({"values": (1, 20), "position": (1, 2)}, DIRECTION, STEP),
        "has the inputs position, values; expected values and optionally state.",
    ),
    "observes less": (
        policy_from({"values": (1, 20)}, DIRECTION, STEP, observes=("values", "remaining")),
        "has the inputs values; expected remaining, values and optionally state.",
    ),
    "other action": (
        policy_from({"values": (1, 20)}, DIRECTION, STEP, action="segment"),
        "has the outputs direction; expected segment and optionally state_out.",
    ),
}
ANSWERS = {
    "NaN": (tiny_models.nan_generator(), "The output image is not finite on a test input."),
    "NaN after a step": (tiny_models.nan_policy(1), "The output direction is not finite on a test input."),
    "two channels": (
        image_from(node("Identity", "partial", "image"), outputs={"image": (1, "C", "H", "W")}),
        "The output image has the shape [1, 2, 32, 40] on a test input; "
        "expected [1, 1, H, W] with H and W free, here [1, 1, 32, 40].",
    ),
    "smaller image": (
        image_from(
            ONE,
            node("Split", "partial one", "full mask", axis=1),
            node("MaxPool", "full", "image", kernel_shape=[2, 2], strides=[2, 2]),
            outputs={"image": (1, 1, "h", "w")},
        ),
        "The output image has the shape [1, 1, 16, 20] on a test input; "
        "expected [1, 1, H, W] with H and W free, here [1, 1, 32, 40].",
    ),
    "too few positions": (
        policy_from(
            {"values": (1, 20)},
            {"positions": (1, "N", 2)},
            constant("positions", [0.0] * 8, [1, 4, 2]),
            action="positions",
        ),
        "The output positions has the shape [1, 4, 2] on a test input; expected [1, 20, 2], here [1, 20, 2].",
    ),
    "longer state": (
        policy_from(
            {"values": (1, 20), "state": (1, 4)},
            {**DIRECTION, "state_out": (1, "T")},
            STEP,
            node("Concat", "state state", "state_out", axis=1),
        ),
        "The output state_out has the shape [1, 8] on a test input; expected [1, S] with a fixed S, here [1, 4].",
    ),
    "fails to run": (
        image_from(constant("shape", [1, 1, 7, 7], [4], TensorProto.INT64), node("Reshape", "partial shape", "image")),
        "Tiny generator could not run: ",
    ),
}
REFUSED = {
    "unknown operator": (generator_with(node("Teleport", "one", "out")), "onnxruntime refuses the model: "),
    "opset of the future": (generator_with(opsets=[helper.make_opsetid("", 999)]), "onnxruntime refuses the model: "),
    "broken graph": (generator_with(node("Neg", "nothing", "out")), "onnxruntime refuses the model: "),
}
BAD = {
    **SIGNATURES,
    **ANSWERS,
    **{name: (with_card(proto, GENERATOR_CARD), message) for name, (proto, message) in REFUSED.items()},
    "empty": (b"", "Not an ONNX file: it holds no graph."),
    "text": (b"I am a model", "Not an ONNX file"),
    "no card": (generator_with().SerializeToString(), "The model has no card"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_model_is_refused_with_what_was_expected_and_found(content, message):
    with pytest.raises(ModelError) as error:
        load(content)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


GOOD = {
    "generator": tiny_models.generator(),
    "generator without log variance": tiny_models.generator(log_variance=False),
    "large multiple": tiny_models.generator(size_multiple=48),
    "direction": tiny_models.direction_policy(),
    "segment": tiny_models.segment_policy(),
    "positions": tiny_models.positions_policy(),
    "alignment": tiny_models.alignment_policy(),
    "free batch": image_from(ONE, SPLIT, inputs={"partial": ("N", 2, "H", "W")}),
    "branches": with_card(generator_with(*conditional(subgraph(constant("out", [1.0], [1])))), GENERATOR_CARD),
    "encoder": with_card(
        model(
            [node("ReduceMean", "potential", "code", axes=[1, 2], keepdims=0)],
            {"potential": (1, 1, 8, 8)},
            {"code": (1, 8)},
        ),
        dataclasses.replace(tiny_models.ALIGNMENT_CARD, kind="ptychography_encoder"),
    ),
    "ptychography": with_card(
        model(
            [node("Neg", "positions", "next_positions")],
            {"code": (1, 8), "positions": (1, 50, 2)},
            {"next_positions": (1, 50, 2)},
        ),
        dataclasses.replace(
            tiny_models.ALIGNMENT_CARD, kind="ptychography_policy", observes=("code",), probes_per_segment=50
        ),
    ),
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD.keys())
def test_a_good_model_is_accepted(content):
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    assert load(content).output_names
