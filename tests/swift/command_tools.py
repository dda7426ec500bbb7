"""What the tests of the command line share: running a command, and what it leaves."""

from __future__ import annotations

import dataclasses
import json
import typing


@dataclasses.dataclass
class Outcome:
    """What a command left."""

    status: int
    lines: list[str]
    errors: list[str]

    @property
    def report(self) -> dict[str, typing.Any]:
        report: dict[str, typing.Any] = json.loads(self.lines[-1])
        return report


Run = typing.Callable[..., Outcome]
