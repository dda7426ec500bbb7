"""Worlds in which a 2D control moves the bright-field disk: how a diffraction shift really behaves.

Three named families of random worlds, in camera px on a screen of 1024 px:

* A: unknown rotation, mirror and gain (+-50 %), 2 % actuation noise;
* B: gain over a factor 4, shear, and a random amount of stale frames, backlash, creep, drift and noise;
* C: B with severities up to doubled; nothing is ever trained on it.

The command is in units of the control of which one moves the disk by 512 px at a gain of 1. Per frame

    b' = the play (backlash) operator of u,         m = J (b' - b) (1 + actuation noise)
    p' = p + (1 - creep) m + creep m_last + drift + jitter

and the camera shows p', or p in a stale frame. Everything is batched over n worlds; the torch twin for training is
:mod:`adaptive_core.training.alignment.torch_world`.
"""

from __future__ import annotations

import dataclasses
import typing

import numpy as np
import numpy.typing as npt

from adaptive_core.errors import InvalidInputError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SCREEN_PX = 1024.0
"""Width and height of the screen in camera px."""
HALF_SCREEN_PX = SCREEN_PX / 2
NOMINAL_GAIN_PX = 512.0
"""px by which one unit of the control moves the disk at a gain of 1."""
JITTER_PX = 0.05
"""Standard deviation of the disk's random motion per frame and axis."""
START_RANGE = 0.8
"""The disk starts within this fraction of the half screen, on each axis."""


@dataclasses.dataclass(frozen=True)
class WorldFamily:
    """Ranges from which a world is drawn; pairs are (low, high) of a uniform distribution.

    Attributes:
        gain: of the control.
        gain_is_log2: whether ``gain`` is the exponent of 2.
        shear: standard deviation of each entry of the matrix added to the identity.
        actuation: standard deviation of a move relative to its size.
        centre_px: standard deviation per axis of the measured centre that the dose allows.
        backlash_px: half-width of the play in px.
        creep: fraction of a move that arrives one frame late.
        stale: fraction of frames that show the disk before the move.
        drift_px: per frame.
    """

    gain: tuple[float, float]
    gain_is_log2: bool = False
    shear: float = 0.0
    actuation: tuple[float, float] = (0.02, 0.02)
    centre_px: tuple[float, float] = (0.2, 0.2)
    backlash_px: tuple[float, float] = (0.0, 0.0)
    creep: tuple[float, float] = (0.0, 0.0)
    stale: tuple[float, float] = (0.0, 0.0)
    drift_px: tuple[float, float] = (0.0, 0.0)


WORLD_FAMILIES: typing.Mapping[str, WorldFamily] = {
    "A": WorldFamily(gain=(0.5, 1.5)),
    "B": WorldFamily(
        gain=(-1.0, 1.0),
        gain_is_log2=True,
        shear=0.05,
        actuation=(0.0, 0.03),
        centre_px=(0.05, 0.4),
        backlash_px=(0.0, 1.5),
        creep=(0.0, 0.15),
        stale=(0.0, 0.3),
        drift_px=(0.0, 0.2),
    ),
    "C": WorldFamily(
        gain=(-1.5, 1.5),
        gain_is_log2=True,
        shear=0.1,
        actuation=(0.0, 0.06),
        centre_px=(0.05 * 2**0.5, 0.4 * 2**0.5),
        backlash_px=(0.0, 3.0),
        creep=(0.0, 0.3),
        stale=(0.0, 0.6),
        drift_px=(0.0, 0.4),
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class ShiftWorlds:
    """n drawn worlds; float64.

    Attributes:
        jacobian: (n, 2, 2), px a unit of the control, ``(y, x)`` from ``(y, x)``.
        start_px: (n, 2), the disk at the start, from the middle of the screen.
        actuation, centre_px, backlash_px, creep, stale: (n,), as in :class:`WorldFamily`.
        drift_px: (n, 2), per frame.
    """

    jacobian: FloatArray
    start_px: FloatArray
    actuation: FloatArray
    centre_px: FloatArray
    backlash_px: FloatArray
    creep: FloatArray
    stale: FloatArray
    drift_px: FloatArray

    @property
    def count(self) -> int:
        """Number of worlds, n."""
        return len(self.start_px)


@dataclasses.dataclass(frozen=True, eq=False)
class FrameNoise:
    """What chance does in one frame: (n, 2) standard normals and (n,) uniforms in [0, 1)."""

    actuation: FloatArray
    jitter: FloatArray
    stale: FloatArray


def draw_worlds(family: str, count: int, rng: np.random.Generator) -> ShiftWorlds:
    """Draw worlds of the family "A", "B" or "C". Raises InvalidInputError for another name."""
    if family not in WORLD_FAMILIES:
        raise InvalidInputError(f"The world must be one of {', '.join(WORLD_FAMILIES)}, not {family!r}.")
    ranges = WORLD_FAMILIES[family]

    def uniform(low_high: tuple[float, float]) -> FloatArray:
        return rng.uniform(*low_high, count)

    angle = uniform((0.0, 2 * np.pi))
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.stack([np.stack([cosine, -sine * mirror], -1), np.stack([sine, cosine * mirror], -1)], -2)
    gain = uniform(ranges.gain)
    if ranges.gain_is_log2:
        gain = 2.0**gain
    shear = np.eye(2) + ranges.shear * rng.standard_normal((count, 2, 2))
    drift, direction = uniform(ranges.drift_px), uniform((0.0, 2 * np.pi))
    return ShiftWorlds(
        jacobian=NOMINAL_GAIN_PX * gain[:, None, None] * (rotation @ shear),
        start_px=rng.uniform(-START_RANGE, START_RANGE, (count, 2)) * HALF_SCREEN_PX,
        actuation=uniform(ranges.actuation),
        centre_px=uniform(ranges.centre_px),
        backlash_px=uniform(ranges.backlash_px),
        creep=uniform(ranges.creep),
        stale=uniform(ranges.stale),
        drift_px=drift[:, None] * np.stack([np.sin(direction), np.cos(direction)], -1),
    )


def draw_noise(count: int, rng: np.random.Generator) -> FrameNoise:
    """The noise of one frame of n worlds."""
    return FrameNoise(rng.standard_normal((count, 2)), rng.standard_normal((count, 2)), rng.random(count))


class ShiftWorldState:
    """The present state of n worlds; positions in px from the middle of the screen, ``(y, x)``."""

    def __init__(self, worlds: ShiftWorlds) -> None:
        self.worlds = worlds
        self.command = np.zeros((worlds.count, 2))
        self.true_px = worlds.start_px.copy()
        self.on_screen: BoolArray = np.ones(worlds.count, dtype=np.bool_)
        self._engaged = self.command.copy()
        self._creeping_px = self.command.copy()
        gain = np.sqrt((worlds.jacobian**2).sum((-1, -2)) / 2)
        self._play = (worlds.backlash_px / gain)[:, None]

    def step(self, move: FloatArray, noise: FrameNoise, elapsed_frames: float = 1.0) -> FloatArray:
        """Move the control by ``move`` (n, 2) and let one frame pass; returns the positions shown, (n, 2) px.

        ``elapsed_frames`` scales the drift, for a camera that runs faster or slower than the world's frames.
        """
        world = self.worlds
        self.command = self.command + move
        engaged = np.clip(self._engaged, self.command - self._play, self.command + self._play)
        actuated = (engaged - self._engaged) * (1 + world.actuation[:, None] * noise.actuation)
        moved = np.einsum("nij,nj->ni", world.jacobian, actuated) + JITTER_PX * noise.jitter
        creep = world.creep[:, None]
        before = self.true_px
        self.true_px = before + (1 - creep) * moved + self._creeping_px + elapsed_frames * world.drift_px
        self._engaged = engaged
        self._creeping_px = creep * moved
        self.on_screen = self.on_screen & (np.abs(self.true_px).max(-1) < HALF_SCREEN_PX)
        return np.where((noise.stale < world.stale)[:, None], before, self.true_px)
