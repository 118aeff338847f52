"""Fused CPU implementation of the photometric comparison: equal to `losses.reprojection`."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
