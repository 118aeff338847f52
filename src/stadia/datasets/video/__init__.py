"""Read a user's video or folder of images: decode, choose frames, find the camera."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
