"""stadia: images in; metric depth, camera motion, object pose and masks out."""

__version__ = "0.1.0"

from stadia.process.matplotlib_settings import install_settings_finder

install_settings_finder()
