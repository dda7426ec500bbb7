"""The worlds of the shift and the camera's image, against closed forms and the torch twin."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_core.errors import InvalidInputError
from adaptive_core.simulation.disk_image import (
    DiskCameraModel,
    SpecimenInBeam,
    disk_radius_px,
    draw_contrast,
    electrons_per_px,
    expected_disk,
    expose,
    render_disk,
)
from adaptive_core.simulation.shift_world import (
    JITTER_PX,
    WORLD_FAMILIES,
    FrameNoise,
    ShiftWorlds,
    ShiftWorldState,
    draw_noise,
    draw_worlds,
)


def ideal(**changes) -> ShiftWorlds:
    """One world without any imperfection, then changed."""
    values = {
        "jacobian": np.array([[[300.0, 100.0], [100.0, -300.0]]]),
        "start_px": np.array([[100.0, -50.0]]),
        "actuation": np.zeros(1),
        "centre_px": np.zeros(1),
        "backlash_px": np.zeros(1),
        "creep": np.zeros(1),
        "stale": np.zeros(1),
        "drift_px": np.zeros((1, 2)),
    }
    return ShiftWorlds(**(values | changes))


def quiet(stale: float = 1.0) -> FrameNoise:
    return FrameNoise(np.zeros((1, 2)), np.zeros((1, 2)), np.full(1, stale))


@pytest.mark.parametrize("family", list(WORLD_FAMILIES))
def test_the_torch_twin_is_equal(family: str) -> None:
    torch = pytest.importorskip("torch")
    from adaptive_core.training.alignment.torch_world import TorchNoise, TorchWorldState

    rng = np.random.default_rng(0)
    worlds = draw_worlds(family, 64, rng)
    plain, twin = ShiftWorldState(worlds), TorchWorldState(worlds, torch.float64)
    for _ in range(12):
        move = 0.3 * rng.standard_normal((64, 2))
        noise = draw_noise(64, rng)
        shown = plain.step(move, noise)
        twin_shown = twin.step(torch.from_numpy(move), TorchNoise.of(noise, torch.float64))
        np.testing.assert_allclose(twin_shown.numpy(), shown, atol=1e-9)
        np.testing.assert_allclose(twin.true_px.numpy(), plain.true_px, atol=1e-9)
        np.testing.assert_array_equal(twin.on_screen.numpy(), plain.on_screen)


def test_worlds_depend_on_the_seed_only_and_lie_in_their_ranges() -> None:
    first, again = (draw_worlds("B", 500, np.random.default_rng(3)) for _ in range(2))
    for field in dataclasses.fields(ShiftWorlds):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
    gain = np.sqrt(np.abs(np.linalg.det(first.jacobian))) / 512
    assert 0.4 < gain.min() < 0.6
    assert 1.7 < gain.max() < 2.4
    assert first.stale.max() <= 0.3
    assert first.creep.max() <= 0.15
    assert first.backlash_px.max() <= 1.5
    assert np.mean(np.linalg.det(first.jacobian) < 0) == pytest.approx(0.5, abs=0.1)


def test_an_unknown_world_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="A, B, C"):
        draw_worlds("D", 1, np.random.default_rng(0))


@given(st.floats(-1, 1), st.floats(-1, 1))
@settings(max_examples=30, deadline=None)
def test_an_ideal_world_is_linear(y: float, x: float) -> None:
    worlds = ideal()
    state = ShiftWorldState(worlds)
    shown = state.step(np.array([[y, x]]), quiet())
    np.testing.assert_allclose(shown[0], worlds.start_px[0] + worlds.jacobian[0] @ [y, x], atol=1e-9)


def test_creep_arrives_one_frame_late() -> None:
    state = ShiftWorldState(ideal(creep=np.array([0.25])))
    move = np.array([[0.1, 0.0]])
    first = state.step(move, quiet())[0] - [100.0, -50.0]
    second = state.step(np.zeros((1, 2)), quiet())[0] - [100.0, -50.0]
    np.testing.assert_allclose(first, [22.5, 7.5])
    np.testing.assert_allclose(second, [30.0, 10.0])


def test_backlash_swallows_twice_its_half_width_on_a_reversal() -> None:
    gain = math.hypot(300.0, 100.0)
    state = ShiftWorldState(ideal(backlash_px=np.array([2.0])))
    start = state.step(np.array([[0.1, 0.0]]), quiet())[0]
    np.testing.assert_allclose(state.step(np.array([[-3.9 / gain, 0.0]]), quiet())[0], start)
    assert np.hypot(*(state.step(np.array([[-1.0 / gain, 0.0]]), quiet())[0] - start)) == pytest.approx(0.9)


def test_a_stale_frame_shows_the_disk_before_the_move() -> None:
    state = ShiftWorldState(ideal(stale=np.array([0.5])))
    np.testing.assert_allclose(state.step(np.array([[0.1, 0.0]]), quiet(stale=0.1))[0], [100.0, -50.0])
    np.testing.assert_allclose(state.step(np.zeros((1, 2)), quiet())[0], [130.0, -40.0])


def test_drift_and_jitter() -> None:
    state = ShiftWorldState(ideal(drift_px=np.array([[0.2, 0.0]])))
    for _ in range(10):
        shown = state.step(np.zeros((1, 2)), quiet())
    np.testing.assert_allclose(shown[0], [102.0, -50.0])
    noise = FrameNoise(np.zeros((1, 2)), np.array([[1.0, 0.0]]), np.ones(1))
    moved = ShiftWorldState(ideal()).step(np.zeros((1, 2)), noise)[0]
    np.testing.assert_allclose(moved, [100.0 + JITTER_PX, -50.0])


def test_a_disk_that_leaves_the_screen_is_noticed_for_good() -> None:
    state = ShiftWorldState(ideal())
    state.step(np.array([[1.5, 0.0]]), quiet())
    assert not state.on_screen[0]
    state.step(np.array([[-1.5, 0.0]]), quiet())
    assert not state.on_screen[0]


def test_the_disk_holds_the_electrons_of_the_beam() -> None:
    electrons = electrons_per_px(beam_current_pa=10.0, exposure_s=0.001, radius_px=40.0)
    assert electrons * math.pi * 40.0**2 == pytest.approx(62415, rel=1e-3)
    camera = DiskCameraModel(background=0.0)
    frame = render_disk((200.0, 300.0), 40.0, electrons, camera, np.random.default_rng(0))
    assert frame.sum() == pytest.approx(62415, rel=0.02)
    rows, columns = np.indices(frame.shape) + 0.5
    assert (frame * rows).sum() / frame.sum() == pytest.approx(200.0, abs=0.3)
    assert (frame * columns).sum() / frame.sum() == pytest.approx(300.0, abs=0.3)


@pytest.mark.parametrize("electrons", [0.5, 4.0, 40.0])
def test_counts_are_poisson_distributed_however_they_are_drawn(electrons: float) -> None:
    camera = DiskCameraModel(size_px=(96, 128), gain_gradient=(0.2, 0.3), background=0.05)
    mean = electrons * expected_disk((40.0, 70.0), 20.0, camera)
    rng, repeats = np.random.default_rng(3), 300
    frames = np.array([expose(mean, 1.0, camera, rng) for _ in range(repeats)], dtype=np.float64)
    normalised = (frames.mean(0) - mean) / np.sqrt(mean / repeats)
    assert normalised.mean() == pytest.approx(0.0, abs=0.05)
    assert normalised.std() == pytest.approx(1.0, abs=0.05)
    assert (frames.var(0, ddof=1) / mean).mean() == pytest.approx(1.0, abs=0.02)
    assert np.corrcoef(frames[:, 40, 70], frames[:, 41, 70])[0, 1] == pytest.approx(0.0, abs=0.25)


def test_camera_length_and_convergence_set_the_radius() -> None:
    assert disk_radius_px(convergence_mrad=24.0, mrad_per_px=0.4) == pytest.approx(60.0)
    with pytest.raises(InvalidInputError):
        disk_radius_px(0.0, 0.4)


def test_the_camera_does_to_the_electrons_what_it_says() -> None:
    rng = np.random.default_rng(1)
    camera = DiskCameraModel(pedestal=8.0, read_noise=0.7)
    dark = expose(None, 0.0, camera, rng)
    assert dark.mean() == pytest.approx(8.0, abs=0.02)
    assert dark.std() == pytest.approx(0.7, rel=0.02)
    hot = expose(None, 0.0, DiskCameraModel(hot_pixels=60), rng)
    assert 55 <= np.count_nonzero(hot) <= 60
    np.testing.assert_array_equal(hot, expose(None, 0.0, DiskCameraModel(hot_pixels=60), rng))
    full = render_disk((256.0, 256.0), 60.0, 100.0, DiskCameraModel(saturation=50.0), rng)
    assert full.max() == 50.0
    tilted = expected_disk((256.0, 256.0), 60.0, DiskCameraModel(gain_gradient=(0.0, 0.2)))
    assert tilted[256, 230] < tilted[256, 282]


def test_a_specimen_has_contrast_and_diffracted_disks() -> None:
    rng = np.random.default_rng(2)
    assert draw_contrast(SpecimenInBeam.VACUUM, rng) is None
    camera = DiskCameraModel(background=0.0)
    plain = expected_disk((256.0, 256.0), 50.0, camera)
    for specimen in (SpecimenInBeam.THIN, SpecimenInBeam.THICK):
        image = expected_disk((256.0, 256.0), 50.0, camera, draw_contrast(specimen, rng))
        rows, columns = np.indices(image.shape) + 0.5
        distance = np.hypot(rows - 256, columns - 256)
        assert image[distance < 45].std() > 10 * plain[distance < 45].std()
        assert image[(distance > 60) & (distance < 130)].max() > 0.05
