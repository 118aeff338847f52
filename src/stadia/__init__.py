"""stadia: images in; metric depth, camera motion, object pose and masks out."""

__version__ = "0.1.0"
