"""Fine-tune a published or own network on one video without labels, and keep the better weights."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
