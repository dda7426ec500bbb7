"""What the panel's section for the alignment shows and does, without its widgets."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import math
import pathlib
import threading
import typing

from nion.instrumentation import HardwareSource
from nion.swift import DocumentController
from nion.utils import Observable

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
from nionswift_plugin.adaptive_scan.alignment_preparation import prepare_alignment, selected_point
from nionswift_plugin.adaptive_scan.alignment_session import AlignmentSession
from nionswift_plugin.adaptive_scan.alignment_settings import (
    AlignmentChoices,
    AlignmentStore,
    TargetKind,
    ToleranceUnit,
    response_memory,
)
from nionswift_plugin.adaptive_scan.background import Background
from nionswift_plugin.adaptive_scan.settings_text import Changes, SettingText

TARGETS = tuple(TargetKind)
TOLERANCE_UNITS = tuple(ToleranceUnit)
REFRESH_S = 1.0
"""How often the panel looks whether Swift's own settings have changed."""


def _number(name: str, what: str, *, optional: bool = True) -> SettingText:
    """A positive number; empty leaves it to the default if it is optional."""

    def read(_choices: AlignmentChoices, text: str) -> Changes:
        if not text and optional:
            return {name: None}
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            value = math.nan
        least_ok = value >= 0 if name == "settle_ms" else value > 0
        if not (math.isfinite(value) and least_ok):
            raise InvalidInputError(f"{what} must be a positive number, not {text!r}.")
        return {name: value}

    def write(choices: AlignmentChoices) -> str:
        value = getattr(choices, name)
        return "" if value is None else f"{value:.6g}"

    return SettingText(read, write)


def _text(name: str, *, optional: bool) -> SettingText:
    def read(_choices: AlignmentChoices, text: str) -> Changes:
        return {name: (text or None) if optional else text}

    return SettingText(read, lambda choices: getattr(choices, name) or "")


class AlignmentModel(Observable.Observable):
    """State of the section; for the user interface's thread.

    Every public attribute that a widget shows is an observable property.

    Args:
        document_controller: the window.
        configuration: folder for choices and learnt responses; None keeps them for this session only.
        models: folder of the user's models.
    """

    control_text = _text("control", optional=True)
    axis_text = _text("axis", optional=False)
    detector_text = _text("detector_control", optional=False)
    half_screen_text = _number("half_screen", "The change for half of the screen")
    largest_shift_text = _number("largest_shift", "The largest shift")
    limit_text = _number("limit", "The control's limit")
    settle_text = _number("settle_ms", "The settling time", optional=False)
    tolerance_text = _number("tolerance", "The tolerance", optional=False)

    def __init__(
        self,
        document_controller: DocumentController.DocumentController,
        configuration: pathlib.Path | None,
        models: pathlib.Path,
    ) -> None:
        super().__init__()
        self._document_controller = document_controller
        self._store = AlignmentStore(configuration)
        self._memory = response_memory(configuration)
        self.settings = self._store.load()
        self.typed: dict[str, tuple[str, str]] = {}
        self.policy_titles: list[str] = []
        self.default_control = ""
        self.state = ""
        self._closed = False
        self._changing_menus = False
        self._post_lock = threading.Lock()
        self._library = ModelLibrary([models])
        self._background = Background(self._post)
        self.session = AlignmentSession(document_controller, self._post)
        self._listener = self.session.property_changed_event.listen(self._session_changed)
        manager = HardwareSource.HardwareSourceManager()
        self._cameras = cameras()
        self._device_listeners = [
            event.listen(self._devices_changed)
            for event in (manager.hardware_source_added_event, manager.hardware_source_removed_event)
        ]
        self._periodic = document_controller.add_periodic(REFRESH_S, self._poll)
        self.is_visible: collections.abc.Callable[[], bool] = lambda: True
        self._background.submit(
            "The list of policies",
            lambda: list(menu.policy_names(self._library)),
            self._show_policies,
            self.session.say,
        )
        self.refresh()

    def close(self) -> None:
        """Stop a running alignment, wait until the shift has been put back, and let go of everything."""
        with self._post_lock:
            self._closed = True
        self._periodic.close()
        self._background.close()
        self.session.close()
        self._listener.close()
        for listener in self._device_listeners:
            listener.close()
        self._device_listeners.clear()

    # Choices.

    @property
    def camera_names(self) -> list[str]:
        """Names of the cameras."""
        return [source.display_name for source in self._cameras]

    @property
    def camera_index(self) -> int | None:
        """The chosen camera."""
        ids = [source.hardware_source_id for source in self._cameras]
        return ids.index(self.settings.camera) if self.settings.camera in ids else 0 if ids else None

    @camera_index.setter
    def camera_index(self, index: int | None) -> None:
        if index is not None and not self._changing_menus and index != self.camera_index:
            self.change(camera=self._cameras[index].hardware_source_id)

    @property
    def camera(self) -> Camera | None:
        """The chosen camera; None where there is none."""
        index = self.camera_index
        return None if index is None else self._cameras[index]

    @property
    def policy_index(self) -> int:
        """The chosen policy."""
        names = self.policy_titles
        return names.index(self.settings.policy) if self.settings.policy in names else 0

    @policy_index.setter
    def policy_index(self, index: int | None) -> None:
        if index is not None and not self._changing_menus and index < len(self.policy_titles):
            self.change(policy=self.policy_titles[index])

    @property
    def target_index(self) -> int:
        """Which of TARGETS."""
        return TARGETS.index(self.settings.target)

    @target_index.setter
    def target_index(self, index: int) -> None:
        self.change(target=TARGETS[index])

    @property
    def targets_detector(self) -> bool:
        """Whether the target is the centre of a detector."""
        return self.settings.target is TargetKind.DETECTOR

    @property
    def unit_index(self) -> int:
        """Which of TOLERANCE_UNITS."""
        return TOLERANCE_UNITS.index(self.settings.tolerance_unit)

    @unit_index.setter
    def unit_index(self, index: int) -> None:
        self.change(tolerance_unit=TOLERANCE_UNITS[index])

    @property
    def continuous(self) -> bool:
        """Whether the disk is kept centred until stopped."""
        return self.settings.continuous

    @continuous.setter
    def continuous(self, continuous: bool) -> None:
        self.change(continuous=continuous)

    def change(self, **changes: typing.Any) -> None:
        """Change settings and keep them."""
        settings = dataclasses.replace(self.settings, **changes)
        if settings != self.settings:
            self.settings = settings
            self._background.submit(
                "The settings", functools.partial(self._store.save, settings), lambda _: None, self.session.say
            )
            self.refresh()
            self._notify("camera_index", "policy_index", "target_index", "targets_detector", "unit_index", "continuous")

    # Actions.

    @property
    def button_text(self) -> str:
        """What the button would do."""
        return "Abort" if self.session.is_busy else "Align"

    @property
    def can_undo(self) -> bool:
        """Whether there is an alignment that can be undone."""
        return self.session.can_undo and not self.session.is_busy

    def align_or_abort(self) -> None:
        """What the button does."""
        if self.session.is_busy:
            self.session.abort()
        else:
            self.start()

    def start(self, **changes: typing.Any) -> None:
        """Begin an alignment with the settings, or with some of them changed for this time only."""
        message = next((message for _, message in self.typed.values()), None)
        if message is not None and not changes:
            self.session.say(message)
            return
        choices = dataclasses.replace(self.settings, **changes)
        try:
            camera = find_camera(choices.camera if choices.camera or self.camera is None else self.camera_id)
            point = None
            if choices.target is TargetKind.POINT:
                point = selected_point(self._document_controller, camera)
        except InvalidInputError as error:
            self.session.say(str(error))
            return
        choices = dataclasses.replace(choices, camera=camera.hardware_source_id)
        self.session.start(lambda: prepare_alignment(choices, self._memory, self._library, point))

    @property
    def camera_id(self) -> str | None:
        """Swift's identifier of the chosen camera."""
        return None if self.camera is None else self.camera.hardware_source_id

    # What is there.

    def refresh(self) -> None:
        """Look again whether devices and settings fit together."""
        message = next((message for _, message in self.typed.values()), None)
        if message is not None:
            self._show_state(message)
            return
        settings, camera = self.settings, self.camera
        self._background.submit(
            "The state of the devices",
            lambda: _state(settings, camera),
            lambda found: self._show_state(*found),
            self._show_state,
        )

    def _show_state(self, line: str, control: str | None = None) -> None:
        if line != self.state:
            self.state = line
            self._notify("state")
        if control is not None and control != self.default_control:
            self.default_control = control
            self._notify("default_control")

    def _show_policies(self, names: list[str]) -> None:
        if names != self.policy_titles:
            self._notify_menu("policy_titles", "policy_index", names)

    def _devices_changed(self, _source: HardwareSource.HardwareSource) -> None:
        """A device came or went, on any thread."""
        self._post(self._update_cameras)

    def _update_cameras(self) -> None:
        self._cameras = cameras()
        self._notify_menu("camera_names", "camera_index")
        self.refresh()

    def _poll(self) -> None:
        if self.is_visible():
            self.refresh()

    def _post(self, function: collections.abc.Callable[[], None]) -> None:
        """Have a function called on the user interface's thread, unless the window is closed by then."""

        def call() -> None:
            if not self._closed:
                function()

        with self._post_lock:
            if not self._closed:
                self._document_controller.queue_task(call)

    def _session_changed(self, name: str) -> None:
        if name in ("is_busy", "can_undo"):
            self._notify("button_text", "can_undo")
            if not self.session.is_busy:
                self.refresh()

    def _notify_menu(self, lines: str, index: str, names: list[str] | None = None) -> None:
        """The lines of a menu have changed. A combo box answers new lines with the index that it had before."""
        self._changing_menus = True
        try:
            if names is not None:
                setattr(self, lines, names)
            self._notify(lines)
        finally:
            self._changing_menus = False
        self._notify(index)

    def _notify(self, *names: str) -> None:
        for name in names:
            self.notify_property_changed(name)


def _state(choices: AlignmentChoices, camera: Camera | None) -> tuple[str, str]:
    """What the devices say to the choices, in a line, and the control that is taken by default."""
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
        return f"{frame}\nType the name of the 2D control that moves the disk.", control
    y, x = SwiftShift(controller, name, choices.axis).get()
    return f"{frame}\n{name} is at (y, x) = ({y:.4g}, {x:.4g})", control
