"""Horizon, road plane, and heights of the camera and of objects."""
