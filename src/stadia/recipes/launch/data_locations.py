"""Where the data of a run lie: a resumed run may name other paths where they were moved."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from stadia.core.errors import DataError
from stadia.recipes.base.config import DATA_PATH_KEYS, RecipeConfig, make_paths_absolute
from stadia.recipes.launch.progressive_resizing import OpenedData, open_data
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run


def list_movable_keys(config: RecipeConfig, run: Run) -> list[str]:
    """Return the keys of data paths and caches that a resumed run may change, and of formats that were detected."""
    detected = [key for key in list_data_formats(config) if _get_value(run.config, key) == "auto"]
    return [*list_data_location_keys(config), *detected]


def _get_value(values: object, key: str) -> Any:
    """Return the value of a dotted key; None where there is none."""
    for name in key.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def list_data_location_keys(config: RecipeConfig) -> list[str]:
    """Return the keys of data paths and caches in every group of `data`."""
    return list(_find_keys("data", config.model_dump(include={"data"}).get("data", {}), (*DATA_PATH_KEYS, "cache")))


def open_resumed_data(recipe_class: type[AnyRecipe], config: RecipeConfig, run: Run, console: Console) -> OpenedData:
    """Open the data of a run. Raises DataError, whose cure names the key of data that were moved."""
    try:
        return open_data(recipe_class, config, console)
    except DataError as error:
        places = list_data_locations(config).items()
        missing = (key for key, value in places if _is_missing(key, value) and str(value) in error.what)
        if (key := next(missing, None)) is None:
            raise
        fix = f"{error.fix}; or pass {key}=NEW where the data were moved"
        raise DataError(error.what, found=error.found, expected=error.expected, fix=fix) from error


def list_data_locations(config: RecipeConfig) -> dict[str, Any]:
    """Return the absolute data paths and caches of a configuration by key: a resumed run keeps the new ones."""
    values = make_paths_absolute(config).model_dump(mode="json")
    return {key: _get_value(values, key) for key in list_data_location_keys(config)}


def list_data_formats(config: RecipeConfig) -> dict[str, Any]:
    """Return the formats of data by key: a resumed run may name one that was detected, and keeps it."""
    values = config.model_dump(mode="json", include={"data"})
    return {key: _get_value(values, key) for key in _find_keys("data", values.get("data", {}), ("format",))}


def _is_missing(key: str, value: object) -> bool:
    return not key.endswith(".cache") and isinstance(value, str) and bool(value) and not Path(value).exists()


def _find_keys(group: str, values: Mapping[str, Any], names: Collection[str]) -> Iterator[str]:
    """Yield the keys in a group, and in groups of it, that have one of the names; only `cache` may be a group."""
    for key, value in values.items():
        if key in names and (key == "cache" or not isinstance(value, Mapping)):
            yield f"{group}.{key}"
        elif isinstance(value, Mapping):
            yield from _find_keys(f"{group}.{key}", value, names)
