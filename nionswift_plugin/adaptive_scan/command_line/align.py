"""``adaptive-scan align``: centre the bright-field disk through Swift's instruments, without a window."""

from __future__ import annotations

import argparse
import collections.abc
import contextlib
import dataclasses
import json
import math
import pathlib
import signal
import threading
import typing

from nion.utils import Registry

from adaptive_core.alignment.episode import AlignmentStep, FinishReason
from adaptive_core.errors import InvalidInputError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.simulation.settings import SimulatedInstrument
from adaptive_core.simulation.shift_world import WORLD_FAMILIES
from nionswift_plugin.adaptive_scan.alignment_devices import Point, cameras
from nionswift_plugin.adaptive_scan.alignment_preparation import PreparedAlignment, prepare_alignment
from nionswift_plugin.adaptive_scan.alignment_run import AlignmentOutcome, result_line, run_alignment
from nionswift_plugin.adaptive_scan.alignment_settings import AlignmentChoices, response_memory
from nionswift_plugin.adaptive_scan.headless import headless_swift
from nionswift_plugin.adaptive_scan.swift_folders import user_folders

SIMULATOR_CAMERA_ID = "adaptive_simulator_camera"
"""Camera of the simulated instrument."""


@dataclasses.dataclass(frozen=True)
class _Request:
    """What the arguments ask for; validated.

    Attributes:
        choices: for the alignment; a camera of None takes the simulator's or Swift's first one.
        target_px: ``(y, x)`` in px of the camera's frames; None for their middle.
        exposure_ms: None takes that of Swift's camera settings.
        world, seed: of the simulated instrument; None leaves it as it is.
    """

    choices: AlignmentChoices
    target_px: Point | None
    exposure_ms: float | None
    world: str | None
    seed: int | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--device", metavar="ID", help="STEM controller of Swift (default: the one in charge)")
    parser.add_argument("--camera", metavar="ID", help="camera of Swift (default: the simulator's)")
    parser.add_argument("--control", metavar="NAME", help="2D control that moves the disk")
    parser.add_argument("--axis", default="tv", metavar="NAME", help="axes in which the control is set (default: tv)")
    parser.add_argument("--policy", metavar="NAME", help="policy, or name of a model (default: the shipped one)")
    parser.add_argument("--target", metavar="Y,X", help="in px of the camera's frames (default: their middle)")
    parser.add_argument("--tolerance", type=float, default=1.0, metavar="PX", help="in px of the frames (default: 1)")
    parser.add_argument("--max-shift", type=float, metavar="S", help="largest change of the control, in its unit")
    parser.add_argument("--limit", type=float, metavar="S", help="largest magnitude of the control, in its unit")
    parser.add_argument("--half-screen", type=float, metavar="S", help="change that moves the disk by half a frame")
    parser.add_argument("--settle-ms", type=float, default=5.0, metavar="T", help="time after a move (default: 5)")
    parser.add_argument("--exposure-ms", type=float, metavar="T", help="exposure of a frame (default: Swift's)")
    parser.add_argument("--world", choices=[*WORLD_FAMILIES, "none"], help="how the simulated shift behaves")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the simulated instrument")
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")


def run(options: argparse.Namespace) -> int:
    """Align and report; 0 only if the disk was centred."""
    request = _request(options)
    folders = user_folders()
    with headless_swift(folders):
        prepared = _prepare(request, folders.models, folders.configuration)
        outcome = _run(prepared)
    print(_report(outcome, prepared) if options.json else result_line(outcome))
    return 0 if outcome.reason is FinishReason.ALIGNED else 1


def _request(options: argparse.Namespace) -> _Request:
    """Raises InvalidInputError if a number can never be right."""
    for name in ("tolerance", "max_shift", "limit", "half_screen", "exposure_ms"):
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InvalidInputError(f"--{name.replace('_', '-')} must be positive, not {value}.")
    if not options.settle_ms >= 0:
        raise InvalidInputError(f"--settle-ms must not be negative, not {options.settle_ms}.")
    if options.seed is not None and options.seed < 0:
        raise InvalidInputError(f"--seed must not be negative, not {options.seed}.")
    choices = AlignmentChoices(
        device=options.device,
        camera=options.camera,
        control=options.control,
        axis=options.axis,
        largest_shift=options.max_shift,
        half_screen=options.half_screen,
        limit=options.limit,
        settle_ms=options.settle_ms,
        policy=options.policy,
        tolerance=options.tolerance,
    )
    target = None if options.target is None else _point(options.target)
    return _Request(choices, target, options.exposure_ms, options.world, options.seed)


def _point(text: str) -> Point:
    try:
        y, x = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInputError(f"--target must be two numbers Y,X in px, not {text!r}.") from error
    return y, x


def _prepare(request: _Request, models: pathlib.Path, configuration: pathlib.Path) -> PreparedAlignment:
    """Find the devices and set them up. Raises InvalidInputError if they do not fit the request."""
    found = {camera.hardware_source_id: camera for camera in cameras()}
    choices = request.choices
    if choices.camera is None and SIMULATOR_CAMERA_ID in found:
        choices = dataclasses.replace(choices, camera=SIMULATOR_CAMERA_ID)
    if request.world is not None or request.seed is not None:
        if choices.camera != SIMULATOR_CAMERA_ID:
            raise InvalidInputError(f"--world and --seed are for {SIMULATOR_CAMERA_ID} only, not for {choices.camera}.")
        instrument = typing.cast(SimulatedInstrument, Registry.get_component("simulated_instrument"))
        settings = instrument.settings
        if request.world is not None:
            world = None if request.world == "none" else request.world
            settings = dataclasses.replace(settings, camera=dataclasses.replace(settings.camera, world=world))
        if request.seed is not None:
            settings = dataclasses.replace(settings, seed=request.seed)
        instrument.settings = settings
    prepared = prepare_alignment(choices, response_memory(configuration), ModelLibrary([models]), request.target_px)
    if request.exposure_ms is not None:
        prepared.camera.set_exposure(request.exposure_ms)
    return prepared


class _Silent:
    """Hears of the run and says nothing: the result is one line."""

    def started(self, prepared: PreparedAlignment) -> None:
        pass

    def stepped(self, step: AlignmentStep) -> None:
        pass

    def finished(self, outcome: AlignmentOutcome) -> None:
        pass


def _run(prepared: PreparedAlignment) -> AlignmentOutcome:
    aborted = threading.Event()
    with _interrupts_cancel(aborted, prepared):
        return run_alignment(prepared, _Silent(), aborted)


@contextlib.contextmanager
def _interrupts_cancel(aborted: threading.Event, prepared: PreparedAlignment) -> collections.abc.Iterator[None]:
    """Ctrl+C and a request to end put the shift back."""

    def cancel(*_: object) -> None:
        aborted.set()
        prepared.camera.cancel()

    before = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(outcome: AlignmentOutcome, prepared: PreparedAlignment) -> str:
    """The figures as one line of JSON; null for what is not known."""
    result = outcome.result
    return json.dumps(
        {
            "finish_reason": outcome.reason.name,
            "error": outcome.error,
            "policy": prepared.policy.name,
            "camera": prepared.camera.source.hardware_source_id,
            "control": prepared.control,
            "tolerance_px": prepared.settings.tolerance_px,
            "frames": None if result is None else result.frames,
            "residual_px": None if result is None else result.residual_px,
            "start": None if result is None else result.start,
            "end": None if result is None else result.end,
            "applied": None if result is None else result.applied,
            "seconds": None if result is None else round(result.seconds, 3),
        }
    )
