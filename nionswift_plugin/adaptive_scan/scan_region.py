"""The scanned region: a rectangle of square pixels in the context scan, and the way to Swift's fractions.

A *context* is a whole scan of Swift: a field of view, its number of pixels and its rotation. Fractions ``(y, x)`` of it
are those of the unrotated context, (0, 0) being the top left corner and (1, 1) the bottom right one. A subscan, and a
rectangle graphic drawn on the context image, turn about their centre in the context's pixels; both have the same sign
of rotation.
"""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
from nion.instrumentation import scan_base

from adaptive_core.errors import InvalidInputError
from adaptive_core.scan_path import FloatArray, Point, Segment, Size

_TOLERANCE = 1e-6
"""Fraction of the field of view by which rounding may carry a corner over the edge."""


@dataclasses.dataclass(frozen=True)
class ScanRegion:
    """A rectangle of square pixels in a context.

    Attributes:
        context_px: context (height, width) in px; its pixels are square, as Swift's calibrations take them to be.
        fov_nm: nm along the longer side of the context.
        size_px: region (height, width) in px of its own.
        pixel_context_px: side of one pixel of the region in px of the context.
        center: centre ``(y, x)`` in fractions of the context.
        rotation_rad: rotation about the centre, in the sense of Swift's subscans.
    """

    context_px: Size
    fov_nm: float
    size_px: Size
    pixel_context_px: float
    center: Point = (0.5, 0.5)
    rotation_rad: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.fov_nm, self.pixel_context_px, *self.center, self.rotation_rad)
        if not all(map(math.isfinite, numbers)) or min(*self.context_px, *self.size_px) < 1:
            raise InvalidInputError("A region needs finite numbers and at least 1 px a side.")
        if min(self.fov_nm, self.pixel_context_px) <= 0:
            raise InvalidInputError("A region needs a positive field of view and a positive pixel size.")
        height, width = self.size_px
        corners = self.to_fractions(np.array([(0, 0), (0, width), (height, width), (height, 0)], dtype=np.float64))
        outside = corners[np.any((corners < -_TOLERANCE) | (corners > 1 + _TOLERANCE), axis=1)]
        if len(outside):
            y, x = outside[0]
            raise InvalidInputError(
                f"The region must lie in the field of view; its corner at the fraction ({y:.3f}, {x:.3f}) does not."
            )

    @classmethod
    def rectangle(
        cls,
        parameters: scan_base.ScanFrameParameters,
        center: Point = (0.5, 0.5),
        fractional_size: Point = (1.0, 1.0),
        rotation_rad: float = 0.0,
        longest_px: int | None = None,
    ) -> ScanRegion:
        """A rectangle given by its centre and its size in fractions of the context; all of it by default.

        Args:
            parameters: the context.
            center: centre ``(y, x)``.
            fractional_size: height and width.
            rotation_rad: rotation in the sense of Swift's subscans.
            longest_px: number of pixels along the longer side; None keeps the context's pixel size.

        The shorter side is cut to whole pixels, so that pixels are square and the region lies in the rectangle.
        """
        context = parameters.pixel_size.height, parameters.pixel_size.width
        sides = fractional_size[0] * context[0], fractional_size[1] * context[1]
        if not all(map(math.isfinite, sides)) or min(sides) <= 0:
            raise InvalidInputError(f"A region needs a positive size, not {fractional_size} of the field of view.")
        if longest_px is not None and longest_px < 1:
            raise InvalidInputError(f"A region needs at least 1 px a side, not {longest_px}.")
        pixel = 1.0 if longest_px is None else max(sides) / longest_px
        height, width = (max(1, math.floor(side / pixel + _TOLERANCE)) for side in sides)
        return cls(context, parameters.fov_nm, (height, width), pixel, center, rotation_rad)

    @property
    def pixel_size_nm(self) -> float:
        """Side of one pixel of the region in nm."""
        return self.pixel_context_px * self.fov_nm / max(self.context_px)

    @property
    def fractional_size(self) -> Point:
        """Height and width in fractions of the context."""
        return (
            self.size_px[0] * self.pixel_context_px / self.context_px[0],
            self.size_px[1] * self.pixel_context_px / self.context_px[1],
        )

    @property
    def is_whole_context(self) -> bool:
        """Whether the region is the whole field of view."""
        return self.rotation_rad == 0.0 and all(math.isclose(side, 1.0, abs_tol=1e-9) for side in self.fractional_size)

    def to_context_px(self, positions: FloatArray) -> FloatArray:
        """Positions in px of the region, shape (n, 2), as px of the context, shape (n, 2)."""
        v, u = ((positions - np.asarray(self.size_px) / 2) * self.pixel_context_px).T
        cos, sin = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        offset = np.stack([v * cos - u * sin, v * sin + u * cos], axis=1)
        return np.asarray(np.asarray(self.center) * self.context_px + offset, dtype=np.float64)

    def to_fractions(self, positions: FloatArray) -> FloatArray:
        """Positions in px of the region, shape (n, 2), as fractions of the context, shape (n, 2)."""
        return self.to_context_px(positions) / self.context_px

    def segment_to_context_px(self, segment: Segment) -> Segment:
        """A segment in px of the region as one in px of the context."""
        start, end = self.to_context_px(np.array([segment.start, segment.end], dtype=np.float64)).tolist()
        return Segment((start[0], start[1]), (end[0], end[1]), segment.probes)

    def raster_parameters(self, parameters: scan_base.ScanFrameParameters) -> scan_base.ScanFrameParameters:
        """A copy of the context's parameters that rasters this region pixel by pixel."""
        result = context_parameters(parameters)
        if self.is_whole_context and self.size_px == self.context_px:
            return result
        result.subscan_pixel_size = self.size_px
        result.subscan_fractional_size = self.fractional_size
        result.subscan_fractional_center = self.center
        result.subscan_rotation = self.rotation_rad
        return result

    def waiting_position(self) -> Point:
        """The corner of the context farthest from the region, in fractions.

        It lies outside the region, unless the region reaches into every corner.
        """
        corners = np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
        offset = (corners - self.center) * self.context_px
        cos, sin = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        along = np.stack([offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin], axis=1)
        half = np.asarray(self.size_px) * self.pixel_context_px / 2
        distance = np.linalg.norm(np.maximum(np.abs(along) - half, 0.0), axis=1)
        y, x = corners[int(np.argmax(distance))].tolist()
        return y, x


def context_parameters(parameters: scan_base.ScanFrameParameters) -> scan_base.ScanFrameParameters:
    """A copy without a subscan or a list of positions: the whole field of view."""
    result = copy.copy(parameters)
    for name in (
        "subscan_pixel_size",
        "subscan_fractional_size",
        "subscan_fractional_center",
        "subscan_rotation",
        "subscan_type_partial",
        "scan_path",
    ):
        result.clear_parameter(name)
    return result
