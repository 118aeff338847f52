"""Align two images directly, and adjust a window of images photometrically."""
