"""Estimate the horizon, the road plane, and heights of cameras and objects above the road."""
