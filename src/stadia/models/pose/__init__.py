"""Pose networks predict the motion of the camera between two images."""
