"""What is asked for on the command line, and the scan that it becomes."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import typing

from nion.instrumentation import scan_base
from nion.utils import Registry

from adaptive_core.errors import InvalidInputError
from adaptive_core.ports import ImageArray, SimulatedSpecimen
from adaptive_core.simulation.settings import SimulatedInstrument
from nionswift_plugin.adaptive_scan.places import scan_sources
from nionswift_plugin.adaptive_scan.preparation import Models, Place, PreparedScan, prepare
from nionswift_plugin.adaptive_scan.settings import SIMULATOR_ID, BudgetKind, PartialScanSettings, SettingsStore

DEFAULT_COVERAGE = 1 / 23.04
"""That of the paper: 400 probes on 96 x 96 px (Ede 2021)."""


@dataclasses.dataclass(frozen=True)
class ScanRequest:
    """A scan as it is asked for.

    Attributes:
        settings: what the operator of the panel would choose.
        specimen: built-in name or image file for the simulated instrument; None leaves the one that is in it.
        pixel_size_nm: pixel size of the specimen's image.
        seed: of the simulated instrument; None leaves its own.
    """

    settings: PartialScanSettings
    specimen: str | None = None
    pixel_size_nm: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        size_px, dwell_us = self.settings.size_px, self.settings.dwell_us
        if self.pixel_size_nm is not None and self.specimen is None:
            raise InvalidInputError("A pixel size is that of a specimen's image; name one with --specimen.")
        if self.pixel_size_nm is not None and not self.pixel_size_nm > 0:
            raise InvalidInputError(f"The pixel size must be positive, not {self.pixel_size_nm} nm.")
        if dwell_us is not None and not dwell_us > 0:
            raise InvalidInputError(f"The dwell time must be positive, not {dwell_us} us.")
        if self.seed is not None and self.seed < 0:
            raise InvalidInputError(f"The seed must not be negative, not {self.seed}.")
        if size_px is not None and not 8 <= size_px <= 8192:
            raise InvalidInputError(f"The region must have 8 to 8192 px a side, not {size_px}.")
        self.settings.scan_budget()


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


def scan_request(options: argparse.Namespace, configuration: pathlib.Path) -> ScanRequest:
    """The request. How the instrument's beam is treated comes from the settings in Swift's configuration folder.

    Raises:
        InvalidInputError: if a number can never be right.
    """
    stored = SettingsStore(configuration).load()
    settings = PartialScanSettings(
        beam_current=stored.beam_current,
        blanker_control=stored.blanker_control,
        unblank_delay_us=stored.unblank_delay_us,
        device=options.device,
        policy=options.policy,
        generator=options.generator,
        size_px=options.size,
        dwell_us=options.dwell_us,
        seed=options.seed or 0,
    )
    if options.segments is not None:
        settings = dataclasses.replace(settings, budget=BudgetKind.SEGMENTS, segments=options.segments)
    elif options.dose is not None:
        settings = dataclasses.replace(settings, budget=BudgetKind.DOSE, dose_e_per_A2=options.dose)
    else:
        coverage = DEFAULT_COVERAGE if options.coverage is None else options.coverage
        settings = dataclasses.replace(settings, budget=BudgetKind.COVERAGE, coverage=coverage)
    return ScanRequest(settings, options.specimen, options.pixel_size, options.seed)


@dataclasses.dataclass(frozen=True)
class FoundScan:
    """A scan on hardware that was found, before the beam moves.

    Attributes:
        prepared: the scan.
        specimen: what is known of the specimen behind a simulated device; None behind others.
    """

    prepared: PreparedScan
    specimen: SimulatedSpecimen | None

    def truth(self) -> ImageArray | None:
        """The live channel without noise, shape (height, width); None where it is not known."""
        if self.specimen is None:
            return None
        scanner = self.prepared.scanner
        return self.specimen.truth(scanner.region.raster_parameters(scanner.context), scanner.channels[0])


def find_scan(request: ScanRequest, models: Models) -> FoundScan:
    """Find the device, put in the specimen and prepare the scan.

    Raises:
        InvalidInputError: if device, specimen, region, plan and models do not fit together.
    """
    source = _find_source(request.settings.device)
    specimen, calibrated = _insert_specimen(request, source)
    if request.settings.budget is BudgetKind.DOSE and not calibrated:
        raise InvalidInputError(f"The dose on {request.specimen} is unknown without its pixel size; use --pixel-size.")
    prepared = prepare(request.settings, source, Place(source.get_current_frame_parameters()), models)
    if not calibrated:
        # The scan has a size all the same; what it shows, and so its dose, has none.
        setup = dataclasses.replace(prepared.plan.setup, pixel_size_nm=None)
        prepared.scanner.setup = setup
        prepared = dataclasses.replace(prepared, plan=dataclasses.replace(prepared.plan, setup=setup))
    return FoundScan(prepared, specimen)


def _find_source(device_id: str | None) -> scan_base.ScanHardwareSource:
    """The scan device with this identifier; by default the simulator if it is attached, else the first one."""
    sources = {source.hardware_source_id: source for source in scan_sources()}
    if device_id is None:
        device_id = SIMULATOR_ID if SIMULATOR_ID in sources else next(iter(sources), "")
    if device_id not in sources:
        raise InvalidInputError(f"There is no scan device {device_id!r}; there are: {', '.join(sources) or 'none'}.")
    return sources[device_id]


def _insert_specimen(
    request: ScanRequest, source: scan_base.ScanHardwareSource
) -> tuple[SimulatedSpecimen | None, bool]:
    """The specimen behind the device, with the one that was asked for put in, and whether its size is known."""
    if source.hardware_source_id != SIMULATOR_ID:
        if request.specimen is not None:
            raise InvalidInputError(
                f"A specimen can be put into {SIMULATOR_ID} only, not into {source.hardware_source_id}."
            )
        return None, True
    specimen = typing.cast(SimulatedSpecimen, Registry.get_component("simulated_specimen"))
    instrument = typing.cast(SimulatedInstrument, Registry.get_component("simulated_instrument"))
    if request.specimen is not None:
        specimen.load(request.specimen, request.pixel_size_nm)
    if request.seed is not None:
        instrument.settings = dataclasses.replace(instrument.settings, seed=request.seed)
    return specimen, instrument.is_calibrated
