"""From the operator's choices to a scan that is ready to run; nothing here moves the beam."""

from __future__ import annotations

import dataclasses
import datetime
import math
import pathlib

from nion.instrumentation import scan_base

from adaptive_core.choices import default_choice
from adaptive_core.errors import InvalidInputError, JournalError
from adaptive_core.finish_reason import FinishReason
from adaptive_core.journal import JournalWriter, ModelRecord
from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan import Budget, Episode, Generator, PartialImage, Policy, ScanPlan, catalogue
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.partial_scan.record import begin_journal, model_records
from adaptive_core.scan_path import Point
from nionswift_plugin.adaptive_scan.scan_region import ScanRegion, context_parameters
from nionswift_plugin.adaptive_scan.settings import PartialScanSettings
from nionswift_plugin.adaptive_scan.swift_scanner import SwiftScanner


@dataclasses.dataclass(frozen=True)
class Place:
    """Where to scan.

    Attributes:
        parameters: the context, with Swift's dwell time.
        center: centre ``(y, x)`` in fractions of the context.
        fractional_size: height and width in fractions of the context.
        rotation_rad: rotation in the sense of Swift's subscans.
    """

    parameters: scan_base.ScanFrameParameters
    center: Point = (0.5, 0.5)
    fractional_size: Point = (1.0, 1.0)
    rotation_rad: float = 0.0


@dataclasses.dataclass(frozen=True)
class Models:
    """A policy and a generator, loaded."""

    policy: Policy
    generator: Generator

    @classmethod
    def load(cls, settings: PartialScanSettings, library: ModelLibrary) -> Models:
        """Those that were chosen, or the best shipped ones. Raises ModelError; may take a while."""
        policy = settings.policy or default_choice(catalogue.policies(library), catalogue.DEFAULT_POLICY).name
        generator = settings.generator or catalogue.default_generator(policy, catalogue.generators(library)).name
        return cls(catalogue.policy(policy, library), catalogue.generator(generator, library))

    def records(self) -> dict[str, ModelRecord]:
        """How journals and metadata name them."""
        return model_records(self.policy, self.generator)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a scan will take.

    Attributes:
        probes: number of probes.
        segments: number of segments.
        coverage: probes over pixels of the region.
        dose_e_per_A2: dose of the probes (e-/A^2); None if unknown.
        beam_s: time for which the beam dwells on probes.
    """

    probes: int
    segments: int
    coverage: float
    dose_e_per_A2: float | None
    beam_s: float


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan that has been checked against the device.

    Attributes:
        source: the scan device as Swift knows it.
        settings: what the operator chose.
        scanner: the device, set up; it serves one run.
        models: policy and generator.
        plan: region and budget, an earlier scan's share included.
        earlier: an earlier scan that is continued.
    """

    source: scan_base.ScanHardwareSource
    settings: PartialScanSettings
    scanner: SwiftScanner
    models: Models
    plan: ScanPlan
    earlier: PartialImage | None = None

    @property
    def prediction(self) -> Prediction:
        """What is still to be done."""
        setup = self.plan.setup
        earlier = self.earlier
        probes = (
            self.plan.probes
            if earlier is None
            else self.plan.probes_left(len(earlier.actions), earlier.probes, earlier.beam_on_us)
        )
        return Prediction(
            probes,
            math.ceil(probes / self.plan.probes_per_segment),
            probes / math.prod(setup.size_px),
            self.plan.dose_of_probes(probes),
            probes * setup.dwell_us * 1e-6,
        )

    def begin(self, folder: pathlib.Path) -> tuple[Episode, JournalWriter]:
        """The run, and its journal in a new file of the folder; no file if it cannot begin. Raises JournalError."""
        models = self.models
        journal = begin_journal(new_path(folder, "Adaptive Scan"), self.plan, models.policy, models.generator)
        try:
            episode = Episode(self.scanner, models.policy, models.generator, self.plan, journal, self.earlier)
        except BaseException:
            journal.close(FinishReason.FAILED)
            journal.path.unlink(missing_ok=True)
            raise
        return episode, journal


def prepare(
    settings: PartialScanSettings, source: scan_base.ScanHardwareSource, place: Place, models: Models
) -> PreparedScan:
    """Check everything that can be checked before the beam moves.

    Raises InvalidInputError saying what does not fit together.
    """
    parameters = _with_pixels_of_region(place, settings.size_px)
    if settings.dwell_us is not None:
        parameters.pixel_time_us = settings.dwell_us
    region = ScanRegion.rectangle(parameters, place.center, place.fractional_size, place.rotation_rad, settings.size_px)
    scanner = _scanner(settings, source, region, parameters, _channels(settings, source))
    return _prepared(settings, source, scanner, models, settings.scan_budget())


def prepare_continuation(
    settings: PartialScanSettings, previous: PreparedScan, scan: PartialImage, models: Models
) -> PreparedScan:
    """The same budget once more, in the region and with the channels and the dwell time of an earlier scan.

    Raises InvalidInputError saying what does not fit together.
    """
    if not scan.probes:
        raise InvalidInputError("The last scan has measured nothing; start a new one.")
    scanner = _scanner(
        settings, previous.source, previous.scanner.region, previous.scanner.context, previous.scanner.channels
    )
    budget = settings.scan_budget()
    spent = previous.plan.dose_meter.dose_e_per_A2(scan.beam_on_us)
    budget = Budget(
        segments=budget.segments and budget.segments + len(scan.actions),
        coverage=budget.coverage and min(budget.coverage + scan.coverage, 1.0),
        dose_e_per_A2=budget.dose_e_per_A2 and budget.dose_e_per_A2 + (spent or 0.0),
        predicted_error=budget.predicted_error,
    )
    return _prepared(settings, previous.source, scanner, models, budget, scan)


def _prepared(
    settings: PartialScanSettings,
    source: scan_base.ScanHardwareSource,
    scanner: SwiftScanner,
    models: Models,
    budget: Budget,
    earlier: PartialImage | None = None,
) -> PreparedScan:
    if budget.predicted_error is not None and not models.generator.predicts_error:
        raise InvalidInputError(
            f"Stopping at a predicted error needs a generator that predicts it; {models.generator.name} does not."
        )
    plan = ScanPlan(scanner.setup, budget, seed=settings.seed)
    if isinstance(models.policy, OnnxPolicy):
        plan = models.policy.plan(plan)
    prepared = PreparedScan(source, settings, scanner, models, plan, earlier)
    if prepared.prediction.probes < 1:
        raise InvalidInputError("The last scan has used up this budget; raise it.")
    models.policy.start(plan, models.generator)
    return prepared


def _scanner(
    settings: PartialScanSettings,
    source: scan_base.ScanHardwareSource,
    region: ScanRegion,
    parameters: scan_base.ScanFrameParameters,
    channels: tuple[int, ...],
) -> SwiftScanner:
    return SwiftScanner(
        source,
        region,
        parameters=parameters,
        channels=channels,
        beam=settings.beam_settings(),
        restart_view=settings.restart_view,
    )


def _channels(settings: PartialScanSettings, source: scan_base.ScanHardwareSource) -> tuple[int, ...]:
    """All enabled channels; the one that is completed live comes first, enabled or not."""
    enabled = tuple(source.get_enabled_channel_indexes())
    if settings.channel is None:
        return enabled
    return settings.channel, *(index for index in enabled if index != settings.channel)


def _with_pixels_of_region(place: Place, longest_px: int | None) -> scan_base.ScanFrameParameters:
    """The context with pixels as large as the region's, where its shape allows it without a change.

    A simulated instrument takes the probe to be as wide as the context's pixels; a real one does not care.
    """
    parameters = context_parameters(place.parameters)
    height, width = parameters.pixel_size.height, parameters.pixel_size.width
    if longest_px is None:
        return parameters
    scale = longest_px / max(place.fractional_size[0] * height, place.fractional_size[1] * width)
    scaled = round(height * scale), round(width * scale)
    if min(scaled) >= 1 and scaled[0] * width == scaled[1] * height:
        parameters.pixel_size = scaled
    return parameters


def new_path(folder: pathlib.Path, title: str) -> pathlib.Path:
    """A file name that says what began when, and that no file has yet. Raises JournalError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(f"The folder for runs {folder} cannot be made: {error.strerror or error}.") from error
    stem = datetime.datetime.now().strftime(f"{title} %Y-%m-%d %H.%M.%S")
    path, number = folder / f"{stem}.h5", 1
    while path.exists():
        number += 1
        path = folder / f"{stem} ({number}).h5"
    return path
