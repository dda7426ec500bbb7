"""What the operator chose for the alignment of the bright-field disk, kept over restarts."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import math
import os
import pathlib
import typing

from adaptive_core.alignment.memory import ResponseMemory
from adaptive_core.errors import InvalidInputError

logger = logging.getLogger(__name__)

FILE_NAME = "adaptive_scan_alignment.json"
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


class AlignmentStore:
    """Keeps choices in a JSON file of Swift's configuration folder; None keeps them for this session only."""

    def __init__(self, folder: pathlib.Path | None) -> None:
        self._path = None if folder is None else folder / FILE_NAME

    def load(self) -> AlignmentChoices:
        """The choices as they were last; what cannot be read has its default."""
        choices = AlignmentChoices()
        for name, value in self._read().items():
            try:
                choices = dataclasses.replace(choices, **{name: _checked(name, value)})
            except (KeyError, TypeError, ValueError) as error:
                logger.warning("The setting %s in %s is ignored: %s", name, self._path, error)
        return choices

    def save(self, choices: AlignmentChoices) -> None:
        """Write the choices; a folder that cannot be written is no reason to stop the operator."""
        if self._path is None:
            return
        new = self._path.with_suffix(".new")
        try:
            new.write_text(json.dumps(dataclasses.asdict(choices), indent=1), "utf-8")
            os.replace(new, self._path)
        except OSError as error:
            logger.warning("The settings cannot be written to %s: %s", self._path, error)

    def _read(self) -> dict[str, typing.Any]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            data = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            logger.warning("The settings %s cannot be read: %s", self._path, error)
            return {}
        if not isinstance(data, dict):
            logger.warning("The settings %s are not understood.", self._path)
            return {}
        return data


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


_OPTIONAL_NUMBERS = {"largest_shift", "half_screen", "limit"}
_NUMBERS = {"settle_ms", "tolerance"}
_OPTIONAL_TEXTS = {"device", "camera", "control", "policy"}
_TEXTS = {"axis", "detector_control", "camera_length_control", "convergence_control"}


def _checked(name: str, value: typing.Any) -> typing.Any:
    """A value from a file as its setting needs it. Raises KeyError, TypeError or ValueError."""
    if name == "target":
        return TargetKind(value)
    if name == "tolerance_unit":
        return ToleranceUnit(value)
    if value is None and name in _OPTIONAL_NUMBERS | _OPTIONAL_TEXTS:
        return None
    if name == "continuous":
        expected: type = bool
    elif name in _NUMBERS | _OPTIONAL_NUMBERS:
        expected = float
        value = float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    elif name in _TEXTS | _OPTIONAL_TEXTS:
        expected = str
    else:
        raise KeyError(f"there is no setting {name!r}")
    if type(value) is not expected:
        raise TypeError(f"expected {expected.__name__}, found {value!r}")
    if isinstance(value, float) and not (math.isfinite(value) and (value > 0 or name == "settle_ms")):
        raise ValueError(f"expected a positive number, found {value}")
    return value
