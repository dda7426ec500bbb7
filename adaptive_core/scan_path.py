"""Where the probe goes: straight segments and lists of positions, in pixels of the scanned region.

Coordinates are ``(y, x)`` and continuous: the region spans ``[0, height] x [0, width]`` and the pixel ``(i, j)``
covers ``[i, i + 1) x [j, j + 1)``, its centre being ``(i + 0.5, j + 0.5)``. Divided by the region's size they are the
fractions that Nion Swift uses.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError

Point = tuple[float, float]
Size = tuple[int, int]
FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Segment:
    """A straight path segment: ``probes`` evenly spaced positions from ``start`` to ``end``, both included (px)."""

    start: Point
    end: Point
    probes: int

    kind: typing.ClassVar[str] = "segment"

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise InvalidInputError(f"A segment needs at least 1 probe position, not {self.probes}.")
        if not all(map(math.isfinite, (*self.start, *self.end))):
            raise InvalidInputError(f"A segment's ends must be finite, not {self.start} to {self.end}.")

    @functools.cached_property
    def positions(self) -> FloatArray:
        """Probe positions, shape (probes, 2), float64, ``(y, x)`` in px; not writable."""
        positions = np.linspace(self.start, self.end, self.probes, dtype=np.float64)
        positions.setflags(write=False)
        return positions

    @property
    def length_px(self) -> float:
        """Distance between the first and the last probe position (px)."""
        return math.dist(self.start, self.end)


@dataclasses.dataclass(frozen=True, eq=False)
class Positions:
    """A batch of probe positions in the order in which they are visited, shape (n, 2), float64, ``(y, x)`` in px."""

    positions: FloatArray

    kind: typing.ClassVar[str] = "positions"

    def __post_init__(self) -> None:
        array = np.array(self.positions, dtype=np.float64)
        if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
            raise InvalidInputError(f"Probe positions need the shape (n, 2) with n > 0, not {array.shape}.")
        if not np.isfinite(array).all():
            raise InvalidInputError("Probe positions must be finite.")
        array.setflags(write=False)
        object.__setattr__(self, "positions", array)

    @property
    def probes(self) -> int:
        """Number of probe positions."""
        return len(self.positions)


Action = Segment | Positions
"""What a policy asks for and a scanner carries out."""


@dataclasses.dataclass(frozen=True)
class SubscanGeometry:
    """A straight segment as a rotated subscan of one row, as every scan device of Nion Swift understands it.

    Fractions are those of the context field of view ``(y, x)``; ``rotation_rad`` is Swift's subscan rotation.
    """

    pixel_size: Size
    fractional_size: Point
    fractional_center: Point
    rotation_rad: float


def segment_to_subscan(segment: Segment, context_px: Point) -> SubscanGeometry:
    """Express a segment, in px of a context of size ``context_px`` (height, width), as a subscan of one row.

    The row has one cell for each probe position, the positions being the centres of the cells, so it is longer than the
    segment by one cell. The cells are square, because some devices derive the width from the height.
    """
    height, width = context_px
    (y0, x0), (y1, x1) = segment.start, segment.end
    cell_px = segment.length_px / (segment.probes - 1) if segment.probes > 1 else 1.0
    if cell_px == 0.0:
        raise InvalidInputError("A segment of several probe positions needs two different ends.")
    return SubscanGeometry(
        pixel_size=(1, segment.probes),
        fractional_size=(cell_px / height, cell_px * segment.probes / width),
        fractional_center=((y0 + y1) / 2 / height, (x0 + x1) / 2 / width),
        rotation_rad=-math.atan2(y1 - y0, x1 - x0) if segment.probes > 1 else 0.0,
    )


def inside(positions: FloatArray, size_px: Size) -> npt.NDArray[np.bool_]:
    """Which of the positions, shape (n, 2) px, lie in the region; shape (n,), bool."""
    upper = np.asarray(size_px, dtype=np.float64)
    within: npt.NDArray[np.bool_] = np.all((positions >= 0) & (positions <= upper), axis=1)
    return within


def rasterize(positions: FloatArray, size_px: Size) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The pixels ``(rows, columns)`` that hold the positions; positions outside belong to the nearest edge pixel.

    The paper samples the pixel nearest to each probing position and lets positions be outside (Ede 2021, section 2.1).
    """
    index = np.floor(positions).astype(np.intp)
    return np.clip(index[:, 0], 0, size_px[0] - 1), np.clip(index[:, 1], 0, size_px[1] - 1)


def as_segments(positions: FloatArray, tolerance_px: float = 1e-6) -> typing.Iterator[Segment]:
    """Cut a list of positions, shape (n, 2) px, into the longest runs of collinear, equally spaced positions, in order.

    It is how a list of positions is carried out by a device that only knows subscans.
    """
    # Plain numbers: for the few positions of a batch they are many times faster than small arrays.
    points: list[tuple[float, float]] = [(y, x) for y, x in positions.tolist()]
    first = 0
    while first < len(points):
        last = first
        if first + 1 < len(points) and points[first + 1] != points[first]:
            (y, x), (y1, x1) = points[first], points[first + 1]
            last, dy, dx = first + 1, y1 - y, x1 - x
            while last + 1 < len(points):
                n = last + 1 - first
                y1, x1 = points[last + 1]
                if abs(y1 - y - n * dy) > tolerance_px or abs(x1 - x - n * dx) > tolerance_px:
                    break
                last += 1
        yield Segment(points[first], points[last], last - first + 1)
        first = last + 1
