"""Composite images: cut-outs pasted onto backgrounds with depth, composed on demand or read from files."""
