"""Truths to be judged by and to learn from: crops of real images, prepared as the paper prepares them.

A crop is cut at a random scale, blurred and mapped linearly to [-1, 1] (Ede 2021, section 2.1). Only scores and losses
know a truth; a model sees what was measured of it and nothing else.
"""

from __future__ import annotations

import collections.abc
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
DARK_FRACTION = 0.1
"""Signal of the darkest pixel over that of the brightest: the dark counts and diffuse scattering of a real detector."""
TRAIN, VALIDATION = "train", "validation"
_FLAT_FRACTION = 0.03  # a crop with less than this part of its image's standard deviation shows nothing
_DRAWS = 200  # after so many crops that show nothing, or that were drawn before, an image has no more to give


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


@dataclasses.dataclass(frozen=True, eq=False)
class Crop:
    """A truth.

    Attributes:
        truth: shape (size, size), float32, from -1 to 1.
        group: the specimen group that it comes from.
        scale: image pixels a pixel of the truth.
    """

    truth: FloatImage
    group: str
    scale: float


def read_image(path: pathlib.Path) -> FloatImage:
    """A grey image as float32 (height, width). Raises InvalidInputError if it is not a finite grey image."""
    try:
        raw = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else np.asarray(Image.open(path))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path.name} is not a readable image: {error}.") from error
    if raw.ndim == 3 and raw.shape[2] in (3, 4):
        raw = raw[..., :3].mean(axis=2)
    if raw.ndim != 2 or raw.dtype.kind not in "buif":
        raise InvalidInputError(
            f"{path.name} must be one grey image, not an array of {raw.dtype} of shape {raw.shape}."
        )
    image = raw.astype(np.float32)
    if not np.isfinite(image).all():
        raise InvalidInputError(f"{path.name} holds values that are not finite.")
    return image


def load_images(folder: pathlib.Path, split: str | None, smallest_px: int = 96) -> ImageSet:
    """Read the images of a folder.

    A MANIFEST.csv in the folder or its parent (columns ``file, group`` and perhaps ``split, source``; a file lies
    beside the manifest or in a folder named after its split) says which specimen group an image belongs to. An image
    that no manifest lists is a group of its own.

    Args:
        folder: where the images lie, at any depth.
        split: "train" or "validation"; without a manifest each fifth image is of the latter. None takes every image of
            the folder, but those of the split "train" only if there are no others.
        smallest_px: images with a side below it are skipped, and so are images without any contrast.

    Raises:
        InvalidInputError: no folder, no image left, an image that cannot be used, or a specimen group that is both
            trained on and held out.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"The images must be in a folder; {folder} is none.")
    listed = _manifest(folder)
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if split is None:
        files = [(path, listed.get(path.resolve(), _Row(path.stem))) for path in found]
        if any(row.split != TRAIN for _, row in files):
            files = [(path, row) for path, row in files if row.split != TRAIN]
    elif listed:
        files = [(path, row) for path, row in listed.items() if row.split == split]
    else:
        chosen = [path for i, path in enumerate(found) if (i % 5 == 4) == (split == VALIDATION)]
        files = [(path, _Row(path.stem)) for path in chosen]
    groups: dict[str, list[FloatImage]] = {}
    skipped: list[str] = []
    for path, row in files:
        image = read_image(path)
        if min(image.shape) < smallest_px:
            skipped.append(f"{path.name}: {image.shape[0]} x {image.shape[1]} px is below {smallest_px} px")
        elif image.min() == image.max():
            skipped.append(f"{path.name}: every pixel has the same value")
        else:
            groups.setdefault(row.group, []).append(image)
    if not groups:
        purpose = "" if split is None else f" for {split}"
        left_out = f" ({'; '.join(skipped[:3])})" if skipped else ""
        raise InvalidInputError(f"{folder} holds no image{purpose} of at least {smallest_px} px a side{left_out}.")
    sources = tuple(sorted({row.source for _, row in files if row.source}))
    return ImageSet({name: tuple(groups[name]) for name in sorted(groups)}, tuple(skipped), sources)


@dataclasses.dataclass(frozen=True)
class _Row:
    """What a manifest says of a file."""

    group: str
    split: str = ""
    source: str = ""


def _manifest(folder: pathlib.Path) -> dict[pathlib.Path, _Row]:
    """The rows of the folder's manifest, or its parent's, by the path of the file; none without a manifest."""
    manifests = [base / "MANIFEST.csv" for base in (folder, folder.parent) if (base / "MANIFEST.csv").exists()]
    if not manifests:
        return {}
    with manifests[0].open(newline="", encoding="utf-8") as stream:
        table = csv.DictReader(stream)
        lines = list(table)
    if missing := {"file", "group"} - set(table.fieldnames or ()):
        raise InvalidInputError(f"{manifests[0]} needs the columns file and group; {', '.join(sorted(missing))} lacks.")
    rows: dict[pathlib.Path, _Row] = {}
    splits: dict[str, set[str]] = {}
    for line in lines:
        row = _Row(line["group"], line.get("split") or "", line.get("source") or "")
        inside = manifests[0].parent / row.split / line["file"]
        path = inside if inside.exists() else manifests[0].parent / line["file"]
        rows[path.resolve()] = row
        splits.setdefault(row.group, set()).add(row.split)
    for group, held in splits.items():
        if TRAIN in held and len(held) > 1:
            raise InvalidInputError(
                f"{manifests[0]} has the specimen group {group} in the splits {', '.join(sorted(held))}; "
                "a specimen that is trained on must not be held out."
            )
    return rows


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


def shot_noise(values: npt.NDArray[np.floating], electrons: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Values of a truth in [-1, 1] as a detector counts them, scaled back to the truth's units.

    Args:
        values: any shape.
        electrons: expected number that a probe detects where the truth is 1; DARK_FRACTION of it where it is -1.
        rng: source of the Poisson noise.
    """
    span = (1 - DARK_FRACTION) / 2
    counts = rng.poisson(electrons * (DARK_FRACTION + span * (np.asarray(values, dtype=np.float64) + 1)))
    return np.asarray((counts / electrons - DARK_FRACTION) / span - 1, dtype=np.float64)


def random_crop(images: ImageSet, size_px: int, rng: np.random.Generator) -> tuple[FloatImage, str]:
    """A square crop of ``size_px`` at a random scale between 1 and 3, with the name of its group.

    Groups are equally likely, and so are the images of a group. Crops that show next to nothing are drawn again.
    """
    usable = _usable(images, size_px)
    names = list(usable)
    name = names[rng.integers(len(names))]
    return _resized(*_cut(name, usable[name], size_px, rng)[:2], size_px), name


def seeded_crops(images: ImageSet, size_px: int, count: int, seed: int) -> list[Crop]:
    """Up to ``count`` different truths, the same for the same seed; the groups take turns.

    There are fewer where the images do not give more: an image of exactly ``size_px`` gives one crop.
    """
    usable = _usable(images, size_px)
    rng = np.random.default_rng(seed)
    crops: list[Crop] = []
    drawn: set[tuple[object, ...]] = set()
    while usable and len(crops) < count:
        for name in list(usable)[: count - len(crops)]:
            for _ in range(_DRAWS):
                image, side, *key = _cut(name, usable[name], size_px, rng)
                if (name, side, *key) not in drawn:
                    break
            else:
                del usable[name]
                continue
            drawn.add((name, side, *key))
            truth = to_unit_range(blur(_resized(image, side, size_px)))
            crops.append(Crop(truth, name, side / size_px))
    return crops


def validation_crops(images: ImageSet, size_px: int, count: int, seed: int) -> tuple[FloatImage, list[str]]:
    """The truths of :func:`seeded_crops`, shape (crops, size_px, size_px), with the group of each."""
    crops = seeded_crops(images, size_px, count, seed)
    return np.stack([crop.truth for crop in crops]), [crop.group for crop in crops]


def _usable(images: ImageSet, size_px: int) -> dict[str, list[FloatImage]]:
    usable = {name: [i for i in group if min(i.shape) >= size_px] for name, group in images.groups.items()}
    usable = {name: group for name, group in usable.items() if group}
    if not usable:
        raise InvalidInputError(f"No image is at least {size_px} px a side.")
    return usable


def _cut(
    name: str, images: collections.abc.Sequence[FloatImage], size_px: int, rng: np.random.Generator
) -> tuple[FloatImage, int, int, int, int]:
    """A square of one of a group's images that shows something; its side, the image's number, top and left (px)."""
    for _ in range(_DRAWS):
        number = int(rng.integers(len(images)))
        image = images[number]
        side = int(size_px * rng.uniform(SCALE_RANGE[0], min(SCALE_RANGE[1], min(image.shape) / size_px)))
        top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape)
        square = image[top : top + side, left : left + side]
        if square.std() > _FLAT_FRACTION * image.std():
            return square, side, number, top, left
    raise InvalidInputError(f"None of {_DRAWS} crops of {size_px} px of {name} shows anything; leave its images out.")


def _resized(square: FloatImage, side: int, size_px: int) -> FloatImage:
    if side == size_px:
        return square
    return np.asarray(Image.fromarray(square).resize((size_px, size_px), Image.Resampling.BOX))
