"""Recover camera, path and sparse points of a video from matched features: structure from motion (`stadia map`)."""
