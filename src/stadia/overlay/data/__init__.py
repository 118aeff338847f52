"""Composite images of a training, and what their splits share."""
