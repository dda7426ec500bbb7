"""What the tests of the panel's section for the alignment share."""

from __future__ import annotations

import dataclasses
import time
import typing

import numpy as np
from nion.swift.model import DataItem
from panel_tools import Opened
from swift_context import Swift

from adaptive_core.alignment.classical import Newton
from adaptive_core.alignment.memory import ResponseMemory
from adaptive_core.simulation.settings import CameraSettings
from nionswift_plugin.adaptive_scan.alignment_data_items import TITLE
from nionswift_plugin.adaptive_scan.alignment_model import AlignmentModel

CONTROL = "DiffractionShift"


NEWTON = Newton(guarded=True).name


@dataclasses.dataclass
class Aligning:
    """A panel in a window of Swift, on the simulated instrument."""

    swift: Swift
    opened: Opened

    @property
    def model(self) -> AlignmentModel:
        return self.opened.panel.alignment

    @property
    def shift(self) -> tuple[float, float]:
        value = self.swift.controller.GetVal2D(CONTROL, axis=("x", "y"))
        return float(value.y), float(value.x)

    def world(self, world: str | None, seed: int = 1, **camera: typing.Any) -> None:
        """How the shift behaves, and what the camera sees."""
        simulator = self.swift.simulator
        assert simulator is not None
        settings = dataclasses.replace(simulator.settings, seed=seed, camera=CameraSettings(world=world, **camera))
        simulator.settings = settings
        self.model._memory = ResponseMemory()

    def align(self, **changes: typing.Any) -> float:
        """Align as the settings say; the time in s until the operator reads the result."""
        begun = time.perf_counter()
        self.model.start(**changes)
        self.finish()
        return time.perf_counter() - begun

    def finish(self) -> None:
        self.swift.pump(lambda: not self.model.session.is_busy)

    @property
    def outcome(self) -> typing.Any:
        outcome = self.model.session.outcome
        assert outcome is not None, self.model.session.status
        return outcome

    def trace(self) -> DataItem.DataItem | None:
        """The data item of the trace as it is in the end; None if no frame was to be taken."""
        self.swift.pump(
            lambda: not any(item.is_live for item in self._traces()) and not self.model.session._steps._waiting
        )
        return next(iter(self._traces()), None)

    def _traces(self) -> list[DataItem.DataItem]:
        return [item for item in self.swift.document_model.data_items if item.title == TITLE]

    @property
    def true_px(self) -> float:
        """True distance of the disk from the middle of the camera, px of the sensor."""
        simulator = self.swift.simulator
        assert simulator is not None
        world = simulator.camera.frames._position._world
        assert world is not None
        return float(np.hypot(*world.true_px[0])) / 2
