"""Training of alignment policies: the differentiable simulator, the hybrid policy and the paper's environment."""
