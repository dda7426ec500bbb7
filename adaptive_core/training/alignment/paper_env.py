"""The Gymnasium environment of Xu, Kumar & LeBeau (2022), "Towards Augmented Microscopy with Reinforcement
Learning-Enhanced Workflows": the agent moves a disk on a screen and sees where it is, in binned px, less its goal.

The published code leaves the step limit open, reads attributes before they are set and uses a removed numpy alias;
what is chosen here is listed in docs/alignment.md. The environment stands on any :class:`DiskStage`: the paper's
simulation, or a real camera and shift (:class:`PortStage`) for online learning on an instrument.
"""

from __future__ import annotations

import dataclasses
import math
import typing

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from adaptive_core.alignment.disk_finding import DiskState, Method, find_disk
from adaptive_core.errors import InvalidInputError
from adaptive_core.ports import DiffractionShift, DiskCamera

FloatArray = npt.NDArray[np.float64]
Observation = npt.NDArray[np.float32]

REWARDS = ("informative", "non-informative", "sparse")


@dataclasses.dataclass(frozen=True)
class PaperConfig:
    """The paper's experiment; the defaults are the published values.

    Attributes:
        screen_px: width and height of the screen in camera px.
        binning: camera px a px of the observation, 1, 2 or 4.
        goal: (y, x) of the goal from the middle of the screen, observation px.
        tolerance: the goal is reached within this distance, observation px.
        margin: the beam counts as lost this near to the edge of the observation, in its px.
        step_size: shown to the agent; an action of 1 moves the disk by a tenth of it, in px of 4:1 binning.
        step_scale: factor on the disk's response; the paper's change of camera length is 0.75.
        reward: "informative" (Eq. 1), "non-informative" (without the distance) or "sparse" (without the step's reward
            too).
        rotation_deg, mirrored: of the shift's axes.
        actuation_noise: standard deviation of a move relative to its larger component.
        centre_noise_px: standard deviation of the measured centre, camera px.
        start_range: the disk starts within this fraction of the half screen.
        step_limit: steps of an episode; not given in the paper.
    """

    screen_px: float = 1040.0
    binning: int = 4
    goal: tuple[float, float] = (8.0, 4.0)
    tolerance: float = 3.0
    margin: float = 5.0
    step_size: float = 100.0
    step_scale: float = 1.0
    reward: str = "informative"
    rotation_deg: float = 30.0
    mirrored: bool = False
    actuation_noise: float = 1e-3
    centre_noise_px: float = 0.0
    start_range: float = 1.0
    step_limit: int = 200

    def __post_init__(self) -> None:
        if self.binning not in (1, 2, 4):
            raise InvalidInputError(f"The binning must be 1, 2 or 4, not {self.binning}.")
        if self.reward not in REWARDS:
            raise InvalidInputError(f"The reward must be one of {', '.join(REWARDS)}, not {self.reward!r}.")
        if self.step_limit < 1 or not 0 < self.start_range <= 1:
            raise InvalidInputError(
                f"step_limit must be at least 1 and start_range in (0, 1], not {self.step_limit}, {self.start_range}."
            )

    @property
    def half(self) -> int:
        """Half-width of the observation in its px: 127 at 4:1."""
        return 512 // self.binning - 1

    @property
    def scale(self) -> float:
        """Camera px a px of the observation."""
        return self.screen_px / 2 / self.half

    @property
    def action_px(self) -> float:
        """Camera px by which an action of 1 asks the disk to move."""
        return self.step_size / 10 * self.screen_px / 2 / 127


class DiskStage(typing.Protocol):
    """Something that shows a disk on a screen and moves it; camera px from the middle of the screen, ``(y, x)``."""

    def reset(self, start_px: FloatArray, rng: np.random.Generator) -> None:
        """Bring the disk near to ``start_px``."""
        ...

    def move(self, request_px: FloatArray) -> None:
        """Ask for a move; rotation, mirror and gain of the axes are unknown to the agent."""
        ...

    def position(self) -> FloatArray | None:
        """Where the disk is seen, None if it is not."""
        ...


class SimulatedStage:
    """The paper's linear simulation."""

    def __init__(self, config: PaperConfig) -> None:
        angle = math.radians(config.rotation_deg)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        self._matrix = config.step_scale * turn @ np.diag([-1.0 if config.mirrored else 1.0, 1.0])
        self._config = config
        self._rng = np.random.default_rng()
        self.disk_px = np.zeros(2)

    def reset(self, start_px: FloatArray, rng: np.random.Generator) -> None:
        """Put the disk there."""
        self._rng = rng
        self.disk_px = start_px.copy()

    def move(self, request_px: FloatArray) -> None:
        """Move the disk."""
        noise = self._rng.standard_normal(2) * float(np.abs(request_px).max()) * self._config.actuation_noise
        self.disk_px = self.disk_px + self._matrix @ (request_px + noise)

    def position(self) -> FloatArray:
        """The disk with the measurement's noise."""
        return self.disk_px + self._config.centre_noise_px * self._rng.standard_normal(2)


class PortStage:
    """A camera and a shift: learning on the instrument itself. The shift is put back by :meth:`close`.

    Args:
        control_per_px: change of the control that nominally moves the disk by one camera px.
        screen_px: the camera's frame is taken to be this wide, so that the environment fits any camera.
        largest_move: the shift stays within this distance of where it was.
        method: the paper measures the centre of mass; the rim is more robust.
    """

    def __init__(
        self,
        camera: DiskCamera,
        shift: DiffractionShift,
        control_per_px: float,
        screen_px: float,
        largest_move: float,
        radius_px: float | None = None,
        method: Method = Method.AUTO,
    ) -> None:
        self._camera = camera
        self._shift = shift
        self._control_per_px = control_per_px
        self._screen_px = screen_px
        self._largest_move = largest_move
        self._radius_px = radius_px
        self._method = method
        self._home = np.array(shift.get())
        self._after: float | None = None

    def reset(self, start_px: FloatArray, rng: np.random.Generator) -> None:
        """Back to where the shift was, and off by a nominal move: how the axes lie is not known."""
        self._set(self._home + start_px * self._control_per_px)

    def move(self, request_px: FloatArray) -> None:
        """Move the shift, as far as it may."""
        self._set(np.array(self._shift.get()) + request_px * self._control_per_px)

    def position(self) -> FloatArray | None:
        """The disk in a frame that started after the last move."""
        frame, self._after = self._camera.grab(self._after)
        disk = find_disk(frame, self._radius_px, method=self._method)
        if disk.state is DiskState.NO_BEAM or disk.centre_px is None:
            return None
        size = np.array(frame.shape, dtype=np.float64)
        return np.asarray((np.array(disk.centre_px) - size / 2) * self._screen_px / size.max())

    def close(self) -> None:
        """Put the shift back."""
        self._shift.set((float(self._home[0]), float(self._home[1])))

    def _set(self, control: FloatArray) -> None:
        bounded = self._home + np.clip(control - self._home, -self._largest_move, self._largest_move)
        size = float(np.hypot(*bounded))
        bounded = bounded * min(1.0, self._shift.limit / max(size, 1e-300))
        self._after = self._shift.set((float(bounded[0]), float(bounded[1])))


class PaperEnv(gymnasium.Env[Observation, Observation]):
    """The paper's task.

    Observation (5,), float32: step size, dx, dy in whole observation px, and whether dx and dy are zero. Action (2,),
    float32 in [-1, 1]: the move (x, y) as a fraction of ``action_px``. ``info`` has ``success`` at the end of an
    episode and ``error_px``, the true distance to the goal in camera px where the stage knows it.
    """

    def __init__(self, config: PaperConfig | None = None, stage: DiskStage | None = None) -> None:
        self.config = PaperConfig() if config is None else config
        self.stage = SimulatedStage(self.config) if stage is None else stage
        self.observation_space = spaces.Box(-1e4, 1e4, (5,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._goal = np.array(self.config.goal)
        self._steps = 0
        self._distance = 0.0
        self._last = np.zeros(5, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, typing.Any] | None = None
    ) -> tuple[Observation, dict[str, typing.Any]]:
        """Start an episode with the disk at a random place."""
        super().reset(seed=seed, options=options)
        # The starts that the episode would end at are drawn again.
        for _ in range(1000):
            reach = self.config.start_range * self.config.screen_px / 2
            self.stage.reset(self.np_random.uniform(-reach, reach, 2), self.np_random)
            position = self._seen()
            if position is not None and not self._is_off(position):
                break
        else:
            raise InvalidInputError("No start with the disk on the screen was found in 1000 tries.")
        self._steps = 0
        self._distance = float(np.hypot(*(position - self._goal)))
        self._last = self._observe(position)
        return self._last, {}

    def step(self, action: Observation) -> tuple[Observation, float, bool, bool, dict[str, typing.Any]]:
        """Move, look and reward (Eq. 1)."""
        request = np.asarray(action, dtype=np.float64)[::-1] * self.config.action_px
        self.stage.move(request)
        self._steps += 1
        position = self._seen()
        if position is None or self._is_off(position):
            return self._last, -100.0, True, False, {"success": False, "lost": True}
        distance = float(np.hypot(*(position - self._goal)))
        self._last = self._observe(position)
        info: dict[str, typing.Any] = {}
        if isinstance(self.stage, SimulatedStage):
            info["error_px"] = float(np.hypot(*(self.stage.disk_px - self._goal * self.config.scale)))
        if distance <= self.config.tolerance:
            return self._last, 100.0, True, False, info | {"success": True, "lost": False}
        if self._steps >= self.config.step_limit:
            return self._last, -100.0, True, False, info | {"success": False, "lost": False}
        reward = self._step_reward(distance)
        self._distance = distance
        return self._last, reward, False, False, info

    def _step_reward(self, distance: float) -> float:
        if self.config.reward == "sparse":
            return 0.0
        nearer = 1.0 if distance <= self._distance else -1.0
        return nearer - (distance / (self.config.half + 1) if self.config.reward == "informative" else 0.0)

    def _seen(self) -> FloatArray | None:
        position = self.stage.position()
        return None if position is None else np.round(position / self.config.scale)

    def _is_off(self, position: FloatArray) -> bool:
        return bool((np.abs(position) >= self.config.half - self.config.margin).any())

    def _observe(self, position: FloatArray) -> Observation:
        dy, dx = position - self._goal
        return np.array([self.config.step_size, dx, dy, dx == 0, dy == 0], dtype=np.float32)
