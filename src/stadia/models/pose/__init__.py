"""Pose networks: two images to the motion of the camera between them."""
