"""Training of alignment policies: the differentiable simulator, the hybrid policy and the paper's environment."""

CONFIGS = (
    "hybrid",
    "paper",
    "reward-non-informative",
    "reward-sparse",
    "tolerance-0",
    "tolerance-1",
    "tolerance-2",
    "tolerance-5",
    "binning-1",
    "binning-2",
    "layers-16",
    "layers-32",
    "layers-64",
    "layers-256",
    "relearn",
    "instrument",
    "smoke",
)
"""Names of the configs of :mod:`recipes`, which needs PyTorch."""
