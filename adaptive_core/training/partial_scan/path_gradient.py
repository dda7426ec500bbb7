"""Train a recurrent policy by the true gradient of the completion's error with respect to the scan path.

``adaptive-scan train partial-scan --config path-gradient --images DIR``

Ede (2021) trains a critic because his partial scans are not differentiable in the actions. Here they are: values are
sampled, and put on the generator's input, by bilinear interpolation, so the error of the completion is propagated
through a frozen generator, the path, and the recurrent policy that chose it. From a random start the gradient finds no
way out of bad paths; the policy therefore starts as a walk that avoids where it has been. In the end it over-fits the
generator: some training specimens are therefore set aside, and choose the weights that are kept.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import pathlib

import numpy as np
import torch

from adaptive_core.model_library import shipped_folder
from adaptive_core.scan_path import Size
from adaptive_core.training.loop import Fitted, Schedule, cosine, fit
from adaptive_core.training.partial_scan import evaluate, paths, policy_export
from adaptive_core.training.partial_scan.data import DOSE_RANGE, TruthSource, check_doses, held_out_truths
from adaptive_core.training.partial_scan.environment import Rollout, completed, rollout
from adaptive_core.training.partial_scan.generator import generator_from_onnx
from adaptive_core.training.partial_scan.images import FloatImage, ImageSet, load_images
from adaptive_core.training.partial_scan.networks import SIZE_MULTIPLE, Generator
from adaptive_core.training.partial_scan.paper_generator import completion_loss
from adaptive_core.training.partial_scan.policy_network import RecurrentPolicy
from adaptive_core.training.partial_scan.sheets import draw_examples
from adaptive_core.training.runs import RunFolder

MODEL_NAME = "partial_scan_policy_recurrent"


@dataclasses.dataclass(frozen=True)
class PathGradientConfig:
    """Arguments of the training.

    Attributes:
        generator: ONNX file of the generator through which the gradient flows; the shipped one if not given.
        images: folder of real images; None trains on procedural images only.
        minutes: length of the training.
        iterations: largest number of iterations.
        doses: electrons that a probe detects where the truth is 1, from lowest to highest.
        noise_free: fraction of walks without shot noise.
        seed: of the policy's initial weights, data and exploration.
        learning_rate: of Adam at the start; it decays by a cosine.
        batch: walks an iteration at 96 x 96 px.
        noise_rad: scale of the exploration at the start; it decays to a fifth.
        average: decay of the running average of the weights, which is what is exported.
        validate_every_s: time between two validations and checkpoints.
        validation_crops: number of crops that choose the weights, and of validation crops beside them.
        scored_crops: number of validation crops for the scores on the card.
        bfloat16: mixed precision for the generator.
        device: of PyTorch, "cpu" or "cuda".
        threads: of PyTorch.
    """

    generator: pathlib.Path = dataclasses.field(
        default_factory=lambda: shipped_folder() / "partial_scan_generator.onnx"
    )
    images: pathlib.Path | None = None
    minutes: float = 12.0
    iterations: int = 1_000_000
    doses: tuple[float, float] = DOSE_RANGE
    noise_free: float = 0.6
    seed: int = 1
    learning_rate: float = 4e-4
    batch: int = 16
    noise_rad: float = 0.1
    average: float = 0.995
    validate_every_s: float = 60.0
    validation_crops: int = 100
    scored_crops: int = 300
    bfloat16: bool = True
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        check_doses(self.doses)


CONFIGS = {"path-gradient": PathGradientConfig()}
_ASIDE = 5  # each fifth training specimen is set aside


def completion_errors(generator: Generator, walk: Rollout, truths: torch.Tensor, bfloat16: bool) -> torch.Tensor:
    """Squared error (B,) of the completions in units of the truths, at most 4 (Ede 2021, Eq. 13)."""
    size_px = (truths.shape[1], truths.shape[2])
    return completion_loss(completed(generator, walk.values, walk.positions, size_px, bfloat16), truths)


class _Truths:
    """Batches of truths with the number of segments to spend on them."""

    def __init__(self, images: ImageSet | None, rng: np.random.Generator, batch: int) -> None:
        self._rng, self._batch = rng, batch
        self._sources = {size: TruthSource(images, size, rng, pool) for size, pool in ((96, 512), (160, 128))}

    def _draw(self, size_px: Size) -> tuple[torch.Tensor, int]:
        side = min(size for size in self._sources if size >= max(size_px))
        count = max(2, round(self._batch * 96**2 / (size_px[0] * size_px[1])))
        coverage = paths.PAPER_COVERAGE * (1.0 if self._rng.random() < 0.7 else math.exp(self._rng.uniform(-0.5, 0.5)))
        segments = round(size_px[0] * size_px[1] * coverage / paths.PROBES_PER_SEGMENT)
        truths: FloatImage = self._sources[side].draw(count)[:, : size_px[0], : size_px[1]]
        return torch.from_numpy(np.ascontiguousarray(truths)), max(segments, 2)

    def draw(self) -> tuple[torch.Tensor, int]:
        """Mostly the paper's region, sometimes a larger or an oblong one."""
        return self._draw((96, 96) if self._rng.random() < 0.75 else self._size(80, 160))

    def _size(self, smallest_px: int, largest_px: int) -> Size:
        height, width = self._rng.integers(smallest_px // SIZE_MULTIPLE, largest_px // SIZE_MULTIPLE + 1, 2)
        if self._rng.random() < 0.5:
            width = height
        return int(height) * SIZE_MULTIPLE, int(width) * SIZE_MULTIPLE


def train(config: PathGradientConfig, out: pathlib.Path, resume: bool = False) -> pathlib.Path:
    """Train, and export the policy with its card. Returns the path of the ONNX file in ``out``.

    Raises:
        InvalidInputError: unusable images or generator, or a folder with another run.
    """
    torch.set_num_threads(config.threads)
    run = RunFolder(out, config)
    images, aside = (None, None) if config.images is None else set_aside(load_images(config.images, "train"))
    held_out = None if config.images is None else load_images(config.images, "validation")
    generator = generator_from_onnx(config.generator).requires_grad_(False)
    generator = generator.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint = run.open(resume)
    start = 0 if checkpoint is None else int(checkpoint["iteration"])
    torch.manual_seed(config.seed + start)
    rng = np.random.default_rng([config.seed, start])
    truths = _Truths(images, rng, config.batch)

    typical = 0.05  # running mean of the errors: losses are normalised by it (Ede 2021, Eq. 14)

    def step(policy: RecurrentPolicy, _iteration: int, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        nonlocal typical
        noise_rad = config.noise_rad * (1 - 0.8 * progress)
        batch, segments = truths.draw()
        batch = batch.to(config.device)
        dose = None
        if rng.random() >= config.noise_free:
            low, high = np.log(config.doses)
            dose = torch.from_numpy(np.exp(rng.uniform(low, high, (len(batch), 1)))).float().to(config.device)
        walk = rollout(policy, batch, segments, noise_rad, dose)
        errors = completion_errors(generator, walk, batch, config.bfloat16)
        typical = 0.99 * typical + 0.01 * float(errors.detach().mean())
        return errors.mean() / typical, {"training": float(errors.detach().mean())}

    fitted = fit(
        RecurrentPolicy().to(config.device),
        run,
        checkpoint,
        Schedule(config.minutes, config.iterations, config.average, 1.0, config.validate_every_s, "selection"),
        lambda _iteration, progress: config.learning_rate * cosine(progress),
        step,
        _validation({"selection": aside, "validation": held_out}, generator, config),
    )
    return _export(fitted, config, run, images, held_out, _selected(config, images, aside))


def set_aside(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """The specimens to learn from, and those that choose the weights; one specimen alone does both."""
    if len(images.groups) == 1:
        return images, images
    names = list(images.groups)
    choosing = {name: images.groups[name] for name in names[::_ASIDE]}
    learned = {name: images.groups[name] for name in names if name not in choosing}
    return dataclasses.replace(images, groups=learned), dataclasses.replace(images, groups=choosing)


def _selected(config: PathGradientConfig, images: ImageSet | None, aside: ImageSet | None) -> str:
    """How the weights were chosen, for the card."""
    if config.validation_crops == 0:
        return "the last"
    of = "" if aside is None else f" of {', '.join(aside.groups)}"
    unseen = "" if aside is None or aside is images else ", from which the walk did not learn"
    return f"least error on {config.validation_crops} crops{of}{unseen}"


def _validation(
    images: collections.abc.Mapping[str, ImageSet | None], generator: Generator, config: PathGradientConfig
) -> collections.abc.Callable[[RecurrentPolicy], dict[str, float]]:
    """Errors on sets of images (procedural ones where there are none), sampled as a scan samples."""
    if config.validation_crops == 0:
        return lambda _policy: {}
    truths = {name: held_out_truths(part, config.validation_crops) for name, part in images.items()}

    @torch.no_grad()
    def error(policy: RecurrentPolicy, crops: FloatImage) -> float:
        walk = rollout(policy, torch.from_numpy(crops).to(config.device), 20, nearest=True)
        completion = evaluate.torch_completion(generator)
        positions = list(walk.positions.cpu().numpy().astype(np.float64))
        return float(evaluate.errors(completion, crops, positions).mean())

    def validate(policy: RecurrentPolicy) -> dict[str, float]:
        return {name: error(policy, crops) for name, crops in truths.items()}

    return validate


def _export(
    fitted: Fitted[RecurrentPolicy],
    config: PathGradientConfig,
    run: RunFolder,
    images: ImageSet | None,
    held_out: ImageSet | None,
    selected: str,
) -> pathlib.Path:
    training = {
        "config": run.config,
        "seed": config.seed,
        "command": "adaptive-scan train partial-scan --config path-gradient --images DIR",
        "minutes": round(fitted.minutes, 1),
        "iterations": fitted.iterations,
        "selected": selected,
    }
    truths = held_out_truths(held_out, 6, seed=2)
    policy = fitted.network.cpu()
    with torch.no_grad():
        walk = rollout(policy, torch.from_numpy(truths), 20, nearest=True)
    network = generator_from_onnx(config.generator)
    draw_examples(run.path / "examples.png", network, truths, list(walk.positions.numpy().astype(np.float64)))
    card = policy_export.card_of(
        "Recurrent walk",
        "Walks from the centre in connected segments and turns by what it sees along them.",
        training,
        images,
    )
    onnx = policy_export.policy_onnx(policy, policy.state_size)
    path = run.path / f"{MODEL_NAME}.onnx"
    return policy_export.write_scored(path, onnx, card, config.generator, held_out, config.scored_crops)
