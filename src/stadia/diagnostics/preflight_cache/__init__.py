"""Keep the findings of the data checks, and use them again where nothing changed that they follow from."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
