"""The benchmark as a whole: what is in its tables, and that the figures mean what they say."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest
import tiny_models
from partial_scan_images import write_images, write_manifest

from adaptive_core.errors import InvalidInputError, ModelError
from adaptive_core.partial_scan import benchmark
from adaptive_core.partial_scan.benchmark import tables
from adaptive_core.partial_scan.benchmark.bench import Bench, Result, Task
from adaptive_core.partial_scan.benchmark.rivals import Rival
from adaptive_core.partial_scan.benchmark.scan import Score
from adaptive_core.partial_scan.truths import load_images, seeded_crops

POLICY_COLUMNS = {
    "policy", "generator", "adaptive", "connected", "mse_mean", "mse_sd", "mse_median", "psnr_db", "ssim", "probes",
    "coverage", "dose_e_per_A2", "ratio_to_spiral", "jumps", "decide_s",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Images of two specimens, one too small, and a folder of models."""
    path = tmp_path_factory.mktemp("benchmark")
    write_images(path / "images", {"a1": 100, "a2": 90, "b": 80, "tiny": 50})
    write_manifest(path / "images", [{"file": f"{n}.npy", "group": n[0]} for n in ("a1", "a2", "b", "tiny")])
    models = path / "models"
    models.mkdir()
    (models / "partial_scan_generator.onnx").write_bytes(tiny_models.generator())
    (models / "partial_scan_generator_spiral.onnx").write_bytes(tiny_models.generator(name="Spiral generator"))
    (models / "partial_scan_denoiser.onnx").write_bytes(tiny_models.generator(name="Denoiser"))
    (path / "walk.onnx").write_bytes(tiny_models.direction_policy())
    (path / "look.onnx").write_bytes(tiny_models.positions_policy())
    (path / "blind.onnx").write_bytes(tiny_models.segment_policy())
    (path / "sparse.onnx").write_bytes(tiny_models.direction_policy(probe_spacing_px=3.0))
    return path


@pytest.fixture(scope="module")
def settings(folder: pathlib.Path) -> benchmark.Settings:
    return benchmark.Settings(
        images=folder / "images",
        size_px=64,
        electrons_per_pixel=10.0,
        crops=3,
        seed=4,
        policies=tuple(str(folder / f"{name}.onnx") for name in ("walk", "look")),
        models=benchmark.Models(folder=folder / "models"),
    )


@pytest.fixture(scope="module")
def figures(settings: benchmark.Settings) -> benchmark.Figures:
    return benchmark.run(settings)


def _rows(table: list[benchmark.Figures], policy: str, **values: object) -> list[benchmark.Figures]:
    return [row for row in table if row["policy"] == policy and values.items() <= row.items()]


def test_every_rival_is_in_the_table(figures: benchmark.Figures) -> None:
    lines = {(row["policy"], row["generator"]) for row in figures["policies"]}
    grid = {("uniform-grid", name) for name in ("nearest-interpolation", "linear-interpolation", "biharmonic")}
    own = {("spiral", "partial_scan_generator_spiral"), ("full-raster", "partial_scan_denoiser")}
    shared = {"spiral", "serpentine", "uniform-grid", "halton", "random-segments", "full-raster"} | {"walk", "look"}
    assert grid | own | {(name, "partial_scan_generator") for name in shared} <= lines
    assert ("full-raster", "wiener-filter") in lines
    assert all(set(row) == POLICY_COLUMNS for row in figures["policies"])
    assert figures["models"]["partial_scan_generator_spiral"]["name"] == "Spiral generator"
    assert len(figures["models"]["walk"]["sha256"]) == 64


def test_what_was_compared_is_told(figures: benchmark.Figures) -> None:
    assert (figures["crops"], figures["groups"]) == (3, {"a": 2, "b": 1})
    assert (figures["probes"], figures["coverage"]) == (180, 180 / 4096)
    assert figures["skipped"] == ["tiny.npy: 50 x 50 px is below 64 px"]


def test_who_adapts_and_who_is_connected(figures: benchmark.Figures) -> None:
    kinds = {row["policy"]: (row["adaptive"], row["connected"]) for row in figures["policies"]}
    assert kinds["spiral"] == kinds["serpentine"] == (False, True)
    assert kinds["uniform-grid"] == kinds["halton"] == kinds["random-segments"] == (False, False)
    assert kinds["walk"] == (True, True)
    assert kinds["look"] == (True, False)
    adaptive = {name for name, (adapts, _) in kinds.items() if adapts}
    for table in ("policy_of_another", "shuffled_image"):
        assert {row["policy"] for row in figures[table]} == adaptive


def test_everybody_gets_the_same_probes_and_dose(figures: benchmark.Figures) -> None:
    for row in figures["policies"]:
        assert row["probes"] == {"full-raster": 4096, "uniform-grid": 13 * 13}.get(row["policy"], 180)
        assert row["dose_e_per_A2"] == pytest.approx(40.0)


def test_ratios_are_to_the_better_of_the_spirals(figures: benchmark.Figures) -> None:
    best = min(row["mse_mean"] for row in _rows(figures["policies"], "spiral"))
    for row in figures["policies"]:
        assert row["ratio_to_spiral"] == pytest.approx(row["mse_mean"] / best)


def test_a_shuffled_truth_cannot_be_completed(figures: benchmark.Figures) -> None:
    for row in figures["shuffled_image"]:
        assert row["error_over_variance_shuffled"] > 1 - figures["coverage"]


def test_at_equal_time_those_that_jump_lose_dose_or_probes(figures: benchmark.Figures) -> None:
    times = figures["equal_time"]
    assert {(row["shortest_dwell_us"], row["time_us"]) for row in times} == {(1, 1080), (1, 4096), (1000, 180_900)}
    fast = {"shortest_dwell_us": 1.0, "time_us": 1080.0}
    assert _rows(times, "full-raster", **fast)[0]["mse_mean"] is None
    assert _rows(times, "spiral", **fast)[0]["probes"] == 1080
    assert _rows(times, "halton", **fast)[0]["probes"] == 180
    # 1080 us less 179 jumps of 5 us.
    assert _rows(times, "halton", **fast)[0]["dose_e_per_A2"] == pytest.approx(40 * (1080 - 179 * 5) / 1080, rel=1e-3)
    raster = {"shortest_dwell_us": 1.0, "time_us": 4096.0}
    assert _rows(times, "full-raster", **raster)[0]["dose_e_per_A2"] == pytest.approx(40.0)
    assert _rows(times, "spiral", **raster)[0]["probes"] == 180
    assert _rows(times, "halton", **raster)[0]["dose_e_per_A2"] == pytest.approx(40 * (4096 - 179 * 5) / 4096, rel=1e-3)
    for row in times:
        if row["probes"] is not None:
            settled_us = row["jumps"] * 5.0
            assert row["probes"] * row["shortest_dwell_us"] + settled_us <= row["time_us"] * 1.01


def test_intervals_are_told_by_group(figures: benchmark.Figures) -> None:
    rows = _rows(figures["by_group"], "halton", generator="partial_scan_generator")
    assert [(row["group"], row["crops"]) for row in rows] == [("a", 2), ("b", 1)]
    for row in rows:
        assert 0 < row["coverage_of_90_interval"] <= 1
        assert row["mean_width"] > 0
        assert np.isfinite(row["negative_log_likelihood"])
    assert all(row["mean_width"] is None for row in _rows(figures["by_group"], "uniform-grid", generator="biharmonic"))
    assert all(row["mean_width"] is None for row in _rows(figures["by_group"], "full-raster"))


def test_the_figures_depend_on_nothing_but_the_settings(
    settings: benchmark.Settings, figures: benchmark.Figures
) -> None:
    again = benchmark.run(dataclasses.replace(settings, jobs=2, times=False))
    for row in (*again["policies"], *figures["policies"]):
        row.pop("decide_s", None)
    assert again["policies"] == figures["policies"]
    assert again["policy_of_another"] == figures["policy_of_another"]
    assert again["equal_time"] == []
    other = benchmark.run(dataclasses.replace(settings, seed=5, times=False))
    assert other["policies"][0]["mse_mean"] != figures["policies"][0]["mse_mean"]


def test_without_noise_there_is_no_dose_and_no_raster(settings: benchmark.Settings, tmp_path: pathlib.Path) -> None:
    clean = dataclasses.replace(settings, electrons_per_pixel=None, crops=2)
    figures = benchmark.run(clean, out=tmp_path / "sheets")
    assert figures["equal_time"] == []
    assert not _rows(figures["policies"], "full-raster")
    assert all(row["dose_e_per_A2"] is None for row in figures["policies"])
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {"sheet_a.png", "sheet_b.png", "paths.png"}


def test_a_mean_is_one_over_specimen_groups(settings: benchmark.Settings) -> None:
    crops = seeded_crops(load_images(settings.images, None, 64), 64, 3, 0)
    errors = iter((0.1, 0.4, 0.3))

    def carry(tasks: list[Task]) -> list[Result]:
        return [Result(Score(next(errors), 20.0, 0.5, 180, 0, 0.0, None), np.zeros((180, 2))) for _ in tasks[0].crops]

    comparison = tables.Comparison(settings, crops, carry)
    assert comparison.groups == ["a", "b", "a"]
    rival = Rival("spiral", "partial_scan_generator")
    line = comparison.table({rival: comparison.row(rival, 180, None)})[0]
    assert line["mse_mean"] == pytest.approx((0.2 + 0.4) / 2)
    assert line["mse_median"] == pytest.approx(0.3)


def test_the_positions_of_another_are_those_of_another_specimen(settings: benchmark.Settings) -> None:
    crops = seeded_crops(load_images(settings.images, None, 64), 64, 3, 0)
    bench = Bench(settings, crops)
    asked: list[Task] = []

    def carry(tasks: list[Task]) -> list[Result]:
        asked.extend(tasks)
        return [result for task in tasks for result in bench.run(task)]

    comparison = tables.Comparison(settings, crops, carry)
    rival = Rival("uniform-grid", "nearest-interpolation")
    own = comparison.row(rival, 180, None)
    marked = [Result(result.score, result.positions[: 100 + i]) for i, result in enumerate(own)]
    comparison.of_another(rival, marked)
    walks = asked[-1].positions
    assert walks is not None
    chosen = [len(walk) - 100 for walk in walks]
    assert all(comparison.groups[i] != comparison.groups[other] for i, other in enumerate(chosen))


def test_a_policy_that_never_looks_does_not_adapt(folder: pathlib.Path) -> None:
    models = benchmark.Models(policies=(("blind", str(folder / "blind.onnx")), ("walk", str(folder / "walk.onnx"))))
    assert [models.adaptive(name) for name in ("blind", "walk", "spiral")] == [False, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_px": 16}, "size must be at least 32, not 16"),
        ({"crops": 0}, "number of crops must be at least 1"),
        ({"jobs": 0}, "number of jobs must be at least 1"),
        ({"probes": 10}, "probes must be between 20 and 4096, not 10"),
        ({"electrons_per_pixel": 0.0}, "dose must be positive, not 0.0"),
        ({"electrons_per_pixel": float("nan")}, "dose must be positive, not nan"),
        ({"pixel_size_nm": -1.0}, "pixel size must be positive"),
        ({"seed": -1}, "seed must not be negative"),
        ({"size_px": 512}, "holds no image of at least 512 px"),
    ],
)
def test_bad_numbers_are_refused(settings: benchmark.Settings, change: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        benchmark.run(dataclasses.replace(settings, **change))


def test_a_policy_that_cannot_take_part_is_refused_by_name(
    settings: benchmark.Settings, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    sparse = dataclasses.replace(settings, policies=(str(folder / "sparse.onnx"),))
    with pytest.raises(InvalidInputError, match=r"trained for 3 px between probes, not 1\.41421"):
        benchmark.run(sparse, out=tmp_path / "sheets")
    assert not (tmp_path / "sheets").exists()
    with pytest.raises(ModelError, match="no model named 'nobody'"):
        benchmark.run(dataclasses.replace(settings, policies=("nobody",)))


def test_a_generator_that_is_not_there_is_refused_before_anything_runs(
    settings: benchmark.Settings, tmp_path: pathlib.Path
) -> None:
    lines: list[str] = []
    models = dataclasses.replace(settings.models, generator="nobody")
    with pytest.raises(ModelError, match="no model named 'nobody'"):
        benchmark.run(dataclasses.replace(settings, models=models), lines.append, tmp_path / "sheets")
    assert not lines
    assert not (tmp_path / "sheets").exists()


def test_progress_tells_the_probes_that_were_taken(settings: benchmark.Settings) -> None:
    lines: list[str] = []
    benchmark.run(dataclasses.replace(settings, policies=(), crops=1, times=False), lines.append)
    assert any(line.startswith("full-raster by wiener-filter: 4096 probes, ") for line in lines)
    assert any(line.startswith("uniform-grid by biharmonic: 169 probes, ") for line in lines)
    assert any(line.startswith("spiral by partial_scan_generator: 180 probes, ") for line in lines)


def test_of_the_menu_only_those_that_can_take_part_do(settings: benchmark.Settings) -> None:
    models = dataclasses.replace(settings.models, generator="linear-interpolation")
    every = dataclasses.replace(settings, policies=None, models=models, crops=1, times=False)
    figures = benchmark.run(every)
    assert any("predicted-error needs a generator that predicts its error" in line for line in figures["skipped"])
    assert not _rows(figures["policies"], "predicted-error")
