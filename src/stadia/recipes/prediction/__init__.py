"""Predict and evaluate with a trained recipe: requests, inputs, outputs, and the verdict on predictions."""
