"""Odometry with PyTorch: photometric bundle adjustment of a sliding window, and loops closed by a pose graph."""
