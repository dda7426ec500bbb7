"""The latest straight parts of a path as line graphics on an image of Swift."""

from __future__ import annotations

import collections.abc
import itertools
import typing

import numpy as np
import numpy.typing as npt
from nion.swift.model import DisplayItem, Graphics

from adaptive_core.scan_path import Action, Point, Segment, Size
from nionswift_plugin.adaptive_scan.background import Steps

GRAPHIC_ID = "adaptive_scan_path"
MOST_GRAPHICS = 40
"""Swift takes about a millisecond for each graphic that changes; the picture of the path shows what is older."""

_SMOOTH = 1.5
"""Steps of a path along a curve differ by less than this factor, and turn by less than a right angle."""

_Line = tuple[tuple[Point, Point], str]
"""Ends in fractions of the image, and a colour."""


def path_colours() -> npt.NDArray[np.uint8]:
    """From cyan for the first probe to magenta for the last, shape (256, 3), (blue, green, red) as Swift's pixels."""
    order = np.arange(256)
    return np.stack([np.full(256, 255), 255 - order, order], axis=1).astype(np.uint8)


class PathGraphics:
    """Line graphics that are made once and then moved; for the user interface's thread only.

    Of a path with more segments than graphics, the latest ones are shown, all in one colour.

    Args:
        display_item: on which they are drawn; the graphics of an earlier path on it are used again.
        size_px: region (height, width) in px.
        probes: expected number of probes; the last of them has the last colour.
        segments: expected number of segments.
    """

    def __init__(self, display_item: DisplayItem.DisplayItem, size_px: Size, probes: int, segments: int) -> None:
        self._display_item = display_item
        self._height, self._width = size_px
        self._probes = max(probes, 1)
        self._colours = path_colours() if segments <= MOST_GRAPHICS else path_colours()[:1]
        self._actions = self._order = self._lines = 0
        self._wanted: list[_Line] = []
        self._drawn: list[_Line | None] = []
        self._graphics = [
            graphic
            for graphic in display_item.graphics
            if isinstance(graphic, Graphics.LineGraphic) and graphic.graphic_id == GRAPHIC_ID
        ]

    def add(self, actions: collections.abc.Sequence[Action]) -> None:
        """Take note of the actions that are new since the last call."""
        for action in actions[self._actions :]:
            colour = self._colour()
            for start, end in straight_parts(action):
                line = (self._fractions(start), self._fractions(end)), colour
                if len(self._wanted) < MOST_GRAPHICS:
                    self._wanted.append(line)
                    self._drawn.append(None)
                else:
                    self._wanted[self._lines % MOST_GRAPHICS] = line
                self._lines += 1
            self._order += action.probes
        self._actions = len(actions)

    def draw(self) -> Steps:
        """Draw what is new."""
        for index, line in enumerate(self._wanted):
            if line != self._drawn[index]:
                self._drawn[index] = line
                self._draw(index, line)
                yield

    def _draw(self, index: int, line: _Line) -> None:
        is_new = index >= len(self._graphics)
        graphic = Graphics.LineGraphic() if is_new else self._graphics[index]
        (start, end), colour = line
        graphic.vector = typing.cast(typing.Any, (start, end))
        if graphic.stroke_color != colour:
            graphic.stroke_color = colour
        if is_new:
            graphic.graphic_id = GRAPHIC_ID
            graphic.is_position_locked = graphic.is_shape_locked = True
            self._graphics.append(graphic)
            self._display_item.add_graphic(graphic)

    def _fractions(self, point: Point) -> Point:
        return point[0] / self._height, point[1] / self._width

    def _colour(self) -> str:
        last = len(self._colours) - 1
        blue, green, red = self._colours[min(last * self._order // self._probes, last)].tolist()
        return f"#{red:02x}{green:02x}{blue:02x}"


def straight_parts(action: Action) -> list[tuple[Point, Point]]:
    """The lines that show an action: a segment itself, and two chords of a batch that goes along a curve.

    A batch of single positions here and there has none.
    """
    if action.probes < 2:
        return []
    if isinstance(action, Segment):
        return [(action.start, action.end)]
    positions = action.positions
    steps = np.diff(positions, axis=0)
    lengths = np.hypot(*steps.T)
    if lengths.max() > _SMOOTH * lengths.min() or np.any(np.sum(steps[1:] * steps[:-1], axis=1) < 0):
        return []
    corners = positions[[0, len(positions) // 2, -1]].tolist()
    return [(tuple(start), tuple(end)) for start, end in itertools.pairwise(corners)]
