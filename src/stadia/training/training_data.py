"""Open the data of a training: with the cameras of your own videos, in stages of growing image sizes, or moved."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.terminal import Terminal, announce_step
from stadia.data.config import DataConfig
from stadia.data.video.input_camera import choose_input_camera, is_own_video
from stadia.data.video.video_camera import read_image_size, read_user_intrinsics
from stadia.io.input_files import expand_home
from stadia.training.loop.batches import StagedBatches, scale_batch_size
from stadia.training.loop.config import StageConfig, TrainingConfig
from stadia.training.loop.processes import check_devices, resolve_auto
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.loop.run_folder import Run
from stadia.training.recipes import RECIPES
from stadia.training.recipes.base.build_recipe import TrainingData, check_init_weights
from stadia.training.recipes.base.config import DATA_PATH_KEYS, RecipeConfig, make_paths_absolute, replace_training

MIN_STAGE_STEPS = 100
"""A stage has at least this many steps, if its share of the samples allows it."""

SIZE_KEYS = frozenset({"height", "width"})
"""Keys of `data` that a stage changes."""


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


def open_checked_data(config: RecipeConfig, console: Console) -> tuple[RecipeConfig, TrainingData]:
    """Open the data of a training, with every "auto" resolved. Raises the errors of `train` before its data."""
    recipe_class = RECIPES.load(config.recipe)
    check_stages(recipe_class, config)
    check_devices(config.training)
    check_init_weights(recipe_class, config)
    config = config.model_copy(update={"training": resolve_auto(config.training)})
    return open_data(recipe_class, config, console)


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


def check_stages(recipe: type[AnyRecipe], config: RecipeConfig) -> None:
    """Raise ConfigError if the recipe cannot train in these stages, before data are opened."""
    stages = config.training.stages
    if not stages:
        return
    data: Any = getattr(config, "data", None)
    if not recipe.supports_stages or not type(data).model_fields.keys() >= SIZE_KEYS:
        found, expected = f"stages for '{recipe.recipe}'", "a recipe that trains at any size"
        raise ConfigError("training.stages", found=found, expected=expected, fix="leave them out")
    if getattr(data, "extra_datasets", None):
        fix = "leave data.extra_datasets or the stages out"
        raise ConfigError("training.stages", found="several datasets", expected="one", fix=fix)
    if config.schedule.milestones_in == "epochs":
        found, fix = "schedule.milestones_in=epochs, which differ in length", "set schedule.milestones_in=fractions"
        raise ConfigError("training.stages", found=found, expected="milestones as fractions of the run", fix=fix)
    if (stages[-1].height, stages[-1].width) != (data.height, data.width):
        key, found = f"training.stages[{len(stages) - 1}]", f"{stages[-1].width}x{stages[-1].height}"
        expected = f"{data.width}x{data.height} (data.width, data.height), which validation and prediction have"
        raise ConfigError(key, found=found, expected=expected, fix="end with a stage of that size")
    for number in range(len(stages)):
        stage_config(config, number)


def stage_config(config: RecipeConfig, number: int) -> RecipeConfig:
    """Return the configuration of one stage. Raises ConfigError for an unsupported size."""
    stage, values = config.training.stages[number], config.model_dump(mode="json")
    batch_size = config.training.batch_size if stage.batch_size == "auto" else stage.batch_size
    values["data"] |= {"height": stage.height, "width": stage.width}
    values["training"] |= {"batch_size": batch_size, "stages": []}
    try:
        return type(config).model_validate(values)
    except ValidationError as error:
        mistakes = "; ".join(str(mistake["msg"]).removeprefix("Value error, ") for mistake in error.errors())
        raise ConfigError(
            f"training.stages[{number}]",
            found=f"{stage.width}x{stage.height} ({mistakes})",
            expected=f"a size that '{config.recipe}' can have",
            fix="change this stage's height and width",
        ) from error


def list_stages(config: RecipeConfig, data: TrainingData) -> list[tuple[RecipeConfig, TrainingData]]:
    """Return the configuration and the data of each stage; without stages, of the whole training."""
    if not isinstance(data.train, StagedBatches):
        return [(config, data)]
    return [
        (stage_config(config, number), replace(data, train=loader))  # type: ignore[type-var]
        for number, loader in enumerate(data.train.loaders)
    ]


def choose_batch_sizes(training: TrainingConfig, samples: int) -> tuple[StageConfig, ...]:
    """Return the stages with a number for each batch size "auto": as many pixels as in a batch of the last stage.

    A stage has at least MIN_STAGE_STEPS steps if `training.batch_size` allows them.

    samples: the training data.
    """
    last = training.stages[-1]
    step_samples = training.batch_size * training.grad_accumulation_steps
    lengths = [] if training.max_epochs is None else [training.max_epochs * samples]
    if training.max_steps is not None:
        lengths.append(training.max_steps * step_samples)
    stages = []
    for stage in training.stages[:-1]:
        size = stage.batch_size
        if size == "auto":
            stage_samples = int(stage.share * min(lengths))
            most = stage_samples // (training.grad_accumulation_steps * MIN_STAGE_STEPS)
            equal_pixels = scale_batch_size(stage, last, training.batch_size)
            size = min(equal_pixels, samples, max(most, training.batch_size))
        stages.append(stage.model_copy(update={"batch_size": size}))
    return (*stages, last.model_copy(update={"batch_size": training.batch_size}))
