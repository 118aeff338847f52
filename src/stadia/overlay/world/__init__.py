"""Composites: cut-outs pasted onto backgrounds with depth, composed or read from files."""
