"""Recover camera, path and sparse points of a video from matched features: `stadia map`."""
