"""Summary pictures: what they show, and that odd scans can be drawn."""

from __future__ import annotations

import pathlib
import typing

import matplotlib.image
import numpy as np
import pytest

from adaptive_core.pictures import save_summary

SIZE = (24, 32)
RAMP = np.add.outer(np.arange(24.0), np.arange(32.0)).astype(np.float32)
PATH = [np.array([[1.5, 1.5], [1.5, 30.5]]), np.array([[20.5, 3.5]])]
PANEL_PX = 3.3 * 120


def draw(folder: pathlib.Path, **arguments: typing.Any) -> np.ndarray[typing.Any, typing.Any]:
    path = folder / "summary.png"
    save_summary(path, **{"size_px": SIZE, "actions": PATH, **arguments})
    picture = matplotlib.image.imread(path)
    assert isinstance(picture, np.ndarray)
    return picture


@pytest.mark.parametrize(
    ("arguments", "panels"),
    [
        ({}, 1),
        ({"completion": RAMP}, 2),
        ({"completion": RAMP, "predicted_error": RAMP}, 3),
        ({"completion": RAMP, "truth": RAMP + 1}, 4),
        ({"completion": RAMP, "truth": RAMP + 1, "predicted_error": RAMP}, 5),
    ],
)
def test_there_is_a_panel_for_everything_that_is_known(
    tmp_path: pathlib.Path, arguments: dict[str, typing.Any], panels: int
) -> None:
    assert draw(tmp_path, **arguments).shape[1] == pytest.approx(PANEL_PX * panels, abs=2)


def test_path_and_image_have_the_same_coordinates(tmp_path: pathlib.Path) -> None:
    """A path along the top is drawn at the top, where an image has its first row."""
    image = np.zeros(SIZE, np.float32)
    image[1] = 1
    picture = draw(tmp_path, completion=image, actions=[np.stack([np.full(64, 1.5), np.linspace(0, 32, 64)], axis=1)])
    half = picture.shape[1] // 2
    blue, white = picture[:, :half, 2], picture[:, half:].min(axis=2)
    panel = slice(int(0.15 * picture.shape[0]), int(0.7 * picture.shape[0]))
    rows = [int(np.argmax(side[panel].mean(axis=1))) for side in (blue, white)]
    assert abs(rows[0] - rows[1]) < 0.5 * PANEL_PX / SIZE[1]


@pytest.mark.parametrize(
    "arguments",
    [
        {"actions": []},
        {"completion": np.zeros(SIZE, np.float32), "truth": np.zeros(SIZE, np.float32)},
        {"completion": np.ones(SIZE, np.float32), "pixel_size_nm": 1e-4, "caption": "two\nlines"},
        {"size_px": (512, 16), "completion": np.zeros((512, 16), np.float32), "pixel_size_nm": 1e3},
        {"size_px": (1, 1), "actions": [np.array([[0.5, 0.5]])], "pixel_size_nm": 0.1},
    ],
)
def test_odd_scans_are_drawn(tmp_path: pathlib.Path, arguments: dict[str, typing.Any]) -> None:
    assert draw(tmp_path, **arguments).std() > 0


def test_a_folder_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        draw(tmp_path / "nowhere")
