"""LSTMs and differentiable neural computers: against references, by what they remember, and as exported models."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_core.errors import InvalidInputError
from adaptive_core.training.partial_scan.actor_critic import Actor, recurrent
from adaptive_core.training.partial_scan.policy_export import policy_onnx
from adaptive_core.training.partial_scan.recurrent_networks import Dnc, LstmCell, Memory, linear, unroll

OPEN, SHUT = 30.0, -30.0
BACKWARD, CONTENT, FORWARD = range(3)


def test_lstm_cell_is_torchs_with_a_forget_bias_of_one():
    torch.manual_seed(0)
    cell, reference = LstmCell(5, 7), torch.nn.LSTMCell(5, 7)
    with torch.no_grad():
        reference.weight_ih.copy_(cell.gates.weight[:, :5])
        reference.weight_hh.copy_(cell.gates.weight[:, 5:])
        reference.bias_ih.zero_()
        reference.bias_hh.zero_()
        reference.bias_ih[7:14] = 1.0
    x, h, c = torch.randn(3, 5), torch.randn(3, 7), torch.randn(3, 7)
    out, state = cell(x, torch.cat([h, c], 1))
    expected_h, expected_c = reference(x, (h, c))
    torch.testing.assert_close(out, expected_h)
    torch.testing.assert_close(state, torch.cat([expected_h, expected_c], 1))


def test_projection_is_output_and_fed_back():
    cell = LstmCell(5, 8, projection=3)
    out, state = cell(torch.randn(2, 5), torch.randn(2, cell.state_size))
    assert out.shape == (2, 3)
    assert state.shape == (2, 3 + 8)
    torch.testing.assert_close(state[:, :3], out)


def test_weights_are_of_a_truncated_normal_distribution():
    torch.manual_seed(0)
    layer = linear(100, 200)
    assert layer.weight.abs().max() <= 0.2
    assert float(layer.weight.detach().std()) == pytest.approx(
        0.088, rel=0.02
    )  # a normal cut at 2 SD has 0.88 of its SD
    assert not layer.bias.any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=16))
def test_allocation_is_that_of_sorted_slots(usage):
    values = 1e-6 + (1 - 1e-6) * np.array(usage)
    found = Memory(1, slots=len(usage)).allocation(torch.tensor([[usage]], dtype=torch.float64))[0, 0]
    np.testing.assert_allclose(found, _allocation(values), atol=1e-7)
    assert found.sum() <= 1 + 1e-6


def _allocation(usage):
    """Graves et al. 2016, Eq. 1 of Methods, by a sort."""
    order = np.argsort(usage, kind="stable")
    weights = np.empty(len(usage))
    for place, slot in enumerate(order):
        weights[slot] = (1 - usage[slot]) * usage[order[:place]].prod()
    return weights


def _softmax(values):
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def _addressed(words, key, strength):
    cosines = [word @ key / np.sqrt(word @ word * (key @ key) + 1e-6) for word in words]
    return _softmax(np.array(cosines) * (1 + np.log1p(np.exp(strength))))


class _Graves:
    """One sample's memory as in the Methods of Graves et al. 2016, slot by slot."""

    def __init__(self, slots, word, reads):
        self.words, self.usage, self.written = np.zeros((slots, word)), np.zeros(slots), np.zeros(slots)
        self.precedence, self.links, self.read = np.zeros(slots), np.zeros((slots, slots)), np.zeros((reads, slots))

    def step(self, commands):
        vector, erase, keys, strengths, gates, modes = commands
        reads, slots = self.read.shape
        keys, modes = keys.reshape(1 + reads, -1), modes.reshape(reads, 3)
        chosen, gate, *free = 1 / (1 + np.exp(-gates))
        kept = np.prod([1 - f * weights for f, weights in zip(free, self.read, strict=True)], axis=0)
        self.usage = (self.usage + self.written - self.usage * self.written) * kept
        content = _addressed(self.words, keys[0], strengths[0])
        allocation = _allocation(1e-6 + (1 - 1e-6) * self.usage)
        self.written = gate * (chosen * allocation + (1 - chosen) * content)
        erased = self.words * (1 - np.outer(self.written, 1 / (1 + np.exp(-erase))))
        self.words = erased + np.outer(self.written, vector)
        for i in range(slots):
            for j in range(slots):
                left = (1 - self.written[i] - self.written[j]) * self.links[i, j]
                self.links[i, j] = 0.0 if i == j else left + self.written[i] * self.precedence[j]
        self.precedence = (1 - self.written.sum()) * self.precedence + self.written
        for head in range(reads):
            ways = [
                self.links.T @ self.read[head],
                _addressed(self.words, keys[1 + head], strengths[1 + head]),
                self.links @ self.read[head],
            ]
            self.read[head] = _softmax(modes[head]) @ np.array(ways)
        return (self.read @ self.words).ravel()


def test_memory_is_that_of_graves():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    memory = Memory(9, slots=5, word=4, reads=3).double()
    references = [_Graves(5, 4, 3) for _ in range(2)]
    state = torch.zeros(2, memory.state_size, dtype=torch.float64)
    for _ in range(20):
        x = torch.from_numpy(rng.normal(0, 5, (2, 9)))
        with torch.no_grad():
            out, state = memory(x, state)
            commands = torch.split(memory.interface(x), memory.interface_sizes, dim=1)
        for i, reference in enumerate(references):
            np.testing.assert_allclose(out[i], reference.step([part[i].numpy() for part in commands]), atol=1e-9)


def _commanded(memory, write=None, read=None, mode=CONTENT):
    """An interface vector that writes a word to the least used slot, or reads by a key or a temporal link."""
    parts = [torch.zeros(size) for size in memory.interface_sizes]
    vector, erase, keys, strengths, gates, modes = parts
    erase.fill_(OPEN)
    gates.copy_(torch.tensor([OPEN, SHUT if write is None else OPEN, SHUT]))
    if write is not None:
        vector.copy_(write)
    if read is not None:
        keys[memory.word :] = read
        strengths[1:] = OPEN
    modes[mode] = OPEN
    return torch.cat(parts)[None]


def test_memory_recalls_by_content_and_in_the_order_of_writing():
    memory = Memory(sum(Memory(1, slots=6, word=4, reads=1).interface_sizes), slots=6, word=4, reads=1)
    with torch.no_grad():
        memory.interface.weight.copy_(torch.eye(len(memory.interface.weight)))
        state = torch.zeros(1, memory.state_size)
        words = torch.eye(4) + 0.1
        for word in words:
            _, state = memory(_commanded(memory, write=word), state)
        for ways, expected in ((CONTENT, 1), (FORWARD, 2), (FORWARD, 3), (BACKWARD, 2), (BACKWARD, 1)):
            out, state = memory(_commanded(memory, read=words[1], mode=ways), state)
            np.testing.assert_allclose(out[0], words[expected], atol=1e-3)


def test_freed_slots_are_written_again():
    used = torch.full((1, 1, 3), 0.9)
    read = torch.tensor([[[0.0, 1.0, 0.0]]])
    left = Memory.used(used, torch.zeros(1, 1, 3), torch.ones(1, 1, 1), read)
    np.testing.assert_allclose(left, [[[0.9, 0.0, 0.9]]], atol=1e-6)
    assert Memory(1, slots=3).allocation(left).argmax() == 1


def test_dnc_has_the_papers_memory():
    dnc = recurrent("dnc", 40)
    assert isinstance(dnc, Dnc)
    assert (dnc.memory.reads, dnc.memory.slots, dnc.memory.word) == (4, 16, 64)
    assert dnc.controller.output_size == 2 * 128


@pytest.mark.parametrize("name", ["lstm", "dnc"])
def test_an_early_input_reaches_a_late_output_with_its_gradient(name):
    torch.manual_seed(0)
    network = recurrent(name, 4, hidden=8)
    inputs = torch.randn(2, 6, 4, requires_grad=True)
    outputs, states = unroll(network, inputs, network.state_size)
    assert not states[:, 0].any()
    (slope,) = torch.autograd.grad(outputs[:, -1].sum(), inputs)
    assert slope.isfinite().all()
    assert (slope[:, 0].abs().sum(1) > 0).all()
    again = network(inputs[:, 3], states[:, 3])[0]
    torch.testing.assert_close(again, outputs[:, 3])


@pytest.mark.parametrize("name", ["lstm", "dnc"])
@pytest.mark.parametrize("remaining", [False, True])
def test_exported_actor_equals_the_network(name, remaining):
    torch.manual_seed(0)
    actor = Actor(name, hidden=16, remaining=remaining)
    session = onnxruntime.InferenceSession(policy_onnx(actor, actor.state_size, remaining))
    assert {given.name for given in session.get_inputs()} == {
        "values",
        "position",
        "state",
        *(["remaining"] if remaining else []),
    }
    rng = np.random.default_rng(0)
    state = np.zeros((1, actor.state_size), np.float32)
    for step in range(5):
        inputs = {
            "values": rng.normal(size=(1, 20)).astype(np.float32) * (step > 0),
            "position": rng.uniform(-1, 1, (1, 2)).astype(np.float32) * (step > 0),
            "remaining": np.array([[1 - step / 20]], np.float32),
            "state": state,
        }
        with torch.no_grad():
            expected = actor(*map(torch.from_numpy, inputs.values()))
        if not remaining:
            del inputs["remaining"]
        direction, new = session.run(None, inputs)
        np.testing.assert_allclose(direction, expected[0], atol=1e-5)
        np.testing.assert_allclose(new, expected[1], atol=1e-5)
        assert np.hypot(*direction[0]) == pytest.approx(1, abs=1e-5)
        if step == 0:
            np.testing.assert_allclose(direction, np.full((1, 2), 0.5**0.5), atol=1e-6)
        state = new


def test_unknown_networks_are_refused():
    with pytest.raises(InvalidInputError, match="no recurrent network 'gru'"):
        recurrent("gru", 4)
    with pytest.raises(InvalidInputError, match="'dnc' with projection 32"):
        recurrent("dnc", 4, projection=32)
