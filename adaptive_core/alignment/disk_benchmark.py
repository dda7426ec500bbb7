"""Compares ways to find the disk on rendered frames of 512 x 512 px with a disk radius of 60 px.

scikit-image's circular Hough transform is compared too where it is installed.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import importlib
import importlib.util
import math
import time
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core.alignment.disk_finding import Method, find_disk
from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.disk_image import DiskCameraModel, SpecimenInBeam, draw_contrast, expose, render_disk

ImageArray = npt.NDArray[np.float32]
Point = tuple[float, float]
SIZE_PX = 512
RADIUS_PX = 60.0


@dataclasses.dataclass(frozen=True)
class DiskCase:
    """What the camera sees, with this number of electrons a px in the disk."""

    electrons: float = 10.0
    camera: DiskCameraModel = dataclasses.field(default_factory=DiskCameraModel)
    specimen: SpecimenInBeam = SpecimenInBeam.VACUUM
    off_screen: bool = False


DISK_CASES: typing.Mapping[str, DiskCase] = {
    "vacuum": DiskCase(camera=DiskCameraModel(background=0.0)),
    "background": DiskCase(),
    "background, 1 e/px": DiskCase(1.0),
    "background, 0.1 e/px": DiskCase(0.1),
    "background, 0.02 e/px": DiskCase(0.02),
    "background, 0.005 e/px": DiskCase(0.005),
    "hot pixels": DiskCase(camera=DiskCameraModel(hot_pixels=60)),
    "gain gradient": DiskCase(camera=DiskCameraModel(background=0.05, gain_gradient=(0.1, 0.28))),
    "readout noise": DiskCase(3.0, DiskCameraModel(pedestal=8.0, read_noise=0.7)),
    "partly off-screen": DiskCase(off_screen=True),
    "sample": DiskCase(specimen=SpecimenInBeam.THIN),
    "thick sample": DiskCase(specimen=SpecimenInBeam.THICK),
}


def draw_frames(
    case: DiskCase, count: int, rng: np.random.Generator
) -> collections.abc.Iterator[tuple[ImageArray, Point]]:
    """Frames (512, 512), float32, with the true centres ``(y, x)``."""
    for _ in range(count):
        y, x = (SIZE_PX / 2 + float(offset) for offset in rng.uniform(-120, 120, 2))
        if case.off_screen:
            x = SIZE_PX - RADIUS_PX * rng.uniform(-0.1, 0.6)
            x = SIZE_PX - x if rng.random() < 0.5 else x
        camera = dataclasses.replace(case.camera, seed=int(rng.integers(2**31)))
        yield render_disk((y, x), RADIUS_PX, case.electrons, camera, rng, draw_contrast(case.specimen, rng)), (y, x)


def run_disk_benchmark(frames: int = 100, seed: int = 0) -> dict[str, typing.Any]:
    """Errors and times of every method in every case.

    Returns:
        ``frames, seed``, ``cases``: a list with ``case, method, rms_px, median_px, ms`` (radial errors; a frame
        without a disk found counts as half of the frame's width), and ``gate``: the highest score without a beam and
        the lowest with one of 0.005 electrons a px.
    """
    if frames < 1:
        raise InvalidInputError(f"A benchmark needs at least 1 frame, not {frames}.")
    finders = _finders()
    rows = []
    for name, case in DISK_CASES.items():
        drawn = list(draw_frames(case, frames, np.random.default_rng(seed)))
        for method, finder in finders.items():
            errors, durations = [], []
            for frame, centre in drawn:
                began = time.thread_time()
                found = finder(frame)
                durations.append(time.thread_time() - began)
                errors.append(SIZE_PX / 2 if found is None else math.dist(found, centre))
            rows.append(
                {
                    "case": name,
                    "method": method,
                    "rms_px": round(float(np.sqrt(np.mean(np.square(errors)))), 3),
                    "median_px": round(float(np.median(errors)), 3),
                    "ms": round(1e3 * float(np.median(durations)), 2),
                }
            )
    return {"frames": frames, "seed": seed, "cases": rows, "gate": _gate(frames, seed)}


def _gate(frames: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    cameras = [
        DiskCameraModel(),
        DiskCameraModel(pedestal=8.0, read_noise=0.7),
        DiskCameraModel(hot_pixels=60),
        DiskCameraModel(pedestal=100.0, read_noise=3.0, hot_pixels=60, gain_gradient=(0.2, 0.2)),
    ]
    empty = [
        find_disk(expose(None, 0.0, dataclasses.replace(cameras[i % 4], seed=i), rng), RADIUS_PX).score
        for i in range(frames)
    ]
    dim = [find_disk(f, RADIUS_PX).score for f, _ in draw_frames(DISK_CASES["background, 0.005 e/px"], frames, rng)]
    return {"highest_without_beam": round(max(empty), 2), "lowest_with_beam": round(min(dim), 2)}


def _finders() -> dict[str, collections.abc.Callable[[ImageArray], Point | None]]:
    def with_method(method: Method) -> collections.abc.Callable[[ImageArray], Point | None]:
        return lambda frame: find_disk(frame, RADIUS_PX, method=method).centre_px

    finders = {method.value: with_method(method) for method in Method}
    if importlib.util.find_spec("skimage") is not None:
        finders["scikit-image Hough circle"] = _hough
    return finders


def _hough(frame: ImageArray) -> Point:
    # Optional, and without type information.
    feature, filters, transform = (importlib.import_module(f"skimage.{n}") for n in ("feature", "filters", "transform"))
    smooth = filters.gaussian(transform.downscale_local_mean(frame, (2, 2)), 1.5, preserve_range=True)
    edges = feature.canny(smooth / max(float(smooth.max()), 1e-9), sigma=2.0)
    votes = filters.gaussian(transform.hough_circle(edges, [round(RADIUS_PX / 2)])[0], 1.0, preserve_range=True)
    row, column = np.unravel_index(int(votes.argmax()), votes.shape)
    return 2 * float(row) + 1.0, 2 * float(column) + 1.0
