"""Fused CPU implementation of the photometric comparison: equal to `losses.reprojection`."""
