"""Triangles to pictures and their exact truth: rasteriser, meshes, textures, light. NumPy and Numba only; imports no torch."""
