"""Table S1 of Ede (2021): the published error of each experiment and how its config differs from the default one.

Errors are those of the paper, ten times mean squared errors in [-1, 1]. Where the paper does not say on which images an
experiment was done, its level tells: near 0.14 and below crops, near 0.46 whole images scaled down (fig. 4b). Those of
the projections (1.2) are on no scale that the paper explains.
"""

from __future__ import annotations

import dataclasses
import types
import typing


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of Table S1.

    Attributes:
        figure, label: as in the table.
        mean, sd: published error on 20 000 test images.
        changes: fields of :class:`crdpg_config.CrdpgConfig` that differ from its defaults.
    """

    figure: str
    label: str
    mean: float
    sd: float
    changes: typing.Mapping[str, typing.Any]


def _row(figure: str, label: str, mean: float, sd: float, **changes: typing.Any) -> Row:
    return Row(figure, label, mean, sd, types.MappingProxyType(changes))


TABLE_S1 = {
    f"table-s1-{name}": row
    for name, row in {
        "spiral": _row("4a", "Spiral", 0.467, 0.510, network="spiral"),
        "lstm": _row("4a", "LSTM", 0.115, 0.106),
        "dnc": _row("4a", "DNC", 0.123, 0.102, network="dnc"),
        "full-gradient-loss": _row("4b", "Full, Gradient Loss", 0.450, 0.374, field="full", generator_loss="sobel"),
        "full-no-gradient-loss": _row("4b", "Full, No Gradient Loss", 0.463, 0.388, field="full"),
        "crop-gradient-loss": _row("4b", "Crop, Gradient Loss", 0.150, 0.146, generator_loss="sobel"),
        "crop-no-gradient-loss": _row("4b", "Crop, No Gradient Loss", 0.153, 0.158),
        "no-loss-normalisation": _row("4c", "No Loss Normalization", 0.141, 0.135, normalisation="none"),
        "loss-normalisation": _row("4c", "Loss Normalization", 0.124, 0.097),
        "true-actions": _row("4d", "True Actions", 0.141, 0.142, actions="replayed"),
        "true-actions-doubled-noise": _row(
            "4d", "True Actions, Doubled Noise", 0.167, 0.177, actions="replayed", noise_rad=0.4
        ),
        "live-actions": _row("4d", "Live Actions", 0.124, 0.097),
        "exponential-decay": _row("S2a", "Exponential Decay", 0.566, 0.439, field="full", generator_cyclic=False),
        "cyclic-decay": _row("S2a", "Cyclic Decay", 0.470, 0.396, field="full"),
        "edge-penalty-0.0": _row("S2b", "Edge Penalty 0.0", 0.141, 0.134, edge_penalty=0.0),
        "edge-penalty-0.1": _row("S2b", "Edge Penalty 0.1", 0.141, 0.135),
        "edge-penalty-0.2": _row("S2b", "Edge Penalty 0.2", 0.146, 0.133, edge_penalty=0.2),
        "edge-penalty-0.4": _row("S2b", "Edge Penalty 0.4", 0.271, 0.313, edge_penalty=0.4),
        "projection-32": _row("S2c", "Projection 128 to 32", 1.307, 0.812, projection=32),
        "projection-64": _row("S2c", "Projection 128 to 64", 1.223, 0.773, projection=64),
        "no-projection": _row("S2c", "No Projection", 1.182, 0.769),
        "mean-squared-error": _row("S2d", "Mean Squared Error", 0.465, 0.398, field="full"),
        "maximum-region-error": _row(
            "S2d", "Maximum Region Error", 0.514, 0.409, field="full", generator_loss="maximum-region"
        ),
        "fully-supervised": _row("S2e", "Fully Supervised", 0.146, 0.138, supervision="full"),
        "supervised-start": _row("S2e", "Supervised Start", 0.141, 0.135),
        "no-supervision": _row("S2e", "No Supervision", 0.138, 0.130, supervision="none"),
        "buffer-50000-4": _row("S2f", "Buffer Size 50000, 4 Repeats", 0.162, 0.155, replay=50_000, warm_up=50_000),
        "buffer-25000-4": _row("S2f", "Buffer Size 25000, 4 Repeats", 0.124, 0.097),
        "buffer-10000-10": _row(
            "S2f", "Buffer Size 10000, 10 Repeats", 0.180, 0.181, replay=10_000, warm_up=10_000, repeats=10
        ),
        "buffer-10000-4": _row("S2f", "Buffer Size 10000, 4 Repeats", 0.127, 0.100, replay=10_000, warm_up=10_000),
        "buffer-10000-1": _row(
            "S2f", "Buffer Size 10000, 1 Repeats", 0.143, 0.137, replay=10_000, warm_up=10_000, repeats=1
        ),
        "buffer-5000-4": _row("S2f", "Buffer Size 5000, 4 Repeats", 0.181, 0.170, replay=5_000, warm_up=5_000),
    }.items()
}
"""Every row of the table by the name of its config."""


def small(row: Row) -> dict[str, typing.Any]:
    """The changes of a row at a budget of about a minute of one core, the same for every row.

    A narrower generator, fewer episodes an iteration, one iteration in 2500, running means that are as much faster as
    so few iterations need, and a 25th of the episodes in each replay. What the row varies is kept.
    """
    replays = {name: row.changes.get(name, 25_000) // 25 for name in ("replay", "warm_up")}
    return {**_SMALL, **row.changes, **replays}


_SMALL: dict[str, typing.Any] = {
    "channels": (8, 16, 32),
    "blocks": 2,
    "batch": 16,
    "iterations": 400,
    "target_decay": 0.99,
    "normalisation_decay": 0.97,
    "validate_every_s": 12.0,
    "validation_crops": 200,
    "scored_crops": 0,
}


def small_name(row: Row) -> str:
    """Name of the small config of a row: that of the first row with the same changes, several being the defaults."""
    first = next(name for name, other in TABLE_S1.items() if small(other) == small(row))
    return first.replace("table-s1", "small-s1")


SMALL_S1 = {small_name(row): small(row) for row in TABLE_S1.values()}
"""The changes of every different row at the small budget, by the name of its config."""
