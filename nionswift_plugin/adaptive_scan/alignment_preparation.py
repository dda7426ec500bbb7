"""From the operator's choices to an alignment that is ready to run; nothing here moves the disk."""

from __future__ import annotations

import dataclasses
import logging
import math

from nion.swift import DocumentController
from nion.swift.model import Graphics

from adaptive_core.alignment import menu
from adaptive_core.alignment.episode import AlignmentEpisode, AlignmentResult, AlignmentSettings, nominal_move
from adaptive_core.alignment.memory import ResponseMemory
from adaptive_core.alignment.policy import AlignmentPolicy
from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import ModelLibrary
from nionswift_plugin.adaptive_scan.alignment_devices import (
    Camera,
    Point,
    SwiftDiskCamera,
    SwiftShift,
    control_value,
    default_control,
    find_camera,
    find_stem_controller,
)
from nionswift_plugin.adaptive_scan.alignment_settings import (
    AlignmentChoices,
    TargetKind,
    ToleranceUnit,
)

logger = logging.getLogger(__name__)

LARGEST_MOVES = 6.0
"""Default of the largest shift in half screens: enough for a gain of a quarter of the expected one."""


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedAlignment:
    """An alignment that has been checked against the devices.

    Attributes:
        camera, shift: the devices.
        control: name of the control.
        policy: decides the moves.
        settings: what is asked for, in px of the camera's frames and in the control's unit.
        mrad_per_px: None if the camera is not calibrated in angles.
        memory: holds the responses of shifts that were learnt.
        optics: the key of the present optics in it.
    """

    camera: SwiftDiskCamera
    shift: SwiftShift
    control: str
    policy: AlignmentPolicy
    settings: AlignmentSettings
    mrad_per_px: float | None
    memory: ResponseMemory
    optics: str

    def episode(self, *, measured_radius: bool = False) -> AlignmentEpisode:
        """The run; it reads the control. The disk's radius is that of the calibration, or else measured at first."""
        known = self.memory.recall(self.optics)
        # Remembered in px of the sensor, so that the binning does not matter.
        jacobian = None if known is None else known / self.camera.parameters.binning
        settings = dataclasses.replace(self.settings, radius_px=None) if measured_radius else self.settings
        return AlignmentEpisode(self.camera, self.shift, self.policy, settings, jacobian)

    def remember(self, result: AlignmentResult) -> None:
        """Keep what an alignment has learnt; if that is impossible, the next one learns it again."""
        if result.jacobian is not None:
            try:
                self.memory.remember(self.optics, result.jacobian * self.camera.parameters.binning)
            except (OSError, InvalidInputError) as error:
                logger.warning("The response of the shift is not remembered: %s", error)


def prepare_alignment(
    choices: AlignmentChoices, memory: ResponseMemory, library: ModelLibrary, point_px: Point | None = None
) -> PreparedAlignment:
    """Check everything that can be checked before the disk moves; may take a while.

    Args:
        choices: the operator's.
        memory: holds learnt responses.
        library: holds policies.
        point_px: target in px of the camera's frames, instead of the one that was chosen.

    Raises:
        InvalidInputError: what does not fit together.
    """
    camera = SwiftDiskCamera(find_camera(choices.camera))
    controller = find_stem_controller(choices.device)
    control = choices.control or default_control(controller, choices.axis)
    if not control:
        raise InvalidInputError("Type the name of the 2D control that moves the disk on the camera.")
    shift = SwiftShift(
        controller, control, choices.axis, choices.limit or math.inf, settle_s=1e-3 * max(choices.settle_ms, 0.0)
    )
    mrad_per_px = camera.mrad_per_px
    half_screen = choices.half_screen or expected_half_screen(camera)
    if half_screen is None:
        raise InvalidInputError(
            f"{camera.source.display_name} is not calibrated in rad; "
            f"type by how much {control} changes to move the disk by half of the camera."
        )
    target = point_px
    if target is None and choices.target is TargetKind.DETECTOR:
        target = camera.position_px(SwiftShift(controller, choices.detector_control, choices.axis).get())
    if target is not None and not all(0 <= t <= n for t, n in zip(target, camera.shape, strict=True)):
        raise InvalidInputError(
            f"The target ({target[0]:.1f}, {target[1]:.1f}) is not on the camera's frame of "
            f"{camera.shape[0]} \N{MULTIPLICATION SIGN} {camera.shape[1]} px."
        )
    settings = AlignmentSettings(
        largest_move=choices.largest_shift or LARGEST_MOVES * half_screen,
        move_per_half_screen=half_screen,
        target_px=target,
        tolerance_px=_tolerance_px(choices, mrad_per_px),
        radius_px=_radius_px(control_value(controller, choices.convergence_control), mrad_per_px, camera.shape),
        continuous=choices.continuous,
    )
    length = control_value(controller, choices.camera_length_control)
    optics = ResponseMemory.key(
        camera.source.hardware_source_id, f"{control} ({choices.axis})", None if length is None else 1e3 * length
    )
    return PreparedAlignment(
        camera, shift, control, menu.find_policy(choices.policy, library), settings, mrad_per_px, memory, optics
    )


def expected_half_screen(camera: SwiftDiskCamera) -> float | None:
    """Change of a control in rad that moves the disk by half of the camera; None if that is not calibrated."""
    scale = camera.mrad_per_px
    return None if scale is None else nominal_move(scale, max(camera.shape), control_mrad_per_unit=1e3)


def selected_point(document_controller: DocumentController.DocumentController, camera: Camera) -> Point:
    """The point, or the middle of the ellipse or rectangle, that is selected on an image of the camera, in px of its
    frames; for the user interface's thread.

    Raises InvalidInputError if there is none.
    """
    display_item = document_controller.selected_display_item
    data_item = None if display_item is None else display_item.data_item
    if display_item is None or data_item is None:
        points = []
    else:
        points = [
            graphic.position if isinstance(graphic, Graphics.PointGraphic) else graphic.center
            for graphic in display_item.selected_graphics
            if isinstance(graphic, Graphics.PointGraphic | Graphics.RectangleTypeGraphic)
        ]
    if len(points) != 1 or data_item is None:
        raise InvalidInputError("Draw a point, an ellipse or a rectangle on an image of the camera, and select it.")
    source = data_item.metadata.get("hardware_source", {}).get("hardware_source_id")
    if source != camera.hardware_source_id:
        raise InvalidInputError(f"The selected graphic is not on an image of {camera.display_name}.")
    height, width = camera.get_expected_dimensions(camera.get_current_frame_parameters().binning)
    y, x = points[0]
    return float(y) * height, float(x) * width


def _tolerance_px(choices: AlignmentChoices, mrad_per_px: float | None) -> float:
    if choices.tolerance_unit is ToleranceUnit.PX:
        return choices.tolerance
    if mrad_per_px is None:
        raise InvalidInputError("A tolerance in mrad needs a camera that is calibrated in rad; give it in px.")
    return choices.tolerance / mrad_per_px


def _radius_px(convergence_rad: float | None, mrad_per_px: float | None, shape: tuple[int, int]) -> float | None:
    """Of the disk by the calibrations; None if they say nothing that can be right."""
    if convergence_rad is None or mrad_per_px is None:
        return None
    radius = 1e3 * convergence_rad / mrad_per_px
    return radius if 4 <= radius <= 0.45 * min(shape) else None
