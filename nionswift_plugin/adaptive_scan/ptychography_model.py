"""What the panel's section for adaptive ptychography shows and does, without its widgets."""

from __future__ import annotations

import collections.abc
import pathlib
import typing

from nion.swift import DocumentController

from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.ptychography import catalogue
from adaptive_core.ptychography.policy import Policy
from nionswift_plugin.adaptive_scan.alignment_devices import cameras, find_camera
from nionswift_plugin.adaptive_scan.beam import BeamSettings
from nionswift_plugin.adaptive_scan.model_choices import ModelChoices, ModelKinds
from nionswift_plugin.adaptive_scan.model_menu import ptychography_menu
from nionswift_plugin.adaptive_scan.places import chosen_place, scan_source, scan_sources
from nionswift_plugin.adaptive_scan.ptychography_preparation import (
    PreparedPtychography,
    prepare_ptychography,
    probe_diameter_A,
    spacing_A,
)
from nionswift_plugin.adaptive_scan.ptychography_session import PtychographySession
from nionswift_plugin.adaptive_scan.ptychography_settings import PtychographyChoices, PtychographyStore
from nionswift_plugin.adaptive_scan.scan_session import dose_text, time_text
from nionswift_plugin.adaptive_scan.section_model import SectionModel
from nionswift_plugin.adaptive_scan.settings import RegionKind
from nionswift_plugin.adaptive_scan.settings_text import (
    SettingFlag,
    SettingIndex,
    number_from_zero,
    number_text,
    positive_number,
    whole_number,
)

REGIONS = tuple(RegionKind)


def _load(choices: PtychographyChoices, library: ModelLibrary) -> Policy:
    return catalogue.policy(
        choices.policy or catalogue.DEFAULT_POLICY,
        library,
        defocus_A=None if choices.defocus_nm is None else 10 * choices.defocus_nm,
        stop_similarity=choices.stop_similarity,
        seed=choices.seed,
    )


_MODELS = ModelKinds(
    ptychography_menu,
    _load,
    lambda choices: (choices.policy, choices.defocus_nm, choices.stop_similarity, choices.seed),
    {catalogue.POLICY_KIND: "policy", catalogue.ENCODER_KIND: None},
)


def _similarity(text: str, what: str) -> float:
    value = positive_number(text, what)
    if value >= 1:
        raise InvalidInputError(f"{what} must lie between 0 and 1, not {text!r}.")
    return value


class PtychographyModel(SectionModel[PtychographyChoices]):
    """State of the section.

    Args:
        document_controller: the window.
        configuration: folder for choices; None keeps them for this session only.
        models: folder of the user's models.
        runs: folder for the files with the patterns.
        beam: how the instrument's beam is treated. Raises InvalidInputError.
    """

    positions_text = number_text("positions", "The number of positions", whole_number)
    subsequences_text = number_text("subsequences", "The number of sub-sequences", whole_number)
    stop_text = number_text("stop_similarity", "The similarity", _similarity, optional=True)
    defocus_text = number_text("defocus_nm", "The defocus", number_from_zero, optional=True)
    exposure_text = number_text("exposure_ms", "The exposure", positive_number, optional=True)
    energy_text = number_text("energy_kev", "The beam energy", positive_number, optional=True)
    convergence_text = number_text("convergence_mrad", "The convergence semi-angle", positive_number, optional=True)
    scale_text = number_text("mrad_per_px", "The angle of a pixel", positive_number, optional=True)
    gain_text = number_text("counts_per_electron", "The counts of an electron", positive_number, optional=True)
    saturation_text = number_text("saturation", "The saturation", positive_number, optional=True)
    settle_text = number_text("settle_ms", "The settling time", number_from_zero)
    region_index = SettingIndex("region", REGIONS)
    synchronized = SettingFlag("synchronized")
    action = "Adaptive Ptychography"
    shown_settings = ("region_index", "synchronized")

    def __init__(
        self,
        document_controller: DocumentController.DocumentController,
        configuration: pathlib.Path | None,
        models: pathlib.Path,
        runs: pathlib.Path,
        beam: collections.abc.Callable[[], BeamSettings],
    ) -> None:
        super().__init__(document_controller, PtychographyStore(configuration))
        self.prediction = ""
        self._exposed_shares: dict[tuple[typing.Any, ...], float] = {}
        self._beam = beam
        self.models = ModelChoices(self, models, self._background, self._post, _MODELS)
        self.session: PtychographySession = PtychographySession(document_controller, self._post, runs)
        self._listeners.append(self.session.property_changed_event.listen(self._session_changed))
        self.scans = self._device_menu("device", scan_sources)
        self.cameras = self._device_menu("camera", cameras)
        self.models.read()
        self.refresh()

    def change(self, **changes: typing.Any) -> None:
        """Change settings and keep them."""
        super().change(**changes)
        self.models.settings_changed()

    def _start(self, settings: PtychographyChoices, changes: collections.abc.Mapping[str, typing.Any]) -> None:
        self.session.start(self._prepare(settings, changes))

    def refresh(self) -> None:
        """Predict anew what the scan would take."""
        if self.typing_error is not None:
            self._predict(self.typing_error)
            return
        try:
            prepare = self._prepare(self.settings, {})
        except InvalidInputError as error:
            self._predict(str(error))
            return
        self._background.submit("The prediction", prepare, self._show_prediction, self._predict)

    def _prepare(
        self, choices: PtychographyChoices, changes: collections.abc.Mapping[str, typing.Any]
    ) -> collections.abc.Callable[[], PreparedPtychography]:
        """What makes the scan; takes note of what is chosen now. Raises InvalidInputError."""
        scan = scan_source(choices.device) if "device" in changes else self.scans.chosen
        camera = find_camera(choices.camera) if "camera" in changes else self.cameras.chosen
        if scan is None or camera is None:
            raise InvalidInputError(f"There is no {'scan device' if scan is None else 'camera'}.")
        place = chosen_place(choices.region, scan, self._document_controller)
        beam = self._beam()

        def prepare() -> PreparedPtychography:
            return prepare_ptychography(choices, scan, camera, place, beam, self.models.load(choices))

        return prepare

    def _show_prediction(self, prepared: PreparedPtychography) -> None:
        self._predict(prediction_line(prepared, self._exposed_shares.get(_pace(prepared))))

    def _predict(self, line: str) -> None:
        if line != self.prediction:
            self.prediction = line
            self._notify("prediction")

    def _session_changed(self, name: str) -> None:
        if name == "is_busy":
            self._notify("button_text")
        elif name == "outcome":
            outcome = self.session.outcome
            if outcome is not None and outcome.prepared is not None and outcome.exposed_share is not None:
                self._exposed_shares[_pace(outcome.prepared)] = outcome.exposed_share


def prediction_line(prepared: PreparedPtychography, exposed_share: float | None = None) -> str:
    """What a scan will take, and how its positions lie, in three lines.

    ``exposed_share`` is the time for which the beam was on in an earlier scan of this kind, over its exposures.
    """
    plan, setup = prepared.plan, prepared.scanner.setup
    height, width = (side / 10 for side in plan.calibration.fov_A)
    dose = dose_text(prepared.dose_e_per_A2(exposed_share or 1.0))
    if setup.beam_current_pa is not None:
        # The beam is on for longer than a frame is exposed; by how much is known only once it has been.
        dose = f"{'at least' if exposed_share is None else 'about'} {dose}"
    beam = "" if setup.beam_current_pa is None else f" at {setup.beam_current_pa:.3g} pA"
    probe_A = probe_diameter_A(plan, prepared.defocus_nm)
    return (
        f"{plan.positions} patterns of {setup.exposure_us / 1e3:.3g} ms on "
        f"{height:.3g} \N{MULTIPLICATION SIGN} {width:.3g} nm: {time_text(prepared.exposures_s)}\n"
        f"{spacing_A(plan):.2g} \N{ANGSTROM SIGN} apart, probe {probe_A:.2g} \N{ANGSTROM SIGN}\n"
        f"{dose}{beam}"
    )


def _pace(prepared: PreparedPtychography) -> tuple[typing.Any, ...]:
    """What the time for which the beam is on depends on."""
    devices = prepared.scan.hardware_source_id, prepared.camera.hardware_source_id
    return *devices, prepared.scanner.setup.exposure_us, prepared.choices.synchronized
