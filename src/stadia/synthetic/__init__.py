"""Synthetic data with exact ground truth: rendered roads and tables, and composites of photographs and cut-outs."""
