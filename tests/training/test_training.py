"""Each algorithm with a tiny budget: it learns, resumes, refuses what it must, and exports what it trained."""

import dataclasses
import itertools

import numpy as np
import onnxruntime
import pytest
import torch
from tiny_config import TINY, untrained_walk

from adaptive_core import model_card
from adaptive_core.errors import InvalidInputError, ModelError
from adaptive_core.model_library import LoadedModel
from adaptive_core.partial_scan.benchmark.scan import Spending, adapt
from adaptive_core.partial_scan.generator import OnnxGenerator
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.partial_scan.refinement_policy import RefinementPolicy
from adaptive_core.training import partial_scan
from adaptive_core.training.export import read_weights, to_onnx, with_half_weights
from adaptive_core.training.partial_scan import evaluate, generator, path_gradient
from adaptive_core.training.partial_scan.data import Recipe, TruthSource, partial_batch
from adaptive_core.training.partial_scan.generator import GeneratorConfig, generator_from_onnx
from adaptive_core.training.partial_scan.images import described, load_images
from adaptive_core.training.partial_scan.networks import Generator, MultigridFill, SpectralGate
from adaptive_core.training.partial_scan.path_gradient import PathGradientConfig
from adaptive_core.training.partial_scan.policy_network import RecurrentPolicy
from adaptive_core.training.partial_scan.walkers import Deciding
from adaptive_core.training.runs import RunFolder


def _run(model, inputs):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs)


def _random_partial(size_px, seed=0):
    rng = np.random.default_rng(seed)
    mask = rng.random(size_px) < 0.05
    return np.stack([rng.normal(size=size_px) * mask, mask])[None].astype(np.float32)


def test_every_config_of_a_generator_is_found_by_its_own_name():
    names = [name for name, module in partial_scan.CONFIGS.items() if module == "generator"]
    assert names == list(generator.CONFIGS) == [config.name for config in generator.CONFIGS.values()]
    large = generator.CONFIGS["generator-refinement-large"]
    assert (large.policy, max(large.sizes_px)) == ("refinement", 512)


def test_generator_trains_resumes_and_exports(tmp_path, image_folder):
    config = GeneratorConfig(images=image_folder, iterations=3, validation_crops=2, scored_crops=1, **TINY)
    path = generator.train(config, tmp_path / "run")
    rows = (tmp_path / "run" / "curve.csv").read_text().splitlines()
    assert rows[0] == "iteration,seconds,training,validation,spiral,uniform-grid"
    assert rows[-1].startswith("3,")
    assert (tmp_path / "run" / "curve.png").stat().st_size > 1000
    card = LoadedModel(path.read_bytes(), path).card
    assert card.training["iterations"] == 3
    assert {"linear", "thin-plate spline"} == set(card.scores[0]["baselines"])
    assert "3 experimental STEM images of 2 specimens" in card.trained_on

    with pytest.raises(InvalidInputError, match="holds a training run already"):
        generator.train(config, tmp_path / "run")
    with pytest.raises(InvalidInputError, match="has batch = 2, not 4"):
        generator.train(GeneratorConfig(iterations=5, **{**TINY, "batch": 4}), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "curve.csv").read_text().splitlines() == rows

    longer = GeneratorConfig(iterations=5, validation_crops=2, **TINY)
    generator.train(longer, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "curve.csv").read_text().splitlines()[-1].startswith("5,")


def test_generator_learns():
    torch.manual_seed(0)
    config = GeneratorConfig(**{**TINY, "batch": 4})
    network, rng = Generator(config.channels, config.blocks), np.random.default_rng(0)
    batch = TruthSource(None, 96, rng).draw(4)
    partial, mean, sd = partial_batch(batch, rng, Recipe())
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    figures = []
    for _ in range(25):
        total, mse = generator.loss(network, torch.from_numpy(batch)[:, None], partial, mean, sd, 0.02)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        figures.append(float(mse.detach()))
    assert figures[-1] < 0.97 * figures[0]


@pytest.mark.parametrize("size_px", [(96, 96), (96, 160), (256, 112)])
def test_exported_generator_equals_the_network(size_px, tiny_generator):
    network = generator_from_onnx(tiny_generator)
    partial = _random_partial(size_px)
    image, log_variance = _run(tiny_generator.read_bytes(), {"partial": partial})
    with torch.no_grad():
        expected = network(torch.from_numpy(partial))
    assert image.shape == log_variance.shape == (1, 1, *size_px)
    np.testing.assert_allclose(image, expected[0], atol=1e-4)
    np.testing.assert_allclose(log_variance, expected[1], atol=1e-4)


def test_half_weights_are_nearly_the_weights(tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Linear(100, 200)
    x = torch.randn(3, 100)
    whole = to_onnx(network, {"x": x}, ("y",))
    half = with_half_weights(whole)
    assert len(half) < 0.55 * len(whole)
    (y,) = _run(half, {"x": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(y, network(x), atol=2e-3)
        assert not np.array_equal(y, network(x))
    (tmp_path / "half.onnx").write_bytes(half)
    weights = {tuple(tensor.shape): tensor for tensor in read_weights(tmp_path / "half.onnx").values()}
    assert weights[200,].dtype == torch.float32
    assert torch.equal(weights[200,], network.bias)  # small tensors stay whole
    weight = next(tensor for tensor in weights.values() if tensor.ndim == 2)
    assert sorted(weight.shape) == [100, 200]


def test_exported_policy_equals_the_network():
    torch.manual_seed(0)
    policy = RecurrentPolicy()
    rng = np.random.default_rng(0)
    state = np.zeros((1, policy.state_size), np.float32)
    model = untrained_walk(policy)
    position = np.zeros((1, 2), np.float32)
    for step in range(4):
        inputs = {
            "values": rng.normal(size=(1, 20)).astype(np.float32) * (step > 0),
            "position": position,
            "remaining": np.array([[1 - step / 20]], np.float32),
            "state": state,
        }
        direction, new_state = _run(model, inputs)
        with torch.no_grad():
            expected = policy(*map(torch.from_numpy, inputs.values()))
        np.testing.assert_allclose(direction, expected[0], atol=1e-5)
        np.testing.assert_allclose(new_state, expected[1], atol=1e-5)
        state, position = new_state, rng.uniform(-1, 1, (1, 2)).astype(np.float32)


def test_policy_trains_resumes_and_exports(tmp_path, tiny_generator):
    settings = {"generator": tiny_generator, "batch": 2, "validation_crops": 1}
    path = path_gradient.train(PathGradientConfig(iterations=2, **settings), tmp_path / "run")
    model = LoadedModel(path.read_bytes(), path)
    assert model.card.action == "direction"
    assert model.card.observes == ("values", "position", "remaining")
    path_gradient.train(PathGradientConfig(iterations=3, **settings), tmp_path / "run", resume=True)
    rows = (tmp_path / "run" / "curve.csv").read_text().splitlines()
    assert rows[-1].startswith("3,")
    assert rows[0] == "iteration,seconds,training,selection,validation"
    assert np.isfinite(float(rows[-1].split(",")[-1]))


def test_what_chooses_the_weights_is_neither_learned_from_nor_benchmarked(tmp_path, image_folder, tiny_generator):
    images = load_images(image_folder, "train")
    learned, choosing = path_gradient.set_aside(images)
    assert learned.groups.keys() | choosing.groups.keys() == images.groups.keys()
    assert not learned.groups.keys() & choosing.groups.keys()
    settings = {"generator": tiny_generator, "batch": 2, "validation_crops": 1, "scored_crops": 0}
    config = PathGradientConfig(iterations=1, images=image_folder, doses=(1.0, 30.0), noise_free=0.0, **settings)
    path = path_gradient.train(config, tmp_path / "run")
    card = LoadedModel(path.read_bytes(), path).card
    assert card.training["selected"] == "least error on 1 crops of a, from which the walk did not learn"
    assert card.training["config"]["doses"] == [1.0, 30.0]
    assert "1 experimental STEM images of 1 specimens" in card.trained_on


def test_generator_goes_on_with_the_walks_of_a_policy(tmp_path):
    policy = tmp_path / "policy.onnx"
    policy.write_bytes(untrained_walk(RecurrentPolicy()))
    config = GeneratorConfig(iterations=1, validation_crops=0, **TINY)
    generator.train(config, tmp_path / "run")
    longer = dataclasses.replace(config, iterations=3, policy=policy)
    path = generator.train(longer, tmp_path / "run", resume=True)
    assert LoadedModel(path.read_bytes(), path).card.training["config"]["policy"] == "policy.onnx"


def _finish(model, path, **changes):
    """Leave a model as the training of ``generator`` would have, but with other values of its config."""
    run = RunFolder(path.parent, dataclasses.replace(generator.CONFIGS["generator"], **changes))
    content = model.read_bytes()
    images = changes["images"]
    trained_on = described(None if images is None else load_images(images, "train"))
    card = dataclasses.replace(model_card.read_card(content), trained_on=trained_on, training={"config": run.config})
    path.parent.mkdir(parents=True)
    path.write_bytes(model_card.write_card(content, card))


def test_a_training_makes_what_it_goes_on_from_first(tmp_path, monkeypatch, image_folder, tiny_generator):
    tiny = {**TINY, "iterations": 1, "validation_crops": 0, "scored_crops": 0}
    last = {**tiny, "validation_crops": 1, "scored_crops": 1}
    changed = {
        name: dataclasses.replace(config, **(last if name == "generator-refinement" else tiny))
        for name, config in generator.CONFIGS.items()
    }
    for name, config in changed.items():
        monkeypatch.setitem(generator.CONFIGS, name, config)
    further = tmp_path / "run" / "generator-further"
    found = further / "generator" / tiny_generator.name
    _finish(tiny_generator, found, images=image_folder)
    before = found.read_bytes()
    path = partial_scan.train("generator-refinement", image_folder, out=tmp_path / "run")
    files = [path, further / "partial_scan_generator.onnx", found]
    assert found.read_bytes() == before
    cards = [LoadedModel(file.read_bytes(), file).card for file in files]
    chain = [card.training["config"]["name"] for card in cards]
    assert chain == ["generator-refinement", "generator-further", "generator"]
    assert [score["dataset"].split("px, ")[1] for score in cards[0].scores] == [
        "refinement",
        "refinement at 30 electrons a probe",
    ]
    weights = [read_weights(file)["stem.weight"] for file in files]
    # Each went on from the one before: one step of Adam moves no weight by more than its rate, but for half precision.
    for later, earlier in itertools.pairwise(weights):
        assert 0 < float((later - earlier).abs().max()) < 3e-3


@pytest.mark.parametrize(
    ("place", "changes", "serves"),
    [
        ("run/generator", {}, True),
        ("any", {"threads": 2, "device": "cuda", "minutes": 50.0}, True),
        ("any", {"minutes": 44.0}, False),
        ("any", {"seed": 4}, False),
        ("any", {"images": None}, False),
        ("any/deeper", {}, False),
    ],
)
def test_a_finished_run_serves_if_it_has_all_of_the_training(
    tmp_path, monkeypatch, image_folder, tiny_generator, place, changes, serves
):
    def begin(_network, run, *_):
        raise RuntimeError(f"{run.path.name} is trained")

    monkeypatch.setattr(generator, "fit", begin)
    monkeypatch.setattr(generator, "specimen_images", lambda _seeds: None)
    _finish(tiny_generator, tmp_path / place / tiny_generator.name, **{"images": image_folder, **changes})
    with pytest.raises(RuntimeError, match="run is trained" if serves else "generator is trained"):
        partial_scan.train("generator-further", image_folder, out=tmp_path / "run")


def test_what_a_training_goes_on_from_is_shortened_alike():
    changes = {"device": "cuda", "threads": 3}
    last = partial_scan.configured("generator-uniform-grid-large", minutes=1.4, **changes)
    chain = [last.earlier, last.earlier.earlier]
    assert [(config.name, config.minutes, config.seed) for config in chain] == [
        ("generator-further", pytest.approx(1.4), 2),
        ("generator", pytest.approx(4.5), 1),
    ]
    assert all((config.device, config.threads) == ("cuda", 3) for config in chain)
    assert chain[-1].earlier is None
    assert partial_scan.configured("generator-spiral", initial="partial_scan_generator").earlier is None
    # What is longer than its config does not make the others longer.
    assert dataclasses.replace(last, minutes=100.0).earlier.minutes == 14.0


def test_a_training_completes_only_what_a_policy_decides_on(tiny_generator):
    completed = []

    class Counting(Deciding):
        def complete(self, scan, channel=0):
            completed.append(scan.probes)
            return super().complete(scan, channel)

    truth = np.random.default_rng(0).uniform(-1, 1, (96, 96)).astype(np.float32)
    model = OnnxGenerator(LoadedModel(tiny_generator.read_bytes(), tiny_generator))
    scanned = adapt(RefinementPolicy(), Counting(model, 400), truth, Spending(400, None, 1.0), 0)
    assert (len(scanned.positions), completed) == (400, [320, 400])


def test_train_by_name(tmp_path):
    with pytest.raises(InvalidInputError, match=r"4 sizes need as many size_weights, not \(0\.82, 0\.12, 0\.06\)"):
        partial_scan.train("generator", sizes_px=(96, 160, 224, 512))
    with pytest.raises(InvalidInputError, match="no config 'magic'; there are generator, "):
        partial_scan.train("magic")
    with pytest.raises(InvalidInputError, match="must be in a folder"):
        partial_scan.train("generator", images=tmp_path / "none", minutes=0, out=tmp_path / "run")
    with pytest.raises(InvalidInputError, match="must not be negative"):
        partial_scan.train("generator", minutes=-1)


def test_a_file_that_is_no_generator_is_refused(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        generator_from_onnx(tmp_path / "bad.onnx")
    policy = tmp_path / "policy.onnx"
    policy.write_bytes(untrained_walk(RecurrentPolicy()))
    with pytest.raises(ModelError, match=r"policy\.onnx is not a generator"):
        generator_from_onnx(policy)


def test_fill_passes_through_measured_pixels_and_planes():
    fill = MultigridFill()
    y, x = np.mgrid[:96, :96] / 48 - 1
    plane = (y + 0.5 * x).astype(np.float32)
    mask = np.zeros((96, 96), np.float32)
    mask[2::5, 2::5] = 1
    filled = fill(torch.from_numpy(np.stack([plane * mask, mask])[None]))[0, 0].numpy()
    np.testing.assert_allclose(filled[mask > 0], plane[mask > 0], atol=1e-6)
    assert np.abs(filled - plane)[8:-8, 8:-8].max() < 0.02
    assert np.all(fill(torch.zeros(1, 2, 96, 96)).numpy() == 0)


@pytest.mark.parametrize("size_px", [(24, 24), (12, 20), (13, 9)])
def test_spectral_gate_is_a_gated_fourier_transform(size_px):
    torch.manual_seed(0)
    gate = SpectralGate(4, 4)
    x = torch.randn(2, 4, *size_px)
    with torch.no_grad():
        gate.expand.weight.copy_(torch.eye(4)[:, :, None, None])
        spectrum = torch.fft.rfft2(gate.reduce(x), norm="ortho")
        mixed = gate.mix(torch.cat([spectrum.real, spectrum.imag], 1))
        magnitude = torch.log(mixed[:, :4] ** 2 + mixed[:, 4:] ** 2 + 1e-6)
        weight = torch.sigmoid(gate.gate(magnitude - magnitude.mean(dim=(2, 3), keepdim=True)))
        expected = torch.fft.irfft2(
            torch.complex(mixed[:, :4] * weight, mixed[:, 4:] * weight), s=size_px, norm="ortho"
        )
        np.testing.assert_allclose(gate(x), expected, atol=1e-4)


def test_policies_are_scored_beside_static_paths(tmp_path, image_folder, tiny_generator):
    policy = tmp_path / "policy.onnx"
    policy.write_bytes(untrained_walk(RecurrentPolicy()))
    models = (LoadedModel(path.read_bytes(), path) for path in (policy, tiny_generator))
    walker, completion = OnnxPolicy(next(models)), OnnxGenerator(next(models))
    (score,) = evaluate.policy_scores(walker, completion, load_images(image_folder, "validation"), 2)
    assert score["probes"] == 400
    assert set(score["baselines"]) == {*evaluate.STATIC_PATHS, "policy_of_another"}
    assert all(np.isfinite(value) for value in (score["value"], *score["baselines"].values()))
