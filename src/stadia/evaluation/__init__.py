"""Predict to disk, score from disk; crops, caps and scalings of benchmarks. Imports core, geometry, metrics, training."""
