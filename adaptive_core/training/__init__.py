"""Training with PyTorch; nothing outside this package imports it."""
