"""Wires rooms into a training: data, model, geometry, losses, metrics. Never another recipe."""
