"""Single-sideband ptychography: a direct method for dense, focused scans (Pennycook et al., Ultramicroscopy 151, 2015).

For a weak phase object the scan's Fourier transform at the spatial frequency Q is, at each detector pixel K, the
interference of the beam with one or both of the beams scattered by +Q and -Q. Only where exactly one of them overlaps
the bright-field disk (the sidebands) does it tell about the object; there it is summed.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography.object_grid import ObjectGrid
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.ptychography.scan_data import ScanData
from adaptive_core.simulation.ptychography_probe import probe_wave

RealArray = npt.NDArray[np.float32]


def single_sideband(data: ScanData, grid_px: tuple[int, int]) -> Reconstruction:
    """Phase from a whole raster of ``grid_px`` (rows, columns) positions, in row order and evenly spaced.

    The potential is sampled at the scan positions. Defocus and Cs of the optics are taken into account.

    Raises:
        InvalidInputError: if the positions are no such raster.
    """
    began = time.perf_counter()
    rows, columns = grid_px
    calibration, optics = data.calibration, data.calibration.optics
    fov = np.asarray(calibration.fov_A)
    step = fov / grid_px
    expected = np.stack(
        np.meshgrid(*((np.arange(n) + 0.5) * s for n, s in zip(grid_px, step, strict=True)), indexing="ij")
    )
    if data.count != rows * columns or not np.allclose(
        data.positions_A, expected.reshape(2, -1).T, atol=0.05 * step.min()
    ):
        raise InvalidInputError(
            f"A direct reconstruction needs all {rows} x {columns} positions of a raster, in order."
        )
    side = calibration.detector_px
    # Only detector pixels of the bright-field disk can hold a sideband's interference with the beam.
    along_y, along_x = ((np.arange(side) - side // 2 - beam) / calibration.window_A for beam in calibration.beam_px)
    radius = optics.convergence_mrad * 1e-3 / optics.wavelength_A
    ky, kx = np.meshgrid(along_y, along_x, indexing="ij")
    inside = np.hypot(ky, kx) <= radius
    stack = data.patterns.reshape(rows, columns, side, side)[:, :, inside] / np.float32(data.electrons)
    spectrum = np.fft.fft2(stack, axes=(0, 1)).astype(np.complex64) / (rows * columns)
    qy, qx = np.fft.fftfreq(rows, step[0])[:, None], np.fft.fftfreq(columns, step[1])[None, :]
    phase_spectrum = np.zeros(grid_px, np.complex128)
    weight = np.zeros(grid_px)
    peak = float((np.abs(probe_wave(optics, 256, calibration.window_A)) ** 2).max())
    here_y, here_x = ky[inside], kx[inside]
    chi_here = _aberration(optics.defocus_A, optics.cs_mm, optics.wavelength_A, here_y, here_x)
    for index, (ay, ax, chi) in enumerate(zip(here_y, here_x, chi_here, strict=True)):
        plus, minus = np.hypot(ay + qy, ax + qx) <= radius, np.hypot(ay - qy, ax - qx) <= radius
        # I(K, Q) / |A|^2 = i V(Q) [e^{i(chi(K) - chi(K-Q))} A(K-Q) - e^{-i(chi(K) - chi(K+Q))} A(K+Q)]
        only_minus, only_plus = minus & ~plus, plus & ~minus
        turned = np.zeros(grid_px, np.complex128)
        from_minus = _aberration(optics.defocus_A, optics.cs_mm, optics.wavelength_A, ay - qy, ax - qx)
        from_plus = _aberration(optics.defocus_A, optics.cs_mm, optics.wavelength_A, ay + qy, ax + qx)
        turned[only_minus] = np.exp(1j * (from_minus - chi))[only_minus] * -1j
        turned[only_plus] = np.exp(1j * (chi - from_plus))[only_plus] * 1j
        phase_spectrum += turned * spectrum[:, :, index]
        weight += only_minus | only_plus
    phase_spectrum = np.where(weight > 0, phase_spectrum / np.maximum(weight, 1) / peak, 0)
    potential = np.asarray((np.fft.ifft2(phase_spectrum) * rows * columns).real, dtype=np.float32)
    sampling = float(step[0])
    if not np.isclose(step[0], step[1]):
        raise InvalidInputError(f"A direct reconstruction needs square steps, not {step[0]:g} x {step[1]:g} A.")
    grid = ObjectGrid(min(grid_px), grid_px, sampling, (-sampling / 2, -sampling / 2))
    wave = probe_wave(optics, side, calibration.window_A)
    return Reconstruction(potential, grid, calibration.fov_A, (), time.perf_counter() - began, data.positions_A, wave)


def _aberration(
    defocus_A: float, cs_mm: float, wavelength_A: float, ky: npt.NDArray[np.float64], kx: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    squared = (ky**2 + kx**2) * wavelength_A**2
    return 2 * np.pi / wavelength_A * (-defocus_A * squared / 2 + cs_mm * 1e7 * squared**2 / 4)
