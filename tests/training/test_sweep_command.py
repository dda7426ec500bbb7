"""The command ``adaptive-scan sweep``: a tiny training for each combination, in one table, and nothing done twice."""

import csv
import dataclasses
import importlib
import sys

import distributed
import pytest
import torch

from adaptive_core.training import partial_scan, trainings
from adaptive_core.training.runs import RunFolder
from nionswift_plugin.adaptive_scan.command_line import main

TINY = [
    "channels=[16,16,16]",
    "blocks=[1,1,1]",
    "sizes_px=[96]",
    "size_weights=[1.0]",
    "batch=2",
    "specimens=0",
    "iterations=2",
    "validation_crops=0",
    "scored_crops=1",
]


def test_a_sweep_trains_every_combination_and_prints_one_table(tmp_path, image_folder, capsys):
    words = ["sweep", "partial-scan", "--config", "generator", "--seed", "4", "--images", str(image_folder)]
    words += ["--set", *TINY, "noise_free=0.2,0.9", "--out", str(tmp_path)]
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False) as own:
        assert main([*words, "--scheduler", own.scheduler_address]) == 0
    printed = capsys.readouterr()
    assert "2 of 2" in printed.err
    header, *lines = printed.out.splitlines()
    assert header.split()[:3] == ["loop", "config", "seed"]
    with (tmp_path / "sweep.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["seed"], row["noise_free"]) for row in rows] == [("4", "0.2"), ("4", "0.9")]
    assert {row["curve.iteration"] for row in rows} == {"2.0"}
    assert len(list(tmp_path.glob("*/partial_scan_generator.onnx"))) == 2
    assert len({row["spiral MSE in [-1, 1].linear"] for row in rows}) == 1
    assert len(lines) == 2

    assert main(words) == 0  # everything is finished: no workers, the same table
    assert capsys.readouterr().out == printed.out


def test_a_pattern_stands_for_the_configs_that_it_matches():
    cells = trainings.cells_of("partial-scan", ["table-s1-buffer-*"], [1], {}, None, None)
    names = [cell["config"] for cell in cells]
    assert names == [name for name in partial_scan.CONFIGS if name.startswith("table-s1-buffer-")]
    assert len(names) == 6


def test_what_several_cells_go_on_from_is_trained_once_before_them(tmp_path, monkeypatch):
    trained = []

    def train(config, out, **changes):
        assert out.parent == tmp_path
        trained.append((config, changes.get("minutes"), changes["seed"]))
        return out / "model"

    monkeypatch.setattr(partial_scan, "train", train)
    words = ["sweep", "partial-scan", "--config", "generator-spiral", "generator-halton-large", "--minutes", "7"]
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False) as own:
        assert main([*words, "--seed", "3", "--out", str(tmp_path), "--scheduler", own.scheduler_address]) == 0
    first, second, *cells = trained
    # As long as the longer of the two cells asks for: half of 14 minutes, not 7 of 15.
    assert first == ("generator", 22.5, 1)
    assert second == ("generator-further", 7.0, 2)
    assert sorted(cells) == [("generator-halton-large", 7.0, 3), ("generator-spiral", 7.0, 3)]
    assert len((tmp_path / "sweep.csv").read_text().splitlines()) == 3

    trained.clear()
    assert main([*words, "--seed", "3", "--out", str(tmp_path)]) == 0
    assert trained == []


@pytest.mark.parametrize("curve", ["", "iteration,seconds\n"])
def test_a_learning_curve_without_a_row_has_no_end(tmp_path, monkeypatch, curve):
    (tmp_path / "curve.csv").write_text(curve)
    monkeypatch.setattr(partial_scan, "train", lambda *_args, **_changes: tmp_path / "folder")
    assert trainings.run_cell({"loop": "partial-scan", "config": "td3"}, tmp_path)["curve"] == {}


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_training_shows_its_learning_curve_and_on_a_terminal_a_bar(tmp_path, monkeypatch, capsys, is_terminal):
    def train(*_, **_changes):
        run = RunFolder(tmp_path, dataclasses.make_dataclass("Config", [])())
        run.report(0.25, 7)
        run.report(0.5, 8)  # too soon after the one before
        run.log({"iteration": 9, "seconds": 1.5, "training": 0.5})
        return tmp_path / "model.onnx"

    monkeypatch.setattr(partial_scan, "train", train)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert main(["train", "partial-scan", "--config", "td3"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'model.onnx'}\n"
    bar = f"\r[{10 * '#'}{30 * '.'}]  25%  iteration 7\r\x1b[K" if is_terminal else ""
    assert printed.err == f"{bar}iteration 9  seconds 1.5  training 0.5\n"


@pytest.mark.parametrize("loop", list(trainings.DOORS))
def test_help_of_train_names_every_config(loop, capsys):
    with pytest.raises(SystemExit):
        main(["train", loop, "--help"])
    printed = set(capsys.readouterr().out.split("configs: ")[1].replace(",", " ").split())
    names = importlib.import_module(f"adaptive_core.training.{loop.replace('-', '_')}").CONFIGS
    assert printed == set(names)
    for name in names:
        importlib.import_module(trainings.DOORS[loop]).configured(name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "magic"], "no config 'magic'"),
        (["--config", "generator", "--set", "colour=1"], "generator has no field 'colour'"),
        (["--config", "generator", "--set", "seed"], "--set takes FIELD=V1,V2"),
        (["--config", "generator", "--minutes", "-1"], "--minutes must be positive"),
        (["--config", "generator", "--jobs", "0"], "at least one job"),
        (["--config", "small-s2-*"], "no config 'small-s2-*'"),
        (["--config", "generator", "--seed", "1", "-1"], "must not be negative, but is -1"),
        (["--config", "generator", "--images", "nowhere"], "must be in a folder; nowhere is none"),
        (["--config", "td3", "--set", "channels=[8]"], "3 numbers of channels"),
        (["--config", "generator", "--set", "device=gpu"], "device must be cpu or cuda, or a GPU by its number"),
        (["--config", "table-s1-*", "path-gradient", "--set", "device=cuda"], "table-s1-spiral needs an NVIDIA GPU"),
        (["ptychography", "--config", "autoencoder-paper"], "autoencoder-paper needs an NVIDIA GPU"),
        (["alignment", "--config", "paper", "--minutes", "3"], "paper has no field 'minutes'"),
        (["alignment", "--config", "hybrid", "--images", "x"], "hybrid has no field 'images'"),
        (["ptychography", "--config", "autoencoder", "magic"], "no config 'magic'"),
    ],
)
def test_bad_sweeps_are_refused_with_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    loop = [] if words[0][0] != "-" else ["partial-scan"]
    assert main(["sweep", *loop, *words, "--out", str(tmp_path / "sweep")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()
