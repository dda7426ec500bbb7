"""``adaptive-scan benchmark partial-scan``: what it prints, and what it refuses."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import tiny_models
from partial_scan_images import write_images

from nionswift_plugin.adaptive_scan import command_line


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    write_images(tmp_path / "images", {"a": 80, "b": 70, "tiny": 30})
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "partial_scan_generator.onnx").write_bytes(tiny_models.generator())
    (tmp_path / "walk.onnx").write_bytes(tiny_models.direction_policy())
    (tmp_path / "sparse.onnx").write_bytes(tiny_models.direction_policy(probe_spacing_px=3.0))
    (tmp_path / "empty").mkdir()
    (tmp_path / "nan").mkdir()
    np.save(tmp_path / "nan" / "broken.npy", np.full((100, 100), np.nan))
    return tmp_path


def _words(folder: pathlib.Path, **options: object) -> list[str]:
    given = {
        "images": folder / "images",
        "size": 64,
        "crops": 2,
        "policies": folder / "walk.onnx",
        "generators": folder / "models",
        "out": folder / "sheets",
        **options,
    }
    return ["benchmark", "partial-scan", *(str(word) for name, value in given.items() for word in (f"--{name}", value))]


def test_json_is_one_line_and_the_rest_goes_to_standard_error(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main([*_words(folder, coverage=0.05), "--json"]) == 0
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    figures = json.loads(line)
    assert figures["probes"] == round(0.05 * 64 * 64)
    assert figures["electrons_per_pixel"] is None
    assert figures["skipped"] == ["tiny.npy: 30 x 30 px is below 64 px"]
    assert any(row["policy"] == "walk" for row in figures["policies"])
    told = captured.err.splitlines()
    assert any(line.startswith("spiral by partial_scan_generator: 205 probes, mean squared error ") for line in told)
    assert {path.name for path in (folder / "sheets").iterdir()} == {"sheet_a.png", "sheet_b.png", "paths.png"}


def test_without_json_there_are_tables(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(_words(folder, probes=100, dose=3)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "electrons_per_pixel 3.0" in lines[0]
    assert lines[1].split()[:2] == ["policy", "generator"]
    assert ["spiral", "partial_scan_generator"] in [line.split()[:2] for line in lines]
    for name in ("policy_of_another", "shuffled_image", "equal_time", "by_group", "skipped"):
        assert f"{name}:" in lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "nowhere"}, "images must be in a folder"),
        ({"images": "empty"}, "holds no image of at least 64 px"),
        ({"images": "nan"}, "broken.npy holds values that are not finite"),
        ({"size": 96}, "holds no image of at least 96 px a side (a.npy: 80 x 80 px is below 96 px"),
        ({"policies": "sparse.onnx"}, "was trained for 3 px between probes, not 1.41421"),
        ({"policies": "nobody"}, "no model named"),
        ({"generators": "nowhere"}, "generators must be in a folder"),
        ({"coverage": 1.5}, "coverage must be above 0 and at most 1, not 1.5"),
        ({"probes": 0}, "probes must be between 20 and 4096, not 0"),
        ({"dose": -1}, "dose must be positive, not -1.0"),
        ({"pixel-size": 0}, "pixel size must be positive, not 0.0"),
        ({"crops": 0}, "number of crops must be at least 1, not 0"),
        ({"jobs": 0}, "number of jobs must be at least 1, not 0"),
        ({"out": "walk.onnx"}, "is a file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str], options: dict[str, object], message: str
) -> None:
    before = sorted(folder.rglob("*"))
    paths = {"images", "generators", "out"}
    given = {name: folder / str(value) if name in paths else value for name, value in options.items()}
    if options.get("policies") == "sparse.onnx":
        given["policies"] = folder / "sparse.onnx"
    assert command_line.main([*_words(folder, **given), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert message in line
    assert sorted(folder.rglob("*")) == before
