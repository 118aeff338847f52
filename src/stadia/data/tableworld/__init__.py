"""TableWorld: procedural objects on a table, rendered exactly, with no asset downloaded. Numba and NumPy only; imports
no torch.
"""
