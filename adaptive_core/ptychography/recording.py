"""Recorded 4D-STEM scans: ``.npy``, HDF5 of py4DSTEM and of hyperspy, with what their files tell of the instrument."""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import pathlib
import typing

import h5py
import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError
from adaptive_core.ports import DiffractionSetup

Patterns = npt.NDArray[np.generic]

_NEEDED = {
    "step_nm": "step of the scan (nm)",
    "mrad_per_px": "detector pixel (mrad)",
    "energy_kev": "beam energy (keV)",
    "convergence_mrad": "convergence semi-angle (mrad)",
}
_IN_NM = {"A": 0.1, "Å": 0.1, "angstrom": 0.1, "nm": 1.0, "um": 1e3, "µm": 1e3, "pm": 1e-3}


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """A scan of a whole grid.

    Attributes:
        patterns: shape (rows, columns, d, d), counts.
        step_nm: distance of neighbouring positions; None, as all that follows, where the file does not say it.
        mrad_per_px: size of a detector pixel.
        energy_kev: beam energy.
        convergence_mrad: convergence semi-angle.
    """

    patterns: Patterns
    step_nm: float | None = None
    mrad_per_px: float | None = None
    energy_kev: float | None = None
    convergence_mrad: float | None = None


def read_recording(path: pathlib.Path) -> Recording:
    """Read a file: ``.npy``, or an HDF5 file of py4DSTEM (.h5, .emd) or hyperspy (.hspy).

    An ``.npy`` file is mapped, not read. An HDF5 file must hold one data set of four dimensions; of several the one
    that py4DSTEM or hyperspy name ``data`` is taken. Patterns that are not square are cut around their middle.

    Raises:
        InvalidInputError: there is no such file, or it holds something else.
    """
    try:
        if path.suffix == ".npy":
            recording = Recording(np.load(path, mmap_mode="r", allow_pickle=False))
        else:
            with h5py.File(path, "r") as file:
                recording = _of_hdf5(path.name, file)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path.name} cannot be read as a 4D-STEM scan: {error}.") from error
    patterns = recording.patterns
    if patterns.ndim != 4 or patterns.dtype.kind not in "buif" or min(patterns.shape) < 1:
        raise InvalidInputError(
            f"{path.name} must hold real numbers (rows, columns, d, d), not {patterns.dtype} {patterns.shape}."
        )
    return dataclasses.replace(recording, patterns=_square(patterns))


def recorded_setup(recording: Recording, defocus_nm: float = 0.0, cs_mm: float = 0.0) -> DiffractionSetup:
    """The instrument of a recording, whose dose is not known. Raises InvalidInputError for what else is not.

    The largest value that the patterns' integers can have is taken for saturation.
    """
    missing = [name for name in _NEEDED if getattr(recording, name) is None]
    if missing:
        raise InvalidInputError(f"The recording does not say its {', '.join(_NEEDED[name] for name in missing)}.")
    known = {name: float(getattr(recording, name)) for name in _NEEDED}
    for name, value in known.items():
        if not (math.isfinite(value) and value > 0):
            raise InvalidInputError(f"The {_NEEDED[name]} must be positive, not {value}.")
    rows, columns, side, _ = recording.patterns.shape
    return DiffractionSetup(
        size_px=(rows, columns),
        pixel_size_nm=known.pop("step_nm"),
        exposure_us=0.0,
        detector_px=side,
        defocus_nm=defocus_nm,
        cs_mm=cs_mm,
        saturation=float(np.iinfo(kind.name).max) if (kind := recording.patterns.dtype).kind in "ui" else None,
        **known,
    )


def _square(patterns: Patterns) -> Patterns:
    height, width = patterns.shape[2:]
    side = min(height, width)
    top, left = height // 2 - side // 2, width // 2 - side // 2
    return patterns[:, :, top : top + side, left : left + side]


def _of_hdf5(name: str, file: h5py.File) -> Recording:
    found: dict[str, h5py.Dataset] = {}

    def visit(path: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 4:
            found[path] = item

    file.visititems(visit)
    named = [path for path in found if path.rsplit("/", 1)[-1] == "data"] or list(found)
    if len(named) != 1:
        raise InvalidInputError(
            f"{name} must hold one 4D data set, not {len(named)}{': ' if named else ''}{', '.join(named)}."
        )
    data = found[named[0]]
    told = _of_hyperspy(data.parent) if "axis-0" in data.parent else _of_py4dstem(file)
    return Recording(np.asarray(data), **told)


def _of_py4dstem(file: h5py.File) -> dict[str, float]:
    """From the calibration that py4DSTEM writes as single values below a group of that name."""
    values: dict[str, typing.Any] = {}

    def visit(path: str, item: h5py.Dataset | h5py.Group) -> None:
        if "/calibration/" in f"/{path}" and isinstance(item, h5py.Dataset) and item.shape == ():
            values[path.rsplit("/", 1)[-1]] = item[()]

    file.visititems(visit)
    return _told(
        step=(values.get("R_pixel_size"), _text(values.get("R_pixel_units"))),
        angle=(values.get("Q_pixel_size"), _text(values.get("Q_pixel_units"))),
        optics={},
    )


def _of_hyperspy(experiment: h5py.Group) -> dict[str, float]:
    """From hyperspy's axes, slowest first, and its metadata of the TEM (beam energy in kV, convergence in mrad)."""
    scan, detector = (dict(experiment[f"axis-{index}"].attrs) for index in (1, 3))
    tem = experiment.get("metadata/Acquisition_instrument/TEM")
    optics = {} if tem is None else dict(tem.attrs)
    return _told(
        step=(scan.get("scale"), _text(scan.get("units"))),
        angle=(detector.get("scale"), _text(detector.get("units"))),
        optics={"energy_kev": optics.get("beam_energy"), "convergence_mrad": optics.get("convergence_angle")},
    )


def _told(
    step: tuple[typing.Any, str], angle: tuple[typing.Any, str], optics: collections.abc.Mapping[str, typing.Any]
) -> dict[str, float]:
    """What a file tells in units that are known."""
    told = {name: float(value) for name, value in optics.items() if value is not None and float(value) > 0}
    if step[0] is not None and step[1] in _IN_NM:
        told["step_nm"] = abs(float(step[0])) * _IN_NM[step[1]]
    if angle[0] is not None and angle[1] in ("mrad", "rad"):
        told["mrad_per_px"] = abs(float(angle[0])) * (1e3 if angle[1] == "rad" else 1.0)
    return told


def _text(value: typing.Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
