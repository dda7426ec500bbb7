"""What can be trained for ptychography, by name: each recipe makes everything that it needs, and a model with its card.

:func:`train` is the door to all of them.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import hashlib
import json
import pathlib
import typing

from adaptive_core.errors import InvalidInputError
from adaptive_core.ptychography import benchmark
from adaptive_core.training.configs import changed, check_device
from adaptive_core.training.ptychography import autoencoder, export_models, guided, pathwise, pictures, reinforce
from adaptive_core.training.ptychography.autoencoder import AutoencoderConfig
from adaptive_core.training.ptychography.guided import GuidedConfig
from adaptive_core.training.ptychography.networks import Autoencoder, LayoutPolicy, ScanPolicy
from adaptive_core.training.ptychography.pathwise import PathwiseConfig
from adaptive_core.training.ptychography.reinforce import ReinforceConfig

Config = AutoencoderConfig | GuidedConfig | PathwiseConfig | ReinforceConfig
Network = Autoencoder | LayoutPolicy | ScanPolicy


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained, and what it is called.

    Attributes:
        config: arguments of the algorithm.
        title: of the model, on its card.
        description: on its card.
        encoder: recipe of the encoder that it looks through.
        start: recipe of the policy from which it starts.
        scored_regions: regions of the benchmark whose scores stand on the card; 0 for none.
    """

    config: Config
    title: str
    description: str
    encoder: str | None = None
    start: str | None = None
    scored_regions: int = 0


def _of_paper(
    title: str,
    encoder: str = "autoencoder",
    scored_regions: int = 25,
    start: str | None = None,
    **changes: typing.Any,
) -> Recipe:
    config = ReinforceConfig(**changes)
    begun = f"first sub-sequence {config.first.replace('_', ' ')}" if start is None else "after training by gradients"
    what = "local SSIM of the final image" if config.reward == "quality" else "phase"
    description = (
        f"The policy of Schloz et al. by REINFORCE, {begun}, reward {what}, {config.credit}; for 250 positions in 5 "
        "sub-sequences."
    )
    return Recipe(config, title, description, encoder, start, scored_regions)


def _of_crystal(title: str, **changes: typing.Any) -> Recipe:
    """Of the papers' data, one crystal with one rotation; an encoder for any rotation serves."""
    common: dict[str, typing.Any] = {"specimen": "mos2_crystal", "iterations": 300, "minutes": 30.0}
    return _of_paper(title, **(common | changes))


def _of_tube(**changes: typing.Any) -> PathwiseConfig:
    # At the whole dose the tuned 40 epochs in one batch would take twice as long, for an image 2 % better.
    through = ((840, 4), (840, 4), (420, 18))
    return PathwiseConfig("dwcnt", defocus_A=45.0, width=0.74, binning=3, through=through, **changes)


RECIPES: collections.abc.Mapping[str, Recipe] = {
    "autoencoder": Recipe(AutoencoderConfig(), "Encoder for MoS2", "Compresses live images of MoS2."),
    "autoencoder-dwcnt": Recipe(
        AutoencoderConfig(specimen="dwcnt", minutes=2.0, bank=120),
        "Encoder for nanotubes",
        "Compresses live images of nanotubes.",
    ),
    "autoencoder-paper": Recipe(
        AutoencoderConfig(size="paper", iterations=100_000, minutes=2000.0, device="cuda"),
        "Large encoder for MoS2",
        "Compresses live images of MoS2; the size of the papers.",
    ),
    "layout": Recipe(
        PathwiseConfig(adapt=False, iterations=2000, minutes=6.0, layout_rate=0.008),
        "Learned layout for MoS2",
        "Positions and defocus for the best image of MoS2; it does not look at the specimen.",
        scored_regions=25,
    ),
    "adaptive": Recipe(
        PathwiseConfig(iterations=2000, minutes=5.0, layout_rate=0.002),
        "Adaptive layout for MoS2",
        "Positions and defocus for the best image of MoS2; moves its positions after each look.",
        encoder="autoencoder",
        start="layout",
        scored_regions=25,
    ),
    "layout-dwcnt": Recipe(
        _of_tube(adapt=False, iterations=120, minutes=15.0, layout_rate=0.002),
        "Learned layout for nanotubes",
        "Positions and defocus for the best image of an upright nanotube; it does not look at the specimen.",
        scored_regions=10,
    ),
    "adaptive-dwcnt": Recipe(
        _of_tube(iterations=24, minutes=15.0, layout_rate=0.001),
        "Adaptive layout for nanotubes",
        "Positions and defocus for the best image of an upright nanotube, moved a little after each look; a sparse "
        "grid drawn together to the tube is as good.",
        encoder="autoencoder-dwcnt",
        start="layout-dwcnt",
        scored_regions=25,
    ),
    "paper-small": _of_paper("Schloz 2023, small", minutes=9.0),
    "paper-small-2022": _of_paper("Schloz 2022, small", minutes=9.0, first="halton"),
    "paper-crystal": _of_crystal("Schloz 2023, small, one crystal", scored_regions=0),
    "shared-reward-crystal": _of_crystal(
        "Schloz 2023, small, one crystal, undivided reward", scored_regions=0, credit="shared"
    ),
    "guided-crystal": Recipe(
        GuidedConfig(specimen="mos2_crystal"),
        "Schloz 2023, small, by gradients, MoS2",
        "The network of Schloz et al., trained through the papers' reconstruction with its one step, which it suits. "
        "No better than the sparse grid where each has its own best step (SSIM -2.6 +- 2.1 %), nor with a good "
        "reconstruction at 12 nm (+0.5 +- 0.5 % at 1.34e4 e/A^2, -0.3 +- 0.1 % at 1.34e5; 25 regions). For 250 "
        "positions in 5 sub-sequences.",
        encoder="autoencoder",
        scored_regions=25,
    ),
    "guided-dwcnt": Recipe(
        GuidedConfig(specimen="dwcnt", batch=2, regions=200, minutes=8.0),
        "Schloz 2023, small, by gradients, nanotubes",
        "The network of Schloz et al., trained through the papers' reconstruction. For 840 positions in 5 "
        "sub-sequences.",
        encoder="autoencoder-dwcnt",
    ),
    "guided-paper-crystal": _of_crystal(
        "Schloz 2023, guided, one crystal",
        start="guided-crystal",
        scored_regions=0,
        iterations=200,
        learning_rate=1e-4,
    ),
    "quality-crystal": _of_crystal(
        "Guided, then rewarded for the final image, one crystal",
        start="guided-crystal",
        scored_regions=0,
        reward="quality",
        dose=0.1,
        batch=6,
        iterations=2000,
        minutes=10.0,
        learning_rate=3e-5,
    ),
    "paper": _of_paper(
        "Schloz 2023, paper size",
        encoder="autoencoder-paper",
        size="paper",
        supervised=800,
        iterations=20_000,
        minutes=10_000.0,
        learning_rate=1e-5,
        supervised_learning_rate=1e-4,
        batch=24,
        draws=1,
        device="cuda",
    ),
}


def configured(name: str, **changes: typing.Any) -> Config:
    """The config of this name with other values of its fields. Raises InvalidInputError for an unknown one."""
    if name not in RECIPES:
        raise InvalidInputError(f"There is no config {name!r}; there are {', '.join(RECIPES)}.")
    return changed(name, RECIPES[name].config, changes)


def train(
    name: str,
    minutes: float | None = None,
    resume: bool = False,
    out: pathlib.Path | None = None,
    **changes: typing.Any,
) -> pathlib.Path:
    """Train by the recipe of this name, and before it what it needs and does not find in ``out``.

    Args:
        name: one of :data:`RECIPES`.
        minutes: length of this training; None takes the recipe's. What it needs is trained for its own length.
        resume: go on from the checkpoints in ``out``.
        out: folder with one folder a recipe; ``training-runs/ptychography`` if None.
        changes: other fields of the config, such as ``seed``.

    Returns:
        The exported model; beside it lie its learning curve, its config and, for a policy, its encoder and examples.

    Raises:
        InvalidInputError: an unknown name, a GPU that is needed and missing, a folder that holds another run.
    """
    config = configured(name, minutes=minutes, **changes)
    _check_device(name, config)
    folder = pathlib.Path("training-runs/ptychography") if out is None else out
    return _exported(name, config, folder, _network(name, config, folder, resume))


def _check_device(name: str, config: Config) -> None:
    """Of a recipe and of all that it needs, before anything is made."""
    check_device(name, config)
    for needed in (RECIPES[name].encoder, RECIPES[name].start):
        if needed is not None:
            _check_device(needed, _config(needed))


def _network(name: str, config: Config, folder: pathlib.Path, resume: bool) -> Network:
    """Train a recipe after its ingredients; those that are finished already are not trained again."""
    recipe = RECIPES[name]
    # A finished run that is resumed returns at once.
    encoder = None if recipe.encoder is None else _network(recipe.encoder, _config(recipe.encoder), folder, True)
    start = None if recipe.start is None else _network(recipe.start, _config(recipe.start), folder, True)
    if isinstance(config, AutoencoderConfig):
        return autoencoder.train(config, folder / name, resume)
    if isinstance(config, PathwiseConfig):
        return pathwise.train(
            config,
            typing.cast(Autoencoder | None, encoder),
            folder / name,
            resume,
            typing.cast(LayoutPolicy | None, start),
        )
    if isinstance(config, GuidedConfig):
        return guided.train(config, typing.cast(Autoencoder, encoder), folder / name, resume)
    return reinforce.train(
        config, typing.cast(Autoencoder, encoder), folder / name, resume, typing.cast(ScanPolicy | None, start)
    )


def _config(name: str) -> Config:
    return RECIPES[name].config


def _exported(name: str, config: Config, folder: pathlib.Path, network: Network) -> pathlib.Path:
    """Write the model of a finished run with its config, and for a policy the encoder and a picture of examples."""
    recipe, run = RECIPES[name], folder / name
    good = isinstance(config, PathwiseConfig) or (isinstance(config, ReinforceConfig) and config.reward != "rop")
    protocol = "honest" if good else "paper"
    training: dict[str, typing.Any] = {
        "config": name,
        "specimen": config.specimen,
        "seed": config.seed,
        "minutes": config.minutes,
        "command": f"adaptive-scan train ptychography --config {name}",
    }
    (run / "config.json").write_text(json.dumps({**training, "arguments": dataclasses.asdict(config)}, indent=1) + "\n")
    path = run / f"ptychography_{name.replace('-', '_')}.onnx"
    card: dict[str, typing.Any] = {
        "name": recipe.title,
        "description": recipe.description,
        "trained_on": f"simulated {config.specimen}, {config.regions} regions",
        "training": training,
    }
    if isinstance(network, Autoencoder):
        export_models.export_encoder(network, path, **card)
        return path
    training["protocol"] = protocol
    adaptive = recipe.encoder is not None
    if recipe.encoder is not None:
        encoder = train(recipe.encoder, None, True, folder)
        training["encoder"] = RECIPES[recipe.encoder].title
        (run / encoder.name).write_bytes(encoder.read_bytes())
    export_models.export_policy(network, path, adaptive=adaptive, **card)
    if recipe.scored_regions:
        card["scores"] = benchmark.card_scores(_figures(path, config.specimen, protocol, recipe.scored_regions))
        export_models.export_policy(network, path, adaptive=adaptive, **card)
        pictures.draw_examples(path, config.specimen, protocol, run / "examples.png")
    return path


def _figures(path: pathlib.Path, specimen: str, protocol: str, regions: int) -> dict[str, typing.Any]:
    """The benchmark of an exported policy, from ``benchmark.json`` beside it if that is of the same policy."""
    kept = path.with_name("benchmark.json")
    models = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    if kept.exists():
        figures: dict[str, typing.Any] = json.loads(kept.read_text())
        if figures["models"] == models:
            return figures
    figures = benchmark.run(specimen, protocol, regions, [str(path)], full_data=False, with_controls=True)
    # The folder of a training means nothing elsewhere.
    figures = json.loads(json.dumps(figures).replace(json.dumps(str(path))[1:-1], path.name))
    figures["models"] = models
    kept.write_text(json.dumps(figures, indent=1) + "\n")
    return figures
