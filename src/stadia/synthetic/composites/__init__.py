"""Composites: cut-out objects pasted onto backgrounds, with depth and mask."""
