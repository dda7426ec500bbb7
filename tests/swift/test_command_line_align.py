"""The commands ``align``, ``benchmark`` and ``train``: what they print, and how they end."""

from __future__ import annotations

import collections.abc
import contextlib
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import types
import typing

import pytest
from command_tools import Run
from nion.utils import Geometry
from swift_context import Swift

from adaptive_core.alignment.classical import Newton
from nionswift_plugin.adaptive_scan.command_line import align as align_command
from nionswift_plugin.adaptive_scan.command_line import train as train_command
from nionswift_plugin.adaptive_scan.command_line.benchmark import BENCHMARKS

ROOT = pathlib.Path(__file__).parents[2]
CONTROL = "DiffractionShift"
NEWTON = Newton(guarded=True).name


@pytest.fixture
def align(run_command: Run, swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command with the hardware of the fixture."""
    monkeypatch.setattr(align_command, "headless_swift", lambda _: contextlib.nullcontext())
    assert swift_simulator.simulator is not None
    return lambda *words: run_command("align", "--exposure-ms", "20", *words)


def shift(swift: Swift) -> tuple[float, float]:
    value = swift.controller.GetVal2D(CONTROL, axis=("x", "y"))
    return float(value.y), float(value.x)


def test_the_disk_is_centred_and_reported(align: Run, swift_simulator: Swift, home: pathlib.Path) -> None:
    outcome = align("--world", "B", "--seed", "3", "--json")
    assert outcome.status == 0
    assert outcome.report["finish_reason"] == "ALIGNED"
    assert outcome.report["camera"] == "adaptive_simulator_camera"
    assert outcome.report["control"] == CONTROL
    assert outcome.report["residual_px"] < 1.0
    assert outcome.report["frames"] < 15
    assert shift(swift_simulator) == pytest.approx(outcome.report["end"])
    assert list(home.rglob("adaptive_scan_shift_responses.json"))


def test_a_target_and_a_line_for_people(align: Run, swift_simulator: Swift) -> None:
    outcome = align("--world", "none", "--target", "150,100", "--policy", NEWTON)
    assert outcome.status == 0
    assert outcome.lines[0].startswith("Centred: ")
    # 256 px of 0.8 mrad.
    assert shift(swift_simulator) == pytest.approx((22 * 0.8e-3, -28 * 0.8e-3), abs=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "3"), "--target must be two numbers Y,X in px, not '3'."),
        (("--target", "3,900"), "is not on the camera's frame"),
        (("--tolerance", "0"), "--tolerance must be positive, not 0.0."),
        (("--seed", "-1"), "--seed must not be negative, not -1."),
        (("--camera", "nothing"), "There is no camera nothing; there are: adaptive_simulator_camera."),
        (("--device", "nothing"), "There is no STEM controller 'nothing'; there are: adaptive_simulator_instrument."),
        (("--control", "BeamCurrent"), "no 2D control 'BeamCurrent'"),
        (("--policy", "nothing"), "There is no alignment policy 'nothing'"),
        (("--world", "D"), "invalid choice: 'D'"),
    ],
)
def test_bad_input_is_refused(align: Run, swift_simulator: Swift, words: tuple[str, ...], message: str) -> None:
    outcome = align(*words)
    assert outcome.status == 2
    assert outcome.lines == []
    assert len(outcome.errors) == 1
    assert message in outcome.errors[0]
    assert shift(swift_simulator) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("option", "message"), [("--max-shift", "within the largest move of 0.02"), ("--limit", "control's limit of 0.02")]
)
def test_a_failed_alignment_puts_the_shift_back(align: Run, swift_simulator: Swift, option: str, message: str) -> None:
    swift_simulator.controller.SetVal2D(CONTROL, Geometry.FloatPoint(1e-3, 2e-3))
    outcome = align("--world", "A", "--seed", "3", option, "0.02", "--json")
    assert outcome.status == 1
    assert outcome.report["finish_reason"] == "FAILED"
    assert message in outcome.report["error"]
    assert shift(swift_simulator) == pytest.approx((1e-3, 2e-3))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_puts_the_shift_back(
    align: Run, swift_simulator: Swift, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    controller = swift_simulator.controller
    set_value = controller.SetVal2DAndConfirm

    def set_and_interrupt(*arguments: typing.Any, **axis: typing.Any) -> bool:
        monkeypatch.setattr(controller, "SetVal2DAndConfirm", set_value)
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        return set_value(*arguments, **axis)

    monkeypatch.setattr(controller, "SetVal2DAndConfirm", set_and_interrupt)
    outcome = align("--world", "B", "--seed", "3", "--json")
    assert outcome.status == 1
    assert outcome.report["finish_reason"] == "CANCELLED"
    assert shift(swift_simulator) == (0.0, 0.0)


def test_benchmark_alignment(run_command: Run) -> None:
    words = ("benchmark", "alignment", "--world", "A", "--trials", "2", "--policy", NEWTON)
    outcome = run_command(*words, "--json")
    assert outcome.status == 0
    (row,) = outcome.report["policies"]
    assert set(row) == {
        "policy",
        "frames_mean",
        "frames_p95",
        "success",
        "off_screen",
        "rms_px",
        "ms_per_step",
        "ms_per_step_in_loop",
    }
    assert run_command(*words, "--seed", "1", "--json").report["policies"] != outcome.report["policies"]
    table = run_command(*words).lines
    assert table[0] == "world A, trials 2, seed 0, success_px 1.0, most_frames 20"
    assert table[2].startswith(NEWTON)
    refused = run_command("benchmark", "alignment", "--world", "A", "--trials", "0")
    assert (refused.status, len(refused.errors)) == (2, 1)


def test_benchmark_disk_finding(run_command: Run) -> None:
    words = ("benchmark", "disk-finding", "--frames", "1", "--gate-frames", "2", "--seed", "3")
    outcome = run_command(*words, "--json")
    assert (outcome.status, outcome.errors) == (0, [])
    assert outcome.report["seed"] == 3
    assert set(outcome.report["cases"][0]) == {"case", "method", "rms_px", "median_px", "ms"}
    assert [row["right"] for row in outcome.report["gate"]] == [1.0, 1.0]
    table = run_command(*words).lines
    assert table[0] == "frames 1, seed 3, gate_frames 2"
    assert table[-4] == "gate:"


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_every_benchmark_refuses_a_negative_seed(run_command: Run, name: str, tmp_path: pathlib.Path) -> None:
    needed = {
        "alignment": ("--world", "A"),
        "partial-scan": ("--images", tmp_path),
        "ptychography": ("--protocol", "paper"),
    }
    outcome = run_command("benchmark", name, *needed.get(name, ()), "--seed", "-1")
    assert outcome.status == 2
    assert outcome.errors == ["adaptive-scan: --seed must not be negative, not -1."]


def test_training_without_its_packages_says_what_to_install(run_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    outcome = run_command("train", "partial-scan", "--config", "generator")
    assert outcome.status == 2
    assert outcome.errors == [
        "adaptive-scan: Training needs the package torch; install it with: pip install "
        "'nionswift-adaptive-scan[train]' (in its repository: pip install '.[train]')."
    ]


def test_training_is_handed_its_arguments(
    run_command: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    calls: list[typing.Any] = []

    def train(*arguments: typing.Any, device: str | None) -> pathlib.Path:
        calls.append((*arguments, device))
        return tmp_path / "model.onnx"

    fake = types.SimpleNamespace(train=train, main=calls.append, CONFIGS={})
    find: collections.abc.Callable[[str], typing.Any] = importlib.import_module
    monkeypatch.setattr(
        train_command.importlib,
        "import_module",
        lambda name: fake if name == "torch" or "training" in name else find(name),
    )
    outcome = run_command(
        *("train", "partial-scan", "--config", "generator", "--minutes", "2", "--resume", "--out", tmp_path / "run"),
        *("--device", "cuda"),
    )
    assert outcome.lines == [str(tmp_path / "model.onnx")]
    assert calls.pop() == ("generator", None, 2.0, True, tmp_path / "run", "cuda")


def test_the_alignments_policy_is_trained_and_resumed(run_command: Run, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("torch")
    command = ("train", "alignment", "--config", "hybrid", "--minutes", "0.001", "--out", tmp_path / "run")
    outcome = run_command(*command)
    assert outcome.lines == [str(tmp_path / "run" / "alignment_hybrid.onnx")], outcome.errors
    again = run_command(*command)
    assert again.status == 2
    assert "holds a training run already" in again.errors[0]
    assert run_command(*command, "--resume").lines == outcome.lines
    # The command on the card of the model that ships makes this model.
    made, shipped = (
        json.loads((folder / "config.json").read_text())["config"]
        for folder in (tmp_path / "run", ROOT / "models" / "training" / "alignment_hybrid")
    )
    assert made | {"minutes": None} == shipped | {"minutes": None}
    outcome = run_command("train", "alignment", "--config", "nothing")
    assert outcome.status == 2
    assert "There is no config 'nothing'; there are hybrid, binning-1" in outcome.errors[0]
    outcome = run_command("train", "alignment", "--config", "paper", "--resume")
    assert "it takes no --minutes and no --resume" in outcome.errors[0]


def test_a_reader_that_has_seen_enough_gets_no_traceback(home: pathlib.Path) -> None:
    program = (
        "import sys; from nionswift_plugin.adaptive_scan import command_line; "
        "sys.exit(command_line.main(['models', 'list']))"
    )
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=nobody, stderr=subprocess.PIPE, text=True, timeout=300, check=False
        )
    assert done.returncode == 1
    assert done.stderr == ""
    assert home.exists()
