"""Models on the command line: scanning with them, and looking after them."""

from __future__ import annotations

import json
import pathlib

import pytest
import tiny_models
from command_tools import Run


@pytest.fixture
def own_models(home: pathlib.Path) -> pathlib.Path:
    """The user's folder of models."""
    return home / "data" / "Nion" / "Nion Swift" / "Adaptive Scan" / "Models"


@pytest.mark.usefixtures("swift_both")
def test_a_scan_with_models_is_told_again_from_their_hashes(
    run_command: Run, tmp_path: pathlib.Path, own_models: pathlib.Path
) -> None:
    policy = tiny_models.save(own_models, "policy.onnx", tiny_models.direction_policy())
    generator = tiny_models.save(tmp_path, "generator.onnx", tiny_models.generator())
    words = ("--policy", "Tiny policy", "--generator", generator, "--segments", "12", "--out", tmp_path / "out")
    outcome = run_command("scan", *words, "--json")
    assert (outcome.status, outcome.errors) == (0, [])
    assert (outcome.report["policy"], outcome.report["generator"]) == ("Tiny policy", "Tiny generator")
    assert outcome.report["probes"] == 240
    # A generator from elsewhere is named, with its hash.
    outcome = run_command("replay", tmp_path / "out")
    assert outcome.status == 2
    assert "Tiny generator" in outcome.errors[0]
    generator.rename(own_models / "renamed.onnx")
    policy.unlink()
    outcome = run_command("replay", tmp_path / "out")
    assert (outcome.status, outcome.errors) == (0, [])
    assert "240 probes" in outcome.lines[1]


@pytest.mark.usefixtures("swift_both")
@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("--policy", tiny_models.generator(), "expected a model of the kind partial_scan_policy"),
        ("--generator", tiny_models.direction_policy(), "expected a model of the kind partial_scan_generator"),
        ("--generator", tiny_models.nan_generator(), "finite"),
        ("--policy", tiny_models.nan_policy(), "finite"),
        ("--policy", b"nothing of the kind", "ONNX"),
    ],
)
def test_models_that_are_refused(
    run_command: Run, tmp_path: pathlib.Path, part: str, content: bytes, message: str
) -> None:
    path = tiny_models.save(tmp_path, "bad.onnx", content)
    outcome = run_command("scan", part, path, "--out", tmp_path / "out")
    assert outcome.status == 2
    assert len(outcome.errors) == 1
    assert "bad.onnx" in outcome.errors[0]
    assert message in outcome.errors[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("swift_both")
def test_a_policy_that_answers_nan_in_mid_scan_loses_nothing(run_command: Run, tmp_path: pathlib.Path) -> None:
    policy = tiny_models.save(tmp_path, "bad.onnx", tiny_models.nan_policy(after=3))
    words = ("--policy", policy, "--generator", "linear-interpolation", "--out", tmp_path / "out", "--json")
    outcome = run_command("scan", *words)
    assert outcome.status == 2
    assert len(outcome.errors) == 1
    assert outcome.report["finish_reason"] == "FAILED"
    assert outcome.report["probes"] == 60
    assert (tmp_path / "out" / "summary.png").exists()
    assert run_command("replay", tmp_path / "out").status == 0


def test_a_model_is_added_listed_shown_and_verified(
    run_command: Run, tmp_path: pathlib.Path, own_models: pathlib.Path
) -> None:
    bare = tiny_models.save(tmp_path, "mine.onnx", tiny_models.generator())
    card = tmp_path / "card.json"
    card.write_text(json.dumps({**json.loads(tiny_models.GENERATOR_CARD.to_json()), "name": "My generator"}))
    outcome = run_command("models", "add", bare, "--card", card)
    assert (outcome.status, outcome.errors) == (0, [])
    assert (own_models / "mine.onnx").exists()
    assert run_command("models", "add", bare).status == 2
    assert run_command("models", "add", bare, "--card", card, "--replace").status == 0
    listed = run_command("models", "list", "--kind", "partial_scan_generator").lines
    assert any(line.startswith("mine: partial_scan_generator, My generator") for line in listed)
    shown = json.loads("\n".join(run_command("models", "show", "My generator").lines))
    assert shown["description"] == "Gives the measured pixels back."
    assert len(shown["sha256"]) == 64
    outcome = run_command("models", "verify", "My generator")
    assert outcome.status == 0
    assert outcome.lines[0].startswith("mine: good, partial_scan_generator")


def test_a_bad_model_is_listed_with_its_reason_and_fails_to_verify(run_command: Run, own_models: pathlib.Path) -> None:
    tiny_models.save(own_models, "bad.onnx", b"nothing of the kind")
    assert any(line.startswith("bad: refused") for line in run_command("models", "list").lines)
    outcome = run_command("models", "verify", own_models / "bad.onnx")
    assert outcome.status == 2
    assert outcome.lines[0].startswith("bad: refused")
    assert outcome.errors == ["adaptive-scan: 1 of 1 models refused."]


def test_the_shipped_models_are_good(run_command: Run) -> None:
    assert run_command("models", "verify").status == 0
