"""Endless, augmented training truths from real and procedural images."""

from __future__ import annotations

import collections.abc
import dataclasses

import numpy as np
import torch

from adaptive_core.errors import InvalidInputError
from adaptive_core.scan_path import FloatArray
from adaptive_core.simulation import builtin_specimens
from adaptive_core.training.partial_scan.images import (
    FloatImage,
    ImageSet,
    blur,
    random_crop,
    to_unit_range,
    validation_crops,
)
from adaptive_core.training.partial_scan.paths import MIXTURES, Mixture, random_path
from adaptive_core.training.partial_scan.scans import measure, misplaced, partial_scan, splat
from adaptive_core.training.partial_scan.synthetic import synthetic_image

DOSE_RANGE = (1.0, 3000.0)  # electrons a probe detects where the truth is 1
SIMULATED = 0.15  # fraction of the simulated specimens among the truths


def check_doses(doses: tuple[float, ...]) -> None:
    """Raise InvalidInputError if doses to train with are not the lowest and the highest of a range."""
    if len(doses) != 2 or not 0 < doses[0] <= doses[1]:
        raise InvalidInputError(f"doses must be two positive numbers, the lowest first, not {doses}.")


def specimen_images(seeds: int) -> ImageSet | None:
    """Dark-field images of the built-in specimens, made with ``seeds`` seeds each; None if that is 0.

    They are at half their resolution: crops then show what a scan of a few nanometres would.
    """
    groups: dict[str, tuple[FloatImage, ...]] = {}
    for name in builtin_specimens.BUILTIN_NAMES if seeds else ():
        fine = [builtin_specimens.builtin_specimen(name, 1000 + seed).fractions[0] for seed in range(seeds)]
        groups[name] = tuple((i[::2, ::2] + i[1::2, ::2] + i[::2, 1::2] + i[1::2, 1::2]) / 4 for i in fine)
    return ImageSet(groups) if groups else None


def augment(image: FloatImage, rng: np.random.Generator, inversion: float = 0.3, sharp: float = 0.15) -> FloatImage:
    """A truth in [-1, 1]: flipped and turned at random, inverted and left unblurred with the given probabilities."""
    turned = np.rot90(image, int(rng.integers(4)))
    if rng.random() < 0.5:
        turned = turned[:, ::-1]
    if rng.random() < inversion:
        turned = -turned
    truth = to_unit_range(np.ascontiguousarray(turned))
    return truth if rng.random() < sharp else to_unit_range(blur(truth))


class TruthSource:
    """Truths of one size, drawn from a pool that is renewed all the time.

    Cutting a crop or drawing a crystal costs more than turning one, so each is used several times, turned anew.

    Args:
        images: real images; None for procedural ones only.
        size_px: side of the square truths.
        rng: source of all randomness.
        pool: number of images in the pool.
        synthetic: fraction of procedural images beside real ones.
        specimens: images of simulated specimens, a SIMULATED fraction of the pool; None for none.
    """

    def __init__(
        self,
        images: ImageSet | None,
        size_px: int,
        rng: np.random.Generator,
        pool: int = 512,
        synthetic: float = 0.3,
        specimens: ImageSet | None = None,
    ) -> None:
        self.size_px = size_px
        self._images = images
        self._specimens = specimens
        self._synthetic = synthetic if images is not None else 1.0
        self._rng = rng
        self._pool: list[FloatImage] = []
        self._capacity = pool

    def _fresh(self) -> FloatImage:
        if self._specimens is not None and self._rng.random() < SIMULATED:
            return random_crop(self._specimens, self.size_px, self._rng)[0]
        if self._images is None or self._rng.random() < self._synthetic:
            return synthetic_image(self.size_px, self._rng)
        return random_crop(self._images, self.size_px, self._rng)[0]

    def draw(self, count: int) -> FloatImage:
        """Truths in [-1, 1], shape (count, size_px, size_px), float32."""
        while len(self._pool) < min(self._capacity, 2 * count):
            self._pool.append(self._fresh())
        for _ in range(max(1, count // 4)):
            if len(self._pool) < self._capacity:
                self._pool.append(self._fresh())
            else:
                self._pool[self._rng.integers(self._capacity)] = self._fresh()
        chosen = self._rng.integers(0, len(self._pool), count)
        return np.stack([augment(self._pool[i], self._rng) for i in chosen])


def held_out_truths(images: ImageSet | None, count: int, seed: int = 1, size_px: int = 96) -> FloatImage:
    """Truths (count, size_px, size_px) that training never sees: crops of held-out images, or procedural ones."""
    if images is not None:
        return validation_crops(images, size_px, count, seed)[0]
    return TruthSource(None, size_px, np.random.default_rng([123456, seed])).draw(count)


Walker = collections.abc.Callable[[FloatImage, float | None, np.random.Generator], tuple[FloatArray, FloatArray]]
"""Scans a truth at a dose (None for no noise); positions, shape (n, 2) px, and the values there, shape (n,)."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How truths are scanned for training.

    Attributes:
        paths: where to.
        doses: electrons that a probe detects where the truth is 1, from lowest to highest, even in the logarithm.
        noise_free: fraction of scans without shot noise.
        misplaced: fraction of scans whose beam is not where it was asked to be, which a model does not know; not those
            of the walker.
        soft: fraction of scans that are splatted with bilinear weights, so that the generator also serves as the
            differentiable model through which a policy learns.
        walker: makes a part of the scans; None for none.
        walks: the size of that part.
    """

    paths: Mixture = MIXTURES["any"]
    doses: tuple[float, float] = DOSE_RANGE
    noise_free: float = 0.5
    misplaced: float = 0.1
    soft: float = 0.12
    walker: Walker | None = None
    walks: float = 0.25


def partial_batch(
    truths: FloatImage, rng: np.random.Generator, recipe: Recipe
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Partial scans of truths, shape (B, H, W) in [-1, 1].

    Returns:
        The generator's input (B, 2, H, W), and the mean and standard deviation of the measured values, (B, 1, 1, 1).
    """
    size_px = (truths.shape[1], truths.shape[2])
    partials, moments = [], []
    for truth in truths:
        dose = None if rng.random() < recipe.noise_free else float(np.exp(rng.uniform(*np.log(recipe.doses))))
        if recipe.walker is not None and rng.random() < recipe.walks:
            positions, values = recipe.walker(truth, dose, rng)
        else:
            positions = random_path(truth, recipe.paths, rng)
            beam = misplaced(positions, size_px, rng) if rng.random() < recipe.misplaced else positions
            values = measure(truth, beam, dose, rng)
        scan = partial_scan(values, positions, size_px)
        partial = torch.from_numpy(scan.partial)
        if rng.random() < recipe.soft:
            standardised = torch.from_numpy((values - scan.mean) / scan.sd).float()
            inside = torch.from_numpy(np.clip(positions, 0, np.asarray(size_px))).float()
            partial = splat(standardised[None], inside[None], size_px)[0]
        partials.append(partial)
        moments.append((scan.mean, scan.sd))
    mean, sd = torch.tensor(moments, dtype=torch.float32).T[:, :, None, None, None]
    return torch.stack(partials), mean, sd
