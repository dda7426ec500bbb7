"""What the panel's section for partial scans shows and does, without its widgets."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import pathlib
import threading
import typing

from nion.instrumentation import HardwareSource, scan_base
from nion.swift import DocumentController
from nion.utils import Observable

from adaptive_core.errors import DeviceError, InvalidInputError
from nionswift_plugin.adaptive_scan.background import Background
from nionswift_plugin.adaptive_scan.model_choices import ModelChoices
from nionswift_plugin.adaptive_scan.places import chosen_place, scan_source, scan_sources
from nionswift_plugin.adaptive_scan.preparation import PreparedScan, prepare, prepare_continuation
from nionswift_plugin.adaptive_scan.scan_session import ScanSession, dose_text, percent_text, time_text
from nionswift_plugin.adaptive_scan.settings import (
    BudgetKind,
    RegionKind,
    SettingsStore,
)
from nionswift_plugin.adaptive_scan.settings_text import (
    SettingText,
    read_beam,
    read_budget,
    read_dwell,
    read_size,
    read_stop,
    write_beam,
    write_budget,
    write_dwell,
    write_size,
    write_stop,
)

REFRESH_S = 1.0
"""How often the panel looks whether Swift's own settings have changed."""
REGIONS = tuple(RegionKind)
BUDGETS = tuple(BudgetKind)


@dataclasses.dataclass(frozen=True)
class Folders:
    """Where the panel keeps its files.

    Attributes:
        configuration: settings; None keeps them for this session only.
        models: the user's models.
        journals: what tells the runs again.
    """

    configuration: pathlib.Path | None
    models: pathlib.Path
    journals: pathlib.Path


class PartialScanModel(Observable.Observable):
    """State of the section; for the user interface's thread.

    Every public attribute that a widget shows is an observable property.

    Args:
        document_controller: the window.
        folders: where settings, models and journals are.
    """

    size_text = SettingText(read_size, write_size)
    dwell_text = SettingText(read_dwell, write_dwell)
    stop_text = SettingText(read_stop, write_stop)
    beam_text = SettingText(read_beam, write_beam)
    budget_text = SettingText(read_budget, write_budget)

    def __init__(self, document_controller: DocumentController.DocumentController, folders: Folders) -> None:
        super().__init__()
        self._document_controller = document_controller
        self._folders = folders
        self._store = SettingsStore(folders.configuration)
        self.settings = self._store.load()
        self.typed: dict[str, tuple[str, str]] = {}
        self.prediction = ""
        self.channel_names: list[str] = []
        self._closed = False
        self._changing_menus = False
        self._overheads_s: dict[tuple[typing.Any, ...], float] = {}
        self._post_lock = threading.Lock()
        self._background = Background(self._post)
        self.models = ModelChoices(self, folders.models, self._background, self._post)
        self.session = ScanSession(document_controller, self._post, folders.journals)
        manager = HardwareSource.HardwareSourceManager()
        self._sources = scan_sources()
        self._listeners = [
            self.session.property_changed_event.listen(self._session_changed),
            manager.hardware_source_added_event.listen(self._devices_changed),
            manager.hardware_source_removed_event.listen(self._devices_changed),
        ]
        self._periodic = document_controller.add_periodic(REFRESH_S, self._poll)
        self.is_visible: collections.abc.Callable[[], bool] = lambda: True
        self.models.read()
        self.refresh()

    def close(self) -> None:
        """Stop a running scan, wait until its device has been put back, and let go of everything."""
        with self._post_lock:
            self._closed = True
        self._periodic.close()
        self._background.close()
        self._store.save(self.settings)
        self.session.close()
        # An event lets go of a listener when nothing else holds it.
        self._listeners.clear()

    # Choices.

    @property
    def device_names(self) -> list[str]:
        """Names of the scan devices."""
        return [source.display_name for source in self._sources]

    @property
    def device_index(self) -> int | None:
        """The chosen device."""
        ids = [source.hardware_source_id for source in self._sources]
        return ids.index(self.settings.device) if self.settings.device in ids else 0 if ids else None

    @device_index.setter
    def device_index(self, index: int | None) -> None:
        if index is not None and not self._changing_menus and index != self.device_index:
            self.change(device=self._sources[index].hardware_source_id, channel=None)

    @property
    def source(self) -> scan_base.ScanHardwareSource | None:
        """The chosen device; None where there is none."""
        index = self.device_index
        return None if index is None else self._sources[index]

    @property
    def channel_index(self) -> int:
        """The channel that is completed live."""
        source = self.source
        if self.settings.channel is not None or source is None:
            return self.settings.channel or 0
        return next(iter(source.get_enabled_channel_indexes()), 0)

    @channel_index.setter
    def channel_index(self, index: int | None) -> None:
        if index is not None and not self._changing_menus:
            self.change(channel=index)

    @property
    def region_index(self) -> int:
        """Which of REGIONS."""
        return REGIONS.index(self.settings.region)

    @region_index.setter
    def region_index(self, index: int) -> None:
        self.change(region=REGIONS[index])

    @property
    def budget_index(self) -> int:
        """Which of BUDGETS."""
        return BUDGETS.index(self.settings.budget)

    @budget_index.setter
    def budget_index(self, index: int) -> None:
        self.typed.pop("budget_text", None)
        self.change(budget=BUDGETS[index])
        self.notify_property_changed("budget_text")

    @property
    def restart_view(self) -> bool:
        """Whether a live view that was stopped goes on afterwards."""
        return self.settings.restart_view

    @restart_view.setter
    def restart_view(self, restart: bool) -> None:
        self.change(restart_view=restart)

    def change(self, **changes: typing.Any) -> None:
        """Change settings and keep them."""
        settings = dataclasses.replace(self.settings, **changes)
        if settings != self.settings:
            self.settings = settings
            self._background.submit("The settings", functools.partial(self._store.save, settings), _ignore, self.say)
            self.refresh()
            self._notify(*_SHOWN_SETTINGS)
            self.models.settings_changed()

    def ask_for_onnx(self) -> pathlib.Path | None:
        """Let the operator choose a model's file."""
        paths, _, _ = self._document_controller.get_file_paths_dialog("Load ONNX", "", "ONNX models (*.onnx)")
        return pathlib.Path(paths[0]) if paths else None

    def say(self, line: str) -> None:
        """Tell the operator something."""
        self.session.say(line)

    # Actions.

    def start_or_abort(self) -> None:
        """What the button does."""
        if self.session.is_busy:
            self.session.abort()
        else:
            self.start()

    def start(self, **changes: typing.Any) -> None:
        """Begin a scan with the settings, or with some of them changed for this scan only."""
        settings, message = dataclasses.replace(self.settings, **changes), self._typing_error()
        if message is not None and not changes:
            self.say(message)
            return
        try:
            source = self.source if "device" not in changes else scan_source(settings.device)
            if source is None:
                raise InvalidInputError("There is no scan device.")
            place = chosen_place(settings.region, source, self._document_controller)
        except InvalidInputError as error:
            self.say(str(error))
            return
        self.session.start(lambda: prepare(settings, source, place, self.models.load(settings)))

    def continue_last(self, **changes: typing.Any) -> None:
        """Add the same budget once more to the last scan."""
        settings = dataclasses.replace(self.settings, **changes)
        self.session.continue_with(
            lambda previous, scan: prepare_continuation(settings, previous, scan, self.models.load(settings))
        )

    def unblank(self) -> None:
        """Let the beam onto the specimen again, which a scan leaves blanked."""
        source, control = self.source, self.settings.blanker_control
        if source is None or not control or self.session.is_busy:
            return
        stem = source.stem_controller

        def unblank() -> str:
            if not stem.SetVal(control, 0.0):
                raise DeviceError(f"The blanker {control} did not accept the value 0.")
            return "The beam is not blanked any more."

        self._background.submit("Unblanking", unblank, self.say, self.say)

    @property
    def button_text(self) -> str:
        """What the button would do."""
        return "Abort" if self.session.is_busy else "Adaptive Scan"

    @property
    def is_idle(self) -> bool:
        """Whether nothing is going on."""
        return not self.session.is_busy

    @property
    def can_go_on(self) -> bool:
        """Whether there is a last scan with which something can be done."""
        outcome = self.session.outcome
        return not self.session.is_busy and outcome is not None and outcome.scan is not None and outcome.scan.probes > 0

    @property
    def has_other_channels(self) -> bool:
        """Whether the last scan recorded other channels than the one that was completed."""
        outcome = self.session.outcome
        prepared = None if outcome is None else outcome.prepared
        return self.can_go_on and prepared is not None and len(prepared.plan.setup.channels) > 1

    # What the scan will take.

    def refresh(self) -> None:
        """Predict anew what the scan would take."""
        message, source = self._typing_error(), self.source
        if source is not None:
            self._update_channels(source)
        if message is not None or source is None:
            self._predict(message or "There is no scan device.")
            return
        settings = self.settings
        try:
            place = chosen_place(settings.region, source, self._document_controller)
        except InvalidInputError as error:
            self._predict(str(error))
            return
        self._background.submit(
            "The prediction",
            lambda: prepare(settings, source, place, self.models.load(settings)),
            lambda prepared: self._predict(self._prediction_line(prepared)),
            self._predict,
        )

    def _prediction_line(self, prepared: PreparedScan) -> str:
        prediction, setup = prepared.prediction, prepared.plan.setup
        overhead_s = self._overheads_s.get(_pace(prepared))
        seconds = time_text(prediction.beam_s + prediction.segments * (overhead_s or 0.0))
        if overhead_s is None:
            seconds = f"{seconds} and decisions"
        height, width = setup.size_px
        beam = "" if setup.beam_current_pa is None else f" at {setup.beam_current_pa:.3g} pA"
        dose = dose_text(prediction.dose_e_per_A2)
        if prediction.dose_e_per_A2 is not None and not prepared.scanner.abilities.gates_beam:
            # Such a device exposes the specimen between the probes too; how long is known only once it has.
            dose = f"at least {dose}"
        return (
            f"{prediction.probes} probes of {setup.dwell_us:g} \N{MICRO SIGN}s "
            f"on {height} \N{MULTIPLICATION SIGN} {width} px: {percent_text(prediction.coverage)}\n"
            f"{dose}{beam}, {seconds}"
        )

    # What changes by itself.

    def _poll(self) -> None:
        if self.is_visible() and not self.session.is_busy:
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
        if name == "is_busy":
            self._notify("button_text", "is_idle", "can_go_on", "has_other_channels")
        elif name == "outcome":
            outcome = self.session.outcome
            if outcome is not None and outcome.prepared is not None and outcome.overhead_s is not None:
                self._overheads_s[_pace(outcome.prepared)] = outcome.overhead_s

    def _devices_changed(self, _source: HardwareSource.HardwareSource) -> None:
        """A device came or went, on any thread."""
        self._post(self._update_devices)

    def _update_devices(self) -> None:
        self._sources = scan_sources()
        self._notify_menus("device")
        self.refresh()

    def _update_channels(self, source: scan_base.ScanHardwareSource) -> None:
        names = [source.get_channel_name(index) or str(index) for index in range(source.channel_count)]
        if names != self.channel_names:
            self.channel_names = names
            self._notify_menus("channel")

    def _predict(self, line: str) -> None:
        if line != self.prediction:
            self.prediction = line
            self._notify("prediction")

    def _typing_error(self) -> str | None:
        return next((message for _, message in self.typed.values()), None)

    def _notify_menus(self, *menus: str) -> None:
        """The lines of menus have changed. A combo box answers new lines with the index that it had before."""
        self._changing_menus = True
        try:
            self._notify(*(_MENUS[menu] for menu in menus))
        finally:
            self._changing_menus = False
        self._notify(*(f"{menu}_index" for menu in menus))

    def _notify(self, *names: str) -> None:
        for name in names:
            self.notify_property_changed(name)


_MENUS = {
    "device": "device_names",
    "channel": "channel_names",
}
_SHOWN_SETTINGS = (
    "device_index",
    "channel_index",
    "region_index",
    "budget_index",
    "restart_view",
)


def _pace(prepared: PreparedScan) -> tuple[typing.Any, ...]:
    """What the time of a segment beyond its probes depends on."""
    models = prepared.models
    return prepared.source.hardware_source_id, models.policy.name, models.generator.name, prepared.plan.setup.size_px


def _ignore(result: None) -> None:
    """Nothing to show."""
