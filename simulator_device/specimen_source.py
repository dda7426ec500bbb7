"""Specimens by name or from files, also those that only Nion's readers understand."""

from __future__ import annotations

import pathlib

from nion.data import DataAndMetadata
from nionswift_plugin.DM_IO import dm3_image_utils

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.atomic_specimens import ATOMIC_NAMES, atomic_specimen
from adaptive_core.simulation.builtin_specimens import BUILTIN_NAMES, builtin_specimen
from adaptive_core.simulation.specimen_files import specimen_from_file
from adaptive_core.simulation.specimens import Specimen, from_image

NAMES = (*BUILTIN_NAMES, *ATOMIC_NAMES)
"""Names of the built-in specimens; the first one is the default."""

_NM = {"nm": 1.0, "um": 1e3, "µm": 1e3, "A": 0.1, "Å": 0.1, "pm": 1e-3}


def _read_dm(path: pathlib.Path) -> DataAndMetadata.DataAndMetadata:
    if not path.is_file():
        raise InvalidInputError(f"{path}: there is no such file.")
    try:
        with path.open("rb") as file:
            xdata: DataAndMetadata.DataAndMetadata = dm3_image_utils.load_image(file)
    except Exception as e:  # the reader fails in many ways
        raise InvalidInputError(f"{path}: the file cannot be read as a DigitalMicrograph image ({e}).") from e
    return xdata


def load_specimen(source: str, pixel_size_nm: float | None = None) -> Specimen:
    """A built-in specimen by its name, else the image file at the path ``source``. Raises InvalidInputError."""
    if source in NAMES:
        if pixel_size_nm is not None:
            raise InvalidInputError(f"The built-in specimen '{source}' has a pixel size; {pixel_size_nm} nm was given.")
        return atomic_specimen(source) if source in ATOMIC_NAMES else builtin_specimen(source)
    path = pathlib.Path(source).expanduser()
    if path.suffix.lower() not in (".dm3", ".dm4"):
        if not path.suffix and not path.exists():
            names = ", ".join(NAMES)
            raise InvalidInputError(f"'{source}' is neither a file nor one of the built-in specimens {names}.")
        return specimen_from_file(path, pixel_size_nm)
    xdata = _read_dm(path)
    calibration = xdata.dimensional_calibrations[-1]
    if pixel_size_nm is None and calibration.units in _NM and calibration.scale > 0:
        pixel_size_nm = calibration.scale * _NM[calibration.units]
    return from_image(xdata.data, pixel_size_nm, str(path))
