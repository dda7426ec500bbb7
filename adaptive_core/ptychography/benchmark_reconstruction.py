"""How fast and how good the reconstructions are, on the same 250 positions, one thread each."""

from __future__ import annotations

import collections.abc
import dataclasses
import os
import pathlib
import subprocess
import tempfile
import time
import typing

import numpy as np

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import metrics, positions, reconstruction, scan_file
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.object_grid import ObjectGrid, region_image
from adaptive_core.ptychography.scan_data import ScanData

READER = pathlib.Path(__file__).with_name("py4dstem_reader.py")
BENCHMARK_SEED = 1_000_000
"""Regions of the benchmarks have seeds from here on; training keeps below."""
_PY4DSTEM_TIMEOUT_S = 900.0

Image = metrics.Image


def run(
    specimen: str = "mos2", seed: int = 0, repeats: int = 5, py4dstem_python: pathlib.Path | None = None
) -> dict[str, typing.Any]:
    """Reconstruct one region in every way.

    Args:
        specimen: name of the experiment.
        seed: of the region and of the noise.
        repeats: the fastest of so many runs counts.
        py4dstem_python: interpreter of py4DSTEM's own environment; without it py4DSTEM is left out.

    Returns:
        ``specimen, seed, positions, electrons`` and ``methods``: for ``intermediate``, ``final``, ``rop`` and, where it
        could be run, ``py4dstem_5`` and ``py4dstem_15``: ``seconds``, ``ssim`` (against the reconstruction from all
        data), ``ssim_truth`` (against the true potential) and ``processor_s``, which a busy machine does not lengthen
        as much; None for py4DSTEM.
    """
    settings = experiment(specimen)
    region = SimulatedRegion(settings, BENCHMARK_SEED + seed)
    fov = (settings.fov_A, settings.fov_A)
    rng = np.random.default_rng(seed)
    data = region.measure(positions.sparse_grid(settings.positions, fov), None, rng)
    reference = full_image(region, seed).phase(settings.pixel_A)
    truth = region.truth()

    def scored(phase: Image, seconds: float) -> dict[str, float | None]:
        return {
            "seconds": seconds,
            "ssim": metrics.phase_ssim(phase, reference),
            "ssim_truth": metrics.phase_ssim(phase, truth),
        }

    engines: dict[str, collections.abc.Callable[[ScanData], reconstruction.Reconstruction]] = {
        "intermediate": reconstruction.intermediate,
        "final": reconstruction.final,
        "rop": reconstruction.rop,
    }
    methods: dict[str, dict[str, float | None]] = {}
    for name, engine in engines.items():
        images, processor_s = [], []
        for _ in range(repeats):
            began = time.thread_time()
            images.append(engine(data))
            processor_s.append(time.thread_time() - began)
        figures = scored(images[0].phase(settings.pixel_A), min(image.seconds for image in images))
        methods[name] = figures | {"processor_s": min(processor_s)}
    if py4dstem_python is not None:
        for iterations in (5, 15):
            phase, seconds = run_py4dstem(py4dstem_python, data, iterations, settings.pixel_A)
            methods[f"py4dstem_{iterations}"] = scored(phase, seconds) | {"processor_s": None}
    return {
        "specimen": specimen,
        "seed": seed,
        "positions": settings.positions,
        "electrons": settings.electrons,
        "methods": methods,
    }


def full_image(region: SimulatedRegion, seed: int) -> reconstruction.Reconstruction:
    """The reconstruction from all positions of the conventional scan, in focus at the papers' exposure.

    One epoch of its many batches is best: more of them amplify the noise (MoS2: SSIM 0.989, 0.985 and 0.978 against
    the truth after one, two and three).
    """
    data = region.measure(region.settings.full_positions_A(), None, np.random.default_rng(seed))
    return reconstruction.final(data, settings=dataclasses.replace(reconstruction.DENSE, epochs=1))


def run_py4dstem(python: pathlib.Path, data: ScanData, iterations: int, pixel_A: float) -> tuple[Image, float]:
    """Reconstruct with py4DSTEM in its own environment.

    Returns:
        The phase of the region (height, width) and the seconds that py4DSTEM took, without its preparation.

    Raises:
        InvalidInputError: the interpreter has no py4DSTEM, or it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        scan, result = pathlib.Path(folder, "scan.h5"), pathlib.Path(folder, "result.npz")
        scan_file.write_scan(scan, data)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        try:
            subprocess.run(
                [str(python), str(READER), str(scan), str(result), "--iterations", str(iterations)],
                check=True,
                capture_output=True,
                text=True,
                timeout=_PY4DSTEM_TIMEOUT_S,
                env={**os.environ, **threads},
            )
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["no message"])[-1]
            raise InvalidInputError(f"py4DSTEM failed in {python}: {last}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InvalidInputError(f"py4DSTEM could not be run with {python}: {error}") from error
        with np.load(result) as found:
            phase, seconds = py4dstem_phase(found, data, pixel_A), float(found["seconds"])
    return phase, seconds


def py4dstem_phase(found: typing.Any, data: ScanData, pixel_A: float) -> Image:
    """The region of an object of py4DSTEM, from the arrays that ``py4dstem_reader.py`` writes."""
    object_phase, step = found["phase"], float(found["pixel_A"][0])
    # py4DSTEM places the positions in its padded object; the offset is the same for all.
    origin = (found["positions_px"] * step - data.positions_A).mean(0)
    grid = ObjectGrid(data.calibration.detector_px, object_phase.shape, step, (float(origin[0]), float(origin[1])))
    return region_image(object_phase, grid, data.calibration.fov_A, pixel_A)
