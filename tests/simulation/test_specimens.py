"""Specimens as functions of the position, whatever the scan, and specimens from files."""

from __future__ import annotations

import pathlib

import h5py
import imageio.v3 as iio
import numpy as np
import pytest
import scipy.ndimage
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.builtin_specimens import BUILTIN_NAMES, builtin_specimen, lattice
from adaptive_core.simulation.specimen_files import specimen_from_file
from adaptive_core.simulation.specimens import CHANNELS, DEFAULT_PIXEL_SIZE_NM, Specimen, blurred, from_image

rng = np.random.default_rng(5)
image = scipy.ndimage.gaussian_filter(rng.random((40, 56)), 1.5)
specimen = from_image(image, 0.1)
coordinate = st.floats(-30.0, 30.0)


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_built_in_specimens_are_plausible(name: str) -> None:
    built = builtin_specimen(name)
    assert built.name == name
    assert np.isfinite(built.fractions).all()
    assert built.fractions.min() >= 0
    assert built.fractions.sum(axis=0).max() <= 1  # no more electrons are collected than arrive
    assert built.view_nm < min(built.size_nm)
    centre = built.fractions[:, 512:-512, 512:-512]
    assert np.corrcoef(centre[0].ravel(), centre[2].ravel())[0, 1] < -0.5  # dark field against bright field


def test_a_seed_repeats_a_built_in_specimen_and_another_does_not() -> None:
    first, same, other = (lattice(seed).fractions for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_an_unknown_specimen_is_refused_with_the_names() -> None:
    with pytest.raises(InvalidInputError, match="nanoparticles"):
        builtin_specimen("cheese")


@given(coordinate, coordinate)
def test_a_specimen_is_mirrored_at_its_edges(y: float, x: float) -> None:
    height, width = specimen.size_nm
    points = np.array([[y, x], [height - y, x], [y, -width - x]])  # mirrored at y = height / 2 and x = -width / 2
    values = specimen.sample(0, points, 0.2)
    np.testing.assert_allclose(values, values[0], atol=1e-6)


@given(coordinate, coordinate)
def test_a_specimen_is_continuous(y: float, x: float) -> None:
    values = specimen.sample(0, np.array([[y, x], [y + 1e-6, x - 1e-6]]))
    assert abs(values[1] - values[0]) < 1e-5


def test_pixels_of_the_image_are_its_values() -> None:
    i, j = np.divmod(np.arange(image.size), image.shape[1])
    centres = (np.stack([i, j], axis=1) + 0.5) * 0.1 - np.array(specimen.size_nm) / 2
    np.testing.assert_allclose(specimen.sample(1, centres), specimen.fractions[1].ravel(), rtol=1e-6)


@pytest.mark.parametrize("sigma_px", [1.0, 3.7, 12.0])
def test_blurring_is_a_gaussian_filter_with_mirrored_edges(sigma_px: float) -> None:
    field = specimen.fractions[0]
    expected = scipy.ndimage.gaussian_filter(field.astype(np.float64), sigma_px, mode="reflect", truncate=8)
    np.testing.assert_allclose(blurred(field, sigma_px), expected, atol=1e-5 * field.std())


def test_a_coarse_scan_sees_no_moire() -> None:
    stripes = from_image(np.tile([0.0, 1.0], (64, 64)), 0.1)  # a period of 0.2 nm
    positions = np.stack([np.zeros(25), np.arange(25) * 0.39 - 4.8], axis=1)  # sampled at nearly twice the period
    assert stripes.sample(0, positions).std() > 0.02
    assert stripes.sample(0, positions, stripes.width_nm(0.39)).std() < 1e-4


@given(st.floats(0.01, 5.0))
def test_a_fine_scan_sees_the_image_itself(pixel_nm: float) -> None:
    width = specimen.width_nm(pixel_nm)
    assert width == 0.0 if pixel_nm <= 0.1 else width > 0.0


def test_brighter_pixels_scatter_more_into_the_dark_field_and_leave_less_in_the_bright_field() -> None:
    order = np.argsort(image.ravel())
    dark, medium, bright = (specimen.fractions[k].ravel()[order] for k in range(3))
    assert (np.diff(dark) >= 0).all()
    assert (np.diff(medium) >= -1e-6).all()
    assert (np.diff(bright) <= 1e-6).all()
    assert CHANNELS == ("HAADF", "MAADF", "BF")


def _write(path: pathlib.Path) -> None:
    stretched = np.round((image - image.min()) / np.ptp(image) * 65535).astype(np.uint16)
    match path.suffix:
        case ".npy":
            np.save(path, image)
        case ".h5":
            with h5py.File(path, "w") as file:
                file["small"] = np.zeros((4, 4))
                file["group/image"] = image
                file["group/image"].attrs["pixel_size_nm"] = 0.02
        case ".tif":
            tifffile.imwrite(path, stretched, imagej=True, resolution=(50.0, 50.0), metadata={"unit": "nm"})
        case _:
            iio.imwrite(path, stretched)


@pytest.mark.parametrize(
    ("name", "pixel_nm"),
    [("a.png", DEFAULT_PIXEL_SIZE_NM), ("a.npy", DEFAULT_PIXEL_SIZE_NM), ("a.tif", 0.02), ("a.h5", 0.02)],
)
def test_image_files_become_specimens(tmp_path: pathlib.Path, name: str, pixel_nm: float) -> None:
    path = tmp_path / name
    _write(path)
    read = specimen_from_file(path)
    assert read.pixel_size_nm == pytest.approx(pixel_nm)
    assert read.view_nm == pytest.approx(40 * pixel_nm)
    np.testing.assert_allclose(read.fractions[0], specimen.fractions[0], atol=1e-5)
    assert specimen_from_file(path, 0.3).pixel_size_nm == 0.3


def test_colours_become_grey(tmp_path: pathlib.Path) -> None:
    grey = (image / image.max() * 255).astype(np.uint8)
    iio.imwrite(tmp_path / "grey.png", grey)
    iio.imwrite(tmp_path / "colour.png", np.repeat(grey[..., None], 3, axis=2))
    read = [specimen_from_file(tmp_path / f"{name}.png").fractions for name in ("grey", "colour")]
    np.testing.assert_allclose(read[0], read[1], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (np.zeros((20, 20)), "contrast"),
        (np.full((20, 20), np.nan), "finite"),
        (np.eye(4), "8 x 8"),
        (np.zeros((3, 20, 20)), "shape"),
        (np.eye(20, dtype=complex), "complex"),
    ],
)
def test_unusable_images_are_refused(tmp_path: pathlib.Path, content: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "bad.npy", content)
    with pytest.raises(InvalidInputError, match=reason):
        specimen_from_file(tmp_path / "bad.npy")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".h5", ".xyz"])
def test_files_that_are_no_images_are_refused_in_one_line(tmp_path: pathlib.Path, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(b"this is no image")
    with pytest.raises(InvalidInputError) as raised:
        specimen_from_file(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidInputError, match="no such file"):
        specimen_from_file(tmp_path / "missing.png")


@pytest.mark.parametrize("pixel_size_nm", [0.0, -1.0, np.inf])
def test_a_bad_pixel_size_is_refused(pixel_size_nm: float) -> None:
    with pytest.raises(InvalidInputError, match="pixel size"):
        Specimen("bad", specimen.fractions, pixel_size_nm, 1.0)
