"""Where the beam goes in one frame: whole scans, rotated subscans and lists of positions, in nm of the scan plane.

The conventions are those of Nion Swift. A *context* is a whole scan of square pixels, ``fov_nm`` being its longest
side, turned by ``rotation_rad`` about ``center_nm``. Subscans and positions are given in fractions of the context,
``(y, x)``, ``(0, 0)`` at its top left; a subscan is turned by ``-subscan_rotation_rad`` within the context.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError
from adaptive_core.scan_path import Point, Size

FloatArray = npt.NDArray[np.float64]


def _rotated(y: float, x: float, angle_rad: float) -> Point:
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return y * cos + x * sin, x * cos - y * sin


@dataclasses.dataclass(frozen=True)
class Context:
    """The whole scan that fractions refer to: size (height, width) px, longest side, rotation and centre (y, x)."""

    size_px: Size
    fov_nm: float
    rotation_rad: float = 0.0
    center_nm: Point = (0.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.size_px) < 1:
            raise InvalidInputError(f"A scan needs at least 1 x 1 px, not {self.size_px[0]} x {self.size_px[1]}.")
        if not (math.isfinite(self.fov_nm) and self.fov_nm > 0):
            raise InvalidInputError(f"The field of view must be positive, not {self.fov_nm} nm.")

    @property
    def pixel_nm(self) -> float:
        """Distance of neighbouring pixels of the whole scan in nm."""
        return self.fov_nm / max(self.size_px)

    def to_nm(self, fractions: FloatArray) -> FloatArray:
        """Fractions of the context, shape (n, 2), to positions in nm, shape (n, 2)."""
        height_nm, width_nm = self.size_px[0] * self.pixel_nm, self.size_px[1] * self.pixel_nm
        y, x = (fractions[:, 0] - 0.5) * height_nm, (fractions[:, 1] - 0.5) * width_nm
        cos, sin = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        return np.stack([self.center_nm[0] + y * cos + x * sin, self.center_nm[1] + x * cos - y * sin], axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class ScanGeometry:
    """The probe positions of one frame, in the order in which they are visited.

    Attributes:
        shape: rows and columns of the data.
        pixel_nm: distance of neighbouring pixels of the context, whatever is scanned of it (nm).
        origin_nm: top left corner of the first cell (y, x) (nm).
        row_step_nm, column_step_nm: from one cell to the next one down and to the right (nm).
        path_nm: positions, shape (n, 2), of a list of positions; None for a raster.
    """

    shape: Size
    pixel_nm: float
    origin_nm: Point
    row_step_nm: Point
    column_step_nm: Point
    path_nm: FloatArray | None = None

    @classmethod
    def raster(
        cls,
        context: Context,
        subscan_px: Size | None = None,
        subscan_size: Point = (1.0, 1.0),
        subscan_center: Point = (0.5, 0.5),
        subscan_rotation_rad: float = 0.0,
    ) -> ScanGeometry:
        """The whole context, or a subscan of it if ``subscan_px`` (rows, columns) is given; one row is a segment."""
        rows, columns = subscan_px or context.size_px
        if min(rows, columns) < 1:
            raise InvalidInputError(f"A subscan needs at least 1 x 1 px, not {rows} x {columns}.")
        if subscan_px is None:
            subscan_size, subscan_center, subscan_rotation_rad = (1.0, 1.0), (0.5, 0.5), 0.0
        height_nm = subscan_size[0] * context.size_px[0] * context.pixel_nm
        width_nm = subscan_size[1] * context.size_px[1] * context.pixel_nm
        angle = context.rotation_rad - subscan_rotation_rad
        row_step = _rotated(height_nm / rows, 0.0, angle)
        column_step = _rotated(0.0, width_nm / columns, angle)
        center_y, center_x = context.to_nm(np.array([subscan_center], dtype=np.float64))[0]
        origin = (
            float(center_y) - (rows * row_step[0] + columns * column_step[0]) / 2,
            float(center_x) - (rows * row_step[1] + columns * column_step[1]) / 2,
        )
        return cls((rows, columns), context.pixel_nm, origin, row_step, column_step)

    @classmethod
    def positions(cls, context: Context, fractions: npt.ArrayLike) -> ScanGeometry:
        """A list of positions, shape (n, 2), in fractions of the context; the data have one row."""
        try:
            array = np.asarray(fractions, dtype=np.float64)
        except (TypeError, ValueError) as e:
            raise InvalidInputError("Scan positions must be a list of [y, x] pairs of numbers.") from e
        if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
            raise InvalidInputError(f"Scan positions need the shape (n, 2) with n > 0, not {array.shape}.")
        if not np.isfinite(array).all():
            raise InvalidInputError("Scan positions must be finite.")
        path = context.to_nm(array)
        return cls((1, len(path)), context.pixel_nm, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), path)

    @property
    def count(self) -> int:
        """Number of probe positions."""
        return self.shape[0] * self.shape[1]

    def positions_nm(self, start: int = 0, stop: int | None = None) -> FloatArray:
        """Probe positions from number ``start`` up to, not including, ``stop``; shape (n, 2), ``(y, x)`` in nm."""
        stop = self.count if stop is None else stop
        if self.path_nm is not None:
            return self.path_nm[start:stop]
        row, column = np.divmod(np.arange(start, stop), self.shape[1])
        row, column = row + 0.5, column + 0.5
        (y0, x0), (row_y, row_x), (column_y, column_x) = self.origin_nm, self.row_step_nm, self.column_step_nm
        return np.stack([y0 + row * row_y + column * column_y, x0 + row * row_x + column * column_x], axis=1)
