"""A picture of the whole path, coloured by the order in which it was scanned; Swift's graphics would be too many."""

from __future__ import annotations

import collections.abc
import math

import numpy as np
import numpy.typing as npt

from adaptive_core.scan_path import Action, FloatArray, Segment, Size

_SMALLEST_SIDE_PX = 384
"""The longer side of the picture has at least about this many px, so that lines are thin beside the region's pixels."""

_LEAST_SPACING_PX = 4
"""Dots of 3 px that are closer on average run into each other."""


class PathPicture:
    """Grows with the path.

    Args:
        size_px: region (height, width) in px.
        probes: expected number of probes; the last of them has the last colour.
        colours: look-up table (256, 3), uint8, in the order of the bytes of the picture.
        radius_px: of the dot of a probe, in px of the picture; by default a quarter of a pixel of the region, but at
            least 1 where probes are far enough apart, since Swift shows a large picture at a fraction of its size.

    Attributes:
        scale: px of the picture for one px of the region.
        image: (height, width, 3), uint8; black where the probe has not been.
    """

    def __init__(
        self, size_px: Size, probes: int, colours: npt.NDArray[np.uint8], radius_px: int | None = None
    ) -> None:
        self.scale = self.scale_of(size_px)
        self.image = np.zeros((size_px[0] * self.scale, size_px[1] * self.scale, 3), dtype=np.uint8)
        self._probes = probes
        if radius_px is None:
            spacing_px = self.scale * math.sqrt(math.prod(size_px) / max(probes, 1))
            radius_px = self.scale // 4 or int(spacing_px > _LEAST_SPACING_PX)
        self._radius_px = radius_px
        self._colours = colours
        self._drawn = 0
        self._order = 0

    @staticmethod
    def scale_of(size_px: Size) -> int:
        """The scale of a picture of a region of this size."""
        return max(1, math.ceil(_SMALLEST_SIDE_PX / max(size_px)))

    def draw(self, actions: collections.abc.Sequence[Action]) -> bool:
        """Add the actions that are new since the last call; whether there were any."""
        new = actions[self._drawn :]
        for action in new:
            positions = action.positions
            if isinstance(action, Segment):
                self._dots(_line(positions, 0.5 / self.scale), len(positions), radius=0)
            self._dots(positions, len(positions), radius=self._radius_px)
            self._order += len(positions)
        self._drawn += len(new)
        return bool(new)

    def _dots(self, positions: FloatArray, probes: int, radius: int) -> None:
        centre = np.floor(positions * self.scale).astype(np.intp)
        height, width = self.image.shape[:2]
        order = self._order + np.linspace(0, probes, len(positions))
        colour = self._colours[np.minimum(255 * order / max(self._probes, 1), 255).astype(np.intp)]
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                if dy * dy + dx * dx <= radius * radius:
                    rows = np.clip(centre[:, 0] + dy, 0, height - 1)
                    columns = np.clip(centre[:, 1] + dx, 0, width - 1)
                    self.image[rows, columns] = colour


def _line(positions: FloatArray, step_px: float) -> FloatArray:
    """Points along a straight path, at most ``step_px`` apart."""
    first, last = positions[0], positions[-1]
    count = max(2, math.ceil(float(np.hypot(*(last - first))) / step_px))
    return np.linspace(first, last, count)
