"""The world in which a policy is trained is the one in which the product runs it."""

import numpy as np
import pytest
import torch
from tiny_config import untrained_walk

from adaptive_core.model_library import LoadedModel
from adaptive_core.partial_scan.generator import OnnxGenerator
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.partial_scan.partial_image import PartialImage
from adaptive_core.scan_path import Positions
from adaptive_core.training.partial_scan import evaluate, paths
from adaptive_core.training.partial_scan.environment import reflected, rollout, standardisation
from adaptive_core.training.partial_scan.generator import generator_from_onnx
from adaptive_core.training.partial_scan.path_gradient import completion_errors
from adaptive_core.training.partial_scan.policy_network import RecurrentPolicy
from adaptive_core.training.partial_scan.synthetic import synthetic_image


def _truth(size_px, seed=0):
    image = synthetic_image(max(size_px), np.random.default_rng(seed))[: size_px[0], : size_px[1]]
    return np.ascontiguousarray((image - image.mean()) / image.std() * 0.4, dtype=np.float32)


def _policy(seed=0):
    torch.manual_seed(seed)
    policy = RecurrentPolicy()
    with torch.no_grad():
        policy.score.weight.mul_(60)
    return policy


@pytest.mark.parametrize("size_px", [(96, 96), (112, 80)])
def test_rollout_goes_where_the_products_loop_goes(size_px, tiny_generator):
    policy, truth = _policy(), _truth(size_px)
    with torch.no_grad():
        walk = rollout(policy, torch.from_numpy(truth)[None], 12, nearest=True)
    generator = OnnxGenerator(LoadedModel(tiny_generator.read_bytes(), tiny_generator))
    product = OnnxPolicy(LoadedModel(untrained_walk(policy), tiny_generator))
    positions = evaluate.policy_positions(product, generator, truth, 12)
    np.testing.assert_allclose(walk.positions[0].numpy(), positions, atol=0.02)


def test_reflection_is_that_of_the_numpy_paths():
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 96, (200, 2))
    angle = rng.uniform(0, 2 * np.pi, 200)
    direction = np.stack([np.sin(angle), np.cos(angle)], 1)
    expected = paths.reflect(start, direction, (96, 96))
    found = reflected(torch.from_numpy(start), torch.from_numpy(direction), torch.tensor([96.0, 96.0]))
    np.testing.assert_array_equal(found, expected)
    end = start + expected * paths.SEGMENT_PX
    assert (end >= 0).all()
    assert (end <= 96).all()


def test_standardisation_is_that_of_the_product():
    rng = np.random.default_rng(1)
    for values in (rng.normal(3, 2, 50), np.full(50, 0.25), np.zeros(20)):
        scan = PartialImage((10, 10))
        scan.add(Positions(rng.uniform(0, 10, (len(values), 2))), values.astype(np.float32)[None])
        mean, sd = standardisation(torch.from_numpy(values).float()[None])
        np.testing.assert_allclose([float(mean), float(sd)], scan.scale(), rtol=1e-4, atol=1e-6)


def test_an_untrained_policy_goes_where_it_has_not_been():
    truths = torch.from_numpy(_truth((96, 96)))[None]
    with torch.no_grad():
        walk = rollout(_policy(), truths, 20, nearest=True)
    y, x = np.mgrid[:96, :96] + 0.5
    positions = walk.positions[0].numpy()
    distance = np.hypot(y[..., None] - positions[:, 0], x[..., None] - positions[:, 1]).min(axis=-1)
    rng = np.random.default_rng(0)
    random = paths.random_walk((96, 96), 400, rng, turn_sd_rad=2.0)
    random_distance = np.hypot(y[..., None] - random[:, 0], x[..., None] - random[:, 1]).min(axis=-1)
    assert distance.mean() < 7
    assert distance.mean() < 0.8 * random_distance.mean()


def test_error_of_the_completion_reaches_the_policy_through_the_path(tiny_generator):
    generator = generator_from_onnx(tiny_generator).requires_grad_(False)
    policy = _policy(1)
    truths = torch.from_numpy(np.stack([_truth((96, 96), seed) for seed in range(2)]))
    walk = rollout(policy, truths, 4)
    completion_errors(generator, walk, truths, bfloat16=False).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in policy.parameters())
    assert walk.positions.requires_grad
    assert float(policy.score.weight.grad.abs().max()) > 0


def test_values_along_the_path_change_the_path():
    policy = _policy(2)
    truths = torch.from_numpy(np.stack([_truth((96, 96), seed) for seed in range(2)]))
    with torch.no_grad():
        walk = rollout(policy, truths, 8, nearest=True)
    first, second = walk.ends.numpy()
    np.testing.assert_allclose(first[:2], second[:2], atol=1e-4)
    assert np.abs(first - second).max() > 1
