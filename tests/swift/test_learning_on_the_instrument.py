"""The paper's agent learns on Swift's own camera and control, by the script of docs/alignment.md."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import typing

import numpy as np
import pytest
from swift_context import Swift

pytest.importorskip("gymnasium")
pytest.importorskip("stable_baselines3")

from adaptive_core.simulation.settings import CameraSettings
from adaptive_core.training.alignment import sac
from nionswift_plugin.adaptive_scan.alignment_devices import SwiftShift

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "alignment.md"
CONTROL = "DiffractionShift"
STEPS = 120
FIRST_UPDATE = 100  # stable-baselines3's: so many random steps come first


def test_the_paper_s_agent_learns_through_swift_and_leaves_the_shift_as_it_was(
    swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    simulator = swift_simulator.simulator
    assert simulator is not None
    simulator.settings = dataclasses.replace(simulator.settings, seed=1, camera=CameraSettings(world="A"))
    parameters = swift_simulator.camera.get_current_frame_parameters()
    parameters.exposure_ms, parameters.binning = 5.0, 4
    swift_simulator.camera.set_current_frame_parameters(parameters)
    shift = SwiftShift(swift_simulator.controller, CONTROL)
    home = shift.get()
    controller, moves = swift_simulator.controller, []
    set_value = controller.SetVal2DAndConfirm

    def set_and_keep(name: str, value: typing.Any, *arguments: typing.Any, **axis: typing.Any) -> bool:
        moves.append(value)
        return set_value(name, value, *arguments, **axis)

    monkeypatch.setattr(controller, "SetVal2DAndConfirm", set_and_keep)
    monkeypatch.setitem(
        typing.cast(dict[str, sac.SacConfig], sac.CONFIGS),
        "instrument",
        dataclasses.replace(sac.CONFIGS["instrument"], steps=STEPS),
    )
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"```python\n(import contextlib.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, typing.Any] = {}

    exec(compile(script, str(PAGE), "exec"), names)  # the page of this repository

    assert shift.get() == home
    assert len(moves) > STEPS
    world = simulator.camera.frames._position._world
    seen = names["stage"].position()
    assert world is not None
    assert seen is not None
    np.testing.assert_allclose(seen * 1024 / names["screen_px"], world.true_px[0], atol=1.0)
    agent, logs = names["agent"], names["logs"]
    assert agent.num_timesteps == STEPS
    assert agent._n_updates == STEPS - FIRST_UPDATE
    assert logs[0]["episodes"]
    assert (tmp_path / "alignment_agent.zip").stat().st_size > 1000
    assert not swift_simulator.document_model.data_items
