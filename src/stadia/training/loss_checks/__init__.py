"""Checks of losses, networks and optimizer before the first training step."""
