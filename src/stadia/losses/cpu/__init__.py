"""Compiled kernels of the losses for CPUs."""
