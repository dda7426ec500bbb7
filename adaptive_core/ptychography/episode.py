"""The loop of an adaptive ptychographic scan: an iterator of immutable steps over an instrument."""

from __future__ import annotations

import collections.abc
import dataclasses
import time

import numpy as np

from adaptive_core import dose
from adaptive_core.errors import AdaptiveScanError, InvalidInputError
from adaptive_core.ports import DiffractionMeasurement, DiffractionScanner, DiffractionSetup
from adaptive_core.ptychography import reconstruction
from adaptive_core.ptychography.engines import WeightedSettings
from adaptive_core.ptychography.policy import Move, Observation, Policy, PtychographyPlan
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.ptychography.scan_data import Calibration, ScanData, check_disk, check_positions
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


class Episode:
    """One adaptive ptychographic scan.

    Args:
        scanner: the instrument.
        policy: chooses the positions.
        plan: how many.
        live: settings of the live images, which are made in batches of a sub-sequence.

    Attributes:
        data: all patterns so far, those of an interrupted sub-sequence included; None before the first. They are kept
            whatever happens; the final image is ``reconstruction.final(episode.data)``.
        dose_e_per_A2: delivered so far to the region, waits included; None when the beam current is unknown.

    Raises:
        InvalidInputError: if the policy cannot work with the plan.
    """

    def __init__(
        self,
        scanner: DiffractionScanner,
        policy: Policy,
        plan: PtychographyPlan,
        live: WeightedSettings = reconstruction.LIVE,
    ) -> None:
        self.data: ScanData | None = None
        self._scanner, self._policy, self._plan, self._live = scanner, policy, plan, live
        self._at_work = policy.start(plan)

    @property
    def dose_e_per_A2(self) -> float | None:
        """See the class."""
        height, width = self._plan.calibration.fov_A
        meter = dose.DoseMeter(self._scanner.setup.beam_current_pa, height * width / _NM_IN_A**2)
        return meter.dose_e_per_A2(self._scanner.beam_on_us)

    def run(self) -> collections.abc.Iterator[PtychographyStep]:
        """Scan until the policy stops; closing the iterator cancels, and the instrument is put back either way.

        Raises:
            InvalidInputError: for positions outside the region, before the beam moves, or patterns that contradict the
                calibration, before they are used.
            DeviceError: if the instrument fails.
            ScanCancelledError: if it was stopped on purpose while it measured.
        """
        image: Reconstruction | None = None
        places: FloatArray | None = None
        with self._scanner.session():
            for index in range(self._plan.subsequences):
                began = time.perf_counter()
                move = self._at_work.decide(Observation(image, places))
                decision_s = time.perf_counter() - began
                if move is None:
                    return
                new = self._measured(move)
                data = self._keep(new)
                if index == 0:
                    check_disk(new)
                places = new.positions_A
                image = reconstruction.intermediate(data, image, dataclasses.replace(self._live, batch=new.count))
                yield PtychographyStep(index, data, new.count, image, decision_s, self.dose_e_per_A2)

    def _measured(self, move: Move) -> ScanData:
        """Carry a move out; what was measured of one that fails is kept."""
        scanner = self._scanner
        check_positions(move.positions_A, self._plan.calibration.fov_A)
        if move.defocus_A is not None and not scanner.abilities.can_defocus:
            raise InvalidInputError(f"{self._policy.name} sets the defocus, which this instrument cannot.")
        pixels = move.positions_A / _NM_IN_A / scanner.setup.pixel_size_nm
        scanner.check(pixels)
        try:
            measured = scanner.measure(pixels, None if move.defocus_A is None else move.defocus_A / _NM_IN_A)
        except AdaptiveScanError:
            if scanner.unfinished is not None:
                self._keep(self._as_data(scanner.unfinished, move.defocus_A))
            raise
        return self._as_data(measured, move.defocus_A)

    def _as_data(self, measured: DiffractionMeasurement, defocus_A: float | None) -> ScanData:
        calibration = dataclasses.replace(self._plan.calibration, beam_px=measured.beam_px)
        places = np.clip(measured.positions * self._scanner.setup.pixel_size_nm * _NM_IN_A, 0.0, calibration.fov_A)
        defocus = None
        if defocus_A is not None and defocus_A != calibration.optics.defocus_A:
            defocus = np.full(len(places), defocus_A)
        return ScanData(calibration, measured.patterns, places, defocus)

    def _keep(self, new: ScanData) -> ScanData:
        self.data = new if self.data is None else self.data.with_more(new)
        return self.data


def run(
    scanner: DiffractionScanner,
    policy: Policy,
    plan: PtychographyPlan,
    live: WeightedSettings = reconstruction.LIVE,
) -> collections.abc.Iterator[PtychographyStep]:
    """The steps of an :class:`Episode`, for whom its last step is enough."""
    return Episode(scanner, policy, plan, live).run()
