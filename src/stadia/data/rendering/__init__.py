"""Render triangles to images with exact ground truth. NumPy and Numba only; imports no torch."""
