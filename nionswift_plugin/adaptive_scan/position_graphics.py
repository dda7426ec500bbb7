"""The latest probe positions as point graphics on an image of Swift."""

from __future__ import annotations

import typing

import numpy as np
import numpy.typing as npt
from nion.swift.model import DisplayItem, Graphics

from nionswift_plugin.adaptive_scan.background import Steps

GRAPHIC_ID = "adaptive_scan_position"
MOST_GRAPHICS = 50
"""Swift takes a millisecond or two for each graphic that changes; dots in the picture show what is older."""
_AT_ONCE = 5
_CROSS_PX = 8
"""Half the size of a cross on the screen, so that those of 250 positions do not touch."""


class PositionGraphics:
    """Crosses that are made once and then moved; for the user interface's thread only.

    Args:
        display_item: on which they are drawn.
        colour: of the crosses.
    """

    def __init__(self, display_item: DisplayItem.DisplayItem, colour: str) -> None:
        self._display_item = display_item
        self._colour = colour
        self._graphics: list[Graphics.PointGraphic] = []

    def draw(self, positions: npt.NDArray[np.float64]) -> Steps:
        """Show these positions ``(y, x)``, shape (n, 2), in fractions of the image; of more than 50 the last ones."""
        shown = [(float(y), float(x)) for y, x in positions[-MOST_GRAPHICS:]]
        for first in range(0, len(shown), _AT_ONCE):
            # One change of the display for several graphics.
            with self._display_item.display_item_changes():
                for index, place in enumerate(shown[first : first + _AT_ONCE], first):
                    self._put(index, place)
            yield

    def _put(self, index: int, place: tuple[float, float]) -> None:
        if index < len(self._graphics):
            self._graphics[index].position = typing.cast(typing.Any, place)
            return
        graphic = Graphics.PointGraphic()
        graphic.graphic_id = GRAPHIC_ID
        graphic.position = typing.cast(typing.Any, place)
        graphic.stroke_color = self._colour
        graphic.cross_hair_size = _CROSS_PX
        graphic.is_position_locked = graphic.is_shape_locked = True
        self._display_item.add_graphic(graphic)
        self._graphics.append(graphic)
