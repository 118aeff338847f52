"""Open the data of a training with the cameras of your own videos; find data of a resumed run that were moved."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from stadia.core.errors import DataError, StadiaError
from stadia.core.terminal import Terminal, announce_step
from stadia.data.config import DataConfig
from stadia.data.video.input_camera import choose_input_camera, is_own_video
from stadia.data.video.video_camera import read_image_size, read_user_intrinsics
from stadia.io.input_files import expand_home
from stadia.training.loop.batches import StagedBatches
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.build_recipe import TrainingData
from stadia.training.recipes.base.config import DATA_PATH_KEYS, RecipeConfig, make_paths_absolute, replace_training
from stadia.training.stages import choose_batch_sizes, stage_config


def open_data(recipe: type[AnyRecipe], config: RecipeConfig, console: Console) -> tuple[RecipeConfig, TrainingData]:
    """Print the data's paths, and prepare the recipe's data; with stages, the data of each stage combined.

    Validation and checks use the last stage's size. The returned configuration has every "auto" resolved.
    """
    config = choose_cameras(config, console)
    with announce_step(console, f"reading {name_data(config)}"):
        if not config.training.stages:
            return recipe.prepare(config, console)
        last = len(config.training.stages) - 1
        resolved, data = recipe.prepare(stage_config(config, last), console)
        config = replace_training(config, stages=choose_batch_sizes(config.training, len(data.train.samples)))
        quiet = Terminal(quiet=True)
        loaders = [recipe.prepare(stage_config(config, number), quiet)[1].train for number in range(last)]
        staged = StagedBatches([*loaders, data.train], config.training)
        resolved = resolved.model_copy(update={"training": config.training})
        return resolved, replace(data, train=staged)


def choose_cameras(config: RecipeConfig, console: Console) -> RecipeConfig:
    """Return the configuration with the cameras of your own videos, as `predict` chooses them.

    Prints an assumed camera with the warning of `predict`.
    """
    data: Any = getattr(config, "data", None)
    if not isinstance(data, DataConfig):
        return config

    def choose(data_set: Any) -> Any:
        path = expand_home(data_set.path)
        try:
            if not path.exists() or not is_own_video(path, data_set.format):
                return data_set
            camera = choose_input_camera(data_set.camera, path)
            known = read_user_intrinsics(camera.config, path, *read_image_size(path))
        except StadiaError:  # reported when the video is opened
            return data_set
        for line in camera.lines(known) if camera.is_assumed else ():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return data_set.model_copy(update={"camera": camera.config})

    others = {name: choose(data_set) for name, data_set in data.extra_datasets.items()}
    return config.model_copy(update={"data": choose(data).model_copy(update={"extra_datasets": others})})


def name_data(config: RecipeConfig) -> str:
    """Return the paths of the data."""
    data = config.model_dump().get("data", {})
    paths = [data_set.get("path") for data_set in (data, *data.get("extra_datasets", {}).values())]
    return ", ".join(map(str, filter(None, paths))) or f"the data of {config.recipe}"


def open_resumed_data(
    recipe_class: type[AnyRecipe], config: RecipeConfig, console: Console
) -> tuple[RecipeConfig, TrainingData]:
    """Open the data of a run. Raises DataError, whose fix names the key of data that were moved."""
    try:
        return open_data(recipe_class, config, console)
    except DataError as error:
        places = list_data_locations(config).items()
        missing = (key for key, value in places if _is_missing(key, value) and str(value) in error.where)
        if (key := next(missing, None)) is None:
            raise
        moved = f"if the data were moved, pass {key}=NEW"
        fix = f"{error.fix}; or {moved}" if error.fix else moved
        raise DataError(error.where, found=error.found, expected=error.expected, fix=fix) from error


def list_movable_keys(config: RecipeConfig, run: Run) -> list[str]:
    """Return the keys that a resumed run may change: data paths, caches, detected formats."""
    detected = [key for key, value in _find_values(run.config, {"format"}) if value == "auto"]
    return [*list_data_locations(config), *detected]


def list_data_locations(config: RecipeConfig) -> dict[str, Any]:
    """Return the absolute data paths and caches of a configuration by key."""
    values = make_paths_absolute(config).model_dump(mode="json")
    return dict(_find_values(values, {*DATA_PATH_KEYS, "cache"}))


def list_data_formats(config: RecipeConfig) -> dict[str, Any]:
    """Return the formats of data by key."""
    return dict(_find_values(config.model_dump(mode="json"), {"format"}))


def _is_missing(key: str, value: object) -> bool:
    return not key.endswith(".cache") and isinstance(value, str) and bool(value) and not Path(value).exists()


def _find_values(config: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[str, Any]]:
    yield from _find_in_group("data", config.get("data", {}), names)


def _find_in_group(group: str, values: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name in names and (name == "cache" or not isinstance(value, Mapping)):  # Only a cache may be a group.
            yield f"{group}.{name}", value
        elif isinstance(value, Mapping):
            yield from _find_in_group(f"{group}.{name}", value, names)
