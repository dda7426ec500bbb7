"""What every training run shares: its folder, checkpoints that can be resumed, and learning curves."""

from __future__ import annotations

import csv
import dataclasses
import logging
import math
import pathlib
import time
import typing

import matplotlib.figure
import torch

from adaptive_core.errors import InvalidInputError

logger = logging.getLogger(__name__)

_REPORT_S = 1.0
_WIDE = 5.0
_QUANTITIES = {"ssim": "SSIM", "frames": "frames", "missed": "fraction missed", "rms_px": "distance / px"}
"""Parts of columns' names that tell the quantity, with the label of its axis."""

_FREE_FIELDS = frozenset({"device", "minutes", "iterations", "images", "threads", "scored_crops", "policy"})


class RunFolder:
    """Files of one run: ``checkpoint.pt``, ``curve.csv``, ``curve.png`` and whatever the algorithm adds.

    Args:
        path: the folder; made if there is none.
        config: the algorithm's arguments; all but _FREE_FIELDS must agree with a checkpoint.
    """

    def __init__(self, path: pathlib.Path, config: typing.Any) -> None:
        self.path = path
        self.config: dict[str, typing.Any] = {
            name: value.name if isinstance(value, pathlib.Path) else value
            for name, value in dataclasses.asdict(config).items()
        }
        self._checkpoint = path / "checkpoint.pt"
        self._curve = path / "curve.csv"
        self._reported_s = 0.0

    def open(self, resume: bool) -> dict[str, typing.Any] | None:
        """Make the folder; with ``resume`` return its checkpoint, if there is one.

        Raises:
            InvalidInputError: the folder holds a run that is not to be resumed, or one with another config. Nothing is
                overwritten then.
        """
        if not self._checkpoint.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self._curve.unlink(missing_ok=True)
            return None
        if not resume:
            raise InvalidInputError(f"{self.path} holds a training run already; resume it or choose another folder.")
        checkpoint: dict[str, typing.Any] = torch.load(self._checkpoint, "cpu", weights_only=True)
        found = checkpoint["config"]
        if (name := self._another(found)) is not None:
            expected = _plain(self.config[name])
            raise InvalidInputError(
                f"The checkpoint in {self.path} has {name} = {found.get(name)!r}, not {expected!r}."
            )
        return checkpoint

    def is_done_by(self, found: dict[str, typing.Any]) -> bool:
        """Whether a finished run with the config ``found`` has all of this one's training."""
        is_as_long = all(found.get(name, 0) >= self.config[name] for name in ("minutes", "iterations"))
        return is_as_long and self._another(found) is None and found.get("policy") == self.config.get("policy")

    def _another(self, found: dict[str, typing.Any]) -> str | None:
        """The first field, but for _FREE_FIELDS, in which a config is not this one."""
        fields = (name for name in self.config if name not in _FREE_FIELDS)
        return next((name for name in fields if found.get(name) != _plain(self.config[name])), None)

    def save(self, state: dict[str, typing.Any]) -> None:
        """Write the checkpoint; an interruption leaves the one before."""
        new = self._checkpoint.with_suffix(".new")
        torch.save({**state, "config": {name: _plain(value) for name, value in self.config.items()}}, new)
        new.replace(self._checkpoint)

    def report(self, progress: float, iteration: int) -> None:
        """Tell the log how far the training is, at most once a second; the record has it as ``progress``, 0 to 1."""
        now_s = time.monotonic()
        if now_s - self._reported_s >= _REPORT_S:
            self._reported_s = now_s
            logger.info("iteration %d", iteration, extra={"progress": progress})

    def log(self, row: dict[str, float]) -> None:
        """Append a row to the learning curve and draw it anew."""
        is_new = not self._curve.exists()
        with self._curve.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(row))
            if is_new:
                writer.writeheader()
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
        draw_curve(self._curve, self._curve.with_suffix(".png"))
        logger.info("  ".join(f"{name} {value:.5g}" for name, value in row.items()))


def _plain(value: typing.Any) -> typing.Any:
    return list(value) if isinstance(value, tuple) else value


def draw_curve(source: pathlib.Path, target: pathlib.Path) -> None:
    """Draw every column of a learning curve (CSV, first two columns ``iteration, seconds``) against the iteration.

    Each quantity has a panel. Its axis is logarithmic where all values are positive and differ by more than _WIDE.
    """
    with source.open(newline="", encoding="utf-8") as stream:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    panels = _by_quantity(list(rows[0])[2:])
    height = 3.0 if len(panels) < 3 else 2.0
    figure = matplotlib.figure.Figure(figsize=(8.5, 1.5 + height * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
    iterations = [row["iteration"] for row in rows]
    for panel, (label, shown) in zip(axes, panels.items(), strict=True):
        for name in shown:
            panel.plot(iterations, [row[name] for row in rows], marker=".", label=name.replace("_", " "))
        values = [row[name] for name in shown for row in rows if math.isfinite(row[name])]
        is_wide = label != "SSIM" and bool(values) and 0 < _WIDE * min(values) < max(values)
        panel.set(yscale="log" if is_wide else "linear", ylabel=label)
        panel.grid(alpha=0.3, which="both")
        panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    axes[-1].set(xlabel="iteration")
    figure.align_ylabels()
    figure.savefig(target, dpi=110)


def _by_quantity(names: list[str]) -> dict[str, list[str]]:
    """The columns of each of _QUANTITIES by the label of its axis, and then all others."""
    panels = {label: [name for name in names if part in name] for part, label in _QUANTITIES.items()}
    others = [name for name in names if not any(part in name for part in _QUANTITIES)]
    panels[others[0].replace("_", " ") if len(others) == 1 else "value"] = others
    return {label: shown for label, shown in panels.items() if shown}
