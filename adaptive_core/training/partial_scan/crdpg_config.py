"""Arguments of cooperative recurrent deterministic policy gradients (Ede 2021); the defaults are the paper's."""

from __future__ import annotations

import dataclasses
import pathlib

from adaptive_core.errors import InvalidInputError
from adaptive_core.training.partial_scan.actor_critic import NETWORKS
from adaptive_core.training.partial_scan.data import check_doses
from adaptive_core.training.partial_scan.paper_generator import LOSSES

_CHOICES = {
    "network": (*NETWORKS, "spiral"),
    "supervision": ("full", "start", "none"),
    "actions": ("live", "replayed"),
    "normalisation": ("mean", "spiral", "none"),
    "generator_loss": LOSSES,
    "field": ("crop", "full"),
}


@dataclasses.dataclass(frozen=True)
class CrdpgConfig:
    """Arguments of the algorithm and of its training; the defaults are those of the paper.

    Attributes:
        name: of this config, one of those of :mod:`crdpg_training`.
        network: of actor and critic, "lstm" or "dnc"; "spiral" trains the generator alone, on the static spiral.
        hidden: units of each LSTM layer.
        projection: units to which they are projected; 0 for none.
        generator: name or file of a generator to begin with; None for the paper's, untrained.
        generator_rate: of Adam at the start (Eq. 12); 0 freezes the generator.
        generator_cyclic: whether its exponential decay is multiplied with triangles.
        generator_decay: L2 regularisation of the generator (section S1).
        generator_loss: "mse", "sobel" (Eq. 23 added) or "maximum-region" (section S2).
        channels, blocks: of the paper's generator.
        field: "crop" for crops, "full" for whole images, scaled down to the region.
        size_px: side of the region.
        segments: number T of segments of an episode.
        batch: episodes N of an iteration, and of each addition to the replay.
        replay: number of episodes in the experience replay.
        warm_up: episodes in it before the first iteration.
        repeats: how often an episode is replayed on average: the iterations from one addition to the next.
        actor_rate, critic_rate: learning rates of Adam, constant.
        discount: gamma, of losses to come.
        target_decay: beta of the soft updates (Eqs. 17, 18).
        doses: electrons that a probe detects where the truth is 1, from lowest to highest; None for no noise.
        noise_rad: sigma of the Ornstein-Uhlenbeck exploration (Eq. 3), decayed linearly to zero.
        normalisation: "mean" divides losses by their running mean (Eq. 14), "none" does not; "spiral" takes, before
            that, each loss L relative to that of the spiral on the same image, L_s, as 2 L / (L + L_s).
        normalisation_decay: beta of the running mean.
        edge_penalty: loss of a step whose direction leads over an edge (Eq. 15).
        supervision: alpha of Eq. 20: 1 ("full"), decayed from 1 to 0 over ``supervised_part`` of the training
            ("start"), or 0 ("none").
        actions: whether the actor descends the critic at its "live" actions or at the "replayed" ones (fig. 4d).
        images: folder of real images; None trains on procedural images only.
        minutes, iterations: length of the training, whichever ends first.
        seed: of initial weights, data and exploration.
        validate_every_s: time between two validations and checkpoints.
        validation_crops: number of validation crops during training.
        scored_crops: number of validation crops for the scores on the card.
        examples: rows of the sheet of examples.
        bfloat16: mixed precision for the generator.
        device: of PyTorch, such as "cpu" or "cuda".
        threads: of PyTorch.
    """

    name: str = "crdpg"
    network: str = "lstm"
    hidden: int = 128
    projection: int = 0
    generator: str | None = None
    generator_rate: float = 0.003
    generator_cyclic: bool = True
    generator_decay: float = 1e-5
    generator_loss: str = "mse"
    channels: tuple[int, int, int] = (32, 64, 128)
    blocks: int = 5
    field: str = "crop"
    size_px: int = 96
    segments: int = 20
    batch: int = 32
    replay: int = 25_000
    warm_up: int = 25_000
    repeats: int = 4
    actor_rate: float = 7e-4
    critic_rate: float = 1e-3
    discount: float = 0.97
    target_decay: float = 0.9997
    doses: tuple[float, float] | None = None
    noise_rad: float = 0.2
    normalisation: str = "mean"
    normalisation_decay: float = 0.997
    edge_penalty: float = 0.1
    supervision: str = "start"
    supervised_part: float = 0.1
    actions: str = "live"
    images: pathlib.Path | None = None
    minutes: float = 24 * 60.0
    iterations: int = 1_000_000
    seed: int = 1
    validate_every_s: float = 180.0
    validation_crops: int = 100
    scored_crops: int = 300
    examples: int = 6
    bfloat16: bool = True
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidInputError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}.")
        if len(self.channels) != 3:
            raise InvalidInputError(f"The paper's generator has 3 numbers of channels, not {self.channels}.")
        if not 1 <= self.warm_up <= self.replay:
            raise InvalidInputError(f"warm_up must be between 1 and the replay's {self.replay}, not {self.warm_up}.")
        if self.doses is not None:
            check_doses(self.doses)
        if self.generator is None and self.generator_rate == 0:
            raise InvalidInputError("A generator that has not been trained must not be frozen: give it a rate.")
        if self.normalisation == "spiral" and self.generator_rate:
            raise InvalidInputError("Losses relative to the spiral's need a frozen generator: its rate must be 0.")
