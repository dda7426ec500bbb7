"""Disk finding against the rendered truth, in the cases of the numbers to reach."""

from __future__ import annotations

import dataclasses
import math
import time
import typing

import numpy as np
import pytest

from adaptive_core.alignment.circle_fit import fit_circle
from adaptive_core.alignment.disk_benchmark import DISK_CASES, RADIUS_PX, draw_frames, run_disk_benchmark
from adaptive_core.alignment.disk_finding import (
    BEAM_SCORE,
    DiskState,
    Method,
    TrackingWindow,
    estimate_radius,
    find_disk,
)
from adaptive_core.alignment.rim_fit import refine_circle
from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.disk_image import DiskCameraModel, expose, render_disk

RADIUS = RADIUS_PX


def frames(case: str, count: int, electrons: float | None = None):
    """Frames of a case with the true centres."""
    chosen = DISK_CASES[case]
    if electrons is not None:
        chosen = dataclasses.replace(chosen, electrons=electrons)
    yield from draw_frames(chosen, count, np.random.default_rng(7))


def errors(case: str, count: int, **options) -> np.ndarray:
    found = []
    for frame, centre in frames(case, count):
        disk = find_disk(frame, RADIUS, **options)
        found.append(np.hypot(*(np.array(disk.centre_px or (1e3, 1e3)) - centre)))
    return np.array(found)


@pytest.mark.parametrize("case", [name for name in DISK_CASES if "e/px" not in name and name != "thick sample"])
def test_rms_error_at_ten_electrons_a_px(case: str) -> None:
    assert np.sqrt(np.mean(errors(case, 25) ** 2)) <= 0.15


def test_a_plain_rim_is_fitted_close_to_the_limit_of_its_noise() -> None:
    """The Cramer-Rao bound of the radial error is 0.05 px: one electron a count, a logistic rim, a known background."""
    assert np.sqrt(np.mean(errors("background", 40) ** 2)) < 0.07
    assert np.sqrt(np.mean(errors("background, 1 e/px", 40) ** 2)) < 0.24


def test_a_disk_with_contrast_of_its_own_is_left_to_the_robust_fit() -> None:
    for case, expected in (("background", 1.0), ("sample", 0.0)):
        refined = []
        for frame, centre in frames(case, 10):
            circle = fit_circle(frame, centre, RADIUS)
            assert circle is not None
            refined.append(refine_circle(frame, circle) is not None)
        assert np.mean(refined) == pytest.approx(expected, abs=0.11)


def test_median_error_on_a_thick_sample() -> None:
    assert np.median(errors("thick sample", 25)) <= 0.4


def test_a_tracking_window_keeps_to_the_disk_on_a_thick_sample() -> None:
    found = []
    for frame, centre in frames("thick sample", 25):
        window = TrackingWindow((centre[0] + 10, centre[1] - 10), 0.7 * RADIUS)
        found.append(np.hypot(*(np.array(find_disk(frame, RADIUS, window=window).centre_px) - centre)))
    assert np.mean(np.array(found) < 5.0) >= 0.95


def test_a_frame_takes_at_most_20_ms() -> None:
    durations = []
    for frame, _ in frames("sample", 15):
        began = time.thread_time()
        find_disk(frame, RADIUS)
        durations.append(time.thread_time() - began)
    assert np.median(durations) < 0.020


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pedestal": 8.0, "read_noise": 0.7},
        {"hot_pixels": 60},
        {"pedestal": 100.0, "read_noise": 3.0, "hot_pixels": 60, "gain_gradient": (0.2, 0.2)},
    ],
    ids=["dark", "noise", "hot", "all"],
)
def test_no_beam_is_a_state(options) -> None:
    rng = np.random.default_rng(1)
    for seed in range(30):
        disk = find_disk(expose(None, 0.0, DiskCameraModel(seed=seed, **options), rng), RADIUS)
        assert disk.state is DiskState.NO_BEAM
        assert disk.centre_px is None
        assert math.isinf(disk.sigma_px)
        assert disk.score < BEAM_SCORE


@pytest.mark.parametrize("electrons", [0.005, 0.02, 0.3])
def test_the_beam_is_seen_at_low_dose(electrons: float) -> None:
    for frame, centre in frames("background", 30, electrons):
        disk = find_disk(frame, RADIUS)
        assert disk.state is DiskState.FOUND
        assert np.hypot(*(np.array(disk.centre_px) - centre)) < 0.5 * RADIUS


def test_the_stated_uncertainty_is_honest() -> None:
    for electrons in (0.05, 1.0, 10.0):
        normalised = []
        for frame, centre in frames("background", 30, electrons):
            disk = find_disk(frame, RADIUS)
            normalised.append((np.array(disk.centre_px) - centre) / disk.sigma_px)
        assert 0.6 < np.sqrt(np.mean(np.square(normalised))) < 1.6


@pytest.mark.parametrize(("radius", "electrons"), [(10.0, 0.5), (10.0, 0.1), (21.0, 0.05), (30.0, 0.05)])
def test_a_detector_that_counts_little_is_not_saturated(radius: float, electrons: float) -> None:
    rng, camera = np.random.default_rng(3), DiskCameraModel(size_px=(256, 256))
    frames = [render_disk((130.0, 120.0), radius, electrons, camera, rng) for _ in range(40)]
    assert all(find_disk(frame, radius).state is not DiskState.SATURATED for frame in frames)


def test_saturation_and_a_cut_disk_are_states() -> None:
    rng = np.random.default_rng(2)
    saturating = DiskCameraModel(saturation=60.0)
    disk = find_disk(render_disk((250.0, 260.0), RADIUS, 100.0, saturating, rng), RADIUS)
    assert disk.state is DiskState.SATURATED
    disk = find_disk(render_disk((250.0, 260.0), RADIUS, 100.0, DiskCameraModel(), rng), RADIUS, saturation=90.0)
    assert disk.state is DiskState.SATURATED
    # A hot pixel above the plateau hides nothing.
    frame = render_disk((250.0, 260.0), RADIUS, 62.0, saturating, rng)
    frame[10, 10] = frame[255, 255] = 5000.0
    assert find_disk(frame, RADIUS).state is DiskState.SATURATED
    disk = find_disk(render_disk((250.0, 500.0), RADIUS, 100.0, DiskCameraModel(), rng), RADIUS)
    assert disk.state is DiskState.CUT_OFF
    assert disk.centre_px == pytest.approx((250.0, 500.0), abs=0.3)


@pytest.mark.parametrize("radius", [15.0, 33.0, 60.0, 92.0])
@pytest.mark.parametrize("electrons", [0.3, 10.0])
def test_the_radius_is_estimated(radius: float, electrons: float) -> None:
    rng = np.random.default_rng(3)
    frame = render_disk((240.0, 280.0), radius, electrons, DiskCameraModel(), rng)
    assert estimate_radius(frame) == pytest.approx(radius, rel=0.06 if electrons > 1 else 0.15)
    disk = find_disk(frame)
    assert disk.centre_px == pytest.approx((240.0, 280.0), abs=1.5)


def test_a_radius_that_is_wrong_by_five_per_cent_hardly_matters() -> None:
    for frame, centre in frames("background", 5):
        disk = find_disk(frame, 1.05 * RADIUS)
        assert np.hypot(*(np.array(disk.centre_px) - centre)) < 0.3
        assert disk.radius_px == pytest.approx(RADIUS, abs=1.0)


def test_the_centre_of_mass_is_for_vacuum_only() -> None:
    vacuum = errors("vacuum", 5, method=Method.CENTRE_OF_MASS)
    background = errors("background", 5, method=Method.CENTRE_OF_MASS)
    assert vacuum.max() < 0.3
    assert background.mean() > 5


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((32, 32, 3)), np.full((64, 64), np.nan)])
def test_what_is_no_frame_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(InvalidInputError):
        find_disk(bad.astype(np.float32), 10.0)


def test_a_radius_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="radius"):
        find_disk(np.zeros((64, 64), np.float32), 100.0)


@pytest.fixture(scope="module")
def figures() -> dict[str, typing.Any]:
    return run_disk_benchmark(2, gate_frames=4)


def test_the_benchmark_compares_every_method_in_every_case(figures: dict[str, typing.Any]) -> None:
    assert {row["case"] for row in figures["cases"]} == set(DISK_CASES)
    assert {method.value for method in Method} <= {row["method"] for row in figures["cases"]}
    empty, lit = figures["gate"]
    assert empty["highest"] < BEAM_SCORE < lit["lowest"]
    assert (empty["right"], lit["right"]) == (1.0, 1.0)


def test_scikit_image_s_finders_find_a_plain_disk(figures: dict[str, typing.Any]) -> None:
    """Their edges are of a copy of half the size; its half px is accounted for."""
    pytest.importorskip("skimage")
    errors = {row["method"]: row["rms_px"] for row in figures["cases"] if row["case"] == "background"}
    assert errors["scikit-image Hough circle"] < 1.5
    assert errors["scikit-image RANSAC circle"] < 0.3


def test_several_processes_give_the_same_figures(figures: dict[str, typing.Any]) -> None:
    several = run_disk_benchmark(2, gate_frames=4, jobs=2)
    for row in several["cases"]:
        assert row["ms"] > 0
    assert without_times(several) == without_times(figures)


def without_times(figures: dict[str, typing.Any]) -> dict[str, typing.Any]:
    return figures | {"cases": [row | {"ms": None} for row in figures["cases"]]}


@pytest.mark.parametrize("counts", [{"frames": 0}, {"gate_frames": 0}, {"jobs": 0}])
def test_a_benchmark_without_frames_is_refused(counts: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match="at least 1"):
        run_disk_benchmark(**counts)
