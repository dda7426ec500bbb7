"""A scanner made of an image, for tests of the loop; it records what was asked of it."""

import contextlib

import numpy as np

from adaptive_core.errors import InvalidInputError
from adaptive_core.ports import ScannerAbilities, ScannerSetup
from adaptive_core.scan_path import inside, rasterize


def wavy_image(size_px=(96, 96), channels=1):
    """A smooth image (channels, height, width) with a range of values far from zero."""
    y, x = np.indices(size_px) / 12.0
    return np.stack([500 + 100 * np.sin(y + c) * np.cos(x) + 20 * y for c in range(channels)]).astype(np.float32)


class FakeScanner:
    """Implements ports.PathScanner on an image of shape (channels, height, width)."""

    def __init__(
        self, image=None, beam_current_pa=20.0, abilities=None, wait_us=0.0, fail_at=None, error=None, values=None
    ):
        self.image = wavy_image() if image is None else image
        self.abilities = abilities or ScannerAbilities(positions_per_command=1000)
        self.setup = ScannerSetup(
            self.image.shape[1:], 0.05, 10.0, tuple(f"channel {c}" for c in range(len(self.image))), beam_current_pa
        )
        self.wait_us, self.fail_at, self.error, self.values = wait_us, fail_at, error, values
        self.actions = []
        self.beam_on_us = 0.0
        self.in_session = False
        self.sessions = 0

    def check(self, action):
        if not inside(action.positions, self.setup.size_px).all():
            raise InvalidInputError("Probe positions must lie in the region.")

    @contextlib.contextmanager
    def session(self):
        self.in_session, self.sessions = True, self.sessions + 1
        try:
            yield
        finally:
            self.in_session = False

    def scan(self, action):
        assert self.in_session
        if len(self.actions) == self.fail_at:
            if self.error is not None:
                raise self.error
            return self.values
        self.actions.append(action)
        rows, columns = rasterize(action.positions, self.setup.size_px)
        self.beam_on_us += action.probes * self.setup.dwell_us + self.wait_us
        return self.image[:, rows, columns]
