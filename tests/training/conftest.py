"""Small real-looking images on disk and a tiny trained generator, shared by the tests of the training code."""

import csv
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_config import TINY

from adaptive_core.training.partial_scan import generator
from adaptive_core.training.partial_scan.synthetic import synthetic_image


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """A folder with a MANIFEST.csv: three training images of two specimens, two validation images, one too small."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    rows = [
        ("train", "a1.png", "a", 130),
        ("train", "a2.png", "a", 120),
        ("train", "b.png", "b", 150),
        ("train", "tiny.png", "c", 60),
        ("validation", "v1.png", "v", 140),
        ("validation", "v2.png", "w", 128),
    ]
    for split, name, _, side in rows:
        image = synthetic_image(side, rng)
        scaled = np.uint16((image - image.min()) / np.ptp(image) * 60000)
        (folder / split).mkdir(exist_ok=True)
        Image.fromarray(scaled).save(folder / split / name)
    with (folder / "MANIFEST.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["split", "file", "group", "source"])
        writer.writerows([split, name, group, f"example.org/{group}"] for split, name, group, _ in rows)
    return folder


@pytest.fixture(scope="session")
def tiny_generator(tmp_path_factory) -> pathlib.Path:
    """An exported generator after two iterations."""
    config = generator.GeneratorConfig(iterations=2, validation_crops=0, **TINY)
    return generator.train(config, tmp_path_factory.mktemp("generator") / "run")
