"""Triangles to images and their exact truth: rasterizer, meshes, textures, light. NumPy and Numba only; imports no
torch.
"""
