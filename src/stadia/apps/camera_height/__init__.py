"""`stadia camera-height`: estimate the camera height from objects of known height, without a network."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
