"""What the operator chose for the alignment of the bright-field disk, kept over restarts."""

from __future__ import annotations

import dataclasses
import enum
import logging
import math
import pathlib

from adaptive_core.alignment.memory import ResponseMemory
from adaptive_core.errors import InvalidInputError
from nionswift_plugin.adaptive_scan.settings_store import SectionStore

logger = logging.getLogger(__name__)

RESPONSES_NAME = "adaptive_scan_shift_responses.json"


class TargetKind(enum.StrEnum):
    """Where the disk is moved to."""

    CENTRE = "centre"
    DETECTOR = "detector"
    POINT = "point"


class ToleranceUnit(enum.StrEnum):
    """Unit of the tolerance."""

    PX = "px"
    MRAD = "mrad"


@dataclasses.dataclass(frozen=True)
class AlignmentChoices:
    """The panel's choices. None leaves a choice to the devices or to the default.

    Attributes:
        device: Swift's identifier of the STEM controller.
        camera: Swift's identifier of the camera.
        control: 2D control that moves the disk.
        axis: Swift's name of the axes in which it is set.
        largest_shift: the control never moves further than this from where it was, in its own unit.
        half_screen: change of the control that moves the disk by about half of the camera, within a factor of 3.
        limit: largest magnitude of the control.
        settle_ms: time after a move until a frame may begin.
        policy: name of the policy, or of the model's file.
        target: where the disk is moved to.
        detector_control: 2D control with the angles, in rad on the camera, of the middle of a detector.
        tolerance, tolerance_unit: the disk is centred within this distance.
        continuous: keep it centred until stopped.
        convergence_control: control that holds the convergence semi-angle in rad, from which the disk's radius follows.
        camera_length_control: control by whose value the learnt response of the shift is remembered.
    """

    device: str | None = None
    camera: str | None = None
    control: str | None = None
    axis: str = "tv"
    largest_shift: float | None = None
    half_screen: float | None = None
    limit: float | None = None
    settle_ms: float = 5.0
    policy: str | None = None
    target: TargetKind = TargetKind.CENTRE
    detector_control: str = "DetectorCentre"
    tolerance: float = 1.0
    tolerance_unit: ToleranceUnit = ToleranceUnit.PX
    continuous: bool = False
    camera_length_control: str = "CameraLength"
    convergence_control: str = "ConvergenceAngle"

    def __post_init__(self) -> None:
        """Raises InvalidInputError for what is no choice."""
        for name, kind in (("target", TargetKind), ("tolerance_unit", ToleranceUnit)):
            value = getattr(self, name)
            if value not in list(kind):
                raise InvalidInputError(f"{name} must be one of {', '.join(kind)}, not {value!r}.")
            # A line in the console gives plain text.
            object.__setattr__(self, name, kind(value))
        for name in ("largest_shift", "half_screen", "limit", "tolerance"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidInputError(f"{name} must be a positive number, not {value}.")
        if not (math.isfinite(self.settle_ms) and self.settle_ms >= 0):
            raise InvalidInputError(f"settle_ms must be a number that is not negative, not {self.settle_ms}.")


class AlignmentStore(SectionStore[AlignmentChoices]):
    """Keeps the choices over restarts."""

    def __init__(self, folder: pathlib.Path | None) -> None:
        super().__init__(folder, "alignment", AlignmentChoices())


def response_memory(folder: pathlib.Path | None) -> ResponseMemory:
    """What alignments have learnt, in a JSON file of the folder; a file that cannot be read is begun anew."""
    path = None if folder is None else folder / RESPONSES_NAME
    try:
        return ResponseMemory(path)
    except (OSError, InvalidInputError) as error:
        logger.warning("The learnt responses of the shift are not used: %s", error)
        if path is not None:
            path.replace(path.with_suffix(".unreadable"))
        return ResponseMemory(path)
