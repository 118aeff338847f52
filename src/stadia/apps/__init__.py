"""Programs built from recipes: demos, masks, export, odometry, camera height, studies."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stadia.core.registry import Registry

if TYPE_CHECKING:
    from stadia.recipes.base.config import RecipeConfig
    from stadia.recipes.base.workflow import dry_run as dry_run
    from stadia.recipes.base.workflow import load_predictor as load_predictor
    from stadia.recipes.base.workflow import train as train

DEMOS = Registry("demo", {"selfsup": "stadia.apps.demo:run_demo", "metric": "stadia.apps.metric_demo:run_metric_demo"})
"""What `stadia demo --recipe` runs: from nothing to scores of worlds never seen."""
