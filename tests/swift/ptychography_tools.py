"""What the tests of the panel's section for ptychography share."""

from __future__ import annotations

import dataclasses
import typing

from panel_tools import Opened
from swift_context import Swift

from nionswift_plugin.adaptive_scan.ptychography_model import PtychographyModel
from nionswift_plugin.adaptive_scan.ptychography_run import PtychographyOutcome

PHASE, AMPLITUDE, POSITIONS, FRC = (f"Adaptive Scan ({role})" for role in ("phase", "amplitude", "positions", "FRC"))


FOV_A = 12.0


@dataclasses.dataclass
class Ptychography:
    """A panel in a window of Swift."""

    swift: Swift
    opened: Opened

    @property
    def model(self) -> PtychographyModel:
        return self.opened.panel.ptychography

    @property
    def status(self) -> str:
        return self.model.session.status

    @property
    def outcome(self) -> PtychographyOutcome:
        outcome = self.model.session.outcome
        assert outcome is not None, self.status
        return outcome

    def scan(self, **changes: typing.Any) -> None:
        self.model.start(**changes)
        self.finish()

    def finish(self) -> None:
        self.swift.pump(lambda: not self.model.session.is_busy, 60.0)

    def state(self) -> tuple[typing.Any, ...]:
        """What a scan must leave as it was; the beam waits, blanked."""
        names = ("C_Blank", "C10", "EHT", "ConvergenceAngle")
        return (*(self.swift.controller.GetVal(name) for name in names), self.swift.scan.probe_position)


def set_up(swift: Swift, fov_nm: float = FOV_A / 10, exposure_ms: float = 1.0) -> None:
    """Swift's own settings."""
    scan = swift.scan.get_current_frame_parameters()
    scan.fov_nm, scan.pixel_size = fov_nm, (64, 64)
    swift.scan.set_current_frame_parameters(scan)
    camera = swift.camera.get_current_frame_parameters()
    camera.exposure_ms = exposure_ms
    swift.camera.set_current_frame_parameters(camera)
