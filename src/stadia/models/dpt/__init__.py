"""Dense prediction transformers (DPT, arXiv 2103.13413; Depth Anything, arXiv 2406.09414). Imports no torch."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
