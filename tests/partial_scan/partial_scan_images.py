"""Folders of small images for the tests of truths and of the benchmark."""

from __future__ import annotations

import csv
import pathlib

import numpy as np
import numpy.typing as npt
from scipy import ndimage


def smooth_image(side: int | tuple[int, int], seed: int) -> npt.NDArray[np.float32]:
    """An image of soft structure without any scale of detector units that is round."""
    rng = np.random.default_rng(seed)
    size = (side, side) if isinstance(side, int) else side
    return (37.0 + 900.0 * ndimage.gaussian_filter(rng.normal(size=size), 4.0)).astype(np.float32)


def write_images(folder: pathlib.Path, sides: dict[str, int | tuple[int, int]]) -> pathlib.Path:
    """Write images of the given sides as .npy files."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, side) in enumerate(sides.items()):
        np.save(folder / f"{name}.npy", smooth_image(side, seed))
    return folder


def write_manifest(folder: pathlib.Path, rows: list[dict[str, str]]) -> None:
    """Write a MANIFEST.csv with the columns of its first row."""
    with (folder / "MANIFEST.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
