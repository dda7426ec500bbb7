"""What the panel's section for partial scans shows and does, without its widgets."""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib
import typing

from nion.instrumentation import scan_base
from nion.swift import DocumentController

from adaptive_core.errors import DeviceError, InvalidInputError
from adaptive_core.partial_scan import catalogue
from nionswift_plugin.adaptive_scan.model_choices import ModelChoices, ModelKinds
from nionswift_plugin.adaptive_scan.model_menu import partial_scan_menu
from nionswift_plugin.adaptive_scan.places import chosen_place, scan_source, scan_sources
from nionswift_plugin.adaptive_scan.preparation import Models, PreparedScan, prepare, prepare_continuation
from nionswift_plugin.adaptive_scan.scan_session import ScanSession, dose_text, percent_text, time_text
from nionswift_plugin.adaptive_scan.section_model import SectionModel
from nionswift_plugin.adaptive_scan.settings import (
    BudgetKind,
    PartialScanSettings,
    RegionKind,
    SettingsStore,
)
from nionswift_plugin.adaptive_scan.settings_text import (
    Changes,
    SettingFlag,
    SettingIndex,
    SettingText,
    number_text,
    positive_number,
    whole_number,
    write_number,
)

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


def _read_beam(settings: PartialScanSettings, text: str) -> Changes:
    """A current in pA, or the name of a control."""
    dataclasses.replace(settings, beam_current=text).beam_settings()
    return {"beam_current": text}


def _read_budget(settings: PartialScanSettings, text: str) -> Changes:
    """What the number means is for ``settings.budget`` to say; a coverage is in percent."""
    if settings.budget is BudgetKind.SEGMENTS:
        return {"segments": whole_number(text, "The number of segments")}
    if settings.budget is BudgetKind.DOSE:
        return {"dose_e_per_A2": positive_number(text, "The dose")}
    percent = positive_number(text.rstrip("% "), "The coverage")
    if percent > 100:
        raise InvalidInputError(f"The coverage must be at most 100 %, not {percent:g} %.")
    return {"coverage": percent / 100}


def _write_budget(settings: PartialScanSettings) -> str:
    if settings.budget is BudgetKind.SEGMENTS:
        return str(settings.segments)
    return write_number(settings.dose_e_per_A2 if settings.budget is BudgetKind.DOSE else 100 * settings.coverage)


_MODELS = ModelKinds(
    partial_scan_menu,
    Models.load,
    lambda settings: (settings.policy, settings.generator),
    {catalogue.POLICY_KIND: "policy", catalogue.GENERATOR_KIND: "generator"},
)


class PartialScanModel(SectionModel[PartialScanSettings]):
    """State of the section.

    Args:
        document_controller: the window.
        folders: where settings, models and journals are.
    """

    size_text = number_text("size_px", "The size in px", whole_number, optional=True)
    dwell_text = number_text("dwell_us", "The dwell time", positive_number, optional=True)
    stop_text = number_text("stop_error", "The predicted error", positive_number, optional=True)
    beam_text = SettingText(_read_beam, lambda settings: str(settings.beam_current))
    budget_text = SettingText(_read_budget, _write_budget)
    region_index = SettingIndex("region", REGIONS)
    restart_view = SettingFlag("restart_view")
    action = "Adaptive Scan"
    shown_settings = ("channel_index", "region_index", "budget_index", "restart_view")

    def __init__(self, document_controller: DocumentController.DocumentController, folders: Folders) -> None:
        super().__init__(document_controller, SettingsStore(folders.configuration))
        self.prediction = ""
        self.channel_names: list[str] = []
        self._overheads_s: dict[tuple[typing.Any, ...], float] = {}
        self.models = ModelChoices(self, folders.models, self._background, self._post, _MODELS)
        self.session: ScanSession = ScanSession(document_controller, self._post, folders.journals)
        self._listeners.append(self.session.property_changed_event.listen(self._session_changed))
        self.devices = self._device_menu("device", scan_sources, reset=["channel"])
        self.models.read()
        self.refresh()

    # Choices.

    @property
    def channel_index(self) -> int:
        """The channel that is completed live."""
        source = self.devices.chosen
        if self.settings.channel is not None or source is None:
            return self.settings.channel or 0
        return next(iter(source.get_enabled_channel_indexes()), 0)

    @channel_index.setter
    def channel_index(self, index: int | None) -> None:
        if index is not None and not self.changing_menus:
            self.change(channel=index)

    @property
    def budget_index(self) -> int:
        """Which of BUDGETS."""
        return BUDGETS.index(self.settings.budget)

    @budget_index.setter
    def budget_index(self, index: int) -> None:
        self.typed.pop("budget_text", None)
        self.change(budget=BUDGETS[index])
        self.notify_property_changed("budget_text")

    def change(self, **changes: typing.Any) -> None:
        """Change settings and keep them."""
        super().change(**changes)
        self.models.settings_changed()

    # Actions.

    def _start(self, settings: PartialScanSettings, changes: collections.abc.Mapping[str, typing.Any]) -> None:
        source = self.devices.chosen if "device" not in changes else scan_source(settings.device)
        if source is None:
            raise InvalidInputError("There is no scan device.")
        place = chosen_place(settings.region, source, self._document_controller)
        self.session.start(lambda: prepare(settings, source, place, self.models.load(settings)))

    def continue_last(self, **changes: typing.Any) -> None:
        """Add the same budget once more to the last scan."""
        settings = dataclasses.replace(self.settings, **changes)
        self.session.continue_with(
            lambda previous, scan: prepare_continuation(settings, previous, scan, self.models.load(settings))
        )

    def unblank(self) -> None:
        """Let the beam onto the specimen again, which a scan leaves blanked."""
        source, control = self.devices.chosen, self.settings.blanker_control
        if source is None or not control or self.session.is_busy:
            return
        stem = source.stem_controller

        def unblank() -> str:
            if not stem.SetVal(control, 0.0):
                raise DeviceError(f"The blanker {control} did not accept the value 0.")
            return "The beam is not blanked any more."

        self._background.submit("Unblanking", unblank, self.say, self.say)

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
        message, source = self.typing_error, self.devices.chosen
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

    def _session_changed(self, name: str) -> None:
        if name == "is_busy":
            self._notify("button_text", "is_idle", "can_go_on", "has_other_channels")
        elif name == "outcome":
            outcome = self.session.outcome
            if outcome is not None and outcome.prepared is not None and outcome.overhead_s is not None:
                self._overheads_s[_pace(outcome.prepared)] = outcome.overhead_s

    def _update_channels(self, source: scan_base.ScanHardwareSource) -> None:
        names = [source.get_channel_name(index) or str(index) for index in range(source.channel_count)]
        if names != self.channel_names:
            self.channel_names = names
            self._notify_menu("channel_names", "channel_index")

    def _predict(self, line: str) -> None:
        if line != self.prediction:
            self.prediction = line
            self._notify("prediction")


def _pace(prepared: PreparedScan) -> tuple[typing.Any, ...]:
    """What the time of a segment beyond its probes depends on."""
    models = prepared.models
    return prepared.source.hardware_source_id, models.policy.name, models.generator.name, prepared.plan.setup.size_px
