"""The 4D data of an irregular scan in one HDF5 file, readable by others.

Layout (format version 1; y before x everywhere)::

    /patterns         (p, d, d) float32, electrons, the direct beam at pixel d // 2 and beam_px beyond
    /positions_A      (p, 2) float64, (y, x) in A from the region's top left corner
    /defocus_A        (p,) float64, underfocus positive
    attributes of /   format, format_version, energy_kev, convergence_mrad, defocus_A, cs_mm, mrad_per_px, fov_A (2),
                      electrons (a pattern, NaN when unknown), saturation (counts, NaN when unknown), beam_px (2)
    /ptychodus/dp     the patterns once more (a link), with probe_position_y_m and probe_position_x_m (p,) in m from
                      the region's middle and the attributes lambda_nm, pixel_height_m, pixel_width_m of the object's
                      sampling: the layout that pty-chi's and Ptychodus' loaders read

py4DSTEM takes an irregular scan as a data cube of the shape (p, 1, d, d) with ``initial_scan_positions``; see
``py4dstem_reader.py`` beside this file, which needs nothing of this project.
"""

from __future__ import annotations

import math
import pathlib

import h5py
import numpy as np

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography.scan_data import Calibration, ScanData
from adaptive_core.simulation.ptychography_probe import Optics

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
            patterns = file.create_dataset("patterns", data=data.patterns, compression="gzip", compression_opts=1)
            file["positions_A"] = data.positions_A
            file["defocus_A"] = data.defocus_of_each()
            other = file.create_group("ptychodus")
            other["dp"] = patterns
            centred = (data.positions_A - np.asarray(calibration.fov_A) / 2) * _A_IN_M
            other["probe_position_y_m"], other["probe_position_x_m"] = centred.T
            sampling = calibration.window_A / calibration.detector_px * _A_IN_M
            other.attrs.update(lambda_nm=optics.wavelength_A / 10, pixel_height_m=sampling, pixel_width_m=sampling)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InvalidInputError(f"The scan cannot be written to {path}: {error}.") from error


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
