"""Images to train on. How they are read, cut and scaled is the same for training and for the benchmark's scores."""

from __future__ import annotations

from adaptive_core.partial_scan.truths import (
    FloatImage,
    ImageSet,
    blur,
    load_images,
    random_crop,
    read_image,
    to_unit_range,
    validation_crops,
)

__all__ = [
    "FloatImage",
    "ImageSet",
    "blur",
    "described",
    "load_images",
    "random_crop",
    "read_image",
    "to_unit_range",
    "validation_crops",
]


def described(images: ImageSet | None) -> str:
    """What was trained on, for a model card."""
    procedural = "Procedural crystals, particles and films"
    if images is None:
        return procedural
    return f"{procedural}, and {images.count} experimental STEM images of {len(images.groups)} specimens"
