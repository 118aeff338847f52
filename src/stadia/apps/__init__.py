"""Programs built from recipes: demos, masks, export, odometry, camera height, studies."""

from __future__ import annotations

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

DEMOS = Registry("demo", {"selfsup": "stadia.apps.demo:run_demo", "metric": "stadia.apps.demo:run_metric_demo"})
"""What `stadia demo --recipe` runs: from nothing to scores of worlds never seen."""
