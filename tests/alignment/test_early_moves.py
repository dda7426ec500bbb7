"""No policy's early moves lose the disk, whatever the policy asks for: the guards know the largest plausible gain."""

from __future__ import annotations

import contextlib
import itertools
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from instruments import LinearInstrument

from adaptive_core.alignment import menu
from adaptive_core.alignment.episode import AlignmentEpisode, AlignmentSettings
from adaptive_core.alignment.guards import LARGEST_GAIN_PX, MoveBound
from adaptive_core.alignment.policy import NOMINAL_GAIN_PX, AlignmentPolicy, OnnxAlignmentPolicy, Sight
from adaptive_core.model_library import LoadedModel

HALF_PX = 128
SETTINGS = AlignmentSettings(largest_move=5.0, move_per_half_screen=1.2, radius_px=20.0)
LIMITS = np.array([-512.0, -512.0, 512.0, 512.0])
USERS = "a user's own"


def a_users_policy() -> AlignmentPolicy:
    """Always asks for a move across most of the screen."""
    pytest.importorskip("onnx")
    import tiny_models

    nodes = [
        tiny_models.constant("far", [0.9, -0.7], [1, 2]),
        tiny_models.constant("nothing", [0.0], [1]),
        tiny_models.node("Mul", "error_px nothing", "still"),
        tiny_models.node("Add", "still far", "move"),
    ]
    model = tiny_models.model(nodes, {"error_px": (1, 2)}, {"move": (1, 2)})
    return OnnxAlignmentPolicy(
        LoadedModel(tiny_models.with_card(model, tiny_models.ALIGNMENT_CARD), pathlib.Path("tiny.onnx"))
    )


@pytest.mark.parametrize("name", [*menu.policy_names(), USERS])
def test_no_early_move_drives_the_disk_off_the_camera(name: str) -> None:
    policy = a_users_policy() if name == USERS else menu.find_policy(name)
    for gain, offset, angle, mirror in itertools.product(
        (1.0, 2.0), ((95.0, 95.0), (0.0, -95.0)), (0.3, 2.4), (1.0, -1.0)
    ):
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, mirror])
        instrument = LinearInstrument(jacobian=gain * HALF_PX / 1.2 * turn, offset=offset)
        with contextlib.closing(AlignmentEpisode(instrument, instrument, policy, SETTINGS)) as run:
            for _ in itertools.islice(run, 5):
                assert np.abs(instrument.position).max() < HALF_PX


pixel = st.floats(-500, 500)
unit = st.floats(-1.5, 1.5)


@given(pixel, pixel, st.lists(st.tuples(unit, unit), min_size=1, max_size=6), st.floats(0, 6.3), st.booleans())
def test_the_disk_stays_on_the_screen_up_to_the_largest_plausible_gain(y, x, moves, angle, mirrored) -> None:
    cos, sin = np.cos(angle), np.sin(angle)
    jacobian = LARGEST_GAIN_PX * np.array([[cos, -sin], [sin, cos]]) @ np.diag([1.0, -1.0 if mirrored else 1.0])
    bound, position = MoveBound(), np.array([y, x])
    for asked in moves:
        sight = Sight(position, 0.1, LIMITS)
        bound.see(sight)
        made = bound.shorten(sight, np.array(asked))
        assert np.hypot(*made) <= np.hypot(*asked) + 1e-12
        assert made[0] * asked[1] == pytest.approx(made[1] * asked[0], abs=1e-9)
        position = position + jacobian @ made
        assert np.abs(position).max() < 512


def test_a_response_that_is_known_lets_the_disk_cross_the_screen() -> None:
    jacobian = np.array([[0.0, -NOMINAL_GAIN_PX], [NOMINAL_GAIN_PX, 0.0]])
    start, across = np.array([-400.0, 0.0]), np.array([0.0, -0.78])
    assert MoveBound(jacobian).shorten(Sight(start, 0.1, LIMITS), across) is across
    # It is known as well after two answers to independent moves, and not before.
    bound, position = MoveBound(), start
    for probe in ((0.05, 0.0), (0.0, 0.05)):
        sight = Sight(position, 0.1, LIMITS)
        assert np.hypot(*MoveBound().shorten(sight, across)) < 0.2
        bound.see(sight)
        position = position + jacobian @ bound.shorten(sight, np.array(probe))
    bound.see(Sight(position, 0.1, LIMITS))
    assert bound.shorten(Sight(position, 0.1, LIMITS), across) is across


def test_a_frame_that_does_not_show_the_move_tells_nothing() -> None:
    bound, sight = MoveBound(), Sight(np.array([300.0, 0.0]), 0.1, LIMITS)
    far, limit = np.array([1.0, 0.0]), (512 - 300 - 16) / LARGEST_GAIN_PX
    for _ in range(2):
        # All of it may still come, so that no more is allowed until the frames can be no old ones any more.
        for allowed in (limit, 0.0, 0.0):
            bound.see(sight)
            assert bound.shorten(sight, far)[0] == pytest.approx(allowed)


def test_stale_frames_do_not_add_up_to_a_lost_disk() -> None:
    """With one answer, or a known response, a move that was not seen yet takes its room."""
    jacobian = np.array([[0.0, -NOMINAL_GAIN_PX], [NOMINAL_GAIN_PX, 0.0]])
    start, move = np.array([0.0, 300.0]), np.array([0.2, 0.0])
    for bound in (MoveBound(jacobian), MoveBound()):
        position = start
        bound.see(Sight(position, 0.1, LIMITS))
        position = position + jacobian @ bound.shorten(Sight(position, 0.1, LIMITS), np.array([0.1, 0.0]))
        stale = Sight(position, 0.1, LIMITS)
        for _ in range(2):
            bound.see(stale)
            position = position + jacobian @ bound.shorten(stale, move)
        assert 300.0 < np.abs(position).max() < 512.0


def test_two_answers_are_always_independent_ones() -> None:
    """Rounding decides whether a move is independent of another one at the limit."""
    jacobian, rng = np.array([[0.0, -NOMINAL_GAIN_PX], [NOMINAL_GAIN_PX, 0.0]]), np.random.default_rng(0)
    for angle in rng.uniform(0, 2 * np.pi, 500):
        limit = np.arcsin(0.3)
        directions = [np.array([np.cos(a), np.sin(a)]) for a in (angle, angle + limit, angle - limit, angle + np.pi)]
        bound, position = MoveBound(), np.zeros(2)
        for _ in range(6):
            sight = Sight(position, 0.1, 10 * LIMITS)
            bound.see(sight)
            move = directions[rng.integers(4)] * rng.choice([0.05, 0.1, 0.2])
            position = position + jacobian @ bound.shorten(sight, move)
