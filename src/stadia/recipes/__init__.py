"""The five recipes by name, and the functions that configure, train and load them. A recipe never imports another.

From Python:

    from stadia import recipes, report
    config = recipes.configure("selfsup", data={"path": "drive.mp4", "camera": {"horizontal_fov_deg": 70}})
    run = recipes.train(config)
    predictor = recipes.load_predictor(run.folder)
    print(report.build(run.folder))
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stadia.core.tables import Table

if TYPE_CHECKING:
    from stadia.recipes.config import RecipeConfig
    from stadia.recipes.rehearsal import rehearse as rehearse
    from stadia.recipes.workflow import load_predictor as load_predictor
    from stadia.recipes.workflow import train as train

RECIPES = Table(
    "recipe",
    {
        "selfsup": "stadia.recipes.selfsup:Selfsup",
        "metric": "stadia.recipes.metric:Metric",
        "dpt": "stadia.recipes.dpt:DptRecipe",
        "objectpose": "stadia.recipes.objectpose:ObjectPoseRecipe",
        "overlay": "stadia.recipes.overlay:OverlayRecipe",
    },
)

CONFIGS = Table(
    "recipe",
    {
        "selfsup": "stadia.recipes.selfsup_config:SelfsupConfig",
        "metric": "stadia.recipes.metric_config:MetricConfig",
        "dpt": "stadia.recipes.dpt_config:DptRecipeConfig",
        "objectpose": "stadia.recipes.objectpose_config:ObjectPoseConfig",
        "overlay": "stadia.recipes.overlay_config:OverlayConfig",
    },
)
"""The same names; these modules import no torch, so that a misspelt key is found before anything heavy is imported."""

DEMOS = Table("demo", {"selfsup": "stadia.recipes.demo:run", "metric": "stadia.recipes.demo_metres:run"})
"""What `stadia demo --recipe` runs: from nothing to scores of worlds never seen."""

_LAZY = ("stadia.recipes.workflow:train", "stadia.recipes.workflow:load_predictor", "stadia.recipes.rehearsal:rehearse")


def configure(recipe: str, overrides: Iterable[str] = (), **values: Any) -> RecipeConfig:
    """Return a recipe's configuration from nested values and `dotted.key=value` overrides.

    Raises ConfigError with every mistake at once.
    """
    from stadia.core.config import resolve

    config: RecipeConfig = resolve(CONFIGS.load(recipe), values, overrides)
    return config


def __getattr__(name: str) -> Any:
    """Import `train`, `rehearse` and `load_predictor` on first use: they need torch."""
    for path in _LAZY:
        module, _, attribute = path.partition(":")
        if attribute == name:
            return getattr(import_module(module), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
