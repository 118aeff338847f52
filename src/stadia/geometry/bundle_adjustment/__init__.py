"""Direct alignment of two images, and photometric bundle adjustment of a window."""
