"""Depth with a vision transformer from ground truth."""
