"""Truths: read with a split, weighted by specimen, blurred and scaled as in the paper."""

import collections

import numpy as np
import pytest
from scipy.ndimage import convolve

from adaptive_core.errors import InvalidInputError
from adaptive_core.training.partial_scan.data import TruthSource, augment
from adaptive_core.training.partial_scan.images import (
    blur,
    load_images,
    random_crop,
    to_unit_range,
    validation_crops,
)
from adaptive_core.training.partial_scan.synthetic import synthetic_image


def test_manifest_gives_splits_groups_and_skipped_files(image_folder):
    images = load_images(image_folder, "train")
    assert {name: len(group) for name, group in images.groups.items()} == {"a": 2, "b": 1}
    assert len(images.skipped) == 1
    assert "tiny.png" in images.skipped[0]
    assert "60 x 60" in images.skipped[0]
    assert images.sources == ("example.org/a", "example.org/b", "example.org/c")
    assert set(load_images(image_folder / "train", "validation").groups) == {"v", "w"}


def test_plain_folder_keeps_training_and_validation_apart(tmp_path):
    for i in range(10):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random((100, 100)))
    train, validation = (set(load_images(tmp_path, split).groups) for split in ("train", "validation"))
    assert len(train) == 8
    assert len(validation) == 2
    assert not train & validation


def test_unusable_folders_are_refused_in_one_line(tmp_path):
    with pytest.raises(InvalidInputError, match="must be in a folder"):
        load_images(tmp_path / "missing", "train")
    with pytest.raises(InvalidInputError, match="holds no image"):
        load_images(tmp_path, "train")
    np.save(tmp_path / "nan.npy", np.full((100, 100), np.nan))
    with pytest.raises(InvalidInputError, match=r"nan\.npy holds values that are not finite"):
        load_images(tmp_path, "train")
    (tmp_path / "nan.npy").write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match=r"nan\.npy is not a readable image"):
        load_images(tmp_path, "train")


def test_blur_is_the_papers_kernel():
    image = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    y, x = np.mgrid[-2:3, -2:3]
    kernel = np.exp(-(y**2 + x**2) / (2 * 2.5**2))
    np.testing.assert_allclose(blur(image), convolve(image, kernel / kernel.sum(), mode="reflect"), rtol=1e-5)


def test_groups_are_equally_likely(image_folder):
    images, rng = load_images(image_folder, "train"), np.random.default_rng(0)
    counts = collections.Counter(random_crop(images, 96, rng)[1] for _ in range(400))
    assert 150 < counts["a"] < 250


def test_validation_crops_are_reproducible_truths(image_folder):
    images = load_images(image_folder, "validation")
    truths, groups = validation_crops(images, 96, 6, seed=4)
    again, _ = validation_crops(images, 96, 6, seed=4)
    assert truths.shape == (6, 96, 96)
    assert truths.dtype == np.float32
    assert set(groups) <= {"v", "w"}
    np.testing.assert_array_equal(truths, again)
    np.testing.assert_allclose([truths.min(axis=(1, 2)), truths.max(axis=(1, 2))], [[-1] * 6, [1] * 6], atol=1e-6)
    with pytest.raises(InvalidInputError, match="at least 512 px"):
        validation_crops(images, 512, 1, seed=4)


def test_augmentation_only_turns_inverts_and_blurs():
    image, rng = synthetic_image(32, np.random.default_rng(1)), np.random.default_rng(2)
    plain = to_unit_range(image)
    turns = [np.rot90(flipped, k) for flipped in (plain, plain[:, ::-1]) for k in range(4)]
    for _ in range(20):
        same = augment(image, rng, inversion=0.0, sharp=1.0)
        assert min(np.abs(same - turn).max() for turn in turns) < 1e-5
        inverted = augment(image, rng, inversion=1.0, sharp=1.0)
        assert min(np.abs(inverted + turn).max() for turn in turns) < 1e-5


def test_truth_source_is_endless_and_seeded(image_folder):
    images = load_images(image_folder, "train")
    first, second = (TruthSource(images, 96, np.random.default_rng(5), pool=8).draw(6) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.min() == -1
    assert first.max() == 1
    source = TruthSource(None, 48, np.random.default_rng(6), pool=4)
    draws = np.concatenate([source.draw(4) for _ in range(5)])
    assert np.isfinite(draws).all()
    assert len(np.unique(draws.reshape(len(draws), -1), axis=0)) > 10
