"""Refine the poses of other programs by bundle adjustment with independent matches."""
