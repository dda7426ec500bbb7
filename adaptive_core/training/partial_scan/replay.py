"""Experience replay: a ring of sequences (Mnih et al. 2015; Ede 2021, section 2.2)."""

from __future__ import annotations

import torch

Sequences = dict[str, torch.Tensor]
"""Tensors by name whose first axis is the sequence."""


class Replay:
    """Keeps the last ``capacity`` sequences, in the types in which they come; a new one replaces the oldest."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.added = 0
        self._kept: Sequences = {}

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, sequences: Sequences) -> None:
        """Keep a batch of sequences."""
        count = len(next(iter(sequences.values())))
        if not self._kept:
            self._kept = {name: new.new_empty(self.capacity, *new.shape[1:]) for name, new in sequences.items()}
        where = (torch.arange(count) + self.added) % self.capacity
        for name, new in sequences.items():
            self._kept[name][where] = new
        self.added += count

    def sample(self, count: int) -> Sequences:
        """A batch of ``count`` sequences, each drawn at random from all."""
        chosen = torch.randint(len(self), (count,))
        return {name: kept[chosen] for name, kept in self._kept.items()}

    def state_dict(self) -> Sequences:
        """What a checkpoint holds."""
        return {
            **{name: kept[: len(self)].clone() for name, kept in self._kept.items()},
            "added": torch.tensor(self.added),
        }

    def load_state_dict(self, state: Sequences) -> None:
        """Go on from a checkpoint."""
        self.added = 0
        kept = {name: values for name, values in state.items() if name != "added"}
        if kept:
            self.add(kept)
        self.added = int(state["added"])
