"""Depth and mask of a composite image."""
