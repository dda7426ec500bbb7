"""Where the bright-field disk is in a camera frame, and whether there is one.

The default, ``Method.RIM``, correlates a coarse copy of the frame with a template of the rim and then fits a circle to
the steepest descent along rays, robustly, so that contrast inside the disk, diffracted disks, hot pixels, a gain
gradient or an edge of the camera hardly matter. Where a plain rim explains the frame, its least-squares fit is more
precise. At low dose no rim is visible and a correlation with the whole disk is
better; for counting detectors without background the centre of mass is enough. A frame without a beam, a saturated
disk and a disk that is cut off are states and not numbers.

Positions are ``(y, x)`` in frame px; the middle of the pixel (0, 0) is at (0.5, 0.5).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from adaptive_core.alignment.circle_fit import Circle, fit_circle
from adaptive_core.alignment.rim_fit import refine_circle
from adaptive_core.errors import InvalidInputError

ImageArray = npt.NDArray[np.float32]

BEAM_SCORE = 10.0
"""A disk is believed if the correlation's peak is this many standard deviations above its background."""
RIM_ELECTRONS = 1000.0
"""Below this number of counts in the disk its rim is too noisy to be fitted."""
_COARSE_RADIUS_PX = 12.0
_SATURATED_FRACTION = 0.05
_HOT_FRACTION = 0.01
_CONTRAST_ERROR = 0.003
"""Error of the centre by a specimen's contrast, each axis, in disk radii (measured)."""
_CONVINCING = 0.6
"""Circles with at least this part of the largest support are convincing."""
_SURROUNDINGS = 1.35
"""Outer radius of the ring around the disk with which it is compared, in disk radii."""


class DiskState(enum.Enum):
    """What a frame shows."""

    FOUND = "found"
    NO_BEAM = "no beam"
    SATURATED = "saturated"
    CUT_OFF = "cut off"


class Method(enum.Enum):
    """How the disk is found; AUTO is RIM, or DISK where the dose is too low for a rim."""

    AUTO = "auto"
    RIM = "rim"
    DISK = "disk"
    CENTRE_OF_MASS = "centre of mass"


@dataclasses.dataclass(frozen=True)
class DiskMeasurement:
    """The disk in one frame.

    Attributes:
        state: CUT_OFF and SATURATED frames have a centre all the same; NO_BEAM has none.
        centre_px: ``(y, x)`` or None.
        radius_px: of the circle.
        sigma_px: expected standard deviation of the centre, each axis; infinite without a beam.
        score: height of the correlation's peak in standard deviations of its background.
        counts: above the background, in the disk.
        bias_px: the part of ``sigma_px`` that the specimen's contrast makes, alike in every frame.
    """

    state: DiskState
    centre_px: tuple[float, float] | None
    radius_px: float
    sigma_px: float
    score: float
    counts: float
    bias_px: float = 0.0


@dataclasses.dataclass(frozen=True)
class TrackingWindow:
    """Only a disk whose centre is within ``reach_px`` of ``centre_px`` is looked for."""

    centre_px: tuple[float, float]
    reach_px: float


def find_disk(
    frame: ImageArray,
    radius_px: float | None = None,
    *,
    method: Method = Method.AUTO,
    window: TrackingWindow | None = None,
    saturation: float | None = None,
) -> DiskMeasurement:
    """Find the disk.

    Args:
        frame: (height, width), any unit; negative values are fine.
        radius_px: from a calibration; None to estimate it from this frame.
        method: see :class:`Method`.
        window: where to look; None for everywhere.
        saturation: level at which the camera saturates; None to recognise a plateau of equal values, which a gain
            correction after the saturation would hide.

    Raises:
        InvalidInputError: not an image, not finite, or a radius that does not fit the frame.
    """
    image = np.asarray(frame, dtype=np.float32)
    if image.ndim != 2 or min(image.shape) < 16:
        raise InvalidInputError(f"A camera frame must be an image of at least 16 x 16 px, not {np.shape(frame)}.")
    total = float(image.sum(dtype=np.float64))
    if not math.isfinite(total):
        raise InvalidInputError("A camera frame must be finite.")
    if radius_px is None:
        radius_px = estimate_radius(image)
    if not 3 <= radius_px <= max(image.shape):
        raise InvalidInputError(f"The disk's radius must be 3 to {max(image.shape)} px in this frame, not {radius_px}.")

    coarse = _Coarse(image, radius_px)
    disk_map = coarse.correlate("disk")
    score, disk_peak = coarse.peak(disk_map, window)
    if score < BEAM_SCORE:
        return DiskMeasurement(DiskState.NO_BEAM, None, radius_px, math.inf, score, 0.0)
    counts = coarse.counts(disk_peak)
    low_dose = counts < RIM_ELECTRONS
    circle: Circle | None = None
    bias = 0.0
    if method is Method.CENTRE_OF_MASS:
        centre, sigma = _centre_of_mass(image), radius_px / math.sqrt(max(counts, 1.0))
    else:
        # Measured: the noise of the correlation's summit with nothing but Poisson noise.
        centre, sigma = disk_peak, 0.33 * radius_px / math.sqrt(max(counts, 1.0)) + 0.001 * radius_px
        if method is Method.RIM or (method is Method.AUTO and not low_dose):
            circle, bias = _best_circle(image, coarse, radius_px, disk_peak, window)
    if circle is not None:
        centre, sigma = circle.centre_px, math.hypot(circle.sigma_px, bias)
    state = DiskState.FOUND
    if _is_saturated(image, centre, radius_px, saturation):
        state = DiskState.SATURATED
    elif any(c < radius_px - 1 or c > size - radius_px + 1 for c, size in zip(centre, image.shape, strict=True)):
        state = DiskState.CUT_OFF
    found_radius = radius_px if circle is None else circle.radius_px
    return DiskMeasurement(state, centre, found_radius, sigma, score, counts, bias)


def estimate_radius(frame: ImageArray, smallest_px: float = 6.0, largest_px: float | None = None) -> float:
    """Radius of the disk in px: the disk template that stands out most from the noise, refined by a circle fit."""
    image = np.asarray(frame, dtype=np.float32)
    largest = min(image.shape) / 2.5 if largest_px is None else largest_px
    radii = np.geomspace(smallest_px, largest, max(3, int(math.log(largest / smallest_px) / math.log(1.15)) + 1))
    scores = []
    for radius in radii:
        coarse = _Coarse(image, float(radius))
        response = coarse.correlate("disk")
        # A template's response to white noise goes with the root of its sum of squares, here 1 / radius.
        scores.append(float(response.max()) * float(radius))
    best = int(np.argmax(scores))
    radius = float(radii[best])
    if 0 < best < len(radii) - 1:
        left, middle, right = scores[best - 1 : best + 2]
        shift = 0.5 * (left - right) / (left - 2 * middle + right)
        radius *= float((radii[1] / radii[0]) ** shift)
    coarse = _Coarse(image, radius)
    _, peak = coarse.peak(coarse.correlate("disk"), None)
    circle = fit_circle(image, peak, radius, reach=0.35, hot_level=coarse.hot_level)
    if coarse.counts(peak) < RIM_ELECTRONS or circle is None:
        return radius
    return circle.radius_px if abs(circle.radius_px / radius - 1) < 0.3 else radius


class _Coarse:
    """A binned copy of the frame without background and hot pixels, on which the disk's radius is about 12 px."""

    def __init__(self, image: ImageArray, radius_px: float) -> None:
        bins = 1
        while radius_px / (2 * bins) >= _COARSE_RADIUS_PX:
            bins *= 2
        self.bins = bins
        self.radius = radius_px / bins
        height, width = (size // bins * bins for size in image.shape)
        blocks = image[:height, :width]
        if bins > 1:
            # Two interleaved halves of each block: a hot pixel is in one of them only.
            rows = blocks.reshape(height // bins, bins, width)
            ones = np.full(bins, 2 / bins**2, dtype=np.float32)
            even, odd = (rows[:, half::2].sum(1).reshape(-1, width // bins, bins) @ ones for half in (0, 1))
            mean, lower = (even + odd) / 2, np.minimum(even, odd)
        else:
            mean, lower = blocks, ndimage.minimum_filter1d(blocks, 2, axis=0)
        area = math.pi * self.radius**2
        # The median of what is not the disk.
        sample = mean[::2, ::2]
        self.background = float(np.quantile(sample, max(0.05, 0.5 * (1 - area / mean.size))))
        rank = max(1, int(0.4 * area))
        bright = float(np.partition(lower.ravel(), -rank)[-rank]) - self.background
        noise = 1.5 * float(np.median(np.abs(sample - self.background)))
        # A px of the binned copy is believed up to some noise above the brightest robust level.
        level = max(bright, 0.0)
        self.hot_level = self.background + 2.5 * level + 6 * noise + 6 * math.sqrt(level / bins**2) + 4.0 / bins**2
        self.image = np.minimum(mean, np.float32(self.hot_level)) - np.float32(self.background)
        self.shape = self.image.shape
        pad = int(2 * self.radius) + 2
        self._padded = tuple(fft.next_fast_len(size + pad, real=True) for size in self.shape)
        self._transform = fft.rfft2(self.image, s=self._padded)

    def correlate(self, kind: str) -> ImageArray:
        """Correlation with the template, for each position of its middle."""
        product = self._transform * _template(kind, round(self.radius, 3), self._padded)
        response = fft.irfft2(product, s=self._padded)
        return np.asarray(response[: self.shape[0], : self.shape[1]], dtype=np.float32)

    def peak(self, response: ImageArray, window: TrackingWindow | None) -> tuple[float, tuple[float, float]]:
        """Score and position (frame px) of the highest peak, which is in the window."""
        inside = self.restricted(response, window)
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        score = float(response[row, column] - np.median(response[::2, ::2])) / self._spread()
        offset = _parabola_peak(response, int(row), int(column))
        return score, self._to_frame(row + offset[0], column + offset[1])

    def restricted(self, response: ImageArray, window: TrackingWindow | None) -> ImageArray:
        """The correlation with minus infinity outside of the window."""
        if window is None:
            return response
        y = (np.arange(self.shape[0]) + 0.5) * self.bins - window.centre_px[0]
        x = (np.arange(self.shape[1]) + 0.5) * self.bins - window.centre_px[1]
        far = np.hypot(y[:, None], x[None, :]) > max(window.reach_px, self.bins)
        return np.where(far, np.float32(-np.inf), response)

    def candidates(self, window: TrackingWindow | None, count: int = 7) -> list[tuple[float, float]]:
        """Positions (frame px) of the best rims that are at least half a radius apart."""
        response = self.restricted(self.correlate("rim"), window).copy()
        top = float(response.max())
        places: list[tuple[float, float]] = []
        reach = max(1, int(self.radius / 2))
        for _ in range(count):
            row, column = (int(i) for i in np.unravel_index(int(response.argmax()), response.shape))
            if not response[row, column] > 0.6 * top:
                break
            places.append(self._to_frame(row, column))
            response[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = -np.inf
        return places

    def counts(self, centre_px: tuple[float, float]) -> float:
        """Sum over the disk, above the background."""
        middles = [c / self.bins - 0.5 for c in centre_px]
        lows = [max(0, math.ceil(middle - self.radius)) for middle in middles]
        part = self.image[tuple(slice(low, int(m + self.radius) + 1) for low, m in zip(lows, middles, strict=True))]
        y, x = (np.arange(n) + low - m for n, low, m in zip(part.shape, lows, middles, strict=True))
        inside = np.hypot(y[:, None], x[None, :]) < self.radius
        return float(max(part[inside].sum() * self.bins**2, 0.0))

    def _spread(self) -> float:
        """Standard deviation of the disk correlation that the px's noise explains, from the differences of neighbours.

        Unlike the scatter of the correlation itself it hardly depends on what the specimen scatters around the disk.
        """
        image = self.image
        squares = (np.mean(np.diff(image, axis=axis) ** 2, dtype=np.float64) for axis in (0, 1))
        inner = math.pi * self.radius**2
        outer = inner * (_SURROUNDINGS**2 - 1)
        return max(math.sqrt(sum(squares) / 4 * (1 / inner + 1 / outer)), 1e-12)

    def _to_frame(self, row: float, column: float) -> tuple[float, float]:
        return (float(row) + 0.5) * self.bins, (float(column) + 0.5) * self.bins


@functools.lru_cache(maxsize=64)
def _template(kind: str, radius: float, shape: tuple[int, int]) -> npt.NDArray[np.complex64]:
    """Conjugate transform of a zero-sum template centred on (0, 0)."""
    y = np.fft.fftfreq(shape[0], 1 / shape[0])
    x = np.fft.fftfreq(shape[1], 1 / shape[1])
    distance = np.hypot(y[:, None], x[None, :])
    if kind == "disk":
        inner = _soft_disk(distance, radius, 0.5)
        outer = _soft_disk(distance, _SURROUNDINGS * radius, 0.5) - inner
    else:
        inner = np.exp(-(((distance - radius + 1.2) / 1.0) ** 2))
        outer = np.exp(-(((distance - radius - 1.2) / 1.0) ** 2))
    template = inner / inner.sum() - outer / outer.sum()
    return np.asarray(np.conj(fft.rfft2(template.astype(np.float32))), dtype=np.complex64)


def _soft_disk(distance: npt.NDArray[np.float64], radius: float, edge: float) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(np.clip((distance - radius) / edge, -40, 40))))


def _parabola_peak(response: ImageArray, row: int, column: int, reach: int = 2) -> tuple[float, float]:
    """Offset of the summit from a pixel, by a quadratic fit to its surroundings; 0 at the border."""
    patch = response[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    if patch.shape != (2 * reach + 1, 2 * reach + 1):
        return 0.0, 0.0
    solution = _quadratic_solver(reach) @ patch.ravel()
    _, gy, gx, hyy, hxx, hyx = (float(c) for c in solution)
    determinant = 4 * hyy * hxx - hyx**2
    if determinant <= 0 or hyy >= 0:
        return 0.0, 0.0
    dy, dx = (hyx * gx - 2 * hxx * gy) / determinant, (hyx * gy - 2 * hyy * gx) / determinant
    return (dy, dx) if max(abs(dy), abs(dx)) <= reach else (0.0, 0.0)


@functools.cache
def _quadratic_solver(reach: int) -> npt.NDArray[np.float64]:
    y, x = (a.ravel().astype(np.float64) for a in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    return np.asarray(np.linalg.pinv(np.stack([np.ones_like(y), y, x, y * y, x * x, y * x], 1)))


def _best_circle(
    image: ImageArray,
    coarse: _Coarse,
    radius_px: float,
    disk_peak: tuple[float, float],
    window: TrackingWindow | None,
) -> tuple[Circle | None, float]:
    """The brightest of the convincing circles among the best rims and the best disk, and its ``bias_px``."""
    fits: list[tuple[tuple[float, float], Circle]] = []
    for place in [*coarse.candidates(window), disk_peak]:
        if any(math.dist(place, start) < 0.1 * radius_px for start, _ in fits):
            continue
        circle = fit_circle(image, place, radius_px, hot_level=coarse.hot_level)
        if circle is not None and math.dist(circle.centre_px, place) < 0.25 * radius_px:
            fits.append((place, circle))
    if not fits:
        return None, 0.0
    circles = [circle for _, circle in fits]
    # The rims of diffracted disks are as sharp as the direct beam's, or sharper, but it has the most electrons.
    convincing = _CONVINCING * max(circle.support for circle in circles)
    best = max(
        (circle for circle in circles if circle.support >= convincing),
        key=lambda circle: coarse.counts(circle.centre_px) if len(circles) > 1 else 0.0,
    )
    refined = refine_circle(image, best, coarse.hot_level)
    # The contrast of a specimen moves the rim more than its scatter tells.
    return (best, _CONTRAST_ERROR * radius_px) if refined is None else (refined, 0.0)


def _centre_of_mass(image: ImageArray) -> tuple[float, float]:
    total = float(image.sum(dtype=np.float64))
    if total <= 0:
        return image.shape[0] / 2, image.shape[1] / 2
    y = float(image.sum(1, dtype=np.float64) @ (np.arange(image.shape[0]) + 0.5)) / total
    x = float(image.sum(0, dtype=np.float64) @ (np.arange(image.shape[1]) + 0.5)) / total
    return y, x


def _is_saturated(image: ImageArray, centre: tuple[float, float], radius_px: float, saturation: float | None) -> bool:
    """Whether more than 5 % of the disk is at the saturation level.

    Where no level is given it is a plateau: a value of so many px that hardly any are above, and of at least twice as
    many as the next lower value. That tells it from the few values of a detector that counts little.
    """
    rows, columns = (slice(max(0, int(c - 0.7 * radius_px)), max(1, int(c + 0.7 * radius_px) + 1)) for c in centre)
    inside = image[rows, columns]
    if inside.size == 0:
        return False
    if saturation is not None:
        return float(np.mean(inside >= saturation)) > _SATURATED_FRACTION
    levels, counts = np.unique(inside, return_counts=True)
    many = np.flatnonzero(counts > _SATURATED_FRACTION * inside.size)
    if not many.size or levels[many[-1]] <= np.median(image):
        return False
    top = int(many[-1])
    below = counts[top - 1] if top else 0
    return bool(counts[top + 1 :].sum() < _HOT_FRACTION * inside.size and counts[top] >= 2 * below)
