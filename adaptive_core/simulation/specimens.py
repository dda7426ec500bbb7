"""Specimens: for each detector the fraction of the beam that it collects, at any position of the specimen.

A specimen is an image with a pixel size for each detector. It is a continuous function of the position in nm: bilinear
between pixels, mirrored at the edges, so that it has no end. When it is scanned with pixels that are coarser than its
own, the probe is taken to be as wide as they are (a Gaussian), as an operator widens it at low magnification; else fine
structure would turn into noise. The width depends on the *context* of a scan only, so that the same position gives the
same value in a whole scan, a subscan and along a path.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import threading

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.projected_potential import ProjectedPotential

FloatArray = npt.NDArray[np.float64]
ImageArray = npt.NDArray[np.float32]

CHANNELS = ("HAADF", "MAADF", "BF")
"""Names of the detectors: high-angle and medium-angle annular dark field, bright field."""

DEFAULT_PIXEL_SIZE_NM = 0.05
"""Pixel size of an image file that does not say it: 1024 px show 51 nm, a usual survey."""

PROBE_PER_PIXEL = 0.5
"""Standard deviation of the widened probe in pixels of the scan; stripes at their Nyquist limit keep 29 % contrast."""


def blurred(image: ImageArray, sigma_px: float) -> ImageArray:
    """Gaussian blur of any width of an image that is mirrored at its edges (exact, by cosine transform)."""
    spectrum = scipy.fft.dctn(image, type=2, norm="ortho")
    for axis, n in enumerate(image.shape):
        frequency = np.arange(n) / (2 * n)  # cycles a pixel
        transfer = np.exp(-2 * (np.pi * sigma_px * frequency) ** 2).astype(np.float32)
        spectrum *= transfer[:, None] if axis == 0 else transfer
    result: ImageArray = scipy.fft.idctn(spectrum, type=2, norm="ortho", overwrite_x=True).astype(
        np.float32, copy=False
    )
    return result


@dataclasses.dataclass(frozen=True, eq=False)
class Specimen:
    """A specimen whose centre lies at (0, 0) nm.

    Attributes:
        name: of a built-in specimen, or of a file.
        fractions: shape (3, height, width), float32: fraction of the beam that each of CHANNELS collects, 0 to 1.
        pixel_size_nm: pixel size of ``fractions``.
        view_nm: field of view that shows it well.
        calibrated: whether the pixel size is known; False if it is assumed.
        potential: from which diffraction patterns follow; None for a specimen of which only images are known.
    """

    name: str
    fractions: ImageArray
    pixel_size_nm: float
    view_nm: float
    calibrated: bool = True
    potential: ProjectedPotential | None = None
    _blurred: collections.OrderedDict[tuple[int, float], ImageArray] = dataclasses.field(
        init=False, repr=False, default_factory=collections.OrderedDict
    )
    _lock: threading.Lock = dataclasses.field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.fractions.ndim != 3 or len(self.fractions) != len(CHANNELS):
            raise InvalidInputError(f"A specimen needs {len(CHANNELS)} images, not the shape {self.fractions.shape}.")
        for name, value in (("pixel size", self.pixel_size_nm), ("view", self.view_nm)):
            if not (math.isfinite(value) and value > 0):
                raise InvalidInputError(f"A specimen's {name} must be positive, not {value} nm.")
        self.fractions.setflags(write=False)

    @property
    def size_nm(self) -> tuple[float, float]:
        """Height and width of the image in nm; beyond, it is mirrored."""
        return self.fractions.shape[1] * self.pixel_size_nm, self.fractions.shape[2] * self.pixel_size_nm

    @functools.cached_property
    def means(self) -> tuple[float, ...]:
        """Mean fraction of each channel."""
        return tuple(float(image.mean()) for image in self.fractions)

    def sample(self, channel: int, positions_nm: FloatArray, width_nm: float = 0.0) -> FloatArray:
        """Fractions of the beam (n,), float64, that a channel collects at the positions (n, 2) nm of the specimen.

        Args:
            width_nm: standard deviation by which the probe is wider than the one that the image was made with.
        """
        image = self._image(channel, width_nm / self.pixel_size_nm)
        shape = np.array(image.shape, dtype=np.float64)
        coordinates = positions_nm / self.pixel_size_nm + (shape / 2 - 0.5)
        return np.asarray(scipy.ndimage.map_coordinates(image, coordinates.T, np.float64, order=1, mode="reflect"))

    def prepare(self, channel: int, width_nm: float) -> None:
        """Have ready what ``sample`` needs for this width; blurring a large image takes a good part of a second."""
        self._image(channel, width_nm / self.pixel_size_nm)

    def width_nm(self, pixel_nm: float, defocus_width_nm: float = 0.0) -> float:
        """How much wider than the image's own the probe of a scan with pixels of ``pixel_nm`` is (see ``sample``)."""
        own = PROBE_PER_PIXEL * self.pixel_size_nm
        return math.sqrt(max((PROBE_PER_PIXEL * pixel_nm) ** 2 - own**2, 0.0) + defocus_width_nm**2)

    def _image(self, channel: int, sigma_px: float) -> ImageArray:
        if sigma_px < 0.05:  # changes the finest stripes by a hundredth of their contrast
            image: ImageArray = self.fractions[channel]
            return image
        key = (channel, round(sigma_px, 6))
        with self._lock:
            if key not in self._blurred:
                self._blurred[key] = np.maximum(blurred(self.fractions[channel], sigma_px), 0.0)  # rounding
                while len(self._blurred) > 2 * len(CHANNELS):
                    self._blurred.popitem(last=False)
            return self._blurred[key]


def from_image(image: npt.ArrayLike, pixel_size_nm: float | None = None, name: str = "image") -> Specimen:
    """A specimen from any dark-field image (height, width); its range becomes a plausible range of collected fractions.

    The medium-angle signal saturates sooner, and the bright field is what is not scattered. The default pixel size is
    DEFAULT_PIXEL_SIZE_NM. Raises InvalidInputError for anything that is not a finite image with contrast.
    """
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] in (3, 4):  # colours
        array = array[..., :3].astype(np.float64).mean(axis=2)
    if array.ndim != 2 or min(array.shape) < 8:
        raise InvalidInputError(f"{name}: a specimen needs an image of at least 8 x 8 px, not the shape {array.shape}.")
    if array.dtype.kind not in "buif":
        raise InvalidInputError(f"{name}: a specimen needs real numbers, not {array.dtype}.")
    array = array.astype(np.float64)
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidInputError(f"{name}: a specimen's image must be finite.")
    if not high > low:
        raise InvalidInputError(f"{name}: a specimen's image needs contrast, but every pixel is {low:g}.")
    calibrated = pixel_size_nm is not None
    pixel_size_nm = DEFAULT_PIXEL_SIZE_NM if pixel_size_nm is None else pixel_size_nm
    scattering = ((array - low) / (high - low)).astype(np.float32)
    fractions = np.stack([0.01 + 0.14 * scattering, 0.04 + 0.26 * scattering**0.75, 0.85 - 0.55 * scattering**0.85])
    view_nm = min(array.shape) * pixel_size_nm
    return Specimen(name, fractions.astype(np.float32), pixel_size_nm, view_nm, calibrated)
