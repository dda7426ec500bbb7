"""A frame of the camera that sees the bright-field disk: optics, specimen in the beam, and the camera's defects.

Positions are ``(y, x)`` in frame px with the middle of the pixel (0, 0) at (0.5, 0.5), as in the rest of the project.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import math

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError

ImageArray = npt.NDArray[np.float32]
Pattern = collections.abc.Callable[[ImageArray, ImageArray], ImageArray]
ELECTRONS_PER_PA_S = 1e-12 / 1.602176634e-19
"""Electrons in one pA for one second."""


_MOST_DROPPED = 0.4
"""Electrons a px up to which dropping them is faster than drawing counts."""


class SpecimenInBeam(enum.Enum):
    """What the beam goes through."""

    VACUUM = "vacuum"
    THIN = "thin"
    THICK = "thick"


@dataclasses.dataclass(frozen=True)
class SpecimenContrast:
    """CBED contrast of a specimen, drawn once for a specimen position.

    Attributes:
        fringe_depth: modulation of the intensity in the disk by fringes of the period ``fringe_period`` (disk radii),
            at the angle ``fringe_rad`` with the phase ``fringe_phase``.
        line_rad, line_offset: direction and distance from the middle (disk radii) of a deficiency line.
        first_order_rad, order_distance: direction of the first of six diffracted disks and its distance (disk radii).
        orders: intensity of the six diffracted disks relative to the bright-field disk.
        diffuse: intensity of the thermal diffuse halo in the middle.
    """

    fringe_depth: float
    fringe_period: float
    fringe_rad: float
    fringe_phase: float
    line_rad: float
    line_offset: float
    first_order_rad: float
    order_distance: float
    orders: tuple[float, ...]
    diffuse: float = 0.06


@dataclasses.dataclass(frozen=True)
class DiskCameraModel:
    """What a camera does to the electrons; intensities in counts, one count an electron.

    Attributes:
        size_px: (height, width).
        background: of the disk's intensity, everywhere.
        pedestal: constant added to each px.
        read_noise: standard deviation of each px.
        gain_gradient: relative change of the gain from the middle to the edges (y, x).
        hot_pixels: number of px that add a constant of 50 to 2000 counts, at places given by ``seed``.
        saturation: largest number of counts, None for none.
        edge_px: softness of the disk's rim.
    """

    size_px: tuple[int, int] = (512, 512)
    background: float = 0.02
    pedestal: float = 0.0
    read_noise: float = 0.0
    gain_gradient: tuple[float, float] = (0.0, 0.0)
    hot_pixels: int = 0
    saturation: float | None = None
    edge_px: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.size_px) < 16:
            raise InvalidInputError(f"A camera frame needs at least 16 x 16 px, not {self.size_px}.")


def disk_radius_px(convergence_mrad: float, mrad_per_px: float) -> float:
    """Radius of the disk in px; the camera length and the binning set the angle that a px covers."""
    if not (convergence_mrad > 0 and mrad_per_px > 0):
        raise InvalidInputError(
            f"Convergence angle and angle of a px must be positive, not {convergence_mrad} mrad and {mrad_per_px} mrad."
        )
    return convergence_mrad / mrad_per_px


def electrons_per_px(beam_current_pa: float, exposure_s: float, radius_px: float) -> float:
    """Mean number of electrons of a frame in each px of the disk."""
    return beam_current_pa * exposure_s * ELECTRONS_PER_PA_S / (math.pi * radius_px**2)


def draw_contrast(specimen: SpecimenInBeam, rng: np.random.Generator) -> SpecimenContrast | None:
    """A specimen position at random; None for vacuum."""
    if specimen is SpecimenInBeam.VACUUM:
        return None
    thick = specimen is SpecimenInBeam.THICK
    return SpecimenContrast(
        fringe_depth=0.8 if thick else 0.35,
        fringe_period=2 * math.pi / (60.0 * rng.uniform(0.05, 0.15)),
        fringe_rad=rng.uniform(0, math.pi),
        fringe_phase=rng.uniform(0, 2 * math.pi),
        line_rad=rng.uniform(0, math.pi),
        line_offset=rng.uniform(-2 / 3, 2 / 3),
        first_order_rad=rng.uniform(0, math.pi),
        order_distance=rng.uniform(1.5, 1.9),
        orders=tuple(float(a) for a in rng.uniform(0.05, 0.8 if thick else 0.35, 6)),
    )


def expected_disk(
    centre_px: tuple[float, float],
    radius_px: float,
    camera: DiskCameraModel,
    contrast: SpecimenContrast | None = None,
) -> ImageArray:
    """Mean intensity, shape ``camera.size_px``, 1 in the undisturbed disk; the camera's gain gradient is included."""
    height, width = camera.size_px
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - centre_px[0])
    x = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5 - centre_px[1])
    image = np.full((height, width), camera.background, dtype=np.float32)
    if contrast is None:
        _add_disk(image, (y, x), (0.0, 0.0), radius_px, camera.edge_px, lambda _y, _x: np.ones((1, 1), np.float32))
    else:
        _add_cbed(image, (y, x), radius_px, camera.edge_px, contrast)
    if any(camera.gain_gradient):
        rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(camera.gain_gradient[0])
        columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(camera.gain_gradient[1])
        image *= 1 + rows + columns
    return image


def expose(mean: ImageArray | None, electrons: float, camera: DiskCameraModel, rng: np.random.Generator) -> ImageArray:
    """A frame in counts, float32: ``mean`` (None without a beam) times ``electrons`` a px, with Poisson noise and
    defects."""
    dark = np.zeros(camera.size_px, dtype=np.float32)
    frame = dark if mean is None else _counted(mean * np.float32(electrons), rng)
    if camera.hot_pixels:
        fixed = np.random.default_rng(camera.seed)
        places = fixed.integers(0, frame.size, camera.hot_pixels)
        frame.flat[places] += fixed.uniform(50, 2000, camera.hot_pixels).astype(np.float32)
    if camera.read_noise:
        frame += np.float32(camera.read_noise) * rng.standard_normal(camera.size_px, dtype=np.float32)
    if camera.pedestal:
        frame += np.float32(camera.pedestal)
    if camera.saturation is not None:
        np.minimum(frame, np.float32(camera.saturation), out=frame)
    return frame


def _counted(mean: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Poisson counts with these means, float32.

    Where most px get few electrons it is much faster to drop electrons onto px than to draw a count for each px: up to
    a level of ``cap`` a px they are dropped evenly, and each is kept with the probability ``min(mean, cap) / cap``.
    What is above the level is drawn px by px. The sum of the two is a Poisson variable with the mean of the px.
    """
    cap = np.float32(1.2 * float(np.median(mean[::8, ::8])) + 1e-3)
    if cap > _MOST_DROPPED:
        return rng.poisson(mean).astype(np.float32)
    places = rng.integers(0, mean.size, rng.poisson(float(cap) * mean.size))
    flat = mean.ravel()
    kept = places[rng.random(places.size, dtype=np.float32) * cap < flat[places]]
    counts = np.bincount(kept, minlength=mean.size).astype(np.float32)
    bright = np.flatnonzero(flat > cap)
    counts[bright] += rng.poisson(flat[bright] - cap)
    return counts.reshape(mean.shape)


def render_disk(
    centre_px: tuple[float, float],
    radius_px: float,
    electrons: float,
    camera: DiskCameraModel,
    rng: np.random.Generator,
    contrast: SpecimenContrast | None = None,
) -> ImageArray:
    """One frame in counts, shape ``camera.size_px``, float32, with ``electrons`` a px in the undisturbed disk."""
    return expose(expected_disk(centre_px, radius_px, camera, contrast), electrons, camera, rng)


def _window(grid: tuple[ImageArray, ImageArray], middle: tuple[float, float], reach: float) -> tuple[slice, slice]:
    """The part of a frame within ``reach`` of ``middle``, given relative to the disk's centre."""
    slices = []
    for axis in (0, 1):
        coordinate = grid[axis].ravel()
        low = int(np.searchsorted(coordinate, middle[axis] - reach))
        high = int(np.searchsorted(coordinate, middle[axis] + reach))
        slices.append(slice(low, high))
    return slices[0], slices[1]


def _add_disk(
    image: ImageArray,
    grid: tuple[ImageArray, ImageArray],
    middle: tuple[float, float],
    radius_px: float,
    edge_px: float,
    pattern: Pattern,
) -> None:
    """Add a disk with its middle given relative to the bright-field disk's, times a pattern of (y, x)."""
    rows, columns = _window(grid, middle, radius_px + 12 * edge_px)
    y, x = grid[0][rows], grid[1][:, columns]
    distance = np.hypot(y - np.float32(middle[0]), x - np.float32(middle[1]))
    disk = 1 / (1 + np.exp(np.clip((distance - radius_px) / edge_px, -30, 30)))
    image[rows, columns] += disk * pattern(y, x)


def _add_cbed(
    image: ImageArray,
    grid: tuple[ImageArray, ImageArray],
    radius_px: float,
    edge_px: float,
    contrast: SpecimenContrast,
) -> None:
    wave = np.float32(2 * math.pi / (contrast.fringe_period * radius_px))
    cosine, sine = np.float32(math.cos(contrast.fringe_rad)), np.float32(math.sin(contrast.fringe_rad))
    line_x, line_y = np.float32(math.cos(contrast.line_rad)), np.float32(math.sin(contrast.line_rad))

    def along(y: ImageArray, x: ImageArray) -> ImageArray:
        return np.asarray(wave * (x * cosine + y * sine) + np.float32(contrast.fringe_phase))

    def inside(y: ImageArray, x: ImageArray) -> ImageArray:
        line = (x * line_x + y * line_y) / np.float32(radius_px) - np.float32(contrast.line_offset)
        dark = np.exp(-np.minimum((line / np.float32(4 / 60)) ** 2, 60))
        fringes = 1 - np.float32(contrast.fringe_depth / 2) * (1 + np.sin(along(y, x)))
        return np.asarray(fringes * (1 - np.float32(0.6) * dark))

    def fringes(order: int, y: ImageArray, x: ImageArray) -> ImageArray:
        strength = np.float32(0.6) + np.float32(0.4) * np.sin(along(y, x) + np.float32(order))
        return np.asarray(np.float32(contrast.orders[order]) * strength)

    _add_disk(image, grid, (0.0, 0.0), radius_px, edge_px, inside)
    for order in range(len(contrast.orders)):
        angle = contrast.first_order_rad + order * math.pi / 3
        distance = contrast.order_distance * radius_px
        middle = (distance * math.sin(angle), distance * math.cos(angle))
        _add_disk(image, grid, middle, radius_px, edge_px, functools.partial(fringes, order))
    y, x = grid
    image += np.float32(contrast.diffuse) * np.exp(-np.hypot(y, x) / np.float32(2.5 * radius_px))
