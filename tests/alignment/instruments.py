"""A perfect camera and shift for tests, and ways to make them fail."""

from __future__ import annotations

import time

import numpy as np

from adaptive_core.simulation.disk_image import DiskCameraModel, expose, render_disk


class LinearInstrument:
    """A disk that moves exactly by ``jacobian`` (px of the frame a unit of the control); faults are injected by
    subclasses."""

    limit = 10.0

    def __init__(self, jacobian=((-40.0, 90.0), (95.0, 30.0)), offset=(60.0, -70.0), size: int = 256) -> None:
        self.jacobian = np.array(jacobian)
        self.offset = np.array(offset)
        self.size = size
        self.radius = 20.0
        self.electrons = 30.0
        self.camera = DiskCameraModel(size_px=(size, size))
        self.control = np.array([0.3, -0.2])
        self.home = self.control.copy()
        self.history = [tuple(self.control)]
        self.grabbed_after: list[float | None] = []
        self.valid_from = 0.0
        self.rng = np.random.default_rng(0)

    @property
    def position(self) -> np.ndarray:
        """Of the disk less the middle of the frame."""
        return self.offset + self.jacobian @ (self.control - self.home)

    def grab(self, after: float | None = None):
        self.grabbed_after.append(after)
        return self.frame(), time.monotonic()

    def frame(self) -> np.ndarray:
        y, x = self.size / 2 + self.position
        return render_disk((y, x), self.radius, self.electrons, self.camera, self.rng)

    def dark(self) -> np.ndarray:
        return expose(None, 0.0, DiskCameraModel(size_px=(self.size, self.size), pedestal=8, read_noise=1), self.rng)

    def get(self) -> tuple[float, float]:
        return float(self.control[0]), float(self.control[1])

    def set(self, value) -> float:
        self.control = np.array(value, dtype=float)
        self.history.append(tuple(self.control))
        self.valid_from = time.monotonic()
        return self.valid_from

    @property
    def is_home(self) -> bool:
        return bool(np.array_equal(self.control, self.home))
