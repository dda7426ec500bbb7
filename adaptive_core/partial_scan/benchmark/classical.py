"""Completions without learning that only the benchmark needs: too slow for a live display, or for full rasters."""

from __future__ import annotations

import collections.abc

import numpy as np
from scipy import ndimage
from scipy.interpolate import RBFInterpolator

from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan.generator import Estimate, Generator
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.ports import ImageArray

BIHARMONIC = "biharmonic"
WIENER = "wiener-filter"
_LARGEST_SPLINE = 12_000
_NOISE_FROM = 0.4  # cycles a pixel; truths are blurred, so that there is nothing but noise beyond


def _estimate(scan: PartialImage, channel: int, image: ImageArray) -> Estimate:
    """From the models' scale to detector units."""
    mean, deviation = scan.scale(channel)
    completed = np.asarray(image * deviation + mean, dtype=np.float32)
    return Estimate(completed, None, np.stack([image, np.zeros_like(image)])[np.newaxis], scan.probes)


class Biharmonic:
    """Thin-plate spline through the measured pixels: the solution of the biharmonic equation in the plane.

    It is global, or through the nearest 60 pixels each where there are more than 12 000 measured ones.
    """

    name = BIHARMONIC
    predicts_error = False

    def complete(self, scan: PartialImage, channel: int = 0) -> Estimate:
        return self.complete_all([scan], channel)[0]

    def complete_all(self, scans: collections.abc.Sequence[PartialImage], channel: int = 0) -> list[Estimate]:
        """Complete scans that measured the same pixels, which takes little longer than to complete one."""
        mask = scans[0].measured
        values = np.stack([scan.model_input(1, channel)[0, 0][mask] for scan in scans], axis=1)
        neighbours = 60 if np.count_nonzero(mask) > _LARGEST_SPLINE else None
        spline = RBFInterpolator(np.argwhere(mask), values.astype(np.float64), neighbors=neighbours)
        images = spline(np.argwhere(np.ones_like(mask))).astype(np.float32).T
        return [_estimate(scan, channel, image.reshape(mask.shape)) for scan, image in zip(scans, images, strict=True)]


class Wiener:
    """Wiener filter of a full raster; the spectra of image and noise are taken from the noisy image itself.

    The image's power is that of the noisy one, averaged over rings of equal spatial frequency, less the noise's, which
    is white. The image is continued by its reflection.
    """

    name = WIENER
    predicts_error = False

    def complete(self, scan: PartialImage, channel: int = 0) -> Estimate:
        if not scan.measured.all():
            raise InvalidInputError(f"The {WIENER} needs a full raster, not a coverage of {scan.coverage:.1%}.")
        noisy = scan.model_input(1, channel)[0, 0].astype(np.float64)
        height, width = noisy.shape
        reflected = np.pad(noisy, ((0, height), (0, width)), mode="symmetric")
        mean = reflected.mean()
        spectrum = np.fft.fft2(reflected - mean)
        frequency = np.hypot(np.fft.fftfreq(2 * height)[:, None], np.fft.fftfreq(2 * width))
        ring = (frequency * 2 * min(height, width)).astype(np.intp)
        power = np.square(np.abs(spectrum))
        noise = power[frequency > _NOISE_FROM].mean()
        total = np.bincount(ring.ravel(), power.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
        total = ndimage.gaussian_filter1d(total, 1.5)
        gain = np.clip(total - noise, 0, None) / np.maximum(total, 1e-30)
        filtered = np.fft.ifft2(spectrum * gain[ring]).real[:height, :width] + mean
        return _estimate(scan, channel, filtered.astype(np.float32))


def complete_all(generator: Generator, scans: collections.abc.Sequence[PartialImage]) -> list[Estimate]:
    """Complete scans, at once where the generator can and they measured the same pixels."""
    if isinstance(generator, Biharmonic) and all(np.array_equal(scans[0].measured, scan.measured) for scan in scans):
        return generator.complete_all(scans)
    return [generator.complete(scan) for scan in scans]
