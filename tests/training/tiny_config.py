"""Models for tests: a configuration of the generator's training that takes a moment, and an untrained policy."""

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


def untrained_walk(policy):
    """The model of a policy that walks."""
    card = policy_export.card_of("Untrained walk", "For tests.", {})
    return model_card.write_card(policy_export.policy_onnx(policy, policy.state_size), card)
