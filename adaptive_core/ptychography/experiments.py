"""The experiments of the papers, simulated on demand: any region, any positions, any defocus.

What the papers leave open is settled as follows. MoS2: the detector's pixel follows from the object's grid (200 px of
0.154 A, 1.58 mrad), because 2 x 0.84 mrad and 0.4759 1/nm contradict each other. DWCNT: 1.74 mrad a pixel, because
86 px of 0.91 mrad would not hold the aperture; 1e5 e/A^2 is taken as the dose of the full scan of 13225 positions.
``mos2_crystal`` has one rotation, as the papers' data from one crystal; only shift and vacancies differ.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography.object_grid import ObjectGrid, limited, region_image
from adaptive_core.ptychography.scan_data import Calibration, ScanData
from adaptive_core.simulation import ptychography_specimens
from adaptive_core.simulation.ptychography_detector import centred, counted
from adaptive_core.simulation.ptychography_forward import ForwardModel, transmission
from adaptive_core.simulation.ptychography_probe import FloatArray, Optics, probe_wave

RealArray = npt.NDArray[np.float32]

_SIMULATION_PX = 128
_TRUTH_PX = 256
_CHUNK = 250


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Settings of one of the papers' experiments.

    Attributes:
        specimen: a name in :data:`adaptive_core.simulation.ptychography_specimens.BUILDERS`.
        optics: in focus.
        cell_A: side of the periodic simulated area, and of the detector's real-space window.
        fov_A: side of the scanned region, in the middle of the area.
        grid: positions a side of the full scan.
        detector_px: side of the patterns.
        electrons: a pattern, at the papers' dose.
        pixel_A: sampling on which images are compared.
        positions: of an adaptive scan.
        subsequences: of an adaptive scan.
    """

    specimen: str
    optics: Optics
    cell_A: float
    fov_A: float
    grid: int
    detector_px: int
    electrons: float
    pixel_A: float
    positions: int
    subsequences: int = 5

    def calibration(self, electrons: float | None = None) -> Calibration:
        """What is known of the instrument; ``electrons`` a pattern, by default as in the paper."""
        mrad = self.optics.wavelength_A / self.cell_A * 1e3
        return Calibration(self.optics, mrad, self.detector_px, (self.fov_A,) * 2, electrons or self.electrons)

    def full_positions_A(self) -> FloatArray:
        """Every position of the conventional scan, shape (grid^2, 2), row by row."""
        line = (np.arange(self.grid) + 0.5) * self.fov_A / self.grid
        return np.stack([axis.ravel() for axis in np.meshgrid(line, line, indexing="ij")], axis=1)

    def snapped(self, positions_A: FloatArray) -> FloatArray:
        """The nearest positions of the conventional scan, as in the papers, which choose among recorded ones."""
        step = self.fov_A / self.grid
        index = np.clip(np.floor(positions_A / step), 0, self.grid - 1)
        return np.asarray((index + 0.5) * step, dtype=np.float64)


_MOS2 = Experiment("mos2", Optics(60, 33), 30.8, 20.0, 100, 64, 1.34e5 * 400 / 250, 0.154, 250)
EXPERIMENTS: collections.abc.Mapping[str, Experiment] = {
    "mos2": _MOS2,
    "mos2_crystal": dataclasses.replace(_MOS2, specimen="mos2_crystal"),
    "dwcnt": Experiment("dwcnt", Optics(60, 40), 28.0, 23.0, 115, 86, 1e5 * 529 / 13225, 0.14, 840),
}


def experiment(name: str) -> Experiment:
    """One of the experiments, by name. Raises InvalidInputError."""
    if name not in EXPERIMENTS:
        raise InvalidInputError(f"There is no experiment {name!r}; there are {', '.join(sorted(EXPERIMENTS))}.")
    return EXPERIMENTS[name]


class SimulatedRegion:
    """One region of a specimen that can be measured at will (multiplicative model, Eq. 1).

    Args:
        settings: the experiment.
        seed: of the specimen: rotation, shift, vacancies.
    """

    def __init__(self, settings: Experiment, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        atoms = ptychography_specimens.BUILDERS[settings.specimen](seed, cell_A=settings.cell_A)
        sigma = settings.optics.interaction_rad_per_VA
        fine = ptychography_specimens.projected_potential(atoms, _TRUTH_PX) * np.float32(sigma)
        self._fine = fine
        coarse = ptychography_specimens.projected_potential(atoms, _SIMULATION_PX) * np.float32(sigma)
        self._transmission = transmission(coarse)
        self._wave = functools.lru_cache(maxsize=16)(
            lambda defocus: probe_wave(settings.optics.at_defocus(defocus), _SIMULATION_PX, settings.cell_A)
        )

    def measure(
        self,
        positions_A: FloatArray,
        electrons: float | None,
        rng: np.random.Generator,
        defocus_A: float | FloatArray = 0.0,
    ) -> ScanData:
        """Counted patterns at positions (p, 2) of the region, with ``electrons`` each (None: as in the paper)."""
        settings = self.settings
        defocus = np.broadcast_to(np.asarray(defocus_A, dtype=np.float64), (len(positions_A),))
        calibration = dataclasses.replace(settings.calibration(electrons), optics=settings.optics)
        if np.ptp(defocus) == 0:
            calibration = dataclasses.replace(calibration, optics=settings.optics.at_defocus(float(defocus[0])))
        patterns = np.empty((len(positions_A), settings.detector_px, settings.detector_px), np.float32)
        scale = _SIMULATION_PX / settings.cell_A
        margin = (settings.cell_A - settings.fov_A) / 2
        for value in np.unique(defocus):
            for chosen in _chunks(np.flatnonzero(defocus == value)):
                model = ForwardModel(
                    self._wave(float(value)),
                    (positions_A[chosen] + margin) * scale,
                    (_SIMULATION_PX, _SIMULATION_PX),
                    settings.detector_px,
                )
                exact = centred(model.patterns(self._transmission))
                patterns[chosen] = counted(exact, electrons or settings.electrons, rng)
        return ScanData(calibration, patterns, positions_A, defocus if np.ptp(defocus) else None)

    def truth(self, pixel_A: float | None = None) -> RealArray:
        """The true phase of the region with the detail that an image can show, (height, width), float32, rad."""
        settings = self.settings
        margin = (settings.cell_A - settings.fov_A) / 2
        grid = ObjectGrid(_TRUTH_PX, (_TRUTH_PX, _TRUTH_PX), settings.cell_A / _TRUTH_PX, (margin, margin))
        visible = limited(self._fine, settings.calibration(), settings.cell_A)
        return region_image(visible, grid, (settings.fov_A,) * 2, pixel_A or settings.pixel_A)


def _chunks(index: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    return np.array_split(index, max(1, -(-len(index) // _CHUNK)))
