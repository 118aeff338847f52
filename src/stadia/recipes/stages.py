"""Progressive resizing of any recipe (`training.stages`): each stage's data opened at its size, and its batch found by
the memory.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import psutil
import torch
from pydantic import ValidationError
from rich.console import Console

from stadia.core.errors import ConfigError, RunError
from stadia.recipes.batch_search import largest_batch
from stadia.recipes.config import RecipeConfig, without_pretrained
from stadia.recipes.memory import resident_bytes
from stadia.recipes.recipe import AnyRecipe, TrainingData
from stadia.recipes.trial import tried
from stadia.training.config import StageConfig, TrainingConfig
from stadia.training.devices import device_of
from stadia.training.stages import Staged, at_constant_pixels

FEWEST_STEPS = 100
"""That a batch which is found leaves a stage, where its share allows: larger batches make fewer updates of the same
samples.
"""

LEFT_FREE = 0.1
"""Of the device's memory, where nobody said how much may be held: validation, images and other processes need some too.
"""

PASSED_ON = frozenset({"height", "width"})


def check_stages(recipe: type[AnyRecipe], config: RecipeConfig) -> None:
    """Raise ConfigError where a recipe cannot train in these stages: before anything is opened."""
    stages = config.training.stages
    if not stages:
        return
    data: Any = getattr(config, "data", None)
    if not recipe.in_stages or not type(data).model_fields.keys() >= PASSED_ON:
        raise ConfigError(
            "training.stages",
            found=f"stages for '{recipe.recipe}'",
            expected="a recipe that trains at any size",
            fix="leave them out",
        )
    if getattr(data, "others", None):
        raise ConfigError(
            "training.stages", found="several data sets", expected="one", fix="leave data.others or the stages out"
        )
    if config.schedule.milestones_in == "epochs":
        found, fix = "schedule.milestones_in=epochs, which differ in length", "set milestones_in=fractions"
        raise ConfigError("training.stages", found=found, expected="milestones as fractions of the run", fix=fix)
    if (stages[-1].height, stages[-1].width) != (data.height, data.width):
        raise ConfigError(
            f"training.stages[{len(stages) - 1}]",
            found=f"{stages[-1].width}x{stages[-1].height}",
            expected=f"{data.width}x{data.height} (data.width, data.height), which validation and prediction have",
            fix="end with a stage of that size",
        )
    for number in range(len(stages)):
        at_stage(config, number)
    if config.training.devices != 1 and any(stage.batch_size == "auto" for stage in stages):
        found, fix = f"batch_size 'auto' with training.devices={config.training.devices}", "set each stage's batch_size"
        raise ConfigError("training.stages", found=found, expected="one device, whose memory is probed", fix=fix)


def at_stage(config: RecipeConfig, number: int, batch_size: int | None = None) -> RecipeConfig:
    """The configuration of one stage by itself. Raises ConfigError, naming the stage, where the recipe cannot have that
    size.

    batch_size: by default the stage's, and the training's where that is not settled.
    """
    stage, values = config.training.stages[number], config.model_dump(mode="json")
    values["data"] |= {"height": stage.height, "width": stage.width}
    settled = config.training.batch_size if stage.batch_size == "auto" else stage.batch_size
    values["training"] |= {"batch_size": batch_size or settled, "stages": []}
    try:
        return type(config).model_validate(values)
    except ValidationError as error:
        said = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
        raise ConfigError(
            f"training.stages[{number}]",
            found=f"{stage.width}x{stage.height} ({said})",
            expected=f"a size that '{config.recipe}' can have",
            fix="change this stage's height and width",
        ) from error


def prepare(recipe: type[AnyRecipe], config: RecipeConfig, console: Console) -> tuple[RecipeConfig, TrainingData]:
    """`recipe.prepare`; and where there are stages the data of each, as one. All of it validates and is checked at the
    last one's size.

    The configuration comes back with every "auto" settled, the batches' sizes too. Raises what `recipe.prepare` raises,
    and RunError where not a single sample of a stage fits into the memory.
    """
    if not config.training.stages:
        return recipe.prepare(config, console)
    config = _with_batch_sizes(recipe, config, console)
    stages = list(prepared_stages(recipe, config, console))
    last, data = stages[-1]
    staged = Staged([one.train for _, one in stages], config.training)
    return last.model_copy(update={"training": config.training}), replace(data, train=staged)  # type: ignore[type-var]


def prepared_stages(
    recipe: type[AnyRecipe], config: RecipeConfig, console: Console | None = None
) -> Iterator[tuple[RecipeConfig, TrainingData]]:
    """Each stage's own configuration, settled, and its data. What is told of the data is told of the last one, where
    there is a console.
    """
    quiet = Console(quiet=True)
    for number in range(count := len(config.training.stages)):
        yield recipe.prepare(at_stage(config, number), console or quiet if number == count - 1 else quiet)


def as_settled(config: RecipeConfig, saved: Mapping[str, Any]) -> RecipeConfig:
    """A configuration whose batch sizes are "auto" with those of a run that was made with it: memory is not probed
    again.
    """
    known = saved.get("training", {}).get("stages", [])
    if not any(stage.batch_size == "auto" for stage in config.training.stages) or len(known) != len(
        config.training.stages
    ):
        return config
    return _settled(config, [StageConfig.model_validate(one).batch_size for one in known])


def _settled(config: RecipeConfig, sizes: list[int | Literal["auto"]]) -> RecipeConfig:
    """With these batch sizes; the last stage's is the training's."""
    stages = [
        stage.model_dump() | {"batch_size": size} for stage, size in zip(config.training.stages, sizes, strict=True)
    ]
    values = config.training.model_dump() | {"stages": stages, "batch_size": sizes[-1]}
    return config.model_copy(update={"training": TrainingConfig.model_validate(values)})


def _with_batch_sizes(recipe: type[AnyRecipe], config: RecipeConfig, console: Console) -> RecipeConfig:
    """The last stage first: the others are as large in pixels."""
    sizes = [stage.batch_size for stage in config.training.stages]
    if sizes[-1] == "auto":
        sizes[-1] = _found(recipe, config, len(sizes) - 1, console)
        config = _settled(config, sizes)
    for number, size in enumerate(sizes):
        if size == "auto":
            sizes[number] = _found(recipe, config, number, console)
    return _settled(config, sizes)


def _found(recipe: type[AnyRecipe], config: RecipeConfig, number: int, console: Console) -> int:
    """The batch of a stage, by three full steps of each that is tried."""
    training, stage = config.training, config.training.stages[number]
    device, given = device_of(training.accelerator), training.memory_limit_gb
    limit = round(given * 1e9) if given is not None else _room(device)
    _, data = recipe.prepare(at_stage(config, number, 1), Console(quiet=True))
    samples = len(data.train.samples)
    enough = max(_samples_of(training, stage, samples) // (training.accumulate * FEWEST_STEPS), training.batch_size)
    guess = at_constant_pixels(stage, training.stages[-1], training.batch_size)
    most = min(samples, enough, guess if given is None else samples)
    peaks: dict[int, int | None] = {}

    def peak_of(batch: int) -> int | None:
        peaks[batch] = _peak(recipe, at_stage(config, number, batch))
        return peaks[batch]

    batch = largest_batch(peak_of, limit=limit, guess=guess, most=max(most, 1))
    if not batch:
        peak = peaks.get(1)
        held = "more than there is" if peak is None else f"{peak / 1e9:.2f} GB"
        fix = "raise training.memory_limit_gb, or take smaller images" if given is not None else "take smaller images"
        what = f"memory of training.stages[{number}]"
        raise RunError(
            what,
            found=f"{held} for a single sample of {stage.width}x{stage.height}",
            expected=f"{limit / 1e9:.2f} GB",
            fix=fix,
        )
    told = (
        f"stage {number + 1}: {stage.width}x{stage.height} in batches of {batch}, which hold"
        f" {(peaks[batch] or 0) / 1e9:.2f} GB"
    )
    why = (
        f" (of {limit / 1e9:.2f} GB; not more than {most}, for {FEWEST_STEPS} steps and batches of the last stage's"
        " pixels at most)"
    )
    console.print(
        told + (why if batch == most else f" of {limit / 1e9:.2f} GB"), markup=False, highlight=False, soft_wrap=True
    )
    return batch


def _samples_of(training: TrainingConfig, stage: StageConfig, samples: int) -> int:
    """How many a stage sees."""
    limits = [] if training.max_steps is None else [training.max_steps * training.batch_size * training.accumulate]
    limits += [] if training.max_epochs is None else [training.max_epochs * samples]
    return int(stage.share * min(limits))


def _peak(recipe: type[AnyRecipe], config: RecipeConfig) -> int | None:
    """Bytes that three steps hold at most; None where they do not suffice."""
    try:
        found = max(tried(recipe, *recipe.prepare(without_pretrained(config), Console(quiet=True))).peak_bytes)
    except RunError as error:
        if not error.what.startswith("memory of step"):
            raise
        found = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


def _room(device: torch.device) -> int:
    """Bytes that a training may hold where nobody said."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1] * (1 - LEFT_FREE))
    return int(psutil.virtual_memory().available * (1 - LEFT_FREE)) + resident_bytes()
