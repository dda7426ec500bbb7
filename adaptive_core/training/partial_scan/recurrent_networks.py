"""Recurrent networks of actor and critic: deep LSTMs with skips and differentiable neural computers (Ede 2021, S1).

A network maps an input (B, I) and its state (B, S), zeros at the start, to an output (B, O) and the next state. The
state is one flat tensor, whatever it holds, so that a replay, a target network and an exported model handle all
networks alike.
"""

from __future__ import annotations

import collections.abc
import typing

import torch
from torch import nn
from torch.nn import functional


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A dense layer as in the paper: weights of a truncated normal distribution, of SD ``inputs^-1/2``; zero biases."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    sd = inputs**-0.5
    nn.init.trunc_normal_(layer.weight, 0.0, sd, -2 * sd, 2 * sd)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


Step = collections.abc.Callable[[torch.Tensor, torch.Tensor], typing.Any]
"""Maps an input (B, I) and a state (B, S) to an output (B, O) and the next state."""


class Recurrent(nn.Module):
    """What all networks of this file share.

    Attributes:
        state_sizes: lengths of the parts of the state.
        output_size: length O of the output.
    """

    state_sizes: list[int]
    output_size: int

    @property
    def state_size(self) -> int:
        """Length S of the state."""
        return sum(self.state_sizes)


class LstmCell(Recurrent):
    """A long short-term memory (Hochreiter and Schmidhuber 1997) with a bias of 1 on the forget gate.

    With ``projection`` the hidden units are projected linearly to that many, which are output and fed back (Jia et al.
    2017; Ede 2021, fig. S2c); 0 leaves them.
    """

    def __init__(self, inputs: int, hidden: int, projection: int = 0) -> None:
        super().__init__()
        self.output_size = projection or hidden
        self.state_sizes = [self.output_size, hidden]
        self.gates = linear(inputs + self.output_size, 4 * hidden)
        self.project = linear(hidden, projection, bias=False) if projection else None

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, I) and (B, S) to (B, O) and (B, S)."""
        h, c = torch.split(state, self.state_sizes, dim=1)
        i, f, g, o = self.gates(torch.cat([x, h], dim=1)).chunk(4, dim=1)
        c = torch.sigmoid(f + 1.0) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        h = h if self.project is None else self.project(h)
        return h, torch.cat([h, c], dim=1)


class DeepLstm(Recurrent):
    """Two LSTM layers; the input skips to the second, and the first to the output (Ede 2021, fig. S1a)."""

    def __init__(self, inputs: int, hidden: int = 128, projection: int = 0) -> None:
        super().__init__()
        self.first = LstmCell(inputs, hidden, projection)
        self.second = LstmCell(inputs + self.first.output_size, hidden, projection)
        self.output_size = self.first.output_size + self.second.output_size
        self.state_sizes = [self.first.state_size, self.second.state_size]

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, I) and (B, S) to (B, O) and (B, S)."""
        first, second = torch.split(state, self.state_sizes, dim=1)
        h1, first = self.first(x, first)
        h2, second = self.second(torch.cat([x, h1], dim=1), second)
        return torch.cat([h1, h2], dim=1), torch.cat([first, second], dim=1)


class Memory(Recurrent):
    """The external memory of a differentiable neural computer, with one write head (Graves et al. 2016, Methods).

    The state is rows of one number for each slot: the memory (word rows, a slot's word is a column), usage, the last
    write weights, precedence, the temporal links (slots rows), and the last read weights (reads rows). So all of it is
    cut and joined along one axis, and a decision takes few operations, whose number is what it costs.
    """

    def __init__(self, inputs: int, slots: int = 16, word: int = 64, reads: int = 4) -> None:
        super().__init__()
        self.slots, self.word, self.reads = slots, word, reads
        self.rows = [word, 1, 1, 1, slots, reads]
        self.state_sizes = [slots * rows for rows in self.rows]
        self.output_size = reads * word
        # Write vector and erase vector; keys and their strengths, that of writing before those of reading; allocation
        # gate, write gate and free gates; read modes.
        self.interface_sizes = [word, word, (1 + reads) * word, 1 + reads, 2 + reads, 3 * reads]
        self.interface = linear(inputs, sum(self.interface_sizes))
        # Of equal slots the first comes first; usages that are not equal differ by more than this.
        self.register_buffer("ties", 1e-30 * torch.ones(slots, slots).tril(-1), persistent=False)
        self.register_buffer("others", 1 - torch.eye(slots), persistent=False)

    ties: torch.Tensor
    others: torch.Tensor

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map the controller's output (B, I) and the state (B, S) to the words read (B, reads * word) and the state."""
        rows = state.view(-1, sum(self.rows), self.slots)
        memory, usage, written, precedence, links, read = torch.split(rows, self.rows, dim=1)
        commands = torch.split(self.interface(x)[:, :, None], self.interface_sizes, dim=1)
        write_vector, erase, keys, strengths, gates, modes = commands
        keys, modes = keys.view(-1, 1 + self.reads, self.word), modes.view(-1, self.reads, 3)
        strengths = 1 + functional.softplus(strengths)
        chosen, write, free = torch.split(torch.sigmoid(gates), [1, 1, self.reads], dim=1)
        usage = self.used(usage, written, free, read)
        content = self.addressed(memory, keys, strengths)[:, :1]
        written = write * (chosen * self.allocation(usage) + (1 - chosen) * content)
        memory = memory * (1 - written * torch.sigmoid(erase)) + written * write_vector
        links = self.linked(links, written, precedence)
        precedence = (1 - written.sum(dim=2, keepdim=True)) * precedence + written
        content = self.addressed(memory, keys, strengths)[:, 1:]
        backward, ahead = read @ links, read @ links.transpose(1, 2)
        backward_mode, content_mode, ahead_mode = torch.split(torch.softmax(modes, dim=2), 1, dim=2)
        read = backward_mode * backward + content_mode * content + ahead_mode * ahead
        new = torch.cat([memory, usage, written, precedence, links, read], dim=1)
        return (read @ memory.transpose(1, 2)).flatten(1), new.flatten(1)

    @staticmethod
    def used(usage: torch.Tensor, written: torch.Tensor, free: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        """Usage (B, 1, slots) after the last write, less what the free gates (B, reads, 1) let go of what was read."""
        return (usage + written - usage * written) * (1 - free * read).prod(dim=1, keepdim=True)

    def allocation(self, usage: torch.Tensor) -> torch.Tensor:
        """Weights (B, 1, slots) that prefer the slots used least: each takes what those used less than it leave."""
        usage = 1e-6 + (1 - 1e-6) * usage
        # The comparison replaces a sort.
        before = usage - usage.transpose(1, 2) < self.ties
        return (1 - usage) * torch.where(before, usage, 1.0).prod(dim=2)[:, None]

    @staticmethod
    def addressed(memory: torch.Tensor, keys: torch.Tensor, strengths: torch.Tensor) -> torch.Tensor:
        """Weights (B, heads, slots) of slots by the cosine of their words, columns (B, word, slots), and keys.

        Keys have the shape (B, heads, word), their strengths (B, heads, 1).
        """
        squares = memory.square().sum(dim=1, keepdim=True) * keys.square().sum(dim=2, keepdim=True)
        return torch.softmax(keys @ memory * strengths / (squares + 1e-6).sqrt(), dim=2)

    def linked(self, links: torch.Tensor, written: torch.Tensor, precedence: torch.Tensor) -> torch.Tensor:
        """Temporal links (B, slots, slots): element ``i, j`` tells how far slot i was written right after slot j."""
        row = written.transpose(1, 2)
        return ((1 - row - written) * links + row * precedence) * self.others


class Dnc(Recurrent):
    """A differentiable neural computer: a deep LSTM that controls an external memory (Graves et al. 2016)."""

    def __init__(self, inputs: int, hidden: int = 128, slots: int = 16, word: int = 64, reads: int = 4) -> None:
        super().__init__()
        self.controller = DeepLstm(inputs + reads * word, hidden)
        self.memory = Memory(self.controller.output_size, slots, word, reads)
        self.output_size = self.controller.output_size + self.memory.output_size
        self.state_sizes = [self.controller.state_size, self.memory.state_size, self.memory.output_size]

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, I) and (B, S) to (B, O) and (B, S)."""
        controller, memory, words = torch.split(state, self.state_sizes, dim=1)
        out, controller = self.controller(torch.cat([x, words], dim=1), controller)
        words, memory = self.memory(out, memory)
        return torch.cat([out, words], dim=1), torch.cat([controller, memory, words], dim=1)


def unroll(network: Step, inputs: torch.Tensor, state_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a network over sequences of inputs (B, T, I) from a state of zeros.

    Returns the outputs (B, T, O), and the states *before* each step (B, T, S).
    """
    state = inputs.new_zeros(len(inputs), state_size)
    outputs, states = [], []
    for x in inputs.unbind(dim=1):
        states.append(state)
        out, state = network(x, state)
        outputs.append(out)
    return torch.stack(outputs, dim=1), torch.stack(states, dim=1)
