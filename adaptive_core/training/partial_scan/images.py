"""Truths to learn from and to be judged by: crops of real images, as the paper prepares them.

A crop is cut at a random scale, blurred and mapped linearly to [-1, 1] (Ede 2021, section 2.1). Only the training loss
and the scores know a truth; what a model sees is made by :mod:`adaptive_core.training.partial_scan.scans`.
"""

from __future__ import annotations

import csv
import dataclasses
import pathlib

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import correlate1d

from adaptive_core.errors import InvalidInputError

FloatImage = npt.NDArray[np.float32]

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
SCALE_RANGE = (1.0, 3.0)
_FLAT_FRACTION = 0.03  # a crop with less than this part of its image's standard deviation shows nothing


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images by specimen group.

    Attributes:
        groups: for each group its images, float32 (height, width), in the file's own units.
        skipped: names of the files that were left out, with the reason.
        sources: where the images come from, if their manifest says so.
    """

    groups: dict[str, tuple[FloatImage, ...]]
    skipped: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(map(len, self.groups.values()))


def read_image(path: pathlib.Path) -> FloatImage:
    """A grey image as float32 (height, width). Raises InvalidInputError if it is not a finite grey image."""
    try:
        raw = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.asarray(Image.open(path))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path.name} is not a readable image: {error}.") from error
    if raw.ndim == 3 and raw.shape[2] in (3, 4):
        raw = raw[..., :3].mean(axis=2)
    if raw.ndim != 2:
        raise InvalidInputError(f"{path.name} must be one grey image, not an array of shape {raw.shape}.")
    image = raw.astype(np.float32)
    if not np.isfinite(image).all():
        raise InvalidInputError(f"{path.name} holds values that are not finite.")
    return image


def load_images(folder: pathlib.Path, split: str, smallest_px: int = 96) -> ImageSet:
    """Read the images of a folder.

    With a MANIFEST.csv (columns ``split, file, group`` and perhaps ``source``) in the folder or its parent the rows of
    ``split`` are read and a group is a specimen. Without one every image below the folder is a group of its own, and
    each fifth belongs to the split "validation", the others to "train". Images with a side below ``smallest_px`` are
    skipped.

    Raises:
        InvalidInputError: no folder, no image left, or an image that cannot be used.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"The images must be in a folder; {folder} is none.")
    manifests = [base / "MANIFEST.csv" for base in (folder, folder.parent) if (base / "MANIFEST.csv").exists()]
    sources: tuple[str, ...] = ()
    if manifests:
        with manifests[0].open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row["split"] == split]
        files = [(manifests[0].parent / row["split"] / row["file"], row["group"]) for row in rows]
        sources = tuple(sorted({row["source"] for row in rows if row.get("source")}))
    else:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        chosen = [path for i, path in enumerate(found) if (i % 5 == 4) == (split == "validation")]
        files = [(path, path.stem) for path in chosen]
    groups: dict[str, list[FloatImage]] = {}
    skipped: list[str] = []
    for path, group in files:
        image = read_image(path)
        if min(image.shape) < smallest_px:
            skipped.append(f"{path.name}: {image.shape[0]} x {image.shape[1]} px is below {smallest_px} px")
        else:
            groups.setdefault(group, []).append(image)
    if not groups:
        raise InvalidInputError(f"{folder} holds no image for {split} of at least {smallest_px} px a side.")
    return ImageSet({name: tuple(groups[name]) for name in sorted(groups)}, tuple(skipped), sources)


def described(images: ImageSet | None) -> str:
    """What was trained on, for a model card."""
    procedural = "Procedural crystals, particles and films"
    if images is None:
        return procedural
    return f"{procedural}, and {images.count} experimental STEM images of {len(images.groups)} specimens"


def blur(image: FloatImage) -> FloatImage:
    """The paper's 5x5 Gaussian blur, sigma 2.5 px, reflected edges (Ede 2021, section 2.1)."""
    kernel = np.exp(-0.5 * (np.arange(-2, 3) / 2.5) ** 2)
    kernel /= kernel.sum()
    rows = correlate1d(image, kernel, axis=0, mode="reflect")
    blurred: FloatImage = correlate1d(rows, kernel, axis=1, mode="reflect")
    return blurred


def to_unit_range(image: FloatImage) -> FloatImage:
    """The image mapped linearly to [-1, 1]; a constant image becomes -1."""
    low, high = float(image.min()), float(image.max())
    return (2.0 * (image - low) / max(high - low, 1e-12) - 1.0).astype(np.float32)


def random_crop(images: ImageSet, size_px: int, rng: np.random.Generator) -> tuple[FloatImage, str]:
    """A square crop of ``size_px`` at a random scale between 1 and 3, with the name of its group.

    Groups are equally likely, and so are the images of a group. Crops that show next to nothing are drawn again.
    """
    usable = {name: [i for i in group if min(i.shape) >= size_px] for name, group in images.groups.items()}
    names = [name for name, group in usable.items() if group]
    if not names:
        raise InvalidInputError(f"No image is at least {size_px} px a side.")
    while True:
        name = names[rng.integers(len(names))]
        image = usable[name][rng.integers(len(usable[name]))]
        largest = min(SCALE_RANGE[1], min(image.shape) / size_px)
        side = int(size_px * rng.uniform(SCALE_RANGE[0], largest))
        top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape)
        crop = image[top : top + side, left : left + side]
        if crop.std() <= _FLAT_FRACTION * image.std():
            continue
        if side != size_px:
            crop = np.asarray(Image.fromarray(crop).resize((size_px, size_px), Image.Resampling.BOX))
        return crop, name


def validation_crops(images: ImageSet, size_px: int, count: int, seed: int) -> tuple[FloatImage, list[str]]:
    """Truths in [-1, 1], blurred as in the paper, shape (count, size_px, size_px), with the group of each."""
    rng = np.random.default_rng(seed)
    pairs = [random_crop(images, size_px, rng) for _ in range(count)]
    return np.stack([to_unit_range(blur(crop)) for crop, _ in pairs]), [name for _, name in pairs]
