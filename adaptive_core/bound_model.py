"""Runs a loaded model many times without making new arrays, for policies whose every step counts."""

from __future__ import annotations

import collections.abc
import math
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import ModelError
from adaptive_core.model_card import ModelCard, Shape

_STATE, _STATE_OUT = "state", "state_out"


class BoundModel:
    """A model whose inputs and outputs stay where they are.

    Attributes:
        input_names: of the inputs but the recurrent state, which is zeros at first.
        outputs: float32 arrays by name, overwritten in each run.
    """

    def __init__(
        self,
        card: ModelCard,
        session: typing.Any,
        input_shapes: collections.abc.Mapping[str, tuple[int | None, ...]],
    ) -> None:
        """Raises ModelError if the size of an output is left open, by the kind of model too."""
        self._card = card
        self._session = session
        self._binding = session.io_binding()
        inputs = {name: tuple(size or 1 for size in shape) for name, shape in input_shapes.items()}
        state = inputs.get(_STATE, (1, 0))
        expected = {**card.signature.outputs, **card.signature.optional_outputs, _STATE_OUT: state}
        outputs = {output.name: expected[output.name] for output in session.get_outputs()}
        _, self._inputs = self._bind(inputs, self._binding.bind_input)
        self._all_outputs, self.outputs = self._bind(outputs, self._binding.bind_output)
        self._state = self._inputs.pop(_STATE, None)
        self._flat_inputs = {name: array.reshape(-1) for name, array in self._inputs.items()}
        self.input_names = tuple(self._inputs)

    def write(self, values: collections.abc.Mapping[str, collections.abc.Sequence[float]]) -> None:
        """Set inputs, number by number; names that the model does not have are left out."""
        for name, array in self._flat_inputs.items():
            if name in values:
                array[:] = values[name]

    def carry_state(self) -> None:
        """Make the state after the last run that before the next one."""
        if self._state is not None:
            np.copyto(self._state, self.outputs[_STATE_OUT])

    def run(self) -> None:
        """Compute the outputs. Raises ModelError if the model cannot run or an output is not finite."""
        try:
            self._session.run_with_iobinding(self._binding)
        # onnxruntime's own exceptions have no common base but Exception.
        except Exception as error:
            raise ModelError(f"{self._card.name} could not run: {error}") from error
        if not np.isfinite(self._all_outputs).all():
            names = [name for name, output in self.outputs.items() if not np.isfinite(output).all()]
            raise ModelError(f"{self._card.name}: the output {names[0]} is not finite.")

    def _bind(
        self,
        shapes: collections.abc.Mapping[str, Shape],
        bind: collections.abc.Callable[..., None],
    ) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.float32]]]:
        """One array of zeros, and its parts by name."""
        sizes = {}
        for name, shape in shapes.items():
            whole = [size for size in shape if isinstance(size, int)]
            if len(whole) < len(shape):
                raise ModelError(f"{self._card.name}: the size of {name} is not known beforehand.")
            sizes[name] = whole
        everything = np.zeros(sum(math.prod(size) for size in sizes.values()), dtype=np.float32)
        arrays, start = {}, 0
        for name, size in sizes.items():
            arrays[name] = everything[start : start + math.prod(size)].reshape(size)
            bind(name, "cpu", 0, np.float32, size, arrays[name].ctypes.data)
            start += math.prod(size)
        return everything, arrays
