"""What the checks measure with: matching, two-view geometry, photometric residuals, fingerprints of frames. NumPy and
OpenCV only.
"""
