"""Depth and camera motion from unlabelled video."""
