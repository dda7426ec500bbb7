"""From the fraction of the beam that a detector collects to the numbers that the scan device delivers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector:
    """An integrating detector: Poisson statistics of the electrons, then gain, offset and electronic noise.

    Attributes:
        counts_per_electron: gain.
        offset: counts without a beam.
        shot_noise: whether electrons arrive at random (Poisson); without it the expected number is detected.
        read_noise: standard deviation of the electronic noise of one probe position, in counts.
        line_noise: standard deviation of an offset that all positions of a row share, in counts.
    """

    counts_per_electron: float = 20.0
    offset: float = 100.0
    shot_noise: bool = True
    read_noise: float = 5.0
    line_noise: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.counts_per_electron) and self.counts_per_electron > 0):
            raise InvalidInputError(f"The detector's gain must be positive, not {self.counts_per_electron} counts/e-.")
        if not math.isfinite(self.offset):
            raise InvalidInputError(f"The detector's offset must be finite, not {self.offset} counts.")
        for name, value in (("read noise", self.read_noise), ("line noise", self.line_noise)):
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInputError(f"The detector's {name} must not be negative, not {value} counts.")

    @property
    def noiseless(self) -> Detector:
        """The same detector without any noise."""
        return dataclasses.replace(self, shot_noise=False, read_noise=0.0, line_noise=0.0)

    def expected(self, electrons: npt.NDArray[np.floating]) -> Float32Array:
        """Mean counts for an expected number of electrons (any shape); float32."""
        return np.asarray(electrons * self.counts_per_electron + self.offset, dtype=np.float32)


class DetectorChannel:
    """One channel's random numbers, apart for each kind of noise, so that a frame read in pieces is the same frame.

    Args:
        seed: the numbers repeat with the same seed and channel.
        index: number of the channel.
    """

    def __init__(self, seed: int, index: int) -> None:
        self._shot, self._read, self._line = (np.random.default_rng([seed, index, kind]) for kind in range(3))
        self._line_offsets: FloatArray = np.zeros(0)

    def start_frame(self, detector: Detector, rows: int) -> None:
        """Draw what belongs to the frame as a whole."""
        self._line_offsets = self._line.normal(0.0, detector.line_noise, rows) if detector.line_noise else np.zeros(0)

    def read(self, detector: Detector, electrons: FloatArray, row: npt.NDArray[np.intp] | None = None) -> Float32Array:
        """Counts (n,), float32, for the expected electrons (n,) of each position and the rows (n,) they are in.

        ``row`` is needed only if there is line noise.
        """
        if detector.shot_noise:
            electrons = self._shot.poisson(electrons).astype(np.float64)
        counts = electrons * detector.counts_per_electron + detector.offset
        if detector.read_noise:
            counts += self._read.normal(0.0, detector.read_noise, len(electrons))
        if len(self._line_offsets) and row is not None:
            counts += self._line_offsets[row]
        return counts.astype(np.float32)
