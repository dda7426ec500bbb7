"""From a trained policy to a model that ships: ONNX with its card, scores and a sheet of examples."""

from __future__ import annotations

import dataclasses
import pathlib
import typing

import torch
from torch import nn

from adaptive_core import model_card
from adaptive_core.model_library import LoadedModel
from adaptive_core.partial_scan.generator import OnnxGenerator
from adaptive_core.partial_scan.onnx_policy import OnnxPolicy
from adaptive_core.training.export import to_onnx, write_model
from adaptive_core.training.partial_scan import evaluate, paths
from adaptive_core.training.partial_scan.images import ImageSet, described

PAPER = "https://arxiv.org/abs/2004.02786"


def card_of(
    name: str,
    description: str,
    training: dict[str, typing.Any],
    images: ImageSet | None = None,
    sees_remaining: bool = True,
) -> model_card.ModelCard:
    """The card of a policy that walks, without scores."""
    return model_card.ModelCard(
        kind="partial_scan_policy",
        name=name,
        description=description,
        action="direction",
        observes=("values", "position", *(("remaining",) if sees_remaining else ())),
        probes_per_segment=paths.PROBES_PER_SEGMENT,
        probe_spacing_px=paths.PROBE_SPACING_PX,
        values=model_card.STANDARDISED,
        trained_on=described(images),
        training=training,
        licence="GPL-3.0-or-later",
        sources=(PAPER, *(() if images is None else images.sources)),
    )


class _WithoutRemaining(nn.Module):
    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, values: torch.Tensor, position: torch.Tensor, state: torch.Tensor) -> typing.Any:
        return self.policy(values, position, torch.ones_like(position[:, :1]), state)


def policy_onnx(policy: nn.Module, state_size: int, sees_remaining: bool = True) -> bytes:
    """One decision of a policy that walks (see :class:`environment.Walker`) as ONNX, without a card."""
    inputs = {
        "values": torch.zeros(1, paths.PROBES_PER_SEGMENT),
        "position": torch.zeros(1, 2),
        "remaining": torch.ones(1, 1),
        "state": torch.zeros(1, state_size),
    }
    if not sees_remaining:
        del inputs["remaining"]
        policy = _WithoutRemaining(policy)
    return to_onnx(policy, inputs, ("direction", "state_out"))


def write_scored(
    path: pathlib.Path,
    onnx: bytes,
    card: model_card.ModelCard,
    generator: pathlib.Path,
    held_out: ImageSet | None,
    crops: int,
) -> pathlib.Path:
    """Write a policy with its card and, where there are held-out images, its scores with this generator."""
    if held_out is not None and crops:
        # Scored as the product runs it, so it must be a model first.
        policy = OnnxPolicy(LoadedModel(model_card.write_card(onnx, card), path))
        completion = OnnxGenerator(LoadedModel(generator.read_bytes(), generator))
        card = dataclasses.replace(card, scores=evaluate.policy_scores(policy, completion, held_out, crops))
    write_model(path, model_card.write_card(onnx, card))
    return path
