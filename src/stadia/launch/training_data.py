"""Open the data of a training: at its size, at the size of each stage (progressive resizing), or of a resumed run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from stadia.core.errors import ConfigError, DataError
from stadia.process.terminal import Terminal, announce_step
from stadia.recipes.base.build_recipe import TrainingData
from stadia.recipes.base.config import DATA_PATH_KEYS, RecipeConfig, make_paths_absolute, replace_training
from stadia.training.batches import StagedBatches, scale_batch_size
from stadia.training.config import StageConfig, TrainingConfig
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run


def open_data(recipe: type[AnyRecipe], config: RecipeConfig, console: Console) -> tuple[RecipeConfig, TrainingData]:
    """Print what is read, and prepare the recipe's data; with stages, the data of each stage combined.

    Validation and checks use the last stage's size. The returned configuration has every "auto" resolved, batch sizes
    too. Raises what `recipe.prepare` raises.
    """
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


def name_data(config: RecipeConfig) -> str:
    """Return the paths of the data; the recipe for data of its own."""
    data = config.model_dump().get("data", {})
    paths = [data_set.get("path") for data_set in (data, *data.get("extra_datasets", {}).values())]
    return ", ".join(map(str, filter(None, paths))) or f"the data of {config.recipe}"


# -- progressive resizing: the stages of a training

MIN_STAGE_STEPS = 100
"""Minimum steps of a stage, if its share of the samples allows it: a larger batch makes fewer updates."""

SIZE_KEYS = frozenset({"height", "width"})


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
        raise ConfigError("training.stages", found="several data sets", expected="one", fix=fix)
    if config.schedule.milestones_in == "epochs":
        found, fix = "schedule.milestones_in=epochs, which differ in length", "set milestones_in=fractions"
        raise ConfigError("training.stages", found=found, expected="milestones as fractions of the run", fix=fix)
    if (stages[-1].height, stages[-1].width) != (data.height, data.width):
        key, found = f"training.stages[{len(stages) - 1}]", f"{stages[-1].width}x{stages[-1].height}"
        expected = f"{data.width}x{data.height} (data.width, data.height), which validation and prediction have"
        raise ConfigError(key, found=found, expected=expected, fix="end with a stage of that size")
    for number in range(len(stages)):
        stage_config(config, number)


def stage_config(config: RecipeConfig, number: int) -> RecipeConfig:
    """Return the configuration of one stage. Raises ConfigError with the stage for an unsupported size."""
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
    """Return the configuration and the data of each stage, as of a training of its own; of a training without, one.

    config, data: of the training, with every "auto" resolved.
    """
    if not isinstance(data.train, StagedBatches):
        return [(config, data)]
    return [
        (stage_config(config, number), replace(data, train=loader))  # type: ignore[type-var]
        for number, loader in enumerate(data.train.loaders)
    ]


def choose_batch_sizes(training: TrainingConfig, samples: int) -> tuple[StageConfig, ...]:
    """Return the stages with a number for each batch size "auto": as many pixels as in a batch of the last stage.

    A stage has at least MIN_STAGE_STEPS steps where `training.batch_size` gives it as many.

    samples: of the training data.
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


# -- a resumed run: its data may have been moved


def open_resumed_data(
    recipe_class: type[AnyRecipe], config: RecipeConfig, console: Console
) -> tuple[RecipeConfig, TrainingData]:
    """Open the data of a run. Raises DataError, whose cure names the key of data that were moved."""
    try:
        return open_data(recipe_class, config, console)
    except DataError as error:
        places = list_data_locations(config).items()
        missing = (key for key, value in places if _is_missing(key, value) and str(value) in error.where)
        if (key := next(missing, None)) is None:
            raise
        moved = f"pass {key}=NEW where the data were moved"
        fix = f"{error.fix}; or {moved}" if error.fix else moved
        raise DataError(error.where, found=error.found, expected=error.expected, fix=fix) from error


def list_movable_keys(config: RecipeConfig, run: Run) -> list[str]:
    """Return the keys of data paths and caches that a resumed run may change, and of formats that were detected."""
    detected = [key for key, value in _find_values(run.config, {"format"}) if value == "auto"]
    return [*list_data_locations(config), *detected]


def list_data_locations(config: RecipeConfig) -> dict[str, Any]:
    """Return the absolute data paths and caches of a configuration by key: a resumed run keeps the new ones."""
    values = make_paths_absolute(config).model_dump(mode="json")
    return dict(_find_values(values, {*DATA_PATH_KEYS, "cache"}))


def list_data_formats(config: RecipeConfig) -> dict[str, Any]:
    """Return the formats of data by key: a resumed run may name one that was detected, and keeps it."""
    return dict(_find_values(config.model_dump(mode="json"), {"format"}))


def _is_missing(key: str, value: object) -> bool:
    return not key.endswith(".cache") and isinstance(value, str) and bool(value) and not Path(value).exists()


def _find_values(config: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys that have one of the names, in any group of `data`, and their values."""
    yield from _find_in_group("data", config.get("data", {}), names)


def _find_in_group(group: str, values: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name in names and (name == "cache" or not isinstance(value, Mapping)):  # only a cache may be a group
            yield f"{group}.{name}", value
        elif isinstance(value, Mapping):
            yield from _find_in_group(f"{group}.{name}", value, names)
