"""The nearest of a set of pixels, for every pixel of a region."""

from __future__ import annotations

import typing

import numpy as np
import numpy.typing as npt
from scipy import ndimage


class Nearest(typing.NamedTuple):
    """For each pixel of a region the distance to the nearest marked one, (height, width), px, and its row and column,
    (2, height, width)."""

    distance: npt.NDArray[np.float64]
    pixel: npt.NDArray[np.int32]


def nearest_pixels(marked: npt.NDArray[np.bool_]) -> Nearest:
    """The exact Euclidean distance transform of ``marked`` (height, width), which must hold at least one pixel.

    Where rows are a multiple of 4096 bytes apart, the pixels of a column share a few lines of the processor's cache,
    and scipy's transform takes twice as long (0.11 s for 1024 x 1024 px). One more column without a mark prevents that
    and changes nothing else.
    """
    width = marked.shape[1]
    unmarked = np.pad(~marked, ((0, 0), (0, 1)), constant_values=True)
    distance, pixel = ndimage.distance_transform_edt(unmarked, return_indices=True)
    return Nearest(distance[:, :width], pixel[:, :, :width])
