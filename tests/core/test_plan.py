"""Plans and budgets."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_core.errors import InvalidInputError
from adaptive_core.partial_scan import Budget, ScanPlan
from adaptive_core.ports import ScannerSetup


def setup(**changes):
    values = {
        "size_px": (96, 96),
        "pixel_size_nm": 0.05,
        "dwell_us": 10.0,
        "channels": ("HAADF",),
        "beam_current_pa": 20.0,
    }
    return ScannerSetup(**{**values, **changes})


def test_the_paper_s_scan_has_400_probes_at_a_coverage_of_1_in_23():
    plan = ScanPlan(setup(), Budget(segments=20))
    assert plan.probes == 400
    assert 96 * 96 / plan.probes == pytest.approx(23.04)


def test_whichever_limit_is_reached_first_ends_the_scan():
    assert ScanPlan(setup(), Budget(segments=20, coverage=0.01)).probes == 92
    assert ScanPlan(setup(), Budget(segments=2, coverage=0.5)).probes == 40


@given(st.floats(0.5, 1e4))
def test_a_dose_budget_is_never_exceeded_and_nearly_used(dose):
    plan = ScanPlan(setup(), Budget(dose_e_per_A2=max(dose, 2 * 0.542)))
    spent = plan.dose_of_probes(plan.probes)
    assert spent <= plan.budget.dose_e_per_A2 * (1 + 1e-9)
    assert spent > plan.budget.dose_e_per_A2 - plan.dose_of_probes(1) * 1.0001


@given(st.integers(1, 50), st.integers(0, 60))
def test_remaining_falls_from_one_to_zero(segments, done):
    plan = ScanPlan(setup(), Budget(segments=segments))
    remaining = plan.remaining(done, done * 20, done * 200.0)
    assert remaining == pytest.approx(max(segments - done, 0) / segments)


def test_a_plan_survives_json():
    plan = ScanPlan(setup(), Budget(coverage=0.1, predicted_error=0.2), seed=4)
    assert ScanPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Budget(), "needs a budget"),
        (lambda: Budget(segments=0), "segments must be positive, not 0"),
        (lambda: Budget(segments=-3), "not -3"),
        (lambda: Budget(coverage=float("nan")), "not nan"),
        (lambda: Budget(dose_e_per_A2=-1.0), "dose must be positive, not -1.0"),
        (lambda: ScanPlan(setup(), Budget(coverage=1.5)), "at most 1"),
        (lambda: ScanPlan(setup(), Budget(coverage=1e-9)), "does not allow"),
        (lambda: ScanPlan(setup(beam_current_pa=None), Budget(dose_e_per_A2=5.0)), "known beam current"),
        (lambda: ScanPlan(setup(pixel_size_nm=None), Budget(dose_e_per_A2=5.0)), "known beam current"),
        (lambda: ScanPlan(setup(dwell_us=0.0), Budget(segments=1)), "dwell time must be positive"),
        (lambda: ScanPlan(setup(dwell_us=1e12), Budget(segments=1)), "at most 10 s, not 1e[+]06 s"),
        (lambda: ScanPlan(setup(size_px=(4, 96)), Budget(segments=1)), "8 to 8192 px"),
        (lambda: ScanPlan(setup(), Budget(segments=1), probes_per_segment=1), "at least 2 probes"),
        (lambda: ScanPlan(setup(), Budget(segments=1), probe_spacing_px=0), "spacing must be positive"),
    ],
)
def test_bad_plans_are_refused_with_the_rule_and_the_value(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()
