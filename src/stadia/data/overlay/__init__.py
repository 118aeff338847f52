"""Composite images: a cut-out pasted onto a background, with the resulting depth and mask."""
