"""What has been measured so far: the accumulator of a partial scan."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import DeviceDataError
from adaptive_core.ports import ImageArray
from adaptive_core.scan_path import Action, FloatArray, Size, rasterize


class PartialImage:
    """Values of all channels gathered on the pixels of a region, with the record of every action.

    A pixel that was probed several times holds the mean. ``standardise`` is the only scale on which models see values:
    the mean and standard deviation of all values measured so far, so that no model depends on a detector's gain and
    offset.

    Args:
        size_px: region (height, width) in px.
        channels: number of recorded channels.

    Attributes:
        beam_on_us: time for which the specimen was exposed for it, where an episode measured it.
    """

    def __init__(self, size_px: Size, channels: int = 1) -> None:
        self.size_px = size_px
        self.channels = channels
        self.actions: list[Action] = []
        self.values: list[npt.NDArray[np.float32]] = []
        self.probes = 0
        self.beam_on_us = 0.0
        self._sum = np.zeros((channels, *size_px), dtype=np.float64)
        self._count = np.zeros(size_px, dtype=np.int32)
        self._moments = np.zeros((channels, 2), dtype=np.float64)
        self._reference: npt.NDArray[np.float64] | None = None

    def add(self, action: Action, values: npt.NDArray[np.float32]) -> None:
        """Add the values, shape (channels, probes), that were measured for an action.

        Raises:
            DeviceDataError: if the shape is wrong or a value is not finite; nothing is added then.
        """
        positions = action.positions
        if values.shape != (self.channels, len(positions)):
            raise DeviceDataError(
                f"Expected values of shape {(self.channels, len(positions))} (channels, probes), not {values.shape}."
            )
        if not np.isfinite(values).all():
            raise DeviceDataError(f"The device returned {np.count_nonzero(~np.isfinite(values))} values not finite.")
        rows, columns = rasterize(positions, self.size_px)
        for channel in range(self.channels):
            np.add.at(self._sum[channel], (rows, columns), values[channel])
        np.add.at(self._count, (rows, columns), 1)
        if self._reference is None:
            # Moments about the first segment's mean: the variance of a small signal on a large offset stays exact.
            self._reference = values.mean(axis=1, dtype=np.float64)
        centred = values - self._reference[:, None]
        self._moments += np.stack([centred.sum(axis=1), np.square(centred).sum(axis=1)], axis=1)
        self.actions.append(action)
        self.values.append(values)
        self.probes += len(positions)

    @property
    def coverage(self) -> float:
        """Probes over pixels of the region, as published coverages are given."""
        return self.probes / (self.size_px[0] * self.size_px[1])

    @property
    def positions(self) -> FloatArray:
        """Where the probe was asked to be, in order, shape (probes, 2), px."""
        return np.concatenate([action.positions for action in self.actions])

    @property
    def measured(self) -> npt.NDArray[np.bool_]:
        """Which pixels were probed, shape (height, width), bool."""
        mask: npt.NDArray[np.bool_] = self._count > 0
        return mask

    def image(self, channel: int = 0) -> ImageArray:
        """Mean measured value of each pixel in detector units, shape (height, width), float32; NaN where unmeasured."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(self._count > 0, self._sum[channel] / self._count, np.nan), dtype=np.float32)

    def scale(self, channel: int = 0) -> tuple[float, float]:
        """Mean and standard deviation of all values measured so far; the deviation is never 0."""
        if self._reference is None:
            return 0.0, 1.0
        first, second = self._moments[channel] / self.probes
        mean = float(self._reference[channel] + first)
        deviation = float(np.sqrt(max(second - first**2, 0.0)))
        # A constant signal carries rounding noise only; dividing by that would blow it up.
        return mean, deviation if deviation > 1e-6 * max(abs(mean), 1e-30) else max(abs(mean), 1.0)

    def standardise(self, values: FloatArray | ImageArray, channel: int = 0) -> npt.NDArray[np.float32]:
        """Values in detector units on the models' scale, float32."""
        mean, deviation = self.scale(channel)
        return np.asarray((values - mean) / deviation, dtype=np.float32)

    def model_input(self, multiple: int = 1, channel: int = 0) -> npt.NDArray[np.float32]:
        """The input "partial" of generators, shape (1, 2, height, width) float32: standardised values and their mask.

        Both sides are padded with unmeasured pixels to the next multiple of ``multiple``.
        """
        height, width = (-(-side // multiple) * multiple for side in self.size_px)
        partial = np.zeros((1, 2, height, width), dtype=np.float32)
        mask = self.measured
        inner = partial[0, :, : self.size_px[0], : self.size_px[1]]
        inner[0][mask] = self.standardise(self._sum[channel][mask] / self._count[mask], channel)
        inner[1] = mask
        return partial

    def snapshot(self) -> PartialImage:
        """An independent copy, for a completion that runs while the scan goes on."""
        copy = PartialImage.__new__(PartialImage)
        copy.__dict__.update(self.__dict__)
        copy.actions, copy.values = list(self.actions), list(self.values)
        copy._sum, copy._count, copy._moments = self._sum.copy(), self._count.copy(), self._moments.copy()
        return copy
