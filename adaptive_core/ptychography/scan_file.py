"""The 4D data of an irregular scan in one HDF5 file, readable by others.

Layout (format version 1; y before x everywhere)::

    /patterns         (p, d, d) float32, electrons, the direct beam at pixel d // 2 and beam_px beyond
    /positions_A      (p, 2) float64, (y, x) in A from the region's top left corner
    /defocus_A        (p,) float64, underfocus positive
    attributes of /   format, format_version, energy_kev, convergence_mrad, defocus_A, cs_mm, mrad_per_px, fov_A (2),
                      electrons (a pattern, NaN when unknown), saturation (counts, NaN when unknown), beam_px (2)

For Ptychodus and pty-chi the same file is a "diffraction data" file and a "product" to start from::

    /patterns         with the attributes detector_pixel_height_m and detector_pixel_width_m, at a distance of 1 m
    /indexes, /probe_position_indexes   (p,) int64; /bad_pixels (d, d) bool
    /probe_position_y_m, /probe_position_x_m   (p,) float64, m from the region's middle
    /probe            (1, 1, d, d) complex64, real space, at the median defocus, sum of squares = electrons
    /object           (1, h, w) complex64, vacuum; both with pixel_height_m and pixel_width_m
    attributes of /   photon_energy_eV (of light of the electrons' wavelength), detector_object_distance_m (1),
                      probe_photon_count

They know of no beam_px and no defocus that changes. py4DSTEM takes an irregular scan as a data cube of the shape
(p, 1, d, d) with ``initial_scan_positions``; see ``py4dstem_reader.py`` beside this file, which needs nothing of this
project.
"""

from __future__ import annotations

import math
import pathlib

import h5py
import numpy as np
from scipy import constants

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography.scan_data import Calibration, ScanData
from adaptive_core.simulation.ptychography_probe import Optics, probe_wave

FORMAT = "adaptive_ptychography"
FORMAT_VERSION = 1
_A_IN_M = 1e-10


def write_scan(path: pathlib.Path, data: ScanData) -> None:
    """Write a scan; an interruption leaves no file under that name."""
    calibration, optics = data.calibration, data.calibration.optics
    partial = path.with_name(path.name + ".part")
    try:
        with h5py.File(partial, "w") as file:
            file.attrs.update(
                format=FORMAT,
                format_version=FORMAT_VERSION,
                energy_kev=optics.energy_kev,
                convergence_mrad=optics.convergence_mrad,
                defocus_A=optics.defocus_A,
                cs_mm=optics.cs_mm,
                mrad_per_px=calibration.mrad_per_px,
                fov_A=np.asarray(calibration.fov_A),
                electrons=math.nan if calibration.electrons is None else calibration.electrons,
                saturation=math.nan if calibration.saturation is None else calibration.saturation,
                beam_px=np.asarray(calibration.beam_px),
            )
            file.create_dataset("patterns", data=data.patterns, compression="gzip", compression_opts=1)
            file["positions_A"] = data.positions_A
            file["defocus_A"] = data.defocus_of_each()
            _add_ptychodus(file, data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InvalidInputError(f"The scan cannot be written to {path}: {error}.") from error


def _add_ptychodus(file: h5py.File, data: ScanData) -> None:
    """What Ptychodus and pty-chi look for."""
    calibration, optics = data.calibration, data.calibration.optics
    side = calibration.detector_px
    sampling_A = calibration.window_A / side
    pixel = dict.fromkeys(("pixel_height_m", "pixel_width_m"), sampling_A * _A_IN_M)
    file.attrs.update(
        detector_object_distance_m=1.0,
        photon_energy_eV=constants.h * constants.c / (optics.wavelength_A * _A_IN_M) / constants.e,
        probe_photon_count=data.electrons,
    )
    detector_m = calibration.mrad_per_px * 1e-3
    file["patterns"].attrs.update(detector_pixel_height_m=detector_m, detector_pixel_width_m=detector_m)
    file["bad_pixels"] = np.zeros((side, side), bool)
    for name in ("indexes", "probe_position_indexes"):
        file[name] = np.arange(data.count)
    from_middle = (data.positions_A - np.asarray(calibration.fov_A) / 2) * _A_IN_M
    file["probe_position_y_m"], file["probe_position_x_m"] = from_middle.T
    optics = optics.at_defocus(float(np.median(data.defocus_of_each())))
    wave = np.fft.fftshift(np.fft.ifft2(probe_wave(optics, side, calibration.window_A), norm="ortho"))
    file["probe"] = (wave * math.sqrt(data.electrons)).astype(np.complex64)[None, None]
    shape = [math.ceil(length / sampling_A) + side for length in calibration.fov_A]
    file["object"] = np.ones((1, *shape), np.complex64)
    file["object_layer_spacing_m"] = np.zeros(0)
    file["probe"].attrs.update(pixel)
    file["object"].attrs.update(center_x_m=0.0, center_y_m=0.0, **pixel)


def read_scan(path: pathlib.Path) -> ScanData:
    """Read what :func:`write_scan` wrote. Raises InvalidInputError for anything else."""
    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            if attributes.get("format") != FORMAT or int(attributes.get("format_version", 0)) != FORMAT_VERSION:
                raise InvalidInputError(f"{path.name} is no {FORMAT} file of version {FORMAT_VERSION}.")
            names = ("energy_kev", "convergence_mrad", "defocus_A", "cs_mm")
            optics = Optics(**{name: float(attributes[name]) for name in names})
            patterns = np.asarray(file["patterns"], dtype=np.float32)
            positions, defocus = np.asarray(file["positions_A"]), np.asarray(file["defocus_A"])
            height, width = (float(length) for length in attributes["fov_A"])
            electrons, saturation = (
                None if math.isnan(value := float(attributes[name])) else value for name in ("electrons", "saturation")
            )
            beam_y, beam_x = (float(place) for place in attributes["beam_px"])
            calibration = Calibration(
                optics,
                float(attributes["mrad_per_px"]),
                patterns.shape[-1],
                (height, width),
                electrons,
                saturation,
                (beam_y, beam_x),
            )
    except (OSError, KeyError) as error:
        raise InvalidInputError(f"{path.name} cannot be read as a ptychographic scan: {error}.") from error
    return ScanData(calibration, patterns, positions, defocus if (defocus != optics.defocus_A).any() else None)
