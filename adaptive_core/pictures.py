"""Pictures of a partial scan, drawn without a screen."""

from __future__ import annotations

import collections.abc
import math
import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adaptive_core.ports import ImageArray
from adaptive_core.scan_path import FloatArray

_PANEL_INCHES = 3.3
_DPI = 120


def save_summary(
    path: pathlib.Path,
    *,
    size_px: tuple[int, int],
    actions: collections.abc.Sequence[FloatArray],
    completion: ImageArray | None = None,
    predicted_error: ImageArray | None = None,
    truth: ImageArray | None = None,
    pixel_size_nm: float | None = None,
    caption: str = "",
) -> None:
    """Write a summary picture of a partial scan as a PNG file: truth, path, completion, error and predicted error.

    Args:
        path: the file, replaced if it exists.
        size_px: region (height, width) in px.
        actions: probe positions of each action in px, each of shape (n, 2), ``(y, x)``.
        completion: completed image (height, width); nothing has been measured without it.
        predicted_error: predicted standard deviation of the completion (height, width), in its unit.
        truth: the image without noise (height, width), where it is known.
        pixel_size_nm: nm a pixel, for the scale bar.
        caption: lines below the panels.

    Raises:
        OSError: if the file cannot be written.
    """
    intensity = _limits(truth if truth is not None else completion)
    error = None if truth is None or completion is None else completion - truth
    spread = error if error is not None else predicted_error
    largest = 1.0 if spread is None else max(float(np.percentile(np.abs(spread), 99)), 1e-30)
    panels = [("truth", truth), ("path", None), ("completion", completion), ("error", error)]
    panels = [panel for panel in panels if panel[0] == "path" or panel[1] is not None]
    if predicted_error is not None:
        panels.append(("predicted error", predicted_error))
    aspect = size_px[0] / size_px[1]
    height = _PANEL_INCHES * min(max(aspect, 0.3), 2.0)
    figure = Figure(
        figsize=(_PANEL_INCHES * len(panels), height + (1.5 if caption else 1.1)), dpi=_DPI, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, image) in zip(axes, panels, strict=True):
        axis.set_title(name, fontsize=12)
        axis.set_xticks([])
        axis.set_yticks([])
        if image is None:
            mappable, label = _draw_path(axis, size_px, actions), "action"
        elif name == "error":
            mappable, label = _show(axis, image, "RdBu_r", (-largest, largest)), "counts"
        elif name == "predicted error":
            mappable, label = _show(axis, image, "magma", (0.0, largest)), "counts (standard deviation)"
        else:
            mappable, label = _show(axis, image, "gray", intensity), "counts"
        bar = figure.colorbar(mappable, ax=axis, location="bottom", fraction=0.05, pad=0.02)
        if label == "action":
            bar.locator = MaxNLocator(6, integer=True)
            bar.update_ticks()
        bar.ax.tick_params(labelsize=8)
        bar.set_label(label, fontsize=8)
    if pixel_size_nm is not None:
        draw_scale_bar(axes[0], size_px, pixel_size_nm)
    if caption:
        figure.supxlabel(caption, fontsize=10)
    figure.savefig(path, format="png")


def _limits(image: ImageArray | None) -> tuple[float, float]:
    """Grey levels that show an image: its range without the outermost thousandths."""
    if image is None:
        return 0.0, 1.0
    low, high = np.percentile(image, [0.1, 99.9]).tolist()
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _show(axis: Axes, image: ImageArray, colours: str, limits: tuple[float, float]) -> ScalarMappable:
    # The picture's coordinates are those of paths: pixel (i, j) covers [i, i + 1) x [j, j + 1).
    extent = (0.0, float(image.shape[1]), float(image.shape[0]), 0.0)
    shown: ScalarMappable = axis.imshow(
        image, cmap=colours, vmin=limits[0], vmax=limits[1], extent=extent, interpolation="nearest"
    )
    return shown


def _draw_path(axis: Axes, size_px: tuple[int, int], actions: collections.abc.Sequence[FloatArray]) -> ScalarMappable:
    """Probe positions, coloured by the number of their action."""
    axis.set_facecolor("black")
    axis.set_xlim(0, size_px[1])
    axis.set_ylim(size_px[0], 0)
    axis.set_aspect("equal")
    positions = np.concatenate([np.zeros((0, 2)), *actions])
    number = np.repeat(np.arange(1, len(actions) + 1), [len(action) for action in actions])
    # A dot is as large as a pixel, but never too small to be seen.
    dot_points = max(0.8 * _PANEL_INCHES * 72 / max(size_px), 1.0)
    drawn: ScalarMappable = axis.scatter(
        positions[:, 1],
        positions[:, 0],
        c=number,
        s=dot_points**2,
        cmap="cool",
        norm=Normalize(1, max(len(actions), 2)),
        linewidths=0,
    )
    return drawn


def draw_scale_bar(axis: Axes, size_px: tuple[int, int], pixel_size_nm: float) -> None:
    """A bar of a round length, about a quarter of the width."""
    wished_nm = size_px[1] * pixel_size_nm / 4
    decade = 10.0 ** math.floor(math.log10(wished_nm))
    length_nm = max(step * decade for step in (1, 2, 5) if step * decade <= wished_nm * 1.0001)
    left, bottom = 0.05 * size_px[1], 0.94 * size_px[0]
    right = left + length_nm / pixel_size_nm
    for colour, width in (("black", 5), ("white", 2.5)):
        axis.plot([left, right], [bottom, bottom], color=colour, linewidth=width, solid_capstyle="butt")
    text = f"{length_nm:g} nm" if length_nm < 1000 else f"{length_nm / 1000:g} \N{MICRO SIGN}m"
    box = {"facecolor": "black", "alpha": 0.5, "pad": 1.5, "edgecolor": "none"}
    axis.text(left, bottom - 0.025 * size_px[0], text, color="white", fontsize=9, va="bottom", bbox=box)
