"""The paper's agent learns on Swift's own camera and control."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from swift_context import Swift

pytest.importorskip("gymnasium")
pytest.importorskip("stable_baselines3")

from adaptive_core.simulation.settings import CameraSettings
from adaptive_core.training.alignment import sac
from adaptive_core.training.alignment.paper_env import PortStage
from nionswift_plugin.adaptive_scan.alignment_devices import SwiftDiskCamera, SwiftShift

CONTROL = "DiffractionShift"
STEPS = 120
FIRST_UPDATE = 100  # stable-baselines3's: so many random steps come first


def test_the_paper_s_agent_learns_through_swift_and_leaves_the_shift_as_it_was(swift_simulator: Swift) -> None:
    simulator = swift_simulator.simulator
    assert simulator is not None
    simulator.settings = dataclasses.replace(simulator.settings, seed=1, camera=CameraSettings(world="A"))
    parameters = swift_simulator.camera.get_current_frame_parameters()
    parameters.exposure_ms, parameters.binning = 5.0, 4
    swift_simulator.camera.set_current_frame_parameters(parameters)
    camera = SwiftDiskCamera(swift_simulator.camera)
    shift = SwiftShift(swift_simulator.controller, CONTROL)
    home = shift.get()
    config = dataclasses.replace(sac.CONFIGS["instrument"], steps=STEPS)
    screen_px = config.environment.screen_px
    assert camera.mrad_per_px is not None
    frame_rad = max(camera.shape) * camera.mrad_per_px * 1e-3
    stage = PortStage(camera, shift, frame_rad / screen_px, screen_px, largest_move=frame_rad / 2)

    with camera.session():
        agent, logs = sac.train(config, stage)
        seen = stage.position()

    world = simulator.camera.frames._position._world
    assert world is not None
    assert seen is not None
    np.testing.assert_allclose(seen * 1024 / screen_px, world.true_px[0], atol=1.0)
    assert agent.num_timesteps == STEPS
    assert agent._n_updates == STEPS - FIRST_UPDATE
    assert logs[0]["episodes"]
    assert math.dist(shift.get(), home) > 0
    stage.close()
    assert shift.get() == home
    assert not swift_simulator.document_model.data_items
