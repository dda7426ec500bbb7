"""Specimens from image files: png, tif, npy, h5 and the formats of Pillow."""

from __future__ import annotations

import pathlib

import h5py
import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import tifffile

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.specimens import Specimen, from_image

_NM = {"nm": 1.0, "µm": 1e3, "um": 1e3, "micron": 1e3, "\\u00b5m": 1e3, "Å": 0.1, "A": 0.1, "angstrom": 0.1, "pm": 1e-3}


def read_image(path: pathlib.Path) -> tuple[npt.NDArray[np.generic], float | None]:
    """The image in a file and its pixel size in nm, None if the file does not say it (TIFF of ImageJ and HDF5 may)."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False), None
    if suffix in (".tif", ".tiff"):
        return _read_tiff(path)
    if suffix in (".h5", ".hdf5", ".hdf"):
        return _read_hdf5(path)
    return np.asarray(iio.imread(path, plugin="pillow")), None


def _read_tiff(path: pathlib.Path) -> tuple[npt.NDArray[np.generic], float | None]:
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        scale = _NM.get(str((file.imagej_metadata or {}).get("unit", "")))
        resolution = page.tags.get("XResolution") if isinstance(page, tifffile.TiffPage) else None
        pixel_size_nm = None
        if scale and resolution is not None and resolution.value[0]:
            pixel_size_nm = scale * resolution.value[1] / resolution.value[0]
        return np.asarray(page.asarray()), pixel_size_nm


def _read_hdf5(path: pathlib.Path) -> tuple[npt.NDArray[np.generic], float | None]:
    """The largest image of the file; its attribute ``pixel_size_nm``, or the file's, is the pixel size."""
    with h5py.File(path, "r") as file:
        images: list[h5py.Dataset] = []
        file.visititems(
            lambda _, item: images.append(item) if isinstance(item, h5py.Dataset) and item.ndim == 2 else None
        )
        if not images:
            raise InvalidInputError(f"{path}: the file has no two-dimensional data set.")
        largest = max(images, key=lambda item: int(item.size))
        pixel_size_nm = largest.attrs.get("pixel_size_nm", file.attrs.get("pixel_size_nm"))
        return np.asarray(largest[()]), None if pixel_size_nm is None else float(pixel_size_nm)


def specimen_from_file(path: pathlib.Path, pixel_size_nm: float | None = None) -> Specimen:
    """A specimen from an image file.

    Args:
        pixel_size_nm: overrides the file's; without either it is DEFAULT_PIXEL_SIZE_NM.

    Raises:
        InvalidInputError: the file cannot be read as an image with contrast.
    """
    if path.is_dir():
        raise InvalidInputError(f"{path}: a specimen is an image file, and this is a folder.")
    if not path.is_file():
        raise InvalidInputError(f"{path}: there is no such file.")
    try:
        image, found_nm = read_image(path)
    except InvalidInputError:
        raise
    except Exception as e:  # every library has its own ways to fail
        # imageio names the file by an internal address, which would only confuse.
        reason = f" ({str(e).splitlines()[0]})" if str(e) and "uri" not in str(e) else ""
        raise InvalidInputError(f"{path}: the file cannot be read as an image{reason}.") from e
    return from_image(image, found_nm if pixel_size_nm is None else pixel_size_nm, str(path))
