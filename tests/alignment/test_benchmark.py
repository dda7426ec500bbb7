"""The benchmark: seeded, the same in one process and in several, and honest about misses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adaptive_core.alignment.benchmark import MOST_FRAMES, TRUE_JACOBIAN, Trial, run_benchmark, run_trial, summarise
from adaptive_core.alignment.classical import Newton
from adaptive_core.errors import InvalidInputError


def test_the_figures_depend_on_the_seed_only() -> None:
    first = run_benchmark("A", 6, ["Guarded two-probe Newton"], seed=5)
    again = run_benchmark("A", 6, ["Guarded two-probe Newton"], seed=5)
    for result in (first, again):
        assert min(_times(result["policies"][0])) > 0
    assert first == again
    assert first["policies"][0]["success"] > 0.5


def test_several_processes_give_the_same_figures() -> None:
    one = run_benchmark("A", 27, ["Two-probe Newton"], jobs=1)["policies"][0]
    two = run_benchmark("A", 27, ["Two-probe Newton"], jobs=2)["policies"][0]
    _times(one), _times(two)
    assert one == two


def _times(figures: dict[str, Any]) -> list[float]:
    """The times of a step, which are taken out of the figures."""
    return [figures.pop("ms_per_step"), figures.pop("ms_per_step_in_loop")]


def test_the_keys_and_a_miss_counts_as_twenty_frames() -> None:
    trials = [
        Trial(5, True, 0.3, True, 0.1, 0.2),
        Trial(4, True, 1.5, True, 0.1, 0.2),  # stopped, but not on the target
        Trial(20, False, 3.0, True, 0.1, 0.2),
        Trial(7, True, 0.4, False, 0.1, 0.2),  # on the target, but had left the screen
    ]
    figures = summarise("policy", trials)
    assert list(figures) == [
        "policy",
        "frames_mean",
        "frames_p95",
        "success",
        "off_screen",
        "rms_px",
        "ms_per_step",
        "ms_per_step_in_loop",
    ]
    assert figures["frames_mean"] == pytest.approx((5 + 3 * MOST_FRAMES) / 4)
    assert figures["success"] == 0.25
    assert figures["off_screen"] == 0.25
    assert figures["rms_px"] == pytest.approx(np.sqrt(np.mean(np.square([0.3, 1.5, 0.4]))), abs=1e-4)


def test_a_trial_is_judged_by_the_true_position() -> None:
    trial = run_trial(Newton(), "A", 0, 3)
    assert trial.success
    assert trial.distance_px < 1.0
    assert 4 <= trial.frames <= 12


def test_the_true_jacobian_is_a_reference() -> None:
    figures = run_benchmark("A", 8, [TRUE_JACOBIAN])["policies"][0]
    assert figures["frames_mean"] < 5.5


def test_the_hybrid_policy_reaches_world_b() -> None:
    figures = run_benchmark("B", 30, ["alignment_hybrid"], seed=1)["policies"][0]
    assert figures["success"] >= 0.93
    assert figures["frames_mean"] <= 10.5
    assert figures["off_screen"] == 0.0
    assert figures["rms_px"] <= 0.55


@pytest.mark.parametrize(("world", "trials", "jobs"), [("D", 1, 1), ("A", 0, 1), ("A", 1, 0)])
def test_nonsense_is_refused(world: str, trials: int, jobs: int) -> None:
    with pytest.raises(InvalidInputError):
        run_benchmark(world, trials, ["Broyden"], jobs=jobs)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no alignment policy"):
        run_benchmark("A", 1, ["nobody"])
