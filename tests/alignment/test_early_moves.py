"""While a policy learns how the disk moves, it keeps it on the camera at the largest plausible gain."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest
from instruments import LinearInstrument

from adaptive_core.alignment import menu
from adaptive_core.alignment.classical import Newton
from adaptive_core.alignment.episode import AlignmentEpisode, AlignmentSettings

HALF_PX = 128
SETTINGS = AlignmentSettings(largest_move=5.0, move_per_half_screen=1.2, radius_px=20.0)


@pytest.mark.parametrize("name", ["hybrid", "newton"])
@pytest.mark.parametrize("offset", [(95.0, 95.0), (0.0, -95.0)])
@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_no_early_move_drives_the_disk_off_the_camera(name: str, offset: tuple[float, float], gain: float) -> None:
    policy = menu.find_policy() if name == "hybrid" else Newton(guarded=True)
    for angle, mirror in itertools.product((0.3, 2.4), (1.0, -1.0)):
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, mirror])
        instrument = LinearInstrument(jacobian=gain * HALF_PX / 1.2 * turn, offset=offset)
        with contextlib.closing(AlignmentEpisode(instrument, instrument, policy, SETTINGS)) as run:
            for _ in itertools.islice(run, 5):
                assert np.abs(instrument.position).max() < HALF_PX
