"""Policies behind one protocol, the menu, and the shipped models."""

from __future__ import annotations

import dataclasses
import pathlib
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_core.alignment import menu
from adaptive_core.alignment.benchmark import TRUE_JACOBIAN
from adaptive_core.alignment.classical import CLASSICAL_POLICIES, Newton, newton_move
from adaptive_core.alignment.policy import LONGEST_MOVE, OnnxAlignmentPolicy, Sight, TwoInARow
from adaptive_core.errors import InvalidInputError, ModelError
from adaptive_core.model_library import ModelLibrary
from adaptive_core.simulation.shift_world import ShiftWorldState, draw_noise, draw_worlds

LIMITS = np.array([-512.0, -512.0, 512.0, 512.0])


def sight(error, sigma: float = 0.1, moved=None) -> Sight:
    return Sight(np.array(error, dtype=float), sigma, LIMITS, moved=moved)


def align(policy, jacobian, start, frames: int = 20, known=None, noise=None) -> tuple[int, np.ndarray, np.ndarray]:
    """Frames until the policy stops in a linear world, where the disk then is, and all positions."""
    rng = np.random.default_rng(0)
    run = policy.start(1.0, known)
    position, positions = np.array(start, dtype=float), []
    for frame in range(1, frames + 1):
        positions.append(position)
        decision = run.decide(sight(position + (0 if noise is None else noise * rng.standard_normal(2))))
        position = position + jacobian @ decision.move
        if decision.settled:
            return frame, position, np.array(positions)
    return frames + 1, position, np.array(positions)


@pytest.mark.parametrize("name", ["Hybrid", "Guarded two-probe Newton", "Two-probe Newton", "Recursive least squares"])
def test_a_policy_is_told_what_was_really_moved(name: str) -> None:
    """Where a guard halves each of the first moves, what the policy learns of the response is still right."""
    jacobian, position, moved = random_jacobian(3), np.array([150.0, -100.0]), None
    run = menu.find_policy(name).start()
    for frame in range(8):
        decision = run.decide(sight(position, moved=moved))
        moved = decision.move / 2 if frame < 4 else decision.move
        position = position + jacobian @ moved
    np.testing.assert_allclose(decision.jacobian, jacobian, atol=40)


def random_jacobian(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return 512 * 2 ** rng.uniform(-1, 1) * turn @ np.diag([1.0, rng.choice([-1.0, 1.0])])


@pytest.mark.parametrize("seed", range(8))
def test_the_hybrid_policy_needs_no_calibration(seed: int) -> None:
    frames, position, positions = align(menu.find_policy(), random_jacobian(seed), (250.0, -300.0), noise=0.1)
    assert frames <= 8
    assert np.hypot(*position) < 0.6
    assert np.abs(positions).max() < 512


@pytest.mark.parametrize("seed", range(4))
def test_a_known_jacobian_saves_the_probe(seed: int) -> None:
    jacobian = random_jacobian(seed)
    for policy in (menu.find_policy(), Newton()):
        cold, _, _ = align(policy, jacobian, (250.0, -300.0), noise=0.1)
        warm, position, _ = align(policy, jacobian, (250.0, -300.0), known=1.02 * jacobian, noise=0.1)
        assert warm < cold
        assert np.hypot(*position) < 0.6


@pytest.mark.parametrize("policy", CLASSICAL_POLICIES, ids=lambda policy: policy.name)
@pytest.mark.parametrize("seed", range(4))
def test_classical_policies_solve_a_linear_world(policy, seed: int) -> None:
    jacobian = random_jacobian(seed)
    if policy.name == "Broyden":
        # From a nominal Jacobian it finds its way only if the rotation is not too large.
        jacobian = np.array([[500.0, 80.0], [-60.0, 450.0]])
    frames, position, _ = align(policy, jacobian, (150.0, -100.0))
    assert frames <= 20
    assert np.hypot(*position) < 0.6


def test_the_guard_waits_for_a_frame_that_shows_the_move() -> None:
    run = Newton(guarded=True).start()
    first = run.decide(sight((100.0, 50.0)))
    assert first.move.any()
    assert not run.decide(sight((100.1, 50.0))).move.any()
    third = run.decide(sight((140.0, 50.0)))
    assert third.move[0] == 0.0
    assert third.move[1] != 0.0


@given(st.floats(-500, 500), st.floats(-500, 500))
def test_a_newton_move_solves_or_is_bounded(y: float, x: float) -> None:
    jacobian = np.array([[300.0, 200.0], [-150.0, 400.0]])
    move = newton_move(jacobian, np.array([y, x]))
    if np.hypot(*move) < 0.999:
        np.testing.assert_allclose(jacobian @ move, [-y, -x], atol=1e-6)
    assert np.hypot(*move) <= 1.0 + 1e-9


def test_the_stop_rule_wants_two_in_a_row() -> None:
    stop = TwoInARow(1.0)
    assert [stop(np.array([e, 0.0])) for e in (0.1, 0.5, 0.7, 0.5, 2.0, 0.3)] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]


def test_the_menu_holds_the_hybrid_first_then_the_classical_ones() -> None:
    names = menu.policy_names()
    assert names[0] == menu.find_policy().name
    assert {"Hybrid", "SAC agent (Xu et al. 2022)", "Guarded two-probe Newton", "Broyden"} <= set(names)
    assert TRUE_JACOBIAN not in names
    for name in names:
        assert menu.find_policy(name).name == name
    with pytest.raises(InvalidInputError, match="Guarded two-probe Newton"):
        menu.find_policy("no such policy")


def test_the_shipped_models_have_cards_with_scores() -> None:
    entries = ModelLibrary().list(menu.KIND)
    assert len(entries) >= 2
    for entry in entries:
        assert entry.refusal is None
        assert entry.card is not None
        assert entry.card.scores
        assert entry.card.training


def test_a_step_of_the_hybrid_policy_takes_half_a_millisecond() -> None:
    run = menu.find_policy().start()
    durations = []
    for _ in range(400):
        began = time.thread_time()
        run.decide(sight((100.0, 50.0)))
        durations.append(time.thread_time() - began)
    # The least is what a core takes that nothing else disturbs.
    assert min(durations) < 0.5e-3


def test_a_model_of_another_kind_is_refused() -> None:
    library = ModelLibrary()
    other = next(entry for entry in library.list() if entry.card and entry.card.kind != menu.KIND)
    with pytest.raises(ModelError, match="alignment_policy"):
        OnnxAlignmentPolicy(library.load(other.path))


@pytest.mark.parametrize("family", ["A", "B"])
def test_the_exported_model_equals_the_trained_one(family: str, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    from adaptive_core.model_library import LoadedModel
    from adaptive_core.training.alignment import hybrid
    from adaptive_core.training.alignment.belief import STATE_SIZE, BeliefPolicy

    torch.manual_seed(1)
    policy = BeliefPolicy()
    path = tmp_path / "hybrid.onnx"
    hybrid.write_model(policy, {"minutes": 0.0}, path)
    run = OnnxAlignmentPolicy(LoadedModel(path.read_bytes(), path)).start()
    rng = np.random.default_rng(2)
    world = ShiftWorldState(draw_worlds(family, 1, rng))
    shown, state = world.true_px, torch.zeros(1, STATE_SIZE)
    limits, free = torch.tensor(LIMITS, dtype=torch.float32)[None], torch.full((1, 1), LONGEST_MOVE)
    for _ in range(10):
        decision = run.decide(sight(shown[0], 0.2))
        with torch.no_grad():
            error = torch.tensor(shown, dtype=torch.float32)
            answer = policy(error, torch.tensor([[0.2]]), limits, torch.zeros(1, 4), torch.ones(1, 1), free, state)
        state = answer.state
        np.testing.assert_allclose(decision.move, answer.move[0].numpy(), atol=1e-3)
        np.testing.assert_allclose(decision.error_px, answer.estimate_px[0].numpy(), atol=0.05)
        shown = world.step(answer.move.numpy().astype(float), draw_noise(1, rng))


def test_a_training_of_the_hybrid_policy_can_be_interrupted(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    from adaptive_core.training.alignment import hybrid

    config = hybrid.HybridConfig(iterations=3, worlds=8, validation=8)
    hybrid.train(config, tmp_path / "whole")
    hybrid.train(dataclasses.replace(config, iterations=2), tmp_path / "parts")
    hybrid.train(config, tmp_path / "parts", resume=True)
    names = {"alignment_hybrid.onnx", "checkpoint.pt", "config.json", "curve.csv", "curve.png"}
    assert names == {path.name for path in (tmp_path / "whole").iterdir()}
    whole, parts = (torch.load(tmp_path / name / "checkpoint.pt")["network"] for name in ("whole", "parts"))
    for name, value in whole.items():
        # The learning rate falls with the progress, which the shorter config takes to be another one.
        torch.testing.assert_close(parts[name], value, atol=0.02, rtol=0.02)


def test_a_policy_keeps_the_disk_centred_for_long() -> None:
    """Numbers stay small and covariances positive however many frames there are."""
    torch = pytest.importorskip("torch")
    from adaptive_core.training.alignment.belief import STATE_SIZE, BeliefPolicy
    from adaptive_core.training.alignment.torch_world import TorchNoise, TorchWorldState

    torch.manual_seed(1)
    policy, generator = BeliefPolicy(), torch.Generator().manual_seed(0)
    worlds = TorchWorldState(draw_worlds("B", 32, np.random.default_rng(0)))
    state, shown = torch.zeros(32, STATE_SIZE), worlds.true_px
    limits = torch.tensor(LIMITS, dtype=torch.float32).repeat(32, 1)
    dead, free = shown.clone(), torch.full((32, 1), LONGEST_MOVE)
    with torch.no_grad():
        for frame in range(200):
            # For a while the control does nothing, whatever it is told.
            stuck = 100 <= frame < 115
            dead = dead if stuck else shown
            error = dead + 0.1 * torch.randn(32, 2, generator=generator)
            answer = policy(error, torch.full((32, 1), 0.1), limits, torch.zeros(32, 4), torch.ones(32, 1), free, state)
            assert torch.isfinite(answer.state).all(), frame
            state = answer.state
            shown = worlds.step(0 * answer.move if stuck else answer.move, TorchNoise.draw(32, generator))
    distance = worlds.true_px.norm(dim=-1)
    assert float(distance.median()) < 0.6
    assert float(distance.max()) < 3.0


def test_a_policy_is_found_by_its_file(tmp_path: pathlib.Path) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes(ModelLibrary().load("alignment_hybrid").path.read_bytes())
    assert menu.find_policy(str(own)).name == menu.find_policy().name
    with pytest.raises(ModelError, match="cannot be read"):
        menu.find_policy(str(tmp_path / "nothing.onnx"))
