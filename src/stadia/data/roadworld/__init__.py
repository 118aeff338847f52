"""RoadWorld: a procedural road world rendered exactly, with no asset downloaded. Numba and NumPy only; imports no
torch.
"""
