"""Progressive resizing (`training.stages`): open the data of each stage, and search its batch size."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import ValidationError
from rich.console import Console

from stadia.core.errors import ConfigError, RunError
from stadia.process.cpu_settings import return_freed_memory
from stadia.process.memory import available_memory_bytes, resident_bytes
from stadia.process.terminal import Terminal, announce_step
from stadia.recipes.base.build_recipe import TrainingData
from stadia.recipes.base.config import RecipeConfig, without_pretrained
from stadia.recipes.launch.measured_choices import MEASURED_KEYS
from stadia.recipes.launch.step_measurement import measure_steps
from stadia.training.batches import StagedBatches, scale_batch_size, select_device
from stadia.training.config import StageConfig, TrainingConfig
from stadia.training.recipe import AnyRecipe

MIN_STAGE_STEPS = 100
"""Minimum steps of a stage, if its share of the samples allows it: a larger batch makes fewer updates."""

FREE_MEMORY_SHARE = 0.1
"""Share of the device memory that stays free by default, for validation, images and other processes."""

SIZE_KEYS = frozenset({"height", "width"})

MAX_TRIES = 8
MIN_GAIN = 1 / 16
"""A larger batch that gains less than this share is not tried."""


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
    if config.training.devices != 1 and any(stage.batch_size == "auto" for stage in stages):
        found, fix = f"batch_size 'auto' with training.devices={config.training.devices}", "set each stage's batch_size"
        raise ConfigError("training.stages", found=found, expected="one device, whose memory is probed", fix=fix)


def stage_config(config: RecipeConfig, number: int, batch_size: int | None = None) -> RecipeConfig:
    """Return the configuration of one stage. Raises ConfigError with the stage for an unsupported size.

    batch_size: default: the stage's; the training's if that is "auto".
    """
    stage, values = config.training.stages[number], config.model_dump(mode="json")
    values["data"] |= {"height": stage.height, "width": stage.width}
    settled = config.training.batch_size if stage.batch_size == "auto" else stage.batch_size
    values["training"] |= {"batch_size": batch_size or settled, "stages": []}
    try:
        return type(config).model_validate(values)
    except ValidationError as error:
        mistakes = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
        raise ConfigError(
            f"training.stages[{number}]",
            found=f"{stage.width}x{stage.height} ({mistakes})",
            expected=f"a size that '{config.recipe}' can have",
            fix="change this stage's height and width",
        ) from error


@dataclass(frozen=True)
class OpenedData:
    """Data that were opened for a configuration, for trainings that differ in KEYS_WITHOUT_DATA alone.

    given: the configuration before the data were opened.
    config: the same with every "auto" resolved.
    """

    given: RecipeConfig
    config: RecipeConfig
    data: TrainingData

    def resolve(self, config: RecipeConfig) -> RecipeConfig | None:
        """Return a configuration with every "auto" resolved; None where it needs other data."""
        if config.training.stages or _select_data_keys(config) != _select_data_keys(self.given):
            return None
        return self.config.model_copy(update={"training": config.training, **_find_schedule(config)})


KEYS_WITHOUT_DATA = frozenset(
    {"max_steps", "max_epochs", "max_minutes", "validate_every", "check_seconds", *MEASURED_KEYS}
)
"""Keys of `training` on which the data do not depend."""


def _select_data_keys(config: RecipeConfig) -> dict[str, Any]:
    values = config.model_dump(exclude={"schedule"})
    values["training"] = {key: value for key, value in values["training"].items() if key not in KEYS_WITHOUT_DATA}
    return values


def _find_schedule(config: RecipeConfig) -> dict[str, Any]:
    return {"schedule": config.schedule} if "schedule" in type(config).model_fields else {}


def open_data(recipe: type[AnyRecipe], config: RecipeConfig, console: Console) -> OpenedData:
    """Print what is read, and prepare the recipe's data. Raises what `prepare_data` raises."""
    with announce_step(console, f"reading {name_data(config)}"):
        return OpenedData(config, *prepare_data(recipe, config, console))


def name_data(config: RecipeConfig) -> str:
    """Return the paths of the data; the recipe for data of its own."""
    data = config.model_dump().get("data", {})
    paths = [one.get("path") for one in (data, *data.get("extra_datasets", {}).values())]
    return ", ".join(map(str, filter(None, paths))) or f"the data of {config.recipe}"


def prepare_data(recipe: type[AnyRecipe], config: RecipeConfig, console: Console) -> tuple[RecipeConfig, TrainingData]:
    """Prepare the recipe's data; with stages, the data of each stage combined.

    Validation and checks use the last stage's size. The returned configuration has every "auto" resolved, batch sizes
    too. Raises what `recipe.prepare` raises, and RunError if a single sample of a stage does not fit into memory.
    """
    if not config.training.stages:
        return recipe.prepare(config, console)
    config = _with_batch_sizes(recipe, config, console)
    stages = list(prepare_stages(recipe, config, console))
    last, data = stages[-1]
    staged = StagedBatches([one.train for _, one in stages], config.training)
    return last.model_copy(update={"training": config.training}), replace(data, train=staged)  # type: ignore[type-var]


def prepare_stages(
    recipe: type[AnyRecipe], config: RecipeConfig, console: Console | None = None
) -> Iterator[tuple[RecipeConfig, TrainingData]]:
    """Yield each stage's resolved configuration and its data. Print messages of the last one only."""
    quiet = Terminal(quiet=True)
    for number in range(count := len(config.training.stages)):
        yield recipe.prepare(stage_config(config, number), console or quiet if number == count - 1 else quiet)


def keep_batch_sizes(config: RecipeConfig, saved: Mapping[str, Any]) -> RecipeConfig:
    """Replace "auto" batch sizes by those of a previous run, so that a resumed run does not probe memory."""
    known = saved.get("training", {}).get("stages", [])
    if not any(stage.batch_size == "auto" for stage in config.training.stages) or len(known) != len(
        config.training.stages
    ):
        return config
    return _with_sizes(config, [StageConfig.model_validate(one).batch_size for one in known])


def _with_sizes(config: RecipeConfig, sizes: list[int | Literal["auto"]]) -> RecipeConfig:
    """Return the configuration with these batch sizes; the last stage's is the training's."""
    stages = [
        stage.model_dump() | {"batch_size": size} for stage, size in zip(config.training.stages, sizes, strict=True)
    ]
    values = config.training.model_dump() | {"stages": stages, "batch_size": sizes[-1]}
    return config.model_copy(update={"training": TrainingConfig.model_validate(values)})


def _with_batch_sizes(recipe: type[AnyRecipe], config: RecipeConfig, console: Console) -> RecipeConfig:
    """Search the last stage first: the others have as many pixels."""
    sizes = [stage.batch_size for stage in config.training.stages]
    if sizes[-1] == "auto":
        sizes[-1] = _search_batch_size(recipe, config, len(sizes) - 1, console)
        config = _with_sizes(config, sizes)
    for number, size in enumerate(sizes):
        if size == "auto":
            sizes[number] = _search_batch_size(recipe, config, number, console)
    return _with_sizes(config, sizes)


def _search_batch_size(recipe: type[AnyRecipe], config: RecipeConfig, number: int, console: Console) -> int:
    """Search the batch size of a stage, by three full steps of each candidate."""
    training, stage = config.training, config.training.stages[number]
    device, given = select_device(training.accelerator), training.memory_limit_gb
    limit = round(given * 1e9) if given is not None else _memory_limit(device)
    _, data = recipe.prepare(stage_config(config, number, 1), Terminal(quiet=True))
    samples = len(data.train.samples)
    enough = max(
        _count_samples(training, stage, samples) // (training.grad_accumulation_steps * MIN_STAGE_STEPS),
        training.batch_size,
    )
    guess = scale_batch_size(stage, training.stages[-1], training.batch_size)
    most = min(samples, enough, guess if given is None else samples)
    peaks: dict[int, int | None] = {}

    def peak_of(batch: int) -> int | None:
        peaks[batch] = _measure_peak(recipe, stage_config(config, number, batch))
        return peaks[batch]

    batch = find_largest_batch(peak_of, limit=limit, guess=guess, most=max(most, 1))
    size, memory = f"{stage.width}x{stage.height}", f"{limit / 1e9:.2f} GB"
    if not batch:
        peak = peaks.get(1)
        held = "more than there is" if peak is None else f"{peak / 1e9:.2f} GB"
        fix = "raise training.memory_limit_gb, or take smaller images" if given is not None else "take smaller images"
        what, found = f"memory of training.stages[{number}]", f"{held} for a single sample of {size}"
        raise RunError(what, found=found, expected=memory, fix=fix)
    held = f"{(peaks[batch] or 0) / 1e9:.2f} GB"
    bound = f"not more than {most}, for {MIN_STAGE_STEPS} steps and batches of the last stage's pixels at most"
    of = f" (of {memory}; {bound})" if batch == most else f" of {memory}"
    line = f"stage {number + 1}: {size} in batches of {batch}, which hold {held}{of}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return batch


def _count_samples(training: TrainingConfig, stage: StageConfig, samples: int) -> int:
    """Return the number of samples of a stage."""
    passes = [] if training.max_epochs is None else [training.max_epochs * samples]
    if training.max_steps is not None:
        passes.append(training.max_steps * training.batch_size * training.grad_accumulation_steps)
    return int(stage.share * min(passes))


def _measure_peak(recipe: type[AnyRecipe], config: RecipeConfig) -> int | None:
    """Return the peak bytes of three steps; None if they did not fit."""
    try:
        found = max(measure_steps(recipe, *recipe.prepare(without_pretrained(config), Terminal(quiet=True))).peak_bytes)
    except RunError as error:
        if not error.what.startswith("memory of step"):
            raise
        found = None
    gc.collect()
    return_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


def _memory_limit(device: torch.device) -> int:
    """Return the bytes that a training may use by default."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1] * (1 - FREE_MEMORY_SHARE))
    return int(available_memory_bytes() * (1 - FREE_MEMORY_SHARE)) + resident_bytes()


# -- the largest batch that fits into memory


def find_largest_batch(peak_of: Callable[[int], int | None], *, limit: int, guess: int, most: int) -> int:
    """Return the largest batch whose peak memory is within a limit, by a few tries; 0 if one sample does not fit.

    Memory is linear in the batch, so each try extrapolates the last two peaks. It never exceeds twice a batch that
    fitted: some systems kill a process that allocates too much.

    Args:
        peak_of: bytes that training with this batch size uses; None if it ran out of memory.
        limit: bytes.
        guess: first batch to try.
        most: largest batch to try.
    """
    fits, too_large = 0, most + 1
    peaks: dict[int, int] = {}
    batch = min(max(guess, 1), most)
    for _ in range(MAX_TRIES):
        peak = peak_of(batch)
        if peak is not None:
            peaks[batch] = peak
        if peak is not None and peak <= limit:
            fits = batch
        else:
            too_large = batch
        if fits == 0 and too_large == 1:
            return 0
        middle = (fits + too_large) // 2
        batch = max(middle, 1) if fits == 0 else min(_extrapolate(peaks, limit, middle), 2 * fits, too_large - 1)
        if fits and batch - fits <= MIN_GAIN * fits:
            break
    return fits


def _extrapolate(peaks: dict[int, int], limit: int, otherwise: int) -> int:
    """Return where the line through the two largest batches reaches the limit; `otherwise` if it does not rise."""
    if len(peaks) < 2:
        return otherwise
    (small, low), (large, high) = sorted(peaks.items())[-2:]
    return small + (limit - low) * (large - small) // (high - low) if high > low else otherwise
