"""Geometry of cameras, motions, depth maps, the ground and bundle adjustment."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
