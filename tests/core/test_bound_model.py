"""A bound model answers as the loaded one does, and says what is wrong."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tiny_models

from adaptive_core.errors import ModelError
from adaptive_core.model_library import LoadedModel


def loaded(content: bytes) -> LoadedModel:
    return LoadedModel(content, pathlib.Path("tiny.onnx"))


def test_it_answers_as_the_loaded_model_and_carries_its_state() -> None:
    model = loaded(tiny_models.alignment_policy())
    bound, state = model.bound(), np.zeros((1, 2), np.float32)
    assert bound.input_names == ("error_px",)
    for error in ([3.0, -4.0], [1.0, 2.0]):
        bound.write({"error_px": error, "what the model does not have": [1.0]})
        bound.run()
        expected = model.run(error_px=np.array([error], np.float32), state=state)
        for name, output in expected.items():
            np.testing.assert_array_equal(bound.outputs[name], output)
        state = expected["state_out"]
        bound.carry_state()


def test_two_runs_of_a_model_do_not_share_anything() -> None:
    model = loaded(tiny_models.alignment_policy())
    first, second = model.bound(), model.bound()
    first.write({"error_px": [1.0, 0.0]})
    second.write({"error_px": [2.0, 0.0]})
    first.run()
    second.run()
    assert first.outputs["move"][0, 0] == -0.5


def test_an_output_that_is_not_finite_is_an_error() -> None:
    bound = loaded(tiny_models.alignment_policy()).bound()
    bound.write({"error_px": [np.nan, 0.0]})
    with pytest.raises(ModelError, match="the output move is not finite"):
        bound.run()


def test_a_model_whose_output_has_no_size_of_its_own_cannot_be_bound() -> None:
    with pytest.raises(ModelError, match="the size of image is not known"):
        loaded(tiny_models.generator()).bound()
