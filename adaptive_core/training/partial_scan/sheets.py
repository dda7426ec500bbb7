"""Sheets of examples: truth, path, completion, error and predicted error, to be looked at."""

from __future__ import annotations

import collections.abc
import pathlib

import matplotlib.figure
import numpy as np
import torch
from torch import nn

from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.scan_path import FloatArray, Positions
from adaptive_core.training.partial_scan.images import FloatImage
from adaptive_core.training.partial_scan.paper_generator import PaperGenerator
from adaptive_core.training.partial_scan.scans import measure


def draw_examples(
    target: pathlib.Path,
    generator: nn.Module,
    truths: FloatImage,
    walks: collections.abc.Sequence[FloatArray],
    dose: float | None = None,
) -> None:
    """Draw a row for each truth (H, W) in [-1, 1] with its probe positions (n, 2) px into the PNG file ``target``.

    With a dose (electrons a probe where the truth is 1) the scans are noisy, and what was measured is shown. The error
    is beside the predicted one where the generator predicts it.
    """
    rng = np.random.default_rng(0)
    columns = ["truth", "path" if dose is None else f"{dose:g} electrons a pixel", "completion", "error"]
    if not isinstance(generator, PaperGenerator):
        columns.append("predicted error")
    figure = matplotlib.figure.Figure(figsize=(1.9 * len(columns), 1.9 * len(truths)), layout="constrained")
    axes = figure.subplots(len(truths), len(columns), squeeze=False)
    for name, axis in zip(columns, axes[0], strict=True):
        axis.set_title(name, fontsize=9)
    for row, truth, walk in zip(axes, truths, walks, strict=True):
        scan = PartialImage((truth.shape[0], truth.shape[1]))
        scan.add(Positions(walk), np.asarray(measure(truth, walk, dose, rng), dtype=np.float32)[None])
        mean, sd = scan.scale()
        with torch.no_grad():
            image, *log_variance = (out[0, 0].numpy() for out in generator(torch.from_numpy(scan.model_input())))
        completion = image * sd + mean
        row[0].imshow(truth, cmap="gray", vmin=-1, vmax=1)
        if dose is None:
            row[1].imshow(truth, cmap="gray", vmin=-1, vmax=1, alpha=0.35)
            row[1].plot(walk[:, 1] - 0.5, walk[:, 0] - 0.5, ".", markersize=1.5, color="tab:red")
        else:
            row[1].imshow(scan.image(), cmap="gray", vmin=-1, vmax=1)
        row[2].imshow(completion, cmap="gray", vmin=-1, vmax=1)
        row[2].set_xlabel(f"MSE {np.square(completion - truth).mean():.4f}", fontsize=8)
        maps = [np.abs(completion - truth), *(np.exp(0.5 * each) * sd for each in log_variance)]
        for axis, error in zip(row[3:], maps, strict=True):
            axis.imshow(error, cmap="magma", vmin=0, vmax=1)
        for axis in row:
            axis.set(xticks=[], yticks=[])
    figure.savefig(target, dpi=90)
