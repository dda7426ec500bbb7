"""Who earned what: the reward of Schloz et al., divided among the probe positions by Voronoi cells, or not divided."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import spatial

RealArray = npt.NDArray[np.float32]


def voronoi_cells(positions: npt.NDArray[np.floating], pixels: int) -> npt.NDArray[np.intp]:
    """Index of the nearest position (p, 2), in [-1, 1], for each pixel of a square image, (pixels, pixels).

    A k-d tree answers faster than jump flooding (the papers' way on a GPU) at these sizes, and exactly.
    """
    line = (np.arange(pixels) + 0.5) / pixels * 2 - 1
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    _, nearest = spatial.cKDTree(positions).query(grid)
    return np.asarray(nearest, dtype=np.intp).reshape(pixels, pixels)


def jump_flooding(positions: npt.NDArray[np.floating], pixels: int) -> npt.NDArray[np.intp]:
    """The same by jump flooding (Rong & Tan 2006): approximate where cells are thinner than a pixel; for comparison."""
    seeds = (positions + 1) / 2 * pixels
    index = np.clip(np.floor(seeds), 0, pixels - 1).astype(np.intp)
    owner = np.full((pixels, pixels), -1, np.intp)
    owner[index[:, 0], index[:, 1]] = np.arange(len(seeds))
    centre = np.moveaxis(np.indices((pixels, pixels)), 0, -1) + 0.5

    def distance(owners: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        squared = ((centre - seeds[owners]) ** 2).sum(-1)
        return np.where(owners < 0, np.inf, squared)

    best = distance(owner)
    step = 1 << (pixels - 1).bit_length() >> 1
    steps = []
    while step:
        steps.append(step)
        step >>= 1
    for step in [*steps, 1]:
        for dy in (-step, 0, step):
            for dx in (-step, 0, step):
                rows, columns = np.arange(pixels) + dy, np.arange(pixels) + dx
                moved = owner[np.clip(rows, 0, pixels - 1)[:, None], np.clip(columns, 0, pixels - 1)]
                squared = distance(moved)
                closer = squared < best
                owner[closer], best[closer] = moved[closer], squared[closer]
    return owner


def voronoi_rewards(positions: npt.NDArray[np.floating], phase: RealArray) -> RealArray:
    """Reward of each position (p,): the sum of the phase (h, h) in its Voronoi cell, over the number of positions."""
    cells = voronoi_cells(positions, len(phase))
    total = np.bincount(cells.ravel(), phase.ravel(), len(positions))
    return np.asarray(total / len(positions), dtype=np.float32)


def shared_rewards(positions: npt.NDArray[np.floating], phase: RealArray) -> RealArray:
    """The undivided reward, the same for all (p,): the sum of the phase over the number of positions (Fig. 6a)."""
    return np.full(len(positions), phase.sum() / len(positions), np.float32)


CREDITS = {"voronoi": voronoi_rewards, "shared": shared_rewards}
