"""Parts of a scan's probes that are held out, and what the completion of the others says of them.

From them it is told how far a predicted error can be trusted (:mod:`calibration`), and where the probe really was
(:mod:`position_correction`).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from adaptive_core.partial_scan.generator import Estimate, Generator
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.scan_path import FloatArray, Positions

PARTS = 4
"""One of so many parts of the probes is held out at a time."""
ENOUGH = 400
"""After so many held-out pixels no further part is held out: the completion of a large region takes long."""
LEAST = 40
"""With fewer held-out pixels nothing is told from them."""
LONGEST_RUN = 20


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """One part that was held out.

    Attributes:
        kept: which probes were known, shape (probes,), bool.
        pixels: what only the others measured, shape (height, width), bool.
        estimate: the completion of what was known.
    """

    kept: npt.NDArray[np.bool_]
    pixels: npt.NDArray[np.bool_]
    estimate: Estimate


def hold_out(scan: PartialImage, generator: Generator, channel: int = 0) -> tuple[HeldOut, ...]:
    """Hold parts of the probes out, and complete the rest, until ENOUGH pixels were held out.

    There are none of a scan of few probes, of one that leaves less than half of the pixels out, and where the generator
    predicts no error. Raises ModelError if a completion is not finite.
    """
    if not generator.predicts_error or scan.probes < LEAST or scan.measured.mean() > 0.5:
        return ()
    runs = runs_of(scan)
    part_of_run = np.random.default_rng(0).permutation(runs[-1] + 1) % PARTS
    parts: list[HeldOut] = []
    pixels = 0
    for part in range(PARTS):
        kept = part_of_run[runs] != part
        if not kept.any():
            return ()
        fewer = subset(scan, kept, channel)
        parts.append(HeldOut(kept, scan.measured & ~fewer.measured, generator.complete(fewer)))
        pixels += int(np.count_nonzero(parts[-1].pixels))
        if pixels >= ENOUGH:
            break
    return tuple(parts) if pixels >= LEAST else ()


def subset(
    scan: PartialImage, kept: npt.NDArray[np.bool_], channel: int, positions: FloatArray | None = None
) -> PartialImage:
    """One channel of a scan as if only some of its probes, shape (probes,), had been measured, perhaps elsewhere."""
    fewer = PartialImage(scan.size_px)
    where = scan.positions if positions is None else positions
    fewer.add(Positions(where[kept]), np.concatenate(scan.values, axis=1)[channel : channel + 1, kept])
    return fewer


def runs_of(scan: PartialImage) -> npt.NDArray[np.intp]:
    """To which run each probe belongs, shape (probes,): probes that are much closer than the mean distance make up one.

    A probe between two others of a path would be known from them, so that a path is held out in runs.
    """
    positions = scan.positions
    spacing_px = math.sqrt(scan.size_px[0] * scan.size_px[1] / len(positions))
    step = np.diff(positions, axis=0)
    begins = np.append(True, np.hypot(step[:, 0], step[:, 1]) >= 0.5 * spacing_px)
    number = np.arange(len(positions))
    begins |= (number - np.maximum.accumulate(np.where(begins, number, 0))) % LONGEST_RUN == 0
    return np.cumsum(begins) - 1
