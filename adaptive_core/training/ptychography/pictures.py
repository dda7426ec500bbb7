"""Examples of a policy on regions never trained on: where it scanned, and its image beside that of the sparse grid."""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adaptive_core.model_library import ModelLibrary
from adaptive_core.ptychography import metrics, protocols
from adaptive_core.ptychography.benchmark_reconstruction import BENCHMARK_SEED
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.policy import OnnxPolicy

REGIONS = 3


def draw_examples(policy: pathlib.Path, specimen: str, protocol: str, target: pathlib.Path) -> None:
    """Write a PNG: for three regions the truth with the positions, and both images, at the protocol's first dose."""
    settings, dose = experiment(specimen), protocols.DOSES[protocol][0]
    learned = OnnxPolicy.load(ModelLibrary(), str(policy))
    figure = Figure(figsize=(9.6, 3.3 * REGIONS + 0.5), layout="constrained")
    figure.suptitle(f"{learned.name}: {specimen}, {dose:g} of the papers' dose, {protocol} protocol", fontsize=11)
    for row, axes in enumerate(figure.subplots(REGIONS, 3)):
        seed = BENCHMARK_SEED + row
        region = SimulatedRegion(settings, seed)
        truth = region.truth()
        limits = (float(np.quantile(truth, 0.001)), float(np.quantile(truth, 0.999)))

        def show(axis: Axes, image: metrics.Image, title: str, limits: tuple[float, float] = limits) -> None:
            side = settings.fov_A / 10
            axis.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], extent=(0, side, side, 0))
            axis.set_title(title, fontsize=10)
            axis.set(xticks=[0, side], yticks=[0, side])
            axis.tick_params(labelsize=8)

        show(axes[0], truth, "truth, positions by sub-sequence (nm)")
        places = protocols.scan(region, learned, dose, row).positions_A / 10
        number = np.repeat(np.arange(settings.subsequences), settings.positions // settings.subsequences)
        axes[0].scatter(places[:, 1], places[:, 0], c=number, s=5, cmap="autumn", linewidths=0)
        for axis, name in ((axes[1], learned.name), (axes[2], protocols.BASELINE)):
            own = learned if name == learned.name else None
            image = protocols.image(region, name, protocol, dose, own, row).phase(settings.pixel_A)
            title = "this policy" if own else "sparse grid"
            show(axis, image, f"{title}: SSIM {metrics.phase_ssim(image, truth):.3f}")
    figure.savefig(target, dpi=90)
