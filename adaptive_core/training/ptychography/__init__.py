"""The model of Schloz et al. and its training, by the papers' reward and by the quality of the final image."""

CONFIGS = (
    "autoencoder",
    "autoencoder-dwcnt",
    "autoencoder-paper",
    "layout",
    "adaptive",
    "layout-dwcnt",
    "adaptive-dwcnt",
    "paper-small",
    "paper-small-2022",
    "paper-crystal",
    "shared-reward-crystal",
    "guided-crystal",
    "guided-dwcnt",
    "guided-paper-crystal",
    "quality-crystal",
    "paper",
)
"""Names of the configs of :mod:`recipes`, which needs PyTorch."""
