"""What is asked for on the command line, and the scan that it becomes."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import typing

from nion.instrumentation import scan_base
from nion.utils import Geometry, Registry

from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.partial_scan import Budget, Episode, Generator, Policy, ScanPlan, catalogue
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.partial_scan.record import begin_journal
from adaptive_core.ports import ImageArray, SimulatedSpecimen
from adaptive_core.simulation.settings import SimulatedInstrument
from nionswift_plugin.adaptive_scan.headless import SIMULATOR_ID, find_scan_source
from nionswift_plugin.adaptive_scan.scan_region import ScanRegion
from nionswift_plugin.adaptive_scan.swift_scanner import SwiftScanner

DEFAULT_COVERAGE = 1 / 23.04
"""That of the paper: 400 probes on 96 x 96 px (Ede 2021)."""


@dataclasses.dataclass(frozen=True)
class ScanRequest:
    """A scan as it is asked for.

    Attributes:
        specimen: built-in name or image file for the simulated instrument; None leaves the one that is in it.
        pixel_size_nm: pixel size of the specimen's image.
        device: Swift's identifier of the scan device; None takes the simulator or Swift's first one.
        policy, generator: built-in name, name of a model, or path of an ONNX file; None takes the shipped one.
        budget: when the scan ends.
        size_px: pixels along the longer side of the region.
        dwell_us: dwell time; None takes Swift's.
        seed: of the policy and of the simulated instrument; None leaves the instrument's.
    """

    specimen: str | None
    pixel_size_nm: float | None
    device: str | None
    policy: str | None
    generator: str | None
    budget: Budget
    size_px: int
    dwell_us: float | None
    seed: int | None

    def __post_init__(self) -> None:
        if self.pixel_size_nm is not None and self.specimen is None:
            raise InvalidInputError("A pixel size is that of a specimen's image; name one with --specimen.")
        if self.pixel_size_nm is not None and not self.pixel_size_nm > 0:
            raise InvalidInputError(f"The pixel size must be positive, not {self.pixel_size_nm} nm.")
        if self.dwell_us is not None and not self.dwell_us > 0:
            raise InvalidInputError(f"The dwell time must be positive, not {self.dwell_us} us.")
        if self.seed is not None and self.seed < 0:
            raise InvalidInputError(f"The seed must not be negative, not {self.seed}.")
        if not 8 <= self.size_px <= 8192:
            raise InvalidInputError(f"The region must have 8 to 8192 px a side, not {self.size_px}.")


def add_scan_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a scan."""
    parser.add_argument("--specimen", metavar="NAME|PATH", help="simulated specimen: a built-in name or an image file")
    parser.add_argument("--pixel-size", type=float, metavar="NM", help="pixel size of the specimen's image in nm")
    parser.add_argument("--device", metavar="ID", help="scan device of Swift (default: the simulator)")
    parser.add_argument("--policy", metavar="NAME|PATH", help="built-in policy, name of a model, or ONNX file")
    parser.add_argument("--generator", metavar="NAME|PATH", help="built-in generator, name of a model, or ONNX file")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--segments", type=int, metavar="N", help="end after N segments")
    budget.add_argument("--coverage", type=float, metavar="F", help="end at F probes a pixel (default: 1/23.04)")
    budget.add_argument("--dose", type=float, metavar="E", help="end at E electrons an A^2")
    parser.add_argument("--size", type=int, default=96, metavar="PX", help="longer side of the region (default: 96)")
    parser.add_argument("--dwell-us", type=float, metavar="T", help="dwell time a probe in us (default: Swift's)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the policy and the simulated instrument")


def scan_request(options: argparse.Namespace) -> ScanRequest:
    """The request. Raises InvalidInputError if a number can never be right."""
    limits = (options.segments, options.coverage, options.dose)
    return ScanRequest(
        specimen=options.specimen,
        pixel_size_nm=options.pixel_size,
        device=options.device,
        policy=options.policy,
        generator=options.generator,
        budget=Budget(*limits) if any(limit is not None for limit in limits) else Budget(coverage=DEFAULT_COVERAGE),
        size_px=options.size,
        dwell_us=options.dwell_us,
        seed=options.seed,
    )


@dataclasses.dataclass(frozen=True)
class Models:
    """Policy and generator of a scan."""

    policy: Policy
    generator: Generator


def load_models(request: ScanRequest, library: ModelLibrary) -> Models:
    """The policy and the generator that were asked for, or the shipped ones. Raises ModelError."""
    policy = request.policy or catalogue.default_choice(catalogue.policies(library), catalogue.DEFAULT_POLICY).name
    generator = (
        request.generator or catalogue.default_choice(catalogue.generators(library), catalogue.DEFAULT_GENERATOR).name
    )
    return Models(catalogue.policy(policy, library), catalogue.generator(generator, library))


@dataclasses.dataclass(frozen=True)
class PreparedScan:
    """A scan on hardware that was found, before the beam moves.

    Attributes:
        scanner: the scan device, set up.
        plan: what will be done.
        models: policy and generator.
        specimen: what is known of the specimen behind a simulated device; None behind others.
    """

    scanner: SwiftScanner
    plan: ScanPlan
    models: Models
    specimen: SimulatedSpecimen | None

    def episode(self, journal: pathlib.Path) -> Episode:
        """The run, recorded in a journal."""
        writer = begin_journal(journal, self.plan, self.models.policy, self.models.generator)
        return Episode(self.scanner, self.models.policy, self.models.generator, self.plan, writer)

    def truth(self) -> ImageArray | None:
        """The live channel without noise, shape (height, width); None where it is not known."""
        if self.specimen is None:
            return None
        raster = self.scanner.region.raster_parameters(self.scanner.context)
        return self.specimen.truth(raster, self.scanner.channels[0])


def prepare_scan(request: ScanRequest, models: Models) -> PreparedScan:
    """Find the device, put in the specimen and set up the scan.

    Raises:
        InvalidInputError: if device, specimen, region, plan and models do not fit together.
    """
    source = find_scan_source(request.device)
    specimen = _simulated_specimen(request, source)
    parameters = source.get_current_frame_parameters()
    if request.dwell_us is not None:
        parameters.pixel_time_us = request.dwell_us
    # The context gets the region's pixels, so that a simulated probe is as wide as they are.
    size = parameters.pixel_size
    scale = request.size_px / max(size.height, size.width)
    parameters.pixel_size = Geometry.IntSize(max(1, round(size.height * scale)), max(1, round(size.width * scale)))
    scanner = SwiftScanner(source, ScanRegion.from_settings(parameters), parameters=parameters)
    plan = ScanPlan(scanner.setup, request.budget, seed=request.seed or 0)
    if isinstance(models.policy, OnnxPolicy):
        plan = models.policy.plan(plan)
    # A first episode refuses what does not fit, before there is a journal.
    Episode(scanner, models.policy, models.generator, plan)
    return PreparedScan(scanner, plan, models, specimen)


def _simulated_specimen(request: ScanRequest, source: scan_base.ScanHardwareSource) -> SimulatedSpecimen | None:
    """The specimen behind the device, with the one that was asked for put in; None behind real devices."""
    if source.hardware_source_id != SIMULATOR_ID:
        if request.specimen is not None:
            raise InvalidInputError(
                f"A specimen can be put into {SIMULATOR_ID} only, not into {source.hardware_source_id}."
            )
        return None
    specimen = typing.cast(SimulatedSpecimen, Registry.get_component("simulated_specimen"))
    if request.specimen is not None:
        specimen.load(request.specimen, request.pixel_size_nm)
    if request.seed is not None:
        instrument = typing.cast(SimulatedInstrument, Registry.get_component("simulated_instrument"))
        instrument.settings = dataclasses.replace(instrument.settings, seed=request.seed)
    return specimen
