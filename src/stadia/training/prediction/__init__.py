"""Predict with networks in PyTorch: trained recipes, other precisions, and their export to other backends."""
