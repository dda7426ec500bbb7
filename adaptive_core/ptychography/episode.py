"""The loop of an adaptive ptychographic scan: an iterator of immutable steps over an instrument."""

from __future__ import annotations

import collections.abc
import dataclasses
import time

import numpy as np

from adaptive_core import dose
from adaptive_core.errors import InvalidInputError
from adaptive_core.ports import DiffractionMeasurement, DiffractionScanner, DiffractionSetup
from adaptive_core.ptychography import reconstruction
from adaptive_core.ptychography.engines import WeightedSettings
from adaptive_core.ptychography.policy import Observation, Policy, PtychographyPlan
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.ptychography.scan_data import Calibration, ScanData, check_convergence, check_positions
from adaptive_core.simulation.ptychography_probe import FloatArray, Optics

_NM_IN_A = 10.0


@dataclasses.dataclass(frozen=True, eq=False)
class PtychographyStep:
    """What is known after a sub-sequence.

    Attributes:
        index: of the sub-sequence, from 0.
        data: all patterns so far.
        new: patterns of this sub-sequence, the last ones of ``data``.
        image: the live reconstruction of all of them.
        decision_s: time that the policy took.
        dose_e_per_A2: delivered so far to the region, waits included; None when the beam current is unknown.
    """

    index: int
    data: ScanData
    new: int
    image: Reconstruction
    decision_s: float
    dose_e_per_A2: float | None


def calibration_of(setup: DiffractionSetup) -> Calibration:
    """What the reconstruction needs to know of an instrument."""
    electrons = None
    if setup.beam_current_pa is not None:
        electrons = dose.electrons(setup.beam_current_pa, setup.exposure_us)
    height, width = (side * setup.pixel_size_nm * _NM_IN_A for side in setup.size_px)
    return Calibration(
        Optics(setup.energy_kev, setup.convergence_mrad, setup.defocus_nm * _NM_IN_A, setup.cs_mm),
        setup.mrad_per_px,
        setup.detector_px,
        (height, width),
        electrons,
        setup.saturation,
    )


def make_plan(scanner: DiffractionScanner, positions: int, subsequences: int) -> PtychographyPlan:
    """A plan for an instrument. Raises InvalidInputError for what it cannot do."""
    return PtychographyPlan(calibration_of(scanner.setup), positions, subsequences)


def predicted_dose_e_per_A2(plan: PtychographyPlan) -> float | None:
    """Dose of the region after all positions, without waits; None when the beam current is unknown."""
    calibration = plan.calibration
    if calibration.electrons is None:
        return None
    return plan.positions * calibration.electrons / (calibration.fov_A[0] * calibration.fov_A[1])


def run(
    scanner: DiffractionScanner,
    policy: Policy,
    plan: PtychographyPlan,
    live: WeightedSettings = reconstruction.LIVE,
) -> collections.abc.Iterator[PtychographyStep]:
    """Scan until the policy stops; closing the iterator cancels, and the instrument is put back either way.

    Every step holds all data so far, so that nothing is lost whatever happens next; the final image is
    ``reconstruction.final(step.data)``. Live images are made with the settings ``live``, in batches of a sub-sequence.

    Raises:
        InvalidInputError: for positions outside the region or patterns that cannot be used, before they are used.
        DeviceError: if the instrument fails.
    """
    at_work = policy.start(plan)
    meter = dose.DoseMeter(scanner.setup.beam_current_pa, plan.calibration.fov_A[0] * plan.calibration.fov_A[1] / 100)
    data: ScanData | None = None
    image: Reconstruction | None = None
    places: FloatArray | None = None
    beam_on_us = 0.0
    with scanner.session():
        for index in range(plan.subsequences):
            began = time.perf_counter()
            move = at_work.decide(Observation(image, places))
            decision_s = time.perf_counter() - began
            if move is None:
                return
            check_positions(move.positions_A, plan.calibration.fov_A)
            if move.defocus_A is not None and not scanner.abilities.can_defocus:
                raise InvalidInputError(f"{policy.name} sets the defocus, which this instrument cannot.")
            pixels = move.positions_A / _NM_IN_A / scanner.setup.pixel_size_nm
            scanner.check(pixels)
            defocus_nm = None if move.defocus_A is None else move.defocus_A / _NM_IN_A
            measured = scanner.measure(pixels, defocus_nm)
            beam_on_us += measured.beam_on_us
            new = _as_data(plan.calibration, measured, scanner.setup.pixel_size_nm, move.defocus_A)
            if data is None:
                check_convergence(new)
            places = new.positions_A
            data = new if data is None else data.with_more(new)
            image = reconstruction.intermediate(data, image, dataclasses.replace(live, batch=new.count))
            yield PtychographyStep(index, data, new.count, image, decision_s, meter.dose_e_per_A2(beam_on_us))


def _as_data(
    calibration: Calibration, measured: DiffractionMeasurement, pixel_size_nm: float, defocus_A: float | None
) -> ScanData:
    places = np.clip(measured.positions * pixel_size_nm * _NM_IN_A, 0.0, calibration.fov_A)
    defocus = None
    if defocus_A is not None and defocus_A != calibration.optics.defocus_A:
        defocus = np.full(len(places), defocus_A)
    return ScanData(calibration, measured.patterns, places, defocus)
