"""Measurements of the preflight checks in NumPy and OpenCV: matching, two-view geometry, photometric residuals."""
