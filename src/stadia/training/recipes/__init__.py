"""The five recipes by name, and the functions that configure and load them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.core.registry import Registry

if TYPE_CHECKING:
    from stadia.training.recipes.base.build_recipe import load_predictor as load_predictor
    from stadia.training.recipes.base.config import RecipeConfig

REFUSED = {"depth": "train depth by selfsup from video, by supervised from depth maps"}

RECIPES = Registry(
    "recipe",
    {
        "selfsup": "stadia.training.recipes.selfsup.recipe:SelfsupRecipe",
        "metric": "stadia.training.recipes.metric.recipe:MetricRecipe",
        "supervised": "stadia.training.recipes.supervised.recipe:SupervisedRecipe",
        "objectpose": "stadia.objectpose.recipe:ObjectPoseRecipe",
        "overlay": "stadia.overlay.recipe:OverlayRecipe",
    },
    refused=REFUSED,
)

CONFIGS = Registry(
    "recipe",
    {
        "selfsup": "stadia.training.recipes.selfsup.config:SelfsupConfig",
        "metric": "stadia.training.recipes.metric.config:MetricConfig",
        "supervised": "stadia.training.recipes.supervised.config:SupervisedConfig",
        "objectpose": "stadia.objectpose.config:ObjectPoseConfig",
        "overlay": "stadia.overlay.config:OverlayConfig",
    },
    refused=REFUSED,
)
"""These modules import no torch."""


def configure(
    recipe: str, overrides: Iterable[str] = (), *, preset: str | Path | None = None, **values: Any
) -> RecipeConfig:
    """Return the configuration of a recipe (a training method).

    Later sources override earlier ones: the defaults, the preset, the nested `values`, the `overrides`. With
    `start_from`, the networks are copied from the start run, unless the preset or `values` contain keys of `model`.

    recipe: name of the recipe, such as "selfsup".
    overrides: `dotted.key=value` texts.
    preset: a name of `stadia list presets`, or the path of a YAML file.
    values: nested values by the first key, such as data={"path": "drive.mp4"}.

    Raises ConfigError with all mistakes at once, and for a preset of another recipe.

    Examples:
        >>> config = configure("selfsup", ["training.max_steps=100"], data={"path": "drive.mp4"})
        >>> config.training.max_steps, config.loss.ssim_weight
        (100, 0.85)
    """
    from stadia.core.config import resolve_config
    from stadia.training.recipes.presets import read_preset_for

    config_class = CONFIGS.load(recipe)
    overrides = list(overrides)
    base = merge_values(read_preset_for(recipe, preset) if preset is not None else {}, values)
    config: RecipeConfig = resolve_config(config_class, add_model_of_start(recipe, base, overrides), overrides)
    return config


def merge_values(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values, updated key by key.

    Examples:
        >>> merge_values({"data": {"height": 192, "width": 640}}, {"data": {"height": 96}})
        {'data': {'height': 96, 'width': 640}}
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        is_group = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge_values(below, value) if is_group else value  # type: ignore[arg-type]
    return merged


def add_model_of_start(recipe: str, values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return nested values with the `model` of their start run, unless they have one."""
    start = _find_start(values, overrides)
    return dict(values) if start is None or "model" in values else {**values, "model": _read_model(recipe, start)}


def _find_start(values: Mapping[str, Any], overrides: Sequence[str]) -> str | None:
    given = [text.partition("=")[2] for text in overrides if text.startswith("start_from=")]
    start = given[-1].strip("\"'") if given else values.get("start_from")
    return start if isinstance(start, str) and start not in ("", "null") else None


def _read_model(recipe: str, start: str) -> Mapping[str, Any]:
    from stadia.core.errors import StadiaError
    from stadia.io.input_files import expand_home
    from stadia.training.loop.checkpoint import Checkpoint

    try:
        header = Checkpoint.open(expand_home(Path(start))).header
    except StadiaError:  # the training reports the mistake
        return {}
    is_compatible = header.recipe in (recipe, *RECIPES.load(recipe).compatible_recipes)
    model = header.config.get("model")
    return model if is_compatible and isinstance(model, Mapping) else {}


def __getattr__(name: str) -> Any:
    """Import `load_predictor` on first use: it needs torch."""
    if name == "load_predictor":
        from stadia.training.recipes.base.build_recipe import load_predictor

        return load_predictor
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
