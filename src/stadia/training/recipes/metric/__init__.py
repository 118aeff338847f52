"""Depth in metres from unlabelled mono road video."""
