"""The command ``adaptive-scan sweep``: a tiny training for each combination, in one table, and nothing done twice."""

import csv

import distributed
import pytest

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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "magic"], "no config 'magic'"),
        (["--config", "generator", "--set", "colour=1"], "generator has no field 'colour'"),
        (["--config", "generator", "--set", "seed"], "--set takes FIELD=V1,V2"),
        (["--config", "generator", "--minutes", "-1"], "--minutes must be positive"),
        (["--config", "generator", "--jobs", "0"], "at least one job"),
        (["alignment", "--config", "paper", "--minutes", "3"], "paper has no field 'minutes'"),
        (["alignment", "--config", "hybrid", "--images", "x"], "hybrid has no field 'images'"),
        (["ptychography", "--config", "autoencoder", "magic"], "no config 'magic'"),
    ],
)
def test_bad_sweeps_are_refused_with_one_line(tmp_path, capsys, words, message):
    loop = [] if words[0][0] != "-" else ["partial-scan"]
    assert main(["sweep", *loop, *words, "--out", str(tmp_path / "sweep")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()
