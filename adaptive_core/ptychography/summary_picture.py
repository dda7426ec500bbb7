"""The picture of a ptychographic scan, drawn without a screen."""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from adaptive_core.pictures import draw_scale_bar
from adaptive_core.ptychography import metrics
from adaptive_core.ptychography.reconstruction import Reconstruction
from adaptive_core.ptychography.scan_data import ScanData

RealArray = npt.NDArray[np.float32]
Region = tuple[float, float]

_PANEL_INCHES = 2.6
_DPI = 130
_MOST_COLUMNS = 6
_PHASE, _AMPLITUDE, _PATTERN, _PARTS = "inferno", "gray", "magma", "cool"


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """A live image.

    Attributes:
        patterns: number of patterns that it was made of.
        phase: shape (height, width), rad.
    """

    patterns: int
    phase: RealArray


def save_summary(
    path: pathlib.Path,
    *,
    data: ScanData,
    looks: collections.abc.Sequence[Look],
    final: Reconstruction,
    pixel_A: float,
    truth: RealArray | None = None,
    caption: str = "",
) -> None:
    """Write a PNG file: positions and live images above; final phase, amplitude, truth, correlation, pattern below.

    Args:
        path: the file, replaced if it exists.
        data: all patterns.
        looks: the live images, one a sub-sequence; five of them at most are shown.
        final: the image that is kept.
        pixel_A: sampling of the images.
        truth: true phase (height, width), where it is known, on the same pixels.
        caption: lines below the panels.

    Raises:
        OSError: if the file cannot be written.
    """
    fov, phase = data.calibration.fov_A, _centred(final.phase(pixel_A))
    truth = None if truth is None else _centred(truth)
    limits = _limits(phase if truth is None else truth)
    live = _spread(looks)
    columns = max(1 + len(live), 3 if truth is None else _MOST_COLUMNS)
    panel = _PANEL_INCHES * min(max(fov[0] / fov[1], 0.4), 2.0)
    size = (_PANEL_INCHES * columns, 2 * (panel + 0.95) + 0.25 * (1 + caption.count("\n") if caption else 0))
    figure = Figure(figsize=size, dpi=_DPI, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.1))
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, columns)
    _add_bar(above[0], _positions(above[0], data, looks), "positions", "sub-sequence", whole=True)
    for axis, look in zip(above[1:], live, strict=False):
        shown = _centred(look.phase)
        image = _show(axis, shown, fov, _PHASE, limits)
        _add_bar(axis, image, f"live, {look.patterns} positions{_score(shown, truth)}", "phase (rad)")
    image = _show(below[0], phase, fov, _PHASE, limits)
    draw_scale_bar(below[0], (round(fov[0]), round(fov[1])), 0.1)
    _add_bar(below[0], image, f"final phase{_score(phase, truth)}", "phase (rad)")
    amplitude = final.amplitude(pixel_A)
    most = max(0.02, float(np.percentile(np.abs(amplitude - 1), 99.5)))
    image = _show(below[1], amplitude, fov, _AMPLITUDE, (1 - most, 1 + most))
    _add_bar(below[1], image, "final amplitude", "of the incident wave")
    _add_bar(below[2], _pattern(below[2], data), "mean pattern", "electrons a pixel")
    if truth is not None:
        _add_bar(below[3], _show(below[3], truth, fov, _PHASE, limits), "true phase", "phase (rad)")
        error = phase - truth
        most = max(float(np.percentile(np.abs(error), 99.5)), 1e-9)
        _add_bar(below[4], _show(below[4], error, fov, "RdBu_r", (-most, most)), "error of the phase", "rad")
        _correlation(below[5], {f"{look.patterns} live": look.phase for look in _ends(looks)}, phase, truth, pixel_A)
    for axis in (*above, *below):
        if not axis.has_data():
            axis.set_axis_off()
    if caption:
        figure.supxlabel(caption, fontsize=10)
    figure.savefig(path, format="png")


def _centred(phase: RealArray) -> RealArray:
    """A phase without its mean, which nothing can tell."""
    return np.asarray(phase - phase.mean(), dtype=np.float32)


def _spread(looks: collections.abc.Sequence[Look]) -> list[Look]:
    """As many as there is room for, the first and the last among them."""
    count = min(len(looks), _MOST_COLUMNS - 1)
    return [looks[i] for i in np.linspace(0, len(looks) - 1, count).round().astype(int)] if looks else []


def _ends(looks: collections.abc.Sequence[Look]) -> list[Look]:
    return list(looks) if len(looks) < 2 else [looks[0], looks[-1]]


def _score(phase: RealArray, truth: RealArray | None) -> str:
    return "" if truth is None else f", SSIM {metrics.phase_ssim(phase, truth):.2f}"


def _limits(image: RealArray) -> tuple[float, float]:
    """Values that show an image: its range without the outermost ones."""
    low, high = np.percentile(image, [0.5, 99.7]).tolist()
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _show(axis: Axes, image: RealArray, fov: Region, colours: str, limits: tuple[float, float]) -> ScalarMappable:
    """An image of the region; the axes are in A."""
    shown: ScalarMappable = axis.imshow(
        image, cmap=colours, vmin=limits[0], vmax=limits[1], extent=(0.0, fov[1], fov[0], 0.0), interpolation="bicubic"
    )
    return shown


def _positions(axis: Axes, data: ScanData, looks: collections.abc.Sequence[Look]) -> ScalarMappable:
    """Probe positions, coloured by their sub-sequence."""
    height, width = data.calibration.fov_A
    axis.set_facecolor("black")
    axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    ends = np.array([look.patterns for look in looks] or [data.count])
    part = np.searchsorted(ends, np.arange(data.count), side="right") + 1
    dot_points = float(np.clip(0.35 * _PANEL_INCHES * 72 / np.sqrt(data.count), 1.0, 5.0))
    drawn: ScalarMappable = axis.scatter(
        data.positions_A[:, 1],
        data.positions_A[:, 0],
        c=part,
        s=dot_points**2,
        cmap=_PARTS,
        norm=Normalize(1, max(len(ends), 2)),
        linewidths=0,
    )
    return drawn


def _pattern(axis: Axes, data: ScanData) -> ScalarMappable:
    """The mean pattern with the aperture that the calibration claims."""
    calibration = data.calibration
    mean = np.asarray(data.patterns.mean(0), dtype=np.float32)
    brightest = max(float(mean.max()), 1e-9)
    shown: ScalarMappable = axis.imshow(
        np.maximum(mean, 1e-4 * brightest), cmap=_PATTERN, norm=LogNorm(1e-4 * brightest, brightest)
    )
    middle = [calibration.detector_px // 2 + beam for beam in calibration.beam_px]
    radius = calibration.optics.convergence_mrad / calibration.mrad_per_px
    axis.add_patch(Circle((middle[1], middle[0]), radius, fill=False, color="cyan", linewidth=1.0, linestyle="--"))
    text = f"{calibration.optics.convergence_mrad:g} mrad"
    axis.text(middle[1], middle[0] + radius + 0.5, text, color="cyan", fontsize=8, ha="center", va="top")
    return shown


def _correlation(
    axis: Axes, looks: collections.abc.Mapping[str, RealArray], final: RealArray, truth: RealArray, pixel_A: float
) -> None:
    """Fourier ring correlation with the truth, of the largest square in the middle."""
    side = min(truth.shape)
    top, left = (truth.shape[0] - side) // 2, (truth.shape[1] - side) // 2
    square = (slice(top, top + side), slice(left, left + side))
    colours = {name: f"C{index}" for index, name in enumerate(looks)} | {"final": "black"}
    for name, image in {**looks, "final": final}.items():
        frequency, correlation = metrics.fourier_ring_correlation(image[square], truth[square], pixel_A)
        limit = frequency[np.flatnonzero(correlation)[-1]]
        axis.plot(frequency, correlation, color=colours[name], linewidth=1.8 if name == "final" else 1.2, label=name)
    axis.axhline(0.5, color="gray", linewidth=0.8, linestyle=":")
    resolution = metrics.resolution_A(final[square], truth[square], pixel_A)
    axis.set(xlim=(0, 1.1 * limit), ylim=(-0.1, 1.03), box_aspect=1)
    axis.set_title(f"ring correlation, {resolution:.2f} \N{ANGSTROM SIGN}", fontsize=10)
    axis.set_xlabel("spatial frequency (1/\N{ANGSTROM SIGN})", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, framealpha=0.7, edgecolor="none", loc="best")


def _add_bar(axis: Axes, mappable: ScalarMappable, title: str, label: str, *, whole: bool = False) -> None:
    """Title and colour bar of a panel."""
    axis.set_title(title, fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])
    bar = axis.figure.colorbar(mappable, ax=axis, location="bottom", fraction=0.05, pad=0.02)
    if not isinstance(mappable.norm, LogNorm):
        bar.locator = MaxNLocator(6 if whole else 5, integer=whole)
        bar.update_ticks()
    bar.ax.tick_params(labelsize=8)
    bar.set_label(label, fontsize=8)
