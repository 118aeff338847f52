"""Align two images directly, and refine a window of frames by photometric bundle adjustment."""
