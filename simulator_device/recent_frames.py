"""The last frames of a scan device, which Swift records sequences and looks back with."""

from __future__ import annotations

import typing

DataElement = dict[str, typing.Any]

VIEW_FRAMES = 20


class RecentFrames:
    """The frames of a sequence that is being recorded, and beyond it the last VIEW_FRAMES of the view.

    Attributes:
        frames: the data elements of each frame, oldest first.
    """

    def __init__(self) -> None:
        self.frames: list[list[DataElement]] = []
        self._sequence_frames = 0

    def clear(self) -> None:
        """Forget all frames."""
        self.frames = []

    def reserve(self, count: int) -> None:
        """Keep the next ``count`` frames until they are popped."""
        self._sequence_frames = count
        self.clear()

    def append(self, elements: list[DataElement]) -> None:
        """Keep a frame; frames with other channels are forgotten."""
        if self.frames and len(self.frames[-1]) != len(elements):
            self.clear()
        self.frames.append(elements)
        while len(self.frames) > self._sequence_frames + VIEW_FRAMES:
            del self.frames[self._sequence_frames]

    def pop(self) -> list[DataElement]:
        """Take the first frame of the sequence."""
        self._sequence_frames -= 1
        return self.frames.pop(0)

    def slice(self, start: int, count: int) -> list[list[DataElement]]:
        """``count`` frames from ``start``, which counts from the end if it is negative; fewer if there are no more."""
        start = start if start >= 0 else max(len(self.frames) + start, 0)
        return self.frames[start : start + count]
