"""Networks that predict without PyTorch: `base`, and the names of the published networks, which PyTorch runs."""

DEFAULT_NETWORK = "base"
"""Name of the default depth network of commands. Its weights are part of the package."""

NETWORK_RECIPE = "network"
"""Checkpoints of a network that no run trained have this recipe."""
