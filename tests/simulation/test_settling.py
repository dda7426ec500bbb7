"""A shift that arrives late and settles in time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.settings import CameraSettings
from adaptive_core.simulation.settling import SettlingShift


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_it_arrives_after_the_latency_and_settles_exponentially() -> None:
    clock = Clock()
    shift = SettlingShift((1.0, 2.0), 5e-3, 10e-3, clock)
    shift.ask((3.0, -2.0))
    for after_ms, arrived in ((0.0, 0.0), (4.9, 0.0), (15.0, 1 - math.exp(-1)), (105.0, 1 - math.exp(-10))):
        clock.now_s = 100.0 + after_ms * 1e-3
        assert shift.now() == pytest.approx((1.0 + 2.0 * arrived, 2.0 - 4.0 * arrived))


def test_without_latency_and_settling_it_is_what_was_asked_for() -> None:
    shift = SettlingShift((0.0, 0.0), clock=Clock())
    shift.ask((0.1, -0.3))
    assert shift.now() == (0.1, -0.3)


def test_it_tells_for_how_long_it_was_left_alone() -> None:
    clock = Clock()
    shift = SettlingShift((0.0, 0.0), clock=clock)
    assert shift.unchanged_s() == math.inf
    shift.ask((0.1, 0.0))
    clock.now_s += 2.0
    shift.ask((0.1, 0.0))
    assert shift.unchanged_s() == 2.0


@given(st.lists(st.floats(0.0, 0.05), max_size=8))
def test_looking_at_it_does_not_change_how_it_settles(looks_s: list[float]) -> None:
    seen = []
    for looks in (looks_s, []):
        clock = Clock()
        shift = SettlingShift((0.0, 0.0), 5e-3, 10e-3, clock)
        for moment_s, value in ((0.0, (1.0, 0.0)), (3e-3, (-1.0, 2.0))):
            clock.now_s = 100.0 + moment_s
            shift.ask(value)
        for look_s in sorted(looks):
            clock.now_s = max(clock.now_s, 100.0 + look_s)
            shift.now()
        clock.now_s = 100.06
        seen.append(shift.now())
    assert seen[0] == pytest.approx(seen[1], abs=1e-9)


@pytest.mark.parametrize("value", [-1e-3, math.nan, math.inf])
@pytest.mark.parametrize("name", ["shift_latency_s", "shift_settle_s"])
def test_impossible_times_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidInputError, match=name):
        CameraSettings(**{name: value})
