"""Faults that a scan device can be made to have, on purpose and at a known command."""

from __future__ import annotations

import dataclasses
import enum

from adaptive_core.errors import InvalidInputError


class FaultKind(enum.Enum):
    """What goes wrong with a command.

    TIME_OUT: the frame never completes; it ends only when it is cancelled.
    DROPPED_SEGMENT: the command is not carried out; what comes back is the frame before, under its own number.
    SHORT_READ: the last part of the data is missing.
    NAN: some values are not numbers.
    DISCONNECTION: the command and all that follow raise DeviceDisconnectedError until the device is reconnected.
    """

    TIME_OUT = "time-out"
    DROPPED_SEGMENT = "dropped segment"
    SHORT_READ = "short read"
    NAN = "NaN"
    DISCONNECTION = "disconnection"


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault of the commands ``command`` to ``command + count - 1``, counted from 1 since the faults were set."""

    kind: FaultKind
    command: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if self.command < 1 or self.count < 1:
            raise InvalidInputError(f"A fault needs a command and a count from 1, not {self.command} and {self.count}.")


class FaultCounter:
    """Counts commands and says which of them fails."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._faults = faults
        self.commands = 0

    def next(self) -> FaultKind | None:
        """Count one command; the fault that it has, if any."""
        self.commands += 1
        for fault in self._faults:
            if fault.command <= self.commands < fault.command + fault.count:
                return fault.kind
        return None
