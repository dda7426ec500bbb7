"""Instruments without hardware: a simulated specimen, and recorded 4D-STEM data whose positions snap to their grid."""

from __future__ import annotations

import collections.abc
import contextlib

import numpy as np
import numpy.typing as npt

from adaptive_core import dose, static_path
from adaptive_core.errors import InvalidInputError
from adaptive_core.ports import DiffractionAbilities, DiffractionMeasurement, DiffractionSetup
from adaptive_core.ptychography.experiments import SimulatedRegion
from adaptive_core.ptychography.pattern_frames import bright_field_disk
from adaptive_core.ptychography.scan_data import check_positions
from adaptive_core.simulation.ptychography_probe import FloatArray

RealArray = npt.NDArray[np.float32]


class StandIn:
    """What instruments without hardware have in common: nothing has to be put back, and nothing breaks off.

    Attributes:
        abilities, setup, beam_on_us, unfinished: see :class:`adaptive_core.ports.DiffractionScanner`.
    """

    unfinished: DiffractionMeasurement | None = None

    def __init__(self, abilities: DiffractionAbilities, setup: DiffractionSetup) -> None:
        self.abilities, self.setup = abilities, setup
        self.beam_on_us = 0.0

    def check(self, positions: FloatArray) -> None:
        """Refuse positions outside the region."""
        check_positions(positions, self.setup.size_px, "px")

    @contextlib.contextmanager
    def session(self) -> collections.abc.Iterator[None]:
        """Nothing needs to be put back."""
        yield


class SimulatedScanner(StandIn):
    """A simulated region as an instrument; patterns are counted with Poisson noise.

    Args:
        region: the specimen.
        electrons: a pattern; by default as in the paper.
        seed: of the noise.
        defocus_A: of the instrument, where a scan does not set it.
    """

    def __init__(
        self, region: SimulatedRegion, electrons: float | None = None, seed: int = 0, defocus_A: float = 0.0
    ) -> None:
        settings = region.settings
        self._region, self._electrons = region, electrons or settings.electrons
        self._rng = np.random.default_rng(seed)
        exposure_us = 1000.0
        setup = DiffractionSetup(
            size_px=(settings.grid, settings.grid),
            pixel_size_nm=settings.fov_A / settings.grid / 10,
            exposure_us=exposure_us,
            detector_px=settings.detector_px,
            mrad_per_px=settings.calibration().mrad_per_px,
            energy_kev=settings.optics.energy_kev,
            convergence_mrad=settings.optics.convergence_mrad,
            defocus_nm=defocus_A / 10,
            beam_current_pa=self._electrons * dose.ELEMENTARY_CHARGE_C / (exposure_us * 1e-6) * 1e12,
        )
        super().__init__(DiffractionAbilities(can_defocus=True, can_blank=True), setup)

    def measure(self, positions: FloatArray, defocus_nm: float | None = None) -> DiffractionMeasurement:
        """Simulate the patterns."""
        step_A = self.setup.pixel_size_nm * 10
        defocus_A = (self.setup.defocus_nm if defocus_nm is None else defocus_nm) * 10
        data = self._region.measure(positions * step_A, self._electrons, self._rng, defocus_A)
        self.beam_on_us += len(positions) * self.setup.exposure_us
        return DiffractionMeasurement(data.patterns, positions)


class RecordedScanner(StandIn):
    """A recorded scan of a whole grid as an instrument: each position gets the pattern of the nearest one recorded.

    Args:
        patterns: shape (rows, columns, d, d), counts, the direct beam near pixel ``d // 2``; it is found.
        setup: of the recording; its ``size_px`` and ``detector_px`` must be those of the patterns.

    Raises:
        InvalidInputError: patterns of another shape, without counts or with pixels that are not finite.
    """

    def __init__(self, patterns: npt.NDArray[np.generic], setup: DiffractionSetup) -> None:
        expected = (*setup.size_px, setup.detector_px, setup.detector_px)
        if patterns.shape != expected:
            raise InvalidInputError(f"The calibration expects recorded patterns {expected}, not {patterns.shape}.")
        super().__init__(DiffractionAbilities(can_defocus=False, can_blank=True), setup)
        self._patterns = patterns
        seen = self._patterns_at(_spread(setup.size_px))
        if not np.isfinite(seen).all():
            raise InvalidInputError("The recorded patterns must be finite; some of their pixels are not.")
        if not seen.any():
            raise InvalidInputError(f"{len(seen)} recorded patterns from all over the scan have no counts.")
        disk = bright_field_disk(seen.mean(0))
        self._beam_px = (disk.centre_px[0] - setup.detector_px // 2, disk.centre_px[1] - setup.detector_px // 2)

    def measure(self, positions: FloatArray, defocus_nm: float | None = None) -> DiffractionMeasurement:
        """The recorded patterns nearest to the positions, with the positions where they were recorded."""
        if defocus_nm is not None:
            raise InvalidInputError("Recorded data have one defocus; it cannot be set.")
        height, width = self.setup.size_px
        index = np.clip(np.floor(positions), 0, (height - 1, width - 1)).astype(np.intp)
        middles = np.asarray(index + 0.5, dtype=np.float64)
        return DiffractionMeasurement(self._patterns_at(index), middles, self._beam_px)

    def _patterns_at(self, index: npt.NDArray[np.intp]) -> RealArray:
        return np.asarray(self._patterns[index[:, 0], index[:, 1]], dtype=np.float32)


def _spread(size_px: tuple[int, int], count: int = 256) -> npt.NDArray[np.intp]:
    """Indices (n, 2) of about ``count`` places all over a grid."""
    return (static_path.halton(size_px, min(count, size_px[0] * size_px[1]))).astype(np.intp)
