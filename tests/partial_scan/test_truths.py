"""Images of any folder, and the truths that are cut out of them."""

from __future__ import annotations

import collections
import pathlib

import numpy as np
import pytest
from partial_scan_images import smooth_image, write_images, write_manifest

from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan.truths import blur, load_images, seeded_crops, shot_noise, to_unit_range


def test_each_image_of_a_plain_folder_is_a_group_of_its_own(tmp_path: pathlib.Path) -> None:
    write_images(tmp_path / "deep" / "er", {"a": 100, "b": (120, 300), "tiny": 40})
    np.save(tmp_path / "flat.npy", np.full((100, 100), 3.0))
    images = load_images(tmp_path, None, 96)
    assert set(images.groups) == {"a", "b"}
    assert len(images.skipped) == 2
    assert "tiny.npy: 40 x 40 px is below 96 px" in images.skipped
    assert "flat.npy: every pixel has the same value" in images.skipped


@pytest.mark.parametrize("beside", [True, False], ids=["beside the manifest", "in folders of the splits"])
def test_a_manifest_gives_the_groups(tmp_path: pathlib.Path, beside: bool) -> None:
    splits = {"a": "train", "b": "held-out", "c": "held-out"}
    for name, split in splits.items():
        write_images(tmp_path if beside else tmp_path / split, {name: 100})
    write_manifest(tmp_path, [{"split": s, "file": f"{n}.npy", "group": f"specimen {s}"} for n, s in splits.items()])
    write_images(tmp_path, {"unlisted": 100})
    images = load_images(tmp_path, None)
    # What was trained on is left out as long as there is anything else.
    assert {name: len(group) for name, group in images.groups.items()} == {"specimen held-out": 2, "unlisted": 1}
    if not beside:
        assert set(load_images(tmp_path / "train", None).groups) == {"specimen train"}


def test_a_specimen_that_is_trained_on_must_not_be_held_out(tmp_path: pathlib.Path) -> None:
    for split in ("train", "validation"):
        write_images(tmp_path / split, {split: 100})
    write_manifest(tmp_path, [{"split": s, "file": f"{s}.npy", "group": "Pt"} for s in ("train", "validation")])
    with pytest.raises(InvalidInputError, match="the specimen group Pt in the splits train, validation"):
        load_images(tmp_path, "train")


def test_a_manifest_needs_its_columns(tmp_path: pathlib.Path) -> None:
    write_images(tmp_path, {"a": 100})
    write_manifest(tmp_path, [{"name": "a.npy"}])
    with pytest.raises(InvalidInputError, match="needs the columns file and group; file, group lacks"):
        load_images(tmp_path, None)


def test_groups_take_turns_whatever_their_number_of_images(tmp_path: pathlib.Path) -> None:
    write_images(tmp_path, {f"a{i}": 200 for i in range(5)} | {"b": 200})
    rows = [{"file": f"a{i}.npy", "group": "a"} for i in range(5)] + [{"file": "b.npy", "group": "b"}]
    write_manifest(tmp_path, rows)
    crops = seeded_crops(load_images(tmp_path, None), 96, 41, seed=7)
    assert collections.Counter(crop.group for crop in crops) == {"a": 21, "b": 20}
    again = seeded_crops(load_images(tmp_path, None), 96, 41, seed=7)
    other = seeded_crops(load_images(tmp_path, None), 96, 41, seed=8)
    assert all(np.array_equal(a.truth, b.truth) for a, b in zip(crops, again, strict=True))
    assert not all(np.array_equal(a.truth, b.truth) for a, b in zip(crops, other, strict=True))
    assert all(1 <= crop.scale <= 200 / 96 for crop in crops)
    assert max(crop.scale for crop in crops) > 1.8
    for crop in crops:
        assert crop.truth.shape == (96, 96)
        assert (crop.truth.min(), crop.truth.max()) == pytest.approx((-1, 1), abs=1e-6)


def test_no_crop_is_given_twice(tmp_path: pathlib.Path) -> None:
    write_images(tmp_path, {"exact": 96, "larger": 130})
    crops = seeded_crops(load_images(tmp_path, None), 96, 12, seed=0)
    assert collections.Counter(crop.group for crop in crops) == {"exact": 1, "larger": 11}
    np.testing.assert_allclose(
        next(crop.truth for crop in crops if crop.group == "exact"), to_unit_range(blur(smooth_image(96, 0)))
    )


def test_a_crop_knows_nothing_of_what_lies_outside_of_it(tmp_path: pathlib.Path) -> None:
    image = smooth_image((96, 300), 0)
    np.save(tmp_path / "image.npy", image)
    truth = seeded_crops(load_images(tmp_path, None), 96, 1, seed=3)[0].truth
    left = next(i for i in range(205) if np.array_equal(truth, to_unit_range(blur(image[:, i : i + 96]))))
    assert 0 < left < 204
    image[:, :left] *= -3
    image[:, left + 96 :] += 500
    np.save(tmp_path / "image.npy", image)
    np.testing.assert_array_equal(seeded_crops(load_images(tmp_path, None), 96, 1, seed=3)[0].truth, truth)


def test_an_image_that_shows_nothing_is_named(tmp_path: pathlib.Path) -> None:
    image = np.zeros((400, 400), dtype=np.float32)
    image[0, 0] = 1.0
    np.save(tmp_path / "hot-pixel.npy", image)
    with pytest.raises(InvalidInputError, match="of hot-pixel shows anything"):
        seeded_crops(load_images(tmp_path, None, 32), 32, 3, seed=0)


@pytest.mark.parametrize("electrons", [2.0, 200.0])
def test_shot_noise_is_poisson_noise_of_the_stated_counts(electrons: float) -> None:
    rng = np.random.default_rng(0)
    for value, counts in ((1.0, electrons), (-1.0, 0.1 * electrons)):
        noisy = shot_noise(np.full(200_000, value), electrons, rng)
        sd = np.sqrt(counts) / electrons / 0.45
        assert noisy.mean() == pytest.approx(value, abs=5 * sd / np.sqrt(200_000))
        assert noisy.std() == pytest.approx(sd, rel=0.02)
