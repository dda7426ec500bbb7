"""Compares ways to find the disk on rendered frames of 512 x 512 px with a disk radius of 60 px.

    adaptive-scan benchmark disk-finding

Two of scikit-image's circle finders are compared too where it is installed: the circular Hough transform, and a robust
circle fit by random samples (RANSAC).
"""

from __future__ import annotations

import collections.abc
import concurrent.futures
import dataclasses
import functools
import importlib
import importlib.util
import itertools
import math
import multiprocessing
import time
import typing
import warnings

import numpy as np
import numpy.typing as npt

from adaptive_core.alignment.disk_finding import BEAM_SCORE, Method, find_disk
from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.disk_image import DiskCameraModel, SpecimenInBeam, draw_contrast, expose, render_disk

ImageArray = npt.NDArray[np.float32]
Point = tuple[float, float]
Row = dict[str, typing.Any]
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


DIMMEST = "background, 0.005 e/px"
"""The case that the gate must still see."""


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


def run_disk_benchmark(
    frames: int = 40, seed: int = 0, gate_frames: int = 1000, jobs: int = 1
) -> dict[str, typing.Any]:
    """Errors and times of every method in every case, and the gate that tells whether there is a beam.

    Args:
        frames: of a case.
        seed: of the frames.
        gate_frames: without a beam (dark current subtracted; noise and hot pixels left), and as many with one of 0.005
            electrons a px.
        jobs: processes to use; the figures do not depend on it, but for the times.

    Returns:
        ``frames, seed, gate_frames``; ``cases``: a list with ``case, method, rms_px, median_px, ms`` (radial errors; a
        frame without a disk found counts as half of the frame's width); and ``gate``: a list with ``frames, lowest,
        highest`` (score) and ``right``, the fraction on the right side of :data:`BEAM_SCORE`.

    Raises:
        InvalidInputError: no frames or no jobs.
    """
    if min(frames, gate_frames, jobs) < 1:
        raise InvalidInputError(
            f"A benchmark needs at least 1 frame, 1 gate frame and 1 job, not {frames}, {gate_frames} and {jobs}."
        )
    tasks: list[collections.abc.Callable[[], list[Row]]] = [
        *(functools.partial(_case_rows, name, frames, seed) for name in DISK_CASES),
        *(functools.partial(_gate_rows, lit, gate_frames, seed) for lit in (False, True)),
    ]
    if jobs == 1:
        results = [task() for task in tasks]
    else:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
            results = [future.result() for future in [pool.submit(task) for task in tasks]]
    cases, gate = (list(itertools.chain(*some)) for some in (results[:-2], results[-2:]))
    return {"frames": frames, "seed": seed, "gate_frames": gate_frames, "cases": cases, "gate": gate}


def _case_rows(name: str, frames: int, seed: int) -> list[Row]:
    """A row a method."""
    drawn = list(draw_frames(DISK_CASES[name], frames, np.random.default_rng(seed)))
    rows = []
    for method, finder in _finders().items():
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
    return rows


def _gate_rows(lit: bool, frames: int, seed: int) -> list[Row]:
    """One row: the scores of frames with or without a beam."""
    rng = np.random.default_rng(seed)
    drawn = (frame for frame, _ in draw_frames(DISK_CASES[DIMMEST], frames, rng)) if lit else _empty(frames, rng)
    scores = np.array([find_disk(frame, RADIUS_PX).score for frame in drawn])
    row = {
        "frames": DIMMEST if lit else "without a beam",
        "lowest": round(float(scores.min()), 2),
        "highest": round(float(scores.max()), 2),
        "right": float(np.mean((scores >= BEAM_SCORE) == lit)),
    }
    return [row]


def _empty(count: int, rng: np.random.Generator) -> collections.abc.Iterator[ImageArray]:
    """Frames without a beam, of four cameras in turn."""
    cameras = [
        DiskCameraModel(),
        DiskCameraModel(pedestal=8.0, read_noise=0.7),
        DiskCameraModel(hot_pixels=60),
        DiskCameraModel(pedestal=100.0, read_noise=3.0, hot_pixels=60, gain_gradient=(0.2, 0.2)),
    ]
    for i in range(count):
        yield expose(None, 0.0, dataclasses.replace(cameras[i % 4], seed=int(rng.integers(2**31))), rng)


def _finders() -> dict[str, collections.abc.Callable[[ImageArray], Point | None]]:
    def with_method(method: Method) -> collections.abc.Callable[[ImageArray], Point | None]:
        return lambda frame: find_disk(frame, RADIUS_PX, method=method).centre_px

    finders = {method.value: with_method(method) for method in Method}
    if importlib.util.find_spec("skimage") is not None:
        finders |= {"scikit-image Hough circle": _hough, "scikit-image RANSAC circle": _ransac}
    return finders


def _skimage(name: str) -> typing.Any:
    # Optional, and without type information.
    return importlib.import_module(f"skimage.{name}")


def _edges(frame: ImageArray) -> npt.NDArray[np.bool_]:
    """Canny's edges on a copy of half the size, of which the finders of scikit-image start."""
    small = _skimage("transform").downscale_local_mean(frame, (2, 2))
    smooth = _skimage("filters").gaussian(small, 1.5, preserve_range=True)
    edges: npt.NDArray[np.bool_] = _skimage("feature").canny(smooth / max(float(smooth.max()), 1e-9), sigma=2.0)
    return edges


def _hough(frame: ImageArray) -> Point:
    """The summit of the circular Hough transform for the known radius."""
    votes = _skimage("transform").hough_circle(_edges(frame), [round(RADIUS_PX / 2)])[0]
    votes = _skimage("filters").gaussian(votes, 1.0, preserve_range=True)
    row, column = np.unravel_index(int(votes.argmax()), votes.shape)
    return 2 * float(row) + 1.0, 2 * float(column) + 1.0


def _ransac(frame: ImageArray) -> Point | None:
    """The circle, within 10 % of the known radius, on which most edge px lie; None if there is none."""
    points = np.argwhere(_edges(frame)).astype(np.float64)
    if len(points) <= 3:
        return None

    def ends(model: typing.Any) -> npt.NDArray[np.float64]:
        # Of a diameter: the names of a model's centre and radius differ between versions of scikit-image.
        return np.asarray(model.predict_xy(np.array([0.0, math.pi])))

    def fits(model: typing.Any, *_: typing.Any) -> bool:
        # The diameter on the copy of half the size is the radius on the frame.
        return abs(math.dist(*ends(model)) / RADIUS_PX - 1) < 0.1

    measure = _skimage("measure")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is no such circle
        model, _ = measure.ransac(
            points, measure.CircleModel, 3, residual_threshold=1.0, is_model_valid=fits, max_trials=500, rng=0
        )
    if model is None:
        return None
    y, x = 2 * ends(model).mean(0) + 1.0
    return float(y), float(x)
