"""Compiled CPU kernels of the losses."""
