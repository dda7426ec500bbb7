"""``adaptive-scan ptychography``: an adaptive ptychographic scan through Swift's instruments, or on a recorded scan."""

from __future__ import annotations

import argparse
import collections.abc
import contextlib
import dataclasses
import pathlib
import signal
import typing

from nion.instrumentation import scan_base
from nion.utils import Registry

from adaptive_core import dose
from adaptive_core.errors import InvalidInputError
from adaptive_core.finish_reason import FinishReason
from adaptive_core.model_library import ModelLibrary
from adaptive_core.ports import SimulatedSpecimen
from adaptive_core.ptychography import catalogue, episode
from adaptive_core.ptychography.policy import Policy
from adaptive_core.ptychography.recording import read_recording, recorded_setup
from adaptive_core.ptychography.stand_ins import RecordedScanner
from adaptive_core.simulation.settings import SimulatedInstrument
from nionswift_plugin.adaptive_scan.alignment_devices import find_camera
from nionswift_plugin.adaptive_scan.beam import BeamSettings, beam_current_pa
from nionswift_plugin.adaptive_scan.command_line.ptychography_report import PtychographyRun, carry_out
from nionswift_plugin.adaptive_scan.command_line.scan import make_folder
from nionswift_plugin.adaptive_scan.headless import headless_swift
from nionswift_plugin.adaptive_scan.places import scan_source, scan_sources
from nionswift_plugin.adaptive_scan.preparation import Place
from nionswift_plugin.adaptive_scan.ptychography_preparation import LIVE, prepare_ptychography
from nionswift_plugin.adaptive_scan.ptychography_settings import PtychographyChoices
from nionswift_plugin.adaptive_scan.settings import SIMULATOR_ID
from nionswift_plugin.adaptive_scan.swift_folders import user_folders

SIMULATOR_CAMERA_ID = "adaptive_simulator_camera"
SPECIMEN = "mos2"
"""What the simulated instrument looks at unless something else is asked for."""
_RECORDED_PIXEL_A = 0.15
"""Sampling of the images of a recorded scan."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--device", metavar="ID", help="scan device of Swift (default: the simulator)")
    source.add_argument(
        "--recording",
        type=pathlib.Path,
        metavar="FILE",
        help="a 4D-STEM scan instead: .npy, HDF5 of py4DSTEM, hyperspy",
    )
    parser.add_argument("--camera", metavar="ID", help="camera of Swift (default: the simulator's)")
    parser.add_argument("--specimen", metavar="NAME", help=f"of the simulated instrument (default: {SPECIMEN})")
    parser.add_argument("--policy", metavar="NAME|PATH", help="policy, name of a model, or ONNX file")
    parser.add_argument("--positions", type=int, default=250, metavar="N", help="patterns (default: 250)")
    parser.add_argument("--subsequences", type=int, default=5, metavar="S", help="decisions (default: 5)")
    parser.add_argument("--region", type=float, metavar="NM", help="side of the square in the middle (default: all)")
    exposure = parser.add_mutually_exclusive_group()
    exposure.add_argument("--exposure-ms", type=float, metavar="T", help="of a pattern (default: Swift's)")
    exposure.add_argument("--dose", type=float, metavar="E", help="exposure by the dose of the region in e-/A^2")
    parser.add_argument(
        "--defocus",
        type=float,
        metavar="NM",
        help="underfocus where the policy does not choose it; of a recording, its own",
    )
    parser.add_argument("--stop", type=float, metavar="S", help="end once successive live images have this SSIM")
    parser.add_argument("--energy-kev", type=float, metavar="E", help="beam energy (default: the instrument's)")
    parser.add_argument("--convergence-mrad", type=float, metavar="A", help="semi-angle (default: the instrument's)")
    parser.add_argument("--mrad-per-px", type=float, metavar="A", help="of a camera pixel (default: its calibration)")
    parser.add_argument("--saturation", type=float, metavar="C", help="counts at which a camera pixel saturates")
    parser.add_argument("--synchronized", action="store_true", help="scan even rows of positions at once")
    parser.add_argument("--step-nm", type=float, metavar="D", help="step of a recording (default: the file's)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of random positions and the simulator")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="folder for scan.h5 and summary.png")
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")


def run(options: argparse.Namespace) -> int:
    """Scan and report; 0 only if the scan was completed."""
    choices = _choices(options)
    folders = user_folders()
    library = ModelLibrary([folders.models])
    chosen = catalogue.policy(
        options.policy or catalogue.DEFAULT_POLICY,
        library,
        defocus_A=None if options.defocus is None or options.recording is not None else 10 * options.defocus,
        stop_similarity=options.stop,
        seed=options.seed,
    )
    out = None if options.out is None else make_folder(options.out)
    with contextlib.ExitStack() as stack:
        if options.recording is None:
            stack.enter_context(headless_swift(folders))
            prepared = _on_devices(options, choices, chosen)
        else:
            prepared = _on_recording(options, chosen)
        with _interrupts_call(prepared.cancel):
            report, failure = carry_out(prepared, out)
    for line in [report.to_json()] if options.json else report.lines():
        print(line)
    if failure is not None:
        raise failure
    return 0 if report.finish_reason is FinishReason.COMPLETED else 1


def _choices(options: argparse.Namespace) -> PtychographyChoices:
    """What the panel would choose. Raises InvalidInputError for a number that can never be right."""
    for name in ("dose", "region", "step_nm"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise InvalidInputError(f"--{name.replace('_', '-')} must be positive, not {value}.")
    if options.seed < 0:
        raise InvalidInputError(f"--seed must not be negative, not {options.seed}.")
    for name in ("device", "camera", "specimen", "region", "dose", "exposure_ms", "synchronized"):
        if options.recording is not None and getattr(options, name) not in (None, False):
            raise InvalidInputError(f"--{name.replace('_', '-')} is not for a recording.")
    if options.recording is None and options.step_nm is not None:
        raise InvalidInputError("--step-nm is for a recording.")
    return PtychographyChoices(
        device=options.device,
        camera=options.camera,
        policy=options.policy,
        positions=options.positions,
        subsequences=options.subsequences,
        stop_similarity=options.stop,
        exposure_ms=options.exposure_ms,
        energy_kev=options.energy_kev,
        convergence_mrad=options.convergence_mrad,
        mrad_per_px=options.mrad_per_px,
        saturation=options.saturation,
        synchronized=options.synchronized,
        seed=options.seed,
    )


def _on_devices(options: argparse.Namespace, choices: PtychographyChoices, policy: Policy) -> PtychographyRun:
    """Find the devices, put in the specimen, and set everything up. Raises InvalidInputError."""
    scan = _scan_source(choices.device)
    simulated = scan.hardware_source_id == SIMULATOR_ID
    if simulated:
        _prepare_simulator(options.specimen or SPECIMEN, options.seed)
    elif options.specimen is not None:
        raise InvalidInputError(f"A specimen can be put into {SIMULATOR_ID} only, not into {scan.hardware_source_id}.")
    camera = find_camera(choices.camera or (SIMULATOR_CAMERA_ID if simulated else None))
    parameters = scan.get_current_frame_parameters()
    place = _place(parameters, options.region)
    beam = BeamSettings()
    if options.dose is not None:
        choices = dataclasses.replace(choices, exposure_ms=_exposure_ms(options.dose, choices, scan, place, beam))
    prepared = prepare_ptychography(choices, scan, camera, place, beam, policy)
    return PtychographyRun(
        episode=prepared.episode(),
        plan=prepared.plan,
        policy=policy.name,
        device=scan.hardware_source_id,
        camera=camera.hardware_source_id,
        pixel_A=prepared.image_pixel_A,
        known_phase=prepared.known_phase,
        cancel=prepared.scanner.cancel,
    )


def _on_recording(options: argparse.Namespace, policy: Policy) -> PtychographyRun:
    recording = read_recording(options.recording)
    told = {name: getattr(options, name) for name in ("step_nm", "mrad_per_px", "energy_kev", "convergence_mrad")}
    recording = dataclasses.replace(recording, **{name: value for name, value in told.items() if value is not None})
    setup = recorded_setup(recording, options.defocus or 0.0)
    if options.saturation is not None:
        setup = dataclasses.replace(setup, saturation=options.saturation)
    scanner = RecordedScanner(recording.patterns, setup)
    plan = episode.make_plan(scanner, options.positions, options.subsequences)
    return PtychographyRun(
        episode=episode.Episode(scanner, policy, plan, LIVE),
        plan=plan,
        policy=policy.name,
        device=str(options.recording),
        camera=None,
        pixel_A=_RECORDED_PIXEL_A,
        known_phase=lambda _: None,
        cancel=_stop,
    )


def _scan_source(device: str | None) -> scan_base.ScanHardwareSource:
    """The scan device of this identifier, by default the simulator if it is there."""
    if device is None and any(source.hardware_source_id == SIMULATOR_ID for source in scan_sources()):
        device = SIMULATOR_ID
    return scan_source(device)


def _prepare_simulator(specimen: str, seed: int) -> None:
    """Put the specimen in, with the bright-field disk in the middle of the camera, as after an alignment."""
    instrument = typing.cast(SimulatedInstrument, Registry.get_component("simulated_instrument"))
    settings = instrument.settings
    camera = dataclasses.replace(settings.camera, world=None)
    instrument.settings = dataclasses.replace(settings, seed=seed, camera=camera)
    typing.cast(SimulatedSpecimen, Registry.get_component("simulated_specimen")).load(specimen)


def _place(parameters: scan_base.ScanFrameParameters, side_nm: float | None) -> Place:
    """The square of this side in the middle of the field of view; all of it without a side."""
    if side_nm is None:
        return Place(parameters)
    size = parameters.pixel_size
    pixel_nm = parameters.fov_nm / max(size.height, size.width)
    return Place(parameters, fractional_size=(side_nm / (size.height * pixel_nm), side_nm / (size.width * pixel_nm)))


def _exposure_ms(
    dose_e_per_A2: float,
    choices: PtychographyChoices,
    scan: scan_base.ScanHardwareSource,
    place: Place,
    beam: BeamSettings,
) -> float:
    """The exposure of a pattern that gives the region this dose."""
    current_pa = beam_current_pa(scan.stem_controller, beam)
    if current_pa is None:
        raise InvalidInputError("The dose cannot be chosen: the beam current is unknown; give --exposure-ms.")
    size, fraction = place.parameters.pixel_size, place.fractional_size
    pixel_A = 10 * place.parameters.fov_nm / max(size.height, size.width)
    area_A2 = fraction[0] * size.height * fraction[1] * size.width * pixel_A**2
    return dose_e_per_A2 * area_A2 / choices.positions / dose.electrons(current_pa, 1e3)


def _stop() -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _interrupts_call(cancel: collections.abc.Callable[[], None]) -> collections.abc.Iterator[None]:
    """Ctrl+C and a request to end stop the scan; what was measured is kept."""
    before = {number: signal.signal(number, lambda *_: cancel()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
