"""Knows step, learning rate and checkpoint. Imports core."""
