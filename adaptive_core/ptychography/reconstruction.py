"""From a scan to the potential: the paper's gradient descent, a fast intermediate image, and the final one."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import time
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import engines, refinement
from adaptive_core.ptychography.engines import Batch, WeightedSettings
from adaptive_core.ptychography.object_grid import ObjectGrid, low_pass, object_grid, region_image
from adaptive_core.ptychography.scan_data import Calibration, ScanData
from adaptive_core.simulation.ptychography_detector import binned, fft_order
from adaptive_core.simulation.ptychography_forward import ForwardModel
from adaptive_core.simulation.ptychography_probe import ComplexArray, FloatArray, cut_window, probe_wave

RealArray = npt.NDArray[np.float32]

INTERMEDIATE = WeightedSettings(epochs=3, batch=50)
LIVE = WeightedSettings(epochs=1, batch=50)
"""For the look after a sub-sequence that starts from the look before."""
FINAL = WeightedSettings(epochs=8, batch=62)
DENSE = WeightedSettings(epochs=3, batch=250, momentum=0.5)
"""For the full data of a conventional scan, whose many batches need few epochs."""
INTERMEDIATE_BINNING = 3
REFINEMENT_ROUNDS = 20
_KEPT_PX = 20_000_000
ROP_STEP = 0.3
"""Step of the papers' gradient descent; see :func:`rop_step`."""


class DivergedError(InvalidInputError):
    """A reconstruction whose step is too large for its data."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reconstruction:
    """What was recovered.

    Attributes:
        potential: shape ``grid.shape``, rad; float32, or complex64 from an engine that also recovers absorption.
        grid: where the samples lie.
        fov_A: scanned region (height, width).
        losses: of the iterations, in the engine's own terms.
        seconds: wall time, preparation included.
        positions_A: probe positions (p, 2), refined if that was asked for.
        probe: the probe (w, w) in reciprocal space, refined if that was asked for.
    """

    potential: npt.NDArray[np.float32] | ComplexArray
    grid: ObjectGrid
    fov_A: tuple[float, float]
    losses: tuple[float, ...]
    seconds: float
    positions_A: FloatArray
    probe: ComplexArray

    def phase(self, pixel_A: float) -> RealArray:
        """Phase of the region on pixels of about ``pixel_A``, shape (height, width), float32, rad."""
        return region_image(self.potential.real, self.grid, self.fov_A, pixel_A)

    def amplitude(self, pixel_A: float) -> RealArray:
        """Amplitude of the transmission in the region; 1 everywhere where absorption was not recovered."""
        absorption = region_image(self.potential.imag, self.grid, self.fov_A, pixel_A)
        return np.asarray(np.exp(-absorption), dtype=np.float32)


def probes(data: ScanData, grid: ObjectGrid) -> ComplexArray:
    """The probe (w, w) in reciprocal space, or one for each pattern (p, w, w) where the defocus varies."""
    optics, extent = data.calibration.optics, data.calibration.window_A
    values, which = np.unique(data.defocus_of_each(), return_inverse=True)
    waves = np.stack([probe_wave(optics.at_defocus(float(value)), grid.window_px, extent) for value in values])
    return waves[0] if len(values) == 1 else waves[which]


def rop(
    data: ScanData,
    step: float = ROP_STEP,
    iterations: int = 5,
    start: Reconstruction | None = None,
    window_px: int | None = None,
) -> Reconstruction:
    """The gradient descent of the papers: complex potential, squared error of the intensities, fixed step (Eq. 2).

    ``step`` is relative, see :func:`rop_step`.
    """
    began = time.perf_counter()
    grid = object_grid(data.calibration, window_px)
    wave = probes(data, grid)
    calibration = data.calibration
    model = ForwardModel(
        wave, grid.to_px(data.positions_A), grid.shape, calibration.detector_px, calibration.offset_px()
    )
    intensities = fft_order(data.patterns) / np.float32(data.electrons)
    potential, losses = engines.gradient_descent(
        model,
        intensities,
        rop_step(step, wave, grid),
        iterations,
        None if start is None else _on_grid(start, grid).astype(np.complex64),
    )
    return _result(potential, grid, data, losses, began, data.positions_A, wave)


def rop_step(step: float, wave: ComplexArray, grid: ObjectGrid) -> float:
    """The absolute step of the gradient descent for a relative one.

    The unit is a quarter of the object's pixels over the brightest reciprocal pixel of the beam, so that the step's
    meaning does not hang on a normalisation; the papers give theirs, 525, without one.
    """
    return step * grid.shape[0] * grid.shape[1] / (4 * float((np.abs(wave) ** 2).max()))


def intermediate_binning(calibration: Calibration, defocus_A: float) -> int:
    """The strongest binning, up to 3, whose window holds the defocused probe with 4 A to spare."""
    wide = 2 * abs(defocus_A) * calibration.optics.convergence_mrad * 1e-3 + 4.0
    return int(np.clip(calibration.window_A // wide, 1, INTERMEDIATE_BINNING))


def intermediate(
    data: ScanData,
    start: Reconstruction | None = None,
    settings: WeightedSettings = INTERMEDIATE,
    binning: int | None = None,
) -> Reconstruction:
    """A quick look for the policy: patterns binned, probes cut to the small window that belongs to the binned detector.

    The cut is an approximation, good for a few epochs. By default patterns are binned by 3, or by less where a
    defocused probe needs a larger window (:func:`intermediate_binning`).
    """
    began = time.perf_counter()
    calibration = data.calibration
    if binning is None:
        binning = intermediate_binning(calibration, float(np.abs(data.defocus_of_each()).max()))
    window = object_grid(calibration).window_px
    grid = object_grid(calibration, window + -window % binning)
    patterns, offset = binned(data.patterns, binning)
    intensities = fft_order(patterns) / np.float32(data.electrons)
    wave = cut_window(probes(data, grid), grid.window_px // binning)
    positions = grid.to_px(data.positions_A)
    from_beam = calibration.offset_px(binning)
    batches = _Batches(wave, positions, grid, intensities, settings, (from_beam[0] + offset, from_beam[1] + offset))
    potential, losses = engines.weighted_descent(
        batches,
        data.electrons / binning**2,
        low_pass(calibration, grid),
        settings,
        None if start is None else _on_grid(start, grid),
    )
    return _result(potential, grid, data, losses, began, data.positions_A, wave)


def final(
    data: ScanData,
    start: Reconstruction | None = None,
    settings: WeightedSettings = FINAL,
    refine_positions: bool = False,
    refine_probe: bool = False,
    window_px: int | None = None,
    watch: collections.abc.Callable[[Reconstruction], None] | None = None,
) -> Reconstruction:
    """The image that is kept: noise-weighted, preconditioned, with momentum, on the whole window.

    Args:
        data: the scan.
        start: reconstruction to start from, on the same grid.
        settings: of the descent.
        refine_positions: find errors of the positions too, in rounds of one epoch, before the final epochs.
        refine_probe: find the probe's aberrations too, for scans at one defocus.
        window_px: side of the window; by default as small as the information limit allows.
        watch: is given the image after each of the final epochs.
    """
    began = time.perf_counter()
    grid = object_grid(data.calibration, window_px)
    wave = probes(data, grid)
    if refine_probe and wave.ndim == 3:
        raise InvalidInputError("The probe can be refined only where all patterns were taken at one defocus.")
    intensities = fft_order(data.patterns) / np.float32(data.electrons)
    positions = grid.to_px(data.positions_A)
    mask, offset = low_pass(data.calibration, grid), data.calibration.offset_px()
    potential = None if start is None else _on_grid(start, grid)
    losses: list[float] = []
    for _ in range(REFINEMENT_ROUNDS if refine_positions or refine_probe else 0):
        batches = _Batches(wave, positions, grid, intensities, settings, offset)
        one_epoch = dataclasses.replace(settings, epochs=1)
        potential, loss = engines.weighted_descent(batches, data.electrons, mask, one_epoch, potential)
        losses += loss
        transmission = np.exp(1j * potential).astype(np.complex64)
        model = ForwardModel(wave, positions, grid.shape, data.calibration.detector_px, offset)
        differences = refinement.exit_differences(model, transmission, intensities, settings.noise / data.electrons)
        if refine_positions:
            positions = positions + refinement.position_steps(model, transmission, differences)
        if refine_probe:
            wave = refinement.refined_probe(wave, model, transmission, differences)
    batches = _Batches(wave, positions, grid, intensities, settings, offset)
    refined_A = positions * grid.pixel_A - np.asarray(grid.origin_A) if refine_positions else data.positions_A

    def image(potential: RealArray | ComplexArray, loss: list[float]) -> Reconstruction:
        return _result(potential, grid, data, losses + loss, began, refined_A, wave)

    seen = None if watch is None else lambda now: watch(image(now, []))
    return image(*engines.weighted_descent(batches, data.electrons, mask, settings, potential, seen))


class _Batches(collections.abc.Sequence[Batch]):
    """Batches of a scan; their models are kept where there is room, else made whenever they are asked for."""

    def __init__(
        self,
        wave: ComplexArray,
        positions_px: FloatArray,
        grid: ObjectGrid,
        intensities: RealArray,
        settings: WeightedSettings,
        offset_px: tuple[float, float],
    ) -> None:
        self._sets = engines.dealt(len(intensities), settings)

        def make(index: int) -> Batch:
            chosen = self._sets[index]
            own = wave if wave.ndim == 2 else wave[chosen]
            model = ForwardModel(own, positions_px[chosen], grid.shape, intensities.shape[-1], offset_px)
            return model, intensities[chosen]

        room = len(intensities) * wave.shape[-1] ** 2 <= _KEPT_PX
        self._make = functools.cache(make) if room else make

    def __len__(self) -> int:
        return len(self._sets)

    @typing.overload
    def __getitem__(self, index: int) -> Batch: ...

    @typing.overload
    def __getitem__(self, index: slice) -> list[Batch]: ...

    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self._make(i) for i in range(len(self))[index]]
        return self._make(range(len(self))[index])


def _on_grid(start: Reconstruction, grid: ObjectGrid) -> npt.NDArray[np.float32] | ComplexArray:
    if start.grid.shape != grid.shape:
        raise InvalidInputError(
            f"A warm start needs a reconstruction on the same grid of {grid.shape} px, not {start.grid.shape} px."
        )
    return start.potential


def _result(
    potential: npt.NDArray[np.float32] | ComplexArray,
    grid: ObjectGrid,
    data: ScanData,
    losses: list[float],
    began: float,
    positions_A: FloatArray,
    wave: ComplexArray,
) -> Reconstruction:
    if not np.isfinite(potential).all():
        raise DivergedError("The reconstruction diverged: its step is too large for these data.")
    seconds = time.perf_counter() - began
    return Reconstruction(potential, grid, data.calibration.fov_A, tuple(losses), seconds, positions_A, wave)
