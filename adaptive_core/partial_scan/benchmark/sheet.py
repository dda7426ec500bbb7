"""Sheets of examples of the benchmark, to be looked at: every line of the table on one crop, and paths on many."""

from __future__ import annotations

import collections.abc
import pathlib
import re

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from adaptive_core.partial_scan.benchmark.bench import Bench, Settings, Task
from adaptive_core.partial_scan.benchmark.rivals import Rival, is_static
from adaptive_core.partial_scan.benchmark.scan import Scanned
from adaptive_core.partial_scan.generator import Estimate
from adaptive_core.partial_scan.truths import FloatImage

SHEETS = 4
PATHS = 6
_COLUMNS = ("truth", "path", "completion", "predicted error (SD)", "error")
_PANEL_INCHES = 1.75
_DPI = 110
_Example = tuple[Scanned, Estimate, FloatImage]


def draw(bench: Bench, settings: Settings, table: collections.abc.Sequence[Rival], out: pathlib.Path) -> None:
    """Draw ``sheet_GROUP.png`` for crops of some specimen groups, and ``paths.png`` of the policies that adapt.

    The files are replaced if they exist. Raises OSError if one cannot be written.
    """
    groups = [crop.group for crop in bench.crops]
    firsts = [groups.index(name) for name in dict.fromkeys(groups)]
    chosen = {i: firsts[i] for i in np.linspace(0, len(firsts) - 1, min(PATHS, len(firsts))).round().astype(int)}
    crops = tuple(chosen.values())
    examples = {rival: bench.scans(Task(rival, crops, settings.probes_per_scan, settings.electrons)) for rival in table}
    for column in sorted({int(i) for i in np.linspace(0, len(crops) - 1, SHEETS).round()}):
        crop = crops[column]
        name = re.sub(r"[^\w.-]+", "_", groups[crop])
        rows = {rival: drawn[column] for rival, drawn in examples.items()}
        _draw_sheet(out / f"sheet_{name}.png", rows, f"{groups[crop]}: {_described(settings)}")
    adaptive = {rival: drawn for rival, drawn in examples.items() if not is_static(rival.policy)}
    if adaptive:
        _draw_paths(out / "paths.png", adaptive, [groups[crop] for crop in crops])


def _described(settings: Settings) -> str:
    electrons = settings.electrons_per_pixel
    noise = "noise-free" if electrons is None else f"{electrons:g} electrons a pixel of the full raster"
    size = f"{settings.size_px} x {settings.size_px} px, {settings.probes_per_scan} probes"
    return f"{size} ({settings.probes_per_scan / settings.pixels:.1%}), {noise}"


def _draw_sheet(path: pathlib.Path, rows: collections.abc.Mapping[Rival, _Example], title: str) -> None:
    """One row for each line of the table: truth, path, completion, predicted error and error."""
    errors = [np.abs(estimate.image - truth) for _, estimate, truth in rows.values()]
    largest = max(float(np.percentile(np.concatenate([error.ravel() for error in errors]), 98)), 0.05)
    figure = Figure(
        figsize=(_PANEL_INCHES * len(_COLUMNS) + 1.5, _PANEL_INCHES * len(rows) + 1.1), dpi=_DPI, layout="constrained"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(len(rows), len(_COLUMNS), squeeze=False)
    for name, axis in zip(_COLUMNS, axes[0], strict=True):
        axis.set_title(name, fontsize=10)
    for row, (rival, (scanned, estimate, truth)) in zip(axes, rows.items(), strict=True):
        for axis in row:
            axis.set(xticks=[], yticks=[])
        error = estimate.image - truth
        row[0].set_ylabel(
            f"{_short(rival.policy)}\n{_short(rival.generator)}\nMSE {np.square(error).mean():.4f}",
            rotation="horizontal", ha="right", va="center", fontsize=8,
        )  # fmt: skip
        grey = row[0].imshow(truth, cmap="gray", vmin=-1, vmax=1)
        _draw_path(row[1], scanned, None)
        row[2].imshow(estimate.image, cmap="gray", vmin=-1, vmax=1)
        if estimate.error is None:
            row[3].text(0.5, 0.5, "not predicted", ha="center", va="center", fontsize=8, color="0.45")
            row[3].set_facecolor("0.95")
            row[3].set_box_aspect(truth.shape[0] / truth.shape[1])
        else:
            row[3].imshow(estimate.error, cmap="magma", vmin=0, vmax=largest)
        signed = row[4].imshow(error, cmap="RdBu_r", vmin=-largest, vmax=largest)
    # One scale serves all of the sheet; the largest errors set it.
    scales = {0: grey, 3: ScalarMappable(Normalize(0, largest), "magma"), 4: signed}
    for column, scale in scales.items():
        bar = figure.colorbar(scale, cax=axes[-1, column].inset_axes((0, -0.14, 1, 0.06)), orientation="horizontal")
        bar.ax.tick_params(labelsize=7)
    figure.savefig(path, format="png")


def _draw_paths(
    path: pathlib.Path,
    examples: collections.abc.Mapping[Rival, collections.abc.Sequence[_Example]],
    groups: collections.abc.Sequence[str],
) -> None:
    """One row for each policy that adapts, one column for each specimen: where it went, first cyan and last magenta."""
    figure = Figure(
        figsize=(_PANEL_INCHES * 1.15 * len(groups) + 1.5, _PANEL_INCHES * 1.15 * len(examples) + 0.7),
        dpi=_DPI,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    figure.suptitle("Paths on different specimens, early positions cyan and late ones magenta", fontsize=11)
    axes = figure.subplots(len(examples), len(groups), squeeze=False)
    for group, axis in zip(groups, axes[0], strict=True):
        axis.set_title(group, fontsize=9)
    for row, (rival, drawn) in zip(axes, examples.items(), strict=True):
        row[0].set_ylabel(
            f"{_short(rival.policy)}\n{_short(rival.generator)}",
            rotation="horizontal",
            ha="right",
            va="center",
            fontsize=9,
        )
        for axis, (scanned, _, truth) in zip(row, drawn, strict=True):
            axis.set(xticks=[], yticks=[])
            _draw_path(axis, scanned, truth)
    figure.savefig(path, format="png")


def _draw_path(axis: Axes, scanned: Scanned, truth: FloatImage | None) -> None:
    """Probe positions by their order, on the truth if it is given, else on black."""
    height, width = scanned.scan.size_px
    extent = (0.0, float(width), float(height), 0.0)
    if truth is None:
        axis.set_facecolor("black")
    else:
        axis.imshow(truth, cmap="gray", vmin=-1.2, vmax=3.0, extent=extent)
    positions = scanned.positions
    # As large as a pixel, but never too small to be seen.
    dot_points = max(_PANEL_INCHES * 72 / max(height, width), 0.9)
    axis.scatter(
        positions[:, 1], positions[:, 0], c=np.arange(len(positions)), s=dot_points**2, cmap="cool", linewidths=0
    )
    axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")


def _short(name: str) -> str:
    """A name that fits beside a row."""
    plain = re.sub(r"^partial_scan_(policy_)?", "", pathlib.Path(name).stem).replace("_", " ").replace("-", " ")
    return plain[0].upper() + plain[1:]
