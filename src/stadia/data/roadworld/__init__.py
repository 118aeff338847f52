"""RoadWorld: a procedural road world, rendered exactly without assets. Numba and NumPy only; imports no torch."""
