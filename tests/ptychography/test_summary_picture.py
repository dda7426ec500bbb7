"""The picture of a ptychographic scan."""

import pathlib

import numpy as np
import pytest
from matplotlib import image as image_files

from adaptive_core.ptychography import positions, reconstruction
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.summary_picture import Look, save_summary

MOS2 = experiment("mos2")


@pytest.mark.parametrize(("with_truth", "parts"), [(True, 7), (False, 1), (False, 0)])
def test_it_is_written_whatever_is_known(tmp_path: pathlib.Path, with_truth: bool, parts: int) -> None:
    region = SimulatedRegion(MOS2, 11)
    data = region.measure(positions.sparse_grid(28, (20.0, 20.0)), None, np.random.default_rng(0))
    image = reconstruction.intermediate(data)
    phase = image.phase(0.2)
    looks = [Look(4 * (index + 1), phase) for index in range(parts)]
    path = tmp_path / "summary.png"
    save_summary(
        path,
        data=data,
        looks=looks,
        final=image,
        pixel_A=0.2,
        truth=region.truth(0.2) if with_truth else None,
        caption="two\nlines",
    )
    picture = image_files.imread(path)
    assert picture.shape[1] > (1900 if with_truth else 900)
    # Nothing is cut off at the edges: they are blank.
    for edge in (picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]):
        assert (edge[..., :3] > 0.99).all()
