"""Where the data of a run lie: a resumed run may name other paths where they were moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from rich.console import Console

from stadia.core.errors import DataError
from stadia.recipes.base.config import DATA_PATH_KEYS, RecipeConfig, make_paths_absolute
from stadia.recipes.base.progressive_resizing import OpenedData, open_data
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run

FACT_OF_KEY = {
    "K_file": "fingerprints",
    "poses": "poses",
    "ground_truth_path": "depth",
    "train_file": "train_frames",
    "val_file": "val_frames",
}
"""Key of a file of the data -> the fact in run.json by which a resume finds that another file holds the same."""


def list_movable_keys(config: RecipeConfig, facts: Mapping[str, Any]) -> list[str]:
    """Return the keys that a resumed run may change: of data paths, caches, and files whose content it recorded.

    facts: `data` of run.json, which the resume compares (`Run.check_data`).
    """
    return [key for key in list_data_location_keys(config) if _is_recorded(key, facts)]


def _is_recorded(key: str, facts: Mapping[str, Any]) -> bool:
    """Return whether a resume would find another content at a key: its data set has the fact."""
    _, *groups, name = key.split(".")
    if name not in FACT_OF_KEY:
        return True
    for group in groups[:-1] if groups[-1:] in (["camera"], ["split_by"]) else groups:
        inner = facts.get(group)
        if not isinstance(inner, Mapping):
            return False
        facts = inner
    return FACT_OF_KEY[name] in facts


def list_data_location_keys(config: RecipeConfig) -> list[str]:
    """Return the keys of data paths and caches in every group of `data`."""
    return list(_location_keys("data", config.model_dump(include={"data"}).get("data", {})))


def open_resumed_data(recipe_class: type[AnyRecipe], config: RecipeConfig, run: Run, console: Console) -> OpenedData:
    """Open the data of a run. Raises DataError, whose cure names the key of data that were moved."""
    try:
        return open_data(recipe_class, config, console)
    except DataError as error:
        movable = list_movable_keys(config, run.facts.get("data", {}))
        places = {key: value for key, value in list_data_locations(config).items() if key in movable}
        missing = (key for key, value in places.items() if _is_missing(key, value) and str(value) in error.what)
        if (key := next(missing, None)) is None:
            raise
        fix = f"{error.fix}; or pass {key}=NEW where the data were moved"
        raise DataError(error.what, found=error.found, expected=error.expected, fix=fix) from error


def list_data_locations(config: RecipeConfig) -> dict[str, Any]:
    """Return the absolute data paths and caches of a configuration by key: a resumed run keeps the new ones."""
    values = make_paths_absolute(config).model_dump(mode="json")
    return {
        key: reduce(lambda group, name: group[name], key.split("."), values) for key in list_data_location_keys(config)
    }


def _is_missing(key: str, value: object) -> bool:
    return not key.endswith(".cache") and isinstance(value, str) and bool(value) and not Path(value).exists()


def _location_keys(group: str, values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if key == "cache" or (key in DATA_PATH_KEYS and not isinstance(value, Mapping)):
            yield f"{group}.{key}"
        elif isinstance(value, Mapping):
            yield from _location_keys(f"{group}.{key}", value)
