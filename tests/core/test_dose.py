"""Dose against a closed form: 1 pA is 6.2415 electrons a microsecond."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_core.dose import DoseMeter, electrons
from adaptive_core.errors import InvalidInputError


def test_a_picoampere_is_six_electrons_a_microsecond():
    assert electrons(1.0, 1.0) == pytest.approx(6.241509074)


def test_dose_of_a_known_case():
    # 50 pA for 400 us on 2 nm x 2 nm = 400 A^2.
    assert DoseMeter(50.0, 4.0).dose_e_per_A2(400.0) == pytest.approx(50 * 6.241509074 * 400 / 400)


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_dose_adds_up(current, area, first, second):
    meter = DoseMeter(current, area)
    assert meter.dose_e_per_A2(first + second) == pytest.approx(
        meter.dose_e_per_A2(first) + meter.dose_e_per_A2(second)
    )


def test_what_is_unknown_stays_unknown():
    assert DoseMeter(None, 4.0).dose_e_per_A2(1.0) is None
    assert DoseMeter(50.0, None).dose_e_per_A2(1.0) is None
    assert DoseMeter(50.0, None).electrons(1.0) is not None


@pytest.mark.parametrize(("current", "area"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_impossible_values_are_refused(current, area):
    with pytest.raises(InvalidInputError, match="must be positive"):
        DoseMeter(current, area)
