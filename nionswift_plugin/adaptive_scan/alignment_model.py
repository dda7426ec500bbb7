"""What the panel's section for the alignment shows and does, without its widgets."""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib
import typing

from nion.swift import DocumentController

from adaptive_core.alignment import menu
from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import ModelLibrary
from nionswift_plugin.adaptive_scan.alignment_devices import (
    Camera,
    SwiftDiskCamera,
    SwiftShift,
    cameras,
    default_control,
    find_camera,
    find_stem_controller,
)
from nionswift_plugin.adaptive_scan.alignment_preparation import (
    LARGEST_MOVES,
    expected_half_screen,
    prepare_alignment,
    selected_point,
)
from nionswift_plugin.adaptive_scan.alignment_session import AlignmentSession
from nionswift_plugin.adaptive_scan.alignment_settings import (
    AlignmentChoices,
    AlignmentStore,
    TargetKind,
    ToleranceUnit,
    response_memory,
)
from nionswift_plugin.adaptive_scan.section_model import SectionModel
from nionswift_plugin.adaptive_scan.settings_text import (
    SettingFlag,
    SettingIndex,
    number_from_zero,
    number_text,
    plain_text,
    positive_number,
)

TARGETS = tuple(TargetKind)
TOLERANCE_UNITS = tuple(ToleranceUnit)


class AlignmentModel(SectionModel[AlignmentChoices]):
    """State of the section.

    Args:
        document_controller: the window.
        configuration: folder for choices and learnt responses; None keeps them for this session only.
        models: folder of the user's models.
    """

    control_text = plain_text("control", optional=True)
    axis_text = plain_text("axis")
    detector_text = plain_text("detector_control")
    half_screen_text = number_text("half_screen", "The change for half of the screen", positive_number, optional=True)
    largest_shift_text = number_text("largest_shift", "The largest shift", positive_number, optional=True)
    limit_text = number_text("limit", "The control's limit", positive_number, optional=True)
    settle_text = number_text("settle_ms", "The settling time", number_from_zero)
    tolerance_text = number_text("tolerance", "The tolerance", positive_number)
    target_index = SettingIndex("target", TARGETS)
    unit_index = SettingIndex("tolerance_unit", TOLERANCE_UNITS)
    continuous = SettingFlag("continuous")
    action = "Align"
    shown_settings = ("policy_index", "target_index", "targets_detector", "unit_index", "continuous")

    def __init__(
        self,
        document_controller: DocumentController.DocumentController,
        configuration: pathlib.Path | None,
        models: pathlib.Path,
    ) -> None:
        super().__init__(document_controller, AlignmentStore(configuration))
        self._memory = response_memory(configuration)
        self.policy_titles: list[str] = []
        self.default_control = ""
        self.default_half_screen = ""
        self.default_largest_shift = ""
        self.state = ""
        self._library = ModelLibrary([models])
        self.session: AlignmentSession = AlignmentSession(document_controller, self._post)
        self._listeners.append(self.session.property_changed_event.listen(self._session_changed))
        self.cameras = self._device_menu("camera", cameras)
        self._background.submit(
            "The list of policies", lambda: list(menu.policy_names(self._library)), self._show_policies, self.say
        )
        self.refresh()

    # Choices.

    @property
    def policy_index(self) -> int:
        """The chosen policy."""
        names = self.policy_titles
        return names.index(self.settings.policy) if self.settings.policy in names else 0

    @policy_index.setter
    def policy_index(self, index: int | None) -> None:
        if index is not None and not self.changing_menus and index < len(self.policy_titles):
            self.change(policy=self.policy_titles[index])

    @property
    def targets_detector(self) -> bool:
        """Whether the target is the centre of a detector."""
        return self.settings.target is TargetKind.DETECTOR

    # Actions.

    @property
    def can_undo(self) -> bool:
        """Whether there is an alignment that can be undone."""
        return self.session.can_undo and not self.session.is_busy

    def _start(self, settings: AlignmentChoices, changes: collections.abc.Mapping[str, typing.Any]) -> None:
        chosen = self.cameras.chosen
        camera = find_camera(settings.camera if settings.camera or chosen is None else chosen.hardware_source_id)
        point = None
        if settings.target is TargetKind.POINT:
            point = selected_point(self._document_controller, camera)
        choices = dataclasses.replace(settings, camera=camera.hardware_source_id)
        self.session.start(lambda: prepare_alignment(choices, self._memory, self._library, point))

    # What is there.

    def refresh(self) -> None:
        """Look again whether devices and settings fit together."""
        message = self.typing_error
        if message is not None:
            self._show_state(message)
            return
        settings, camera = self.settings, self.cameras.chosen
        self._background.submit(
            "The state of the devices",
            lambda: _state(settings, camera),
            lambda found: self._show(**found),
            self._show_state,
        )

    def _show_state(self, line: str) -> None:
        self._show(state=line)

    def _show(self, **texts: str) -> None:
        for name, text in texts.items():
            if text != getattr(self, name):
                setattr(self, name, text)
                self._notify(name)

    def _show_policies(self, names: list[str]) -> None:
        if names != self.policy_titles:
            self.policy_titles = names
            self._notify_menu("policy_titles", "policy_index")

    def _session_changed(self, name: str) -> None:
        if name in ("is_busy", "can_undo"):
            self._notify("button_text", "can_undo")
            if not self.session.is_busy:
                self.refresh()


def _state(choices: AlignmentChoices, camera: Camera | None) -> dict[str, str]:
    """What the devices say to the choices, in a line, and what is taken by default, by property of the model."""
    if camera is None:
        raise InvalidInputError("There is no camera.")
    controller = find_stem_controller(choices.device)
    control = default_control(controller, choices.axis) or ""
    device = SwiftDiskCamera(camera)
    scale = device.mrad_per_px
    angle = "not calibrated" if scale is None else f"{scale:.3g} mrad/px"
    parameters = device.parameters
    frame = f"{device.shape[0]} \N{MULTIPLICATION SIGN} {device.shape[1]} px, {parameters.exposure_ms:.4g} ms, {angle}"
    name = choices.control or control
    if not name:
        where = "Type the name of the 2D control that moves the disk."
    else:
        y, x = SwiftShift(controller, name, choices.axis).get()
        where = f"{name} is at (y, x) = ({y:.4g}, {x:.4g})"
    expected = expected_half_screen(device)
    half_screen = choices.half_screen or expected
    return {
        "state": f"{frame}\n{where}",
        "default_control": control,
        "default_half_screen": "needed" if expected is None else f"{expected:.3g}",
        "default_largest_shift": "" if half_screen is None else f"{LARGEST_MOVES * half_screen:.3g}",
    }
