"""Train at growing image sizes (progressive resizing): check the stages, and choose the batch size of each."""

from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from stadia.core.errors import ConfigError
from stadia.training.loop.batches import StagedBatches, scale_batch_size
from stadia.training.loop.config import StageConfig, TrainingConfig
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.recipes.base.build_recipe import TrainingData
from stadia.training.recipes.base.config import RecipeConfig

MIN_STAGE_STEPS = 100
"""A stage has at least this many steps, if its share of the samples allows it."""

SIZE_KEYS = frozenset({"height", "width"})
"""Keys of `data` that a stage changes."""


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
        found, fix = "schedule.milestones_in=epochs, which differ in length", "set milestones_in=fractions"
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
