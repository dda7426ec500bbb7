"""What a policy is: it is asked for one action after another, given what was seen so far."""

from __future__ import annotations

import dataclasses
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core.partial_scan.generator import Estimate, Generator
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.partial_scan.plan import ScanPlan
from adaptive_core.scan_path import Action, FloatArray, Positions, Segment


@dataclasses.dataclass(frozen=True, eq=False)
class Observation:
    """What a policy may look at before it decides.

    Attributes:
        scan: everything measured so far; a policy only reads it.
        estimate: the latest completion; up to date if the run ``needs_estimate``, else None or older.
        remaining: fraction of the budget that is left, from 1 to 0.
    """

    scan: PartialImage
    estimate: Estimate | None
    remaining: float


class PolicyRun(typing.Protocol):
    """A policy at work on one scan; it holds the recurrent state.

    Attributes:
        needs_estimate: whether the next decision needs an up-to-date completion.
    """

    needs_estimate: bool = False

    def decide(self, observation: Observation) -> Action | None:
        """The next action, or None when the policy has nothing left to ask for."""
        ...

    def resume(self, scan: PartialImage, plan: ScanPlan) -> None:
        """Go on with an earlier scan, before the first decision; a policy that learns from it is shown it again."""
        past = PartialImage(scan.size_px, scan.channels)
        for index, (action, values) in enumerate(zip(scan.actions, scan.values, strict=True)):
            beam_on_us = scan.beam_on_us * past.probes / scan.probes
            self.decide(Observation(past, None, plan.remaining(index, past.probes, beam_on_us)))
            past.add(action, values)


class Policy(typing.Protocol):
    """Chooses where the probe goes next."""

    @property
    def name(self) -> str:
        """Name shown in menus and kept in journals."""
        ...

    def start(self, plan: ScanPlan, generator: Generator) -> PolicyRun:
        """Begin a scan.

        Raises:
            InvalidInputError: if the policy cannot work with this plan or generator.
        """
        ...


def first_probes(action: Action, probes: int) -> Action:
    """The action cut to its first ``probes`` positions, so that a budget is never overrun."""
    if action.probes <= probes:
        return action
    positions = action.positions[:probes]
    if isinstance(action, Positions):
        return Positions(positions)
    return Segment(_point(positions[0]), _point(positions[-1]), probes)


def _point(position: FloatArray | npt.NDArray[np.float32]) -> tuple[float, float]:
    return float(position[0]), float(position[1])
