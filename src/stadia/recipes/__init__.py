"""The five recipes by name, and the functions that configure, train and load them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.core.registry import Registry

if TYPE_CHECKING:
    from stadia.recipes.base.build_recipe import load_predictor as load_predictor
    from stadia.recipes.base.config import RecipeConfig
    from stadia.recipes.launch.step_measurement import DryRunResult as DryRunResult
    from stadia.recipes.launch.time_budget import choose_configuration as choose_configuration
    from stadia.recipes.launch.workflow import dry_run as dry_run
    from stadia.recipes.launch.workflow import train as train

RECIPES = Registry(
    "recipe",
    {
        "selfsup": "stadia.recipes.selfsup.recipe:SelfsupRecipe",
        "metric": "stadia.recipes.metric.recipe:MetricRecipe",
        "supervised": "stadia.recipes.supervised.recipe:SupervisedRecipe",
        "objectpose": "stadia.recipes.objectpose.recipe:ObjectPoseRecipe",
        "overlay": "stadia.recipes.overlay.recipe:OverlayRecipe",
    },
)

CONFIGS = Registry(
    "recipe",
    {
        "selfsup": "stadia.recipes.selfsup.config:SelfsupConfig",
        "metric": "stadia.recipes.metric.config:MetricConfig",
        "supervised": "stadia.recipes.supervised.config:SupervisedConfig",
        "objectpose": "stadia.recipes.objectpose.config:ObjectPoseConfig",
        "overlay": "stadia.recipes.overlay.config:OverlayConfig",
    },
)
"""The same names; these modules import no torch, so that a misspelt key is found before anything heavy is imported."""

TASKS = Registry(
    "task",
    {
        **dict.fromkeys(("selfsup", "metric", "supervised"), "stadia.recipes.prediction.depth_task:DepthTask"),
        "objectpose": "stadia.recipes.objectpose.task:ObjectPoseTask",
        "overlay": "stadia.recipes.overlay.task:OverlayTask",
    },
)
"""What `stadia predict` and `stadia evaluate` do with each recipe: a subclass of `recipes.prediction.task.Task`."""

_LAZY = (
    "stadia.recipes.launch.workflow:train",
    "stadia.recipes.base.build_recipe:load_predictor",
    "stadia.recipes.launch.workflow:dry_run",
    "stadia.recipes.launch.step_measurement:DryRunResult",
    "stadia.recipes.launch.time_budget:choose_configuration",
)


def configure(
    recipe: str, overrides: Iterable[str] = (), *, preset: str | Path | None = None, **values: Any
) -> RecipeConfig:
    """Return a recipe's configuration: defaults, then a preset, then nested values, then `dotted.key=value` overrides.

    preset: a name of `stadia list presets`, or the path of a YAML file. `--preset auto` of the command measures steps
        on the data: that is `choose_configuration`.

    Raises ConfigError with every mistake at once, and for a preset of another recipe.

    Examples:
        >>> config = configure("selfsup", ["training.max_steps=100"], data={"path": "drive.mp4"})
        >>> config.training.max_steps, config.loss.ssim_weight
        (100, 0.85)
    """
    from stadia.core.config import resolve_config
    from stadia.recipes.presets import merge_values, read_preset_for

    config_class = CONFIGS.load(recipe)
    base = read_preset_for(recipe, preset) if preset is not None else {}
    config: RecipeConfig = resolve_config(config_class, merge_values(base, values), overrides)
    return config


def __getattr__(name: str) -> Any:
    """Import `train`, `dry_run` and the other names of `_LAZY` on first use: they need torch."""
    for path in _LAZY:
        module, _, attribute = path.partition(":")
        if attribute == name:
            return getattr(import_module(module), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
