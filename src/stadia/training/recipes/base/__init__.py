"""Shared parts of recipes: base classes, data of video, the training workflow."""
