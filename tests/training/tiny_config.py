"""For tests: configurations of the training of a generator and of CRDPG that take a moment, and an untrained policy."""

from adaptive_core import model_card
from adaptive_core.training.partial_scan import policy_export

TINY = {
    "channels": (16, 16, 16),
    "blocks": (1, 1, 1),
    "batch": 2,
    "sizes_px": (96,),
    "size_weights": (1.0,),
    "specimens": 0,
}

SMALL = {
    "hidden": 8,
    "channels": (4, 4, 4),
    "blocks": 1,
    "batch": 2,
    "replay": 4,
    "warm_up": 2,
    "segments": 3,
    "iterations": 2,
    "validation_crops": 1,
    "scored_crops": 0,
    "examples": 0,
    "bfloat16": False,
}


def untrained_walk(policy):
    """The model of a policy that walks."""
    card = policy_export.card_of("Untrained walk", "For tests.", {})
    return model_card.write_card(policy_export.policy_onnx(policy, policy.state_size), card)
