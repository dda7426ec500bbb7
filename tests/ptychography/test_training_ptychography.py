"""The torch twins against numpy, credit, networks, and short training runs."""

import dataclasses
import json

import distributed
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from adaptive_core.errors import InvalidInputError, ModelError
from adaptive_core.model_library import LoadedModel, ModelLibrary
from adaptive_core.ptychography import (
    engines,
    episode,
    metrics,
    object_grid,
    positions,
    protocols,
    reconstruction,
    scan_file,
)
from adaptive_core.ptychography.experiments import SimulatedRegion, experiment
from adaptive_core.ptychography.policy import OnnxPolicy
from adaptive_core.ptychography.stand_ins import SimulatedScanner
from adaptive_core.simulation.ptychography_forward import ForwardModel
from adaptive_core.simulation.ptychography_probe import Optics, cut_window, probe_wave
from adaptive_core.training.ptychography import (
    autoencoder,
    credit,
    datasets,
    export_models,
    guided,
    networks,
    pathwise,
    pictures,
    reinforce,
    torch_model,
    world,
)

MOS2 = experiment("mos2")
TINY = networks.NetworkSize(32, (4, 4), 16)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _tiny_size():
    networks.SIZES["tiny"] = TINY
    yield
    del networks.SIZES["tiny"]


def _both(window, objects, detector, offset):
    """The same model in numpy and torch, two data sets in torch, the first one being numpy's."""
    rng = np.random.default_rng(0)
    optics = Optics(60, 33, 40.0, 0.01)
    wave = probe_wave(optics, 48, 16.0)
    twin = torch_model.probe_waves(optics, 48, 16.0, torch.tensor(40.0))
    np.testing.assert_allclose(twin.numpy(), wave, atol=1e-6)
    if window < 48:
        wave, twin = cut_window(wave, window), torch_model.cut_window(twin, window)
        np.testing.assert_allclose(twin.numpy(), wave, atol=1e-6)
    place = rng.uniform(0, objects, (2, 5, 2))
    potential = rng.normal(size=(2, objects, objects)).astype(np.float32) * 0.3
    model = ForwardModel(wave, place[0], (objects, objects), detector, (offset, offset))
    other = torch_model.TorchForwardModel(twin, torch.tensor(place, dtype=torch.float32), objects, detector, offset)
    return model, other, potential


@pytest.mark.parametrize(
    ("window", "objects", "detector", "offset"), [(48, 48, 30, 0.0), (24, 48, 15, 0.0), (48, 64, 32, 0.25)]
)
def test_forward_model_and_adjoint_are_twins(window, objects, detector, offset):
    model, twin, potential = _both(window, objects, detector, offset)
    transmission = np.exp(1j * potential).astype(np.complex64)
    waves = twin.waves(torch.from_numpy(transmission))
    np.testing.assert_allclose(waves[0].numpy(), model.waves(transmission[0]), atol=2e-5)
    back = twin.adjoint(waves)[0].numpy()
    np.testing.assert_allclose(back, model.adjoint(model.waves(transmission[0])), atol=2e-5)
    np.testing.assert_allclose(twin.illumination()[0].numpy(), model.illumination(), atol=1e-5)


def test_reconstructions_are_twins():
    model, twin, potential = _both(48, 48, 30, 0.0)
    transmission = np.exp(1j * potential).astype(np.complex64)
    exact = twin.patterns(torch.from_numpy(transmission))
    mask = np.ones((48, 48), np.float32)
    settings = engines.WeightedSettings(epochs=4, batch=5)
    expected, _ = engines.weighted_descent([(model, exact[0].numpy())], 1e5, mask, settings)
    found = torch_model.weighted_descent([twin], [exact], 1e5, torch.from_numpy(mask), 4)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=2e-4)
    rop, _ = engines.gradient_descent(model, exact[0].numpy(), 2e4, 3)
    np.testing.assert_allclose(
        torch_model.gradient_descent([twin], [exact], 2e4, 3)[0].numpy(), rop, atol=1e-4 * np.abs(rop).max()
    )


def test_the_papers_descent_stays_finite_where_probes_crowd():
    small = world.World(MOS2, range(1), MOS2.electrons)
    place = positions.sparse_grid(250, (2.0, 2.0)) - 1
    chosen, focus = torch.arange(1), torch.zeros(())

    def image(places, step):
        there = torch.tensor(places, dtype=torch.float32)[None]
        patterns = world.Patterns().with_more(*small.measure(small.region(chosen), there, focus, None))
        return small.rop(patterns, step)

    crowded = 0.02 * place
    assert image(crowded, reconstruction.ROP_STEP).abs().max() < 2
    # The step of evenly spread probes is left alone: twice the step, nearly twice the first image.
    one, two = (image(place, step) for step in (0.01, 0.02))
    assert float(two.std() / one.std()) == pytest.approx(2, rel=0.1)


def test_gradients_of_the_image_reach_every_position():
    small = world.World(MOS2, range(1), MOS2.electrons)
    encoder = networks.Autoencoder(TINY).eval()
    policy = networks.ScanPolicy(TINY, 50)
    generator = torch.Generator().manual_seed(0)
    episode = reinforce.play(small, small.region(torch.arange(1)), encoder, policy, 0.0, generator, through=True)
    small.rop(episode.patterns, 0.1, 1).square().sum().backward()
    assert policy.head.weight.grad is not None
    assert (policy.head.weight.grad.abs().sum(1) > 0).all()
    still = reinforce.play(small, small.region(torch.arange(1)), encoder, policy, 0.0, generator)
    assert not still.patterns.intensities[0].requires_grad


def test_positions_are_differentiable():
    optics = Optics(60, 33)
    waves = torch_model.probe_waves(optics, 32, 12.0, torch.tensor(20.0)).to(torch.complex128)
    rng = np.random.default_rng(0)
    target = torch.polar(torch.ones(1, 32, 32, dtype=torch.float64), torch.from_numpy(rng.normal(size=(1, 32, 32))))

    def brightness(place):
        model = torch_model.TorchForwardModel(waves, place, 32, 20)
        return model.patterns(target)[..., 3, 4].sum()

    place = torch.tensor(rng.uniform(5, 25, (1, 2, 2)), requires_grad=True)
    assert torch.autograd.gradcheck(brightness, (place,), eps=1e-5, atol=1e-4)


def test_similarity_is_the_numpy_metric():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 2, 1, 40, 40)).astype(np.float32).cumsum(-1)
    found = world.similarity(torch.from_numpy(a), torch.from_numpy(b))
    expected = [metrics.phase_ssim(x[0], y[0]) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_world_measures_and_sees_what_the_instrument_does():
    small = world.World(MOS2, range(2), MOS2.electrons)
    assert small.grid.shape == (96, 96)
    place = positions.sparse_grid(250, (2.0, 2.0)) - 1
    chosen = torch.arange(2)
    patterns = world.Patterns()
    for part in np.split(place, 5):
        there = torch.tensor(part, dtype=torch.float32).expand(2, -1, -1)
        patterns = patterns.with_more(*small.measure(small.region(chosen), there, torch.tensor(0.0), None))
    image = small.images(small.reconstruct(patterns, 3), 130)
    truth = SimulatedRegion(MOS2, 0).truth()
    np.testing.assert_allclose(small.images(small.truth(chosen), 130)[0, 0], truth, atol=0.05)
    # Its window is the quick look's own, so that it does at least as well as that.
    data = SimulatedRegion(MOS2, 0).measure((place + 1) * 10, None, np.random.default_rng(0))
    quick = metrics.phase_ssim(reconstruction.intermediate(data).phase(MOS2.pixel_A), truth)
    assert metrics.phase_ssim(image[0, 0].numpy(), truth) > quick


def test_voronoi_rewards_divide_all_of_the_phase():
    rng = np.random.default_rng(0)
    place = rng.uniform(-1, 1, (30, 2))
    phase = rng.random((64, 64)).astype(np.float32)
    each = credit.voronoi_rewards(place, phase)
    assert each.sum() * 30 == pytest.approx(phase.sum(), rel=1e-5)
    assert credit.shared_rewards(place, phase) == pytest.approx(np.full(30, phase.sum() / 30))


def test_voronoi_cells_are_of_the_nearest_position():
    place = np.random.default_rng(1).uniform(-1, 1, (60, 2))
    line = (np.arange(48) + 0.5) / 24 - 1
    squared = (line[:, None, None] - place[:, 0]) ** 2 + (line[:, None] - place[:, 1]) ** 2
    np.testing.assert_array_equal(credit.voronoi_cells(place, 48), squared.argmin(-1))


def test_reinforce_moves_agents_to_what_is_rewarded():
    generator = torch.Generator().manual_seed(0)
    mean = torch.zeros(1, 1, 3, 2, requires_grad=True)
    optimizer = torch.optim.Adam([mean], 0.02)
    goal = torch.tensor([[0.3, -0.2], [-0.4, 0.1], [0.0, 0.5]])
    sigma = 0.1
    for _ in range(300):
        means = mean.expand(16, -1, -1, -1)
        actions = means.detach() + sigma * torch.randn(means.shape, generator=generator)
        reward = -(actions[:, 0] - goal).square().sum(-1)
        loss = reinforce.reinforce_loss(reinforce.Episode(means, actions, world.Patterns()), reward, sigma, 16)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (mean.detach()[0, 0] - goal).abs().max() < 0.1


@pytest.mark.parametrize(("name", "hidden", "code"), [("paper", 2048, 8 * 8 * 512), ("small", 256, 8 * 8 * 32)])
def test_sizes(name, hidden, code):
    size = networks.SIZES[name]
    assert (size.hidden, size.code, size.layers) == (hidden, code, 2)


@pytest.fixture(scope="module")
def tiny_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    settings = autoencoder.AutoencoderConfig(size="tiny", iterations=3, batch=4, bank=8, regions=4)
    encoder = autoencoder.train(settings, folder / "autoencoder")
    config = reinforce.ReinforceConfig(size="tiny", supervised=3, iterations=2, batch=2, draws=2, regions=4)
    by_gradient = guided.GuidedConfig(size="tiny", supervised=3, iterations=2, batch=1, regions=2)
    start = guided.train(by_gradient, encoder, folder / "guided")
    policy = reinforce.train(config, encoder, folder / "reinforce", start=start)
    layout = pathwise.PathwiseConfig(size="tiny", iterations=2, batch=1, regions=2, validation=1, doses=(0.1,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "TUNED", {("mos2", 0.1): protocols.Tuned(120.0, 250, 1)})
        learned = pathwise.train(layout, encoder, folder / "pathwise")
    return folder, encoder, policy, learned, config


def test_training_runs_leave_checkpoints_and_curves_and_resume(tiny_runs):
    folder, encoder, policy, _, config = tiny_runs
    for name in ("autoencoder", "guided", "reinforce", "pathwise"):
        assert {path.name for path in (folder / name).iterdir()} >= {"checkpoint.pt", "curve.csv", "curve.png"}
    more = dataclasses.replace(config, iterations=3)
    with pytest.raises(InvalidInputError, match="holds a training run"):
        reinforce.train(more, encoder, folder / "reinforce")
    reinforce.train(more, encoder, folder / "reinforce", resume=True, start=policy)
    assert torch.load(folder / "reinforce" / "checkpoint.pt", weights_only=True)["iteration"] == 3


def test_exported_policies_scan(tiny_runs, tmp_path):
    _, encoder, policy, learned, _ = tiny_runs
    export_models.export_encoder(encoder, tmp_path / "encoder.onnx", "Tiny encoder")
    training = {"encoder": "Tiny encoder"}
    export_models.export_policy(policy, tmp_path / "paper.onnx", "Tiny policy", training=training)
    export_models.export_policy(learned, tmp_path / "layout.onnx", "Tiny layout", training=training)
    export_models.export_policy(learned, tmp_path / "still.onnx", "Tiny still", adaptive=False)
    library = ModelLibrary([tmp_path])
    region = SimulatedRegion(MOS2, 1)
    for name, defocused in (("Tiny policy", False), ("Tiny layout", True), ("Tiny still", True)):
        onnx = OnnxPolicy.load(library, name)
        data = protocols.scan(region, onnx, 0.1, 0)
        assert data.count == 250
        assert (data.defocus_A is not None) == defocused
    # Before anything was seen, nothing is adapted.
    first, _ = learned.placed(torch.eye(5)[:1], torch.full((1, 1), pathwise.log_dose(MOS2, 0.1)))
    np.testing.assert_allclose(data.positions_A[:50] / 10 - 1, first[0].detach().numpy(), atol=1e-4)
    scanner = SimulatedScanner(region)
    with pytest.raises(InvalidInputError, match="trained for 50 positions"):
        onnx.start(episode.make_plan(scanner, 250, 2))
    with pytest.raises(ModelError, match="needs the encoder"):
        OnnxPolicy(library.load("Tiny policy"))
    with pytest.raises(ModelError, match="expected a ptychography_policy"):
        OnnxPolicy(library.load("Tiny encoder"))


def test_a_layout_alone_needs_no_networks(tiny_runs, tmp_path):
    learned = tiny_runs[3]
    path = tmp_path / "still.onnx"
    export_models.export_policy(learned, path, "Still", adaptive=False)
    model = LoadedModel(path.read_bytes(), path)
    assert set(model.input_names) == {"positions", "dose", "state"}
    state = np.zeros((1, 5), np.float32)
    dose = np.full((1, 1), networks.REFERENCE_LOG_DOSE, np.float32)
    for step in torch.eye(5):
        wanted, _ = learned.placed(step[None], torch.from_numpy(dose))
        answer = model.run(positions=np.zeros((1, 50, 2), np.float32), dose=dose, state=state)
        np.testing.assert_allclose(answer["next_positions"][0], wanted[0].detach(), atol=1e-6)
        state = answer["state_out"]


def test_low_pass_of_the_world_is_that_of_the_reconstruction():
    small = world.World(MOS2, range(1), MOS2.electrons)
    expected = object_grid.low_pass(MOS2.calibration(), small.grid)
    truth = small.truth(torch.arange(1))[0].numpy()
    spectrum = np.abs(np.fft.fft2(truth))
    assert spectrum[expected == 0].max() < 1e-3 * spectrum.max()


def test_rewards_are_drawn_in_one_unit_up_to_the_same_iteration(tmp_path, monkeypatch):
    drawn = []
    for credit_name, rewards in (("voronoi", (0.01, 0.02, 0.03)), ("shared", (2.5, 5.0))):
        run = tmp_path / credit_name
        run.mkdir()
        (run / "config.json").write_text(json.dumps({"arguments": {"specimen": "mos2", "credit": credit_name}}))
        rows = [f"{10 * (i + 1)},1,0,{reward},1,0" for i, reward in enumerate(rewards)]
        (run / "curve.csv").write_text(
            "\n".join(["iteration,seconds,reward,unseen_reward,phase_at_probes,adaptation", *rows]) + "\n"
        )
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *data, **style: drawn.append(data) or plot(self, *data, **style))
    pictures.main([str(tmp_path / "voronoi"), str(tmp_path / "shared"), "--out", str(tmp_path / "credit.png")])
    assert drawn[0] == ([10, 20], [0.01, 0.02])
    assert drawn[2] == ([10, 20], [0.01, 0.02])  # the whole phase, counted once and not 250 times
    assert (tmp_path / "credit.png").read_bytes().startswith(b"\x89PNG")


def test_data_sets_are_simulated_once_and_read_back(tmp_path, capsys):
    words = ["--regions", "2", "--positions", "4", "--defocus", "50", "--out", str(tmp_path)]
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False) as own:
        datasets.main([*words, "--scheduler", own.scheduler_address])
    files = sorted(tmp_path.glob("*/scan.h5"))
    assert len(files) == 2
    assert "2 of 2" in capsys.readouterr().err
    data = scan_file.read_scan(files[0])
    assert data.count == 4
    assert data.calibration.optics.defocus_A == 50
    assert np.load(files[0].with_name("truth.npy")).shape == (130, 130)
    written = [file.stat().st_mtime_ns for file in files]
    datasets.main(words)  # starts no workers
    assert [file.stat().st_mtime_ns for file in files] == written
