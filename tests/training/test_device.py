"""Trainings keep everything on the device of their config, go on on another one, and refuse one that is not there."""

import dataclasses

import pytest
import torch
from pretended_gpu import PretendedGpu
from tiny_config import SMALL, TINY

from adaptive_core.errors import InvalidInputError
from adaptive_core.training import partial_scan
from adaptive_core.training.partial_scan import crdpg_training, generator, path_gradient
from nionswift_plugin.adaptive_scan.command_line import main

GENERATOR = {**TINY, "paths": "spiral", "validation_crops": 1, "name": "generator-spiral"}
POLICY = {"batch": 2, "validation_crops": 1, "noise_free": 0.0}
CRDPG = {**SMALL, "doses": (4.0, 40.0), "repeats": 1}


@pytest.mark.filterwarnings("ignore:CUDA is not available")  # so says PyTorch of mixed precision
@pytest.mark.parametrize(
    ("module", "config", "changes"),
    [
        (generator, "generator", GENERATOR),
        (path_gradient, "path-gradient", POLICY),
        (crdpg_training, "table-s1-lstm", CRDPG),
        (crdpg_training, "td3", CRDPG),
    ],
)
def test_a_training_goes_on_on_another_device(tmp_path, tiny_generator, module, config, changes):
    if getattr(module.CONFIGS[config], "generator", None) is not None:
        changes["generator"] = tiny_generator if module is path_gradient else str(tiny_generator)
    first = dataclasses.replace(module.CONFIGS[config], **{**changes, "iterations": 1})
    before = module.train(first, tmp_path).read_bytes()
    with PretendedGpu():
        path = module.train(dataclasses.replace(first, iterations=3, device="cuda"), tmp_path, resume=True)
    assert path.read_bytes() != before
    assert (tmp_path / "curve.csv").read_text().splitlines()[-1].startswith("3,")


def test_what_pretends_to_be_a_gpu_refuses_to_mix_devices():
    with PretendedGpu():
        network = torch.nn.Linear(3, 3).to("cuda")
        assert network(torch.ones(2, 3, device="cuda")).device.type == "cuda"
        with pytest.raises(AssertionError, match="takes tensors on"):
            network(torch.ones(2, 3))
        with pytest.raises(AssertionError, match="only tensors on the CPU are arrays"):
            network.weight.detach().numpy()
        assert network.cpu().weight.detach().numpy().shape == (3, 3)


@pytest.mark.parametrize(("gpus", "device"), [(0, "cuda"), (1, "cuda:1")])
@pytest.mark.parametrize("config", ["generator", "generator-spiral", "path-gradient", "table-s1-lstm"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_made(tmp_path, monkeypatch, gpus, device, config):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(InvalidInputError, match=rf"^The config {config} needs an NVIDIA GPU \(device {device}\)"):
        partial_scan.train(config, out=tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("loop", "config"), [("partial-scan", "generator"), ("partial-scan", "td3"), ("ptychography", "autoencoder")]
)
def test_the_command_refuses_a_device_with_one_line(tmp_path, monkeypatch, capsys, loop, config):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, message in (("cuda", "needs an NVIDIA GPU"), ("gpu", "device must be cpu or cuda")):
        assert main(["train", loop, "--config", config, "--device", device, "--out", str(tmp_path / "run")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not (tmp_path / "run").exists()
