"""A camera and a control in one of the worlds A, B and C, behind the ports that real ones are behind.

The camera has 1024 x 1024 px of its own and is binned to 512 x 512; the disk's radius is 60 camera px. The dose is
such that the noise of the found centre is what the world says. What is in the beam, and what the camera does wrong,
differs from trial to trial in the worlds B and C.
"""

from __future__ import annotations

import dataclasses
import math
import time
import typing

import numpy as np

from adaptive_core.ports import ImageArray
from adaptive_core.simulation.disk_image import (
    DiskCameraModel,
    SpecimenContrast,
    SpecimenInBeam,
    draw_contrast,
    render_disk,
)
from adaptive_core.simulation.shift_world import (
    HALF_SCREEN_PX,
    NOMINAL_GAIN_PX,
    ShiftWorlds,
    ShiftWorldState,
    draw_noise,
    draw_worlds,
)

BINNING = 2
FRAME_PX = 512
RADIUS_PX = 30.0
"""Of the disk, in px of the frame."""
_SCENES = ("vacuum", "specimen", "hot pixels", "gain gradient", "readout noise")
NOISE_OF_ONE_ELECTRON_PX = {
    "vacuum": 14.0,
    "specimen": 29.0,
    "hot pixels": 14.5,
    "gain gradient": 14.0,
    "readout noise": 14.5,
}
"""The centre of a disk of N electrons is found to this number of camera px over the root of N, each axis (measured)."""
CONTROL_PER_UNIT = 0.01
"""Value of the simulated control that is one unit of the world's command."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a camera sees in a trial besides the disk's position."""

    camera: DiskCameraModel
    contrast: SpecimenContrast | None
    electrons: float


def draw_scene(family: str, worlds: ShiftWorlds, rng: np.random.Generator) -> Scene:
    """Vacuum in world A; in B and C one of: vacuum, thin specimen, hot px, gain gradient, readout noise, twice as bad
    in C."""
    scene = "vacuum" if family == "A" else _SCENES[int(rng.integers(len(_SCENES)))]
    disk_electrons = (NOISE_OF_ONE_ELECTRON_PX[scene] / float(worlds.centre_px[0])) ** 2
    electrons = disk_electrons / (math.pi * RADIUS_PX**2)
    times = 2 if family == "C" else 1
    defects: dict[str, dict[str, typing.Any]] = {
        "hot pixels": {"hot_pixels": 60 * times},
        "gain gradient": {"gain_gradient": (0.1 * times, 0.25 * times)},
        "readout noise": {"pedestal": 8.0 * times, "read_noise": 0.1 * times * math.sqrt(electrons)},
    }
    seed = int(rng.integers(2**31))
    camera = DiskCameraModel(size_px=(FRAME_PX, FRAME_PX), edge_px=0.5, seed=seed, **defects.get(scene, {}))
    contrast = draw_contrast(SpecimenInBeam.THIN, rng) if scene == "specimen" else None
    return Scene(camera, contrast, electrons)


class SimulatedInstrument:
    """Both a DiskCamera and a DiffractionShift; one world frame passes with each frame that is taken."""

    limit = 10 * CONTROL_PER_UNIT

    def __init__(self, family: str, seed: int, trial: int) -> None:
        self._rng = np.random.default_rng([seed, trial])
        self.worlds = draw_worlds(family, 1, self._rng)
        self.scene = draw_scene(family, self.worlds, self._rng)
        self._state = ShiftWorldState(self.worlds)
        self._shown = self.worlds.start_px
        self._control = np.zeros(2)
        self._made = np.zeros(2)
        self.frames = 0

    @property
    def true_distance_px(self) -> float:
        """Distance of the disk from the middle of the camera, camera px."""
        return float(np.hypot(*self._state.true_px[0]))

    @property
    def on_screen(self) -> bool:
        """Whether the disk's centre has never left the camera."""
        return bool(self._state.on_screen[0])

    def grab(self, after: float | None = None) -> tuple[ImageArray, float]:
        """A frame; those of stale worlds show the disk before the move."""
        if self.frames > 0:
            self.advance()
        self.frames += 1
        centre = (HALF_SCREEN_PX + self._shown[0]) / BINNING
        scene = self.scene
        frame = render_disk(
            (float(centre[0]), float(centre[1])), RADIUS_PX, scene.electrons, scene.camera, self._rng, scene.contrast
        )
        return frame, time.monotonic()

    def advance(self) -> None:
        """Let one frame pass, with the moves that were made since the last one."""
        move = (self._control - self._made) / CONTROL_PER_UNIT
        self._made = self._control
        self._shown = self._state.step(move[None], draw_noise(1, self._rng))

    def get(self) -> tuple[float, float]:
        """The present control."""
        return float(self._control[0]), float(self._control[1])

    def set(self, value: tuple[float, float]) -> float:
        """Set the control."""
        self._control = np.array(value, dtype=np.float64)
        return time.monotonic()


def nominal_unit() -> float:
    """Change of the control that nominally moves the disk by half of the screen."""
    return CONTROL_PER_UNIT * HALF_SCREEN_PX / NOMINAL_GAIN_PX
