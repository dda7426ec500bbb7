"""The training loop that every algorithm shares."""

import dataclasses
import time

import torch
from torch import nn

from adaptive_core.training.loop import Schedule, fit, training_clock
from adaptive_core.training.runs import RunFolder


@dataclasses.dataclass(frozen=True)
class _Config:
    name: str = "waiting"


def test_a_training_lasts_for_its_processor_time_not_for_the_time_of_day(tmp_path, monkeypatch):
    now = {"processor": 0.0}
    monkeypatch.setattr(time, "process_time", lambda: now["processor"])
    monkeypatch.setattr(time, "monotonic", lambda: 1e6 * now["processor"])  # a machine that does much else

    def step(network, _iteration, _progress):
        now["processor"] += 6.0
        return network(torch.ones(1, 1)).sum(), {}

    fitted = fit(
        nn.Linear(1, 1),
        RunFolder(tmp_path, _Config()),
        None,
        Schedule(minutes=0.5, iterations=1000, validate_every_s=1e9),
        lambda _iteration, _progress: 1e-3,
        step,
        lambda _network: {"validation": 1.0},
    )
    assert fitted.iterations == 5
    assert fitted.minutes == 0.5


def test_on_a_gpu_the_time_of_day_counts():
    assert training_clock(torch.device("cuda")) is time.monotonic
    assert training_clock(torch.device("cpu")) is time.process_time
