"""Find and name known failures: in the data (preflight), in losses (loss_checks), while training (monitors)."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
