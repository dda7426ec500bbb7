"""Trained networks as ONNX files with their cards."""

from __future__ import annotations

import pathlib
import typing

import torch
from torch import Tensor, nn

from adaptive_core.model_card import ModelCard, write_card
from adaptive_core.training.export import to_onnx, write_model
from adaptive_core.training.ptychography.networks import Autoencoder, Encoder, LayoutPolicy, ScanPolicy

SOURCES = (
    "M. Schloz et al., Deep reinforcement learning for data-driven adaptive scanning in ptychography, "
    "Sci. Rep. 13, 8732 (2023), doi:10.1038/s41598-023-35740-1",
    "M. Schloz et al., arXiv:2203.15413 (2022)",
)
LICENCE = "GPL-3.0-or-later"


class _LayoutOnly(nn.Module):
    """A layout policy that was trained without seeing anything: its code and positions are left out."""

    def __init__(self, policy: LayoutPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, positions: Tensor, dose: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        policy = self.policy
        now = torch.cat([torch.ones_like(state[:, :1]), state[:, :-1]], 1)
        # The last positions do not matter, but every policy is given them.
        following, defocus_A = policy.placed(now - state, dose)
        return following + 0.0 * positions, defocus_A, now


def export_encoder(network: Autoencoder, path: pathlib.Path, name: str, **card: typing.Any) -> None:
    """Write the encoding half of an autoencoder."""
    side = network.size.image_px
    model = to_onnx(Encoder(network), {"potential": torch.randn(1, 1, side, side)}, ("code",))
    details = ModelCard(kind="ptychography_encoder", name=name, licence=LICENCE, sources=SOURCES, **card)
    write_model(path, write_card(model, details))


def export_policy(
    policy: ScanPolicy | LayoutPolicy, path: pathlib.Path, name: str, adaptive: bool = True, **card: typing.Any
) -> None:
    """Write a policy; a layout policy that is not ``adaptive`` is written without its networks."""
    positions = torch.zeros(1, policy.positions, 2)
    inner = policy.inner if isinstance(policy, LayoutPolicy) else policy
    code, dose = torch.zeros(1, inner.size.code), torch.zeros(1, 1)
    module: nn.Module
    if isinstance(policy, ScanPolicy):
        module = policy
        observes: tuple[str, ...] = ("code",)
        inputs = {"code": code, "positions": positions, "state": torch.zeros(1, policy.state_size)}
        outputs: tuple[str, ...] = ("next_positions", "state_out")
    elif adaptive:
        module, observes = policy, ("code", "dose")
        inputs = {"code": code, "positions": positions, "dose": dose, "state": torch.zeros(1, policy.state_size)}
        outputs = ("next_positions", "defocus_A", "state_out")
    else:
        module, observes = _LayoutOnly(policy), ("dose",)
        inputs = {"positions": positions, "dose": dose, "state": torch.zeros(1, len(policy.layout))}
        outputs = ("next_positions", "defocus_A", "state_out")
    model = to_onnx(module, inputs, outputs)
    details = ModelCard(
        kind="ptychography_policy",
        name=name,
        observes=observes,
        probes_per_segment=policy.positions,
        licence=LICENCE,
        sources=SOURCES,
        **card,
    )
    write_model(path, write_card(model, details))
