"""Choose steps and settings for given minutes: `--minutes`, `--preset auto`, `training.choose_configuration`."""

import json
import math
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console

from stadia.core.errors import ConfigError
from stadia.core.memory import available_memory_bytes
from stadia.core.terminal import Terminal, announce_step
from stadia.data.config import STRIDE
from stadia.data.video.input_camera import is_own_video
from stadia.data.video.video_camera import read_picture_size
from stadia.training.loading.loader import MixtureLoader
from stadia.training.loop.batches import batch_sizes
from stadia.training.loop.clock import CommandEnd
from stadia.training.loop.config import CHECK_SECONDS, TrainingConfig
from stadia.training.loop.fit import FEW_STEPS, shorten_warmup
from stadia.training.recipes import RECIPES, configure
from stadia.training.recipes.base.build_recipe import TrainingData
from stadia.training.recipes.base.config import RecipeConfig, make_paths_absolute, replace_training
from stadia.training.step_measurement import PROBE_STEPS, DryRunResult, measure_steps
from stadia.training.training_data import list_stages, open_checked_data

PLANNED_STEPS = 1.5
"""More steps are planned than fit: the clock ends the training, and steps may get faster."""

STAGED_STEPS = 0.9
"""The plan has fewer steps with `training.stages` or `training.finish`, whose last part must not be cut off."""

END_S = 8.0
"""Depth before and after, verdict and report take these seconds after the last validation."""

VALIDATION_SHARE = 0.4
"""A validation batch takes this share of a training batch's time."""

VALIDATIONS = 5
"""A training of given minutes validates this often, in at most MAX_VALIDATION_SHARE of its time."""

MAX_VALIDATION_SHARE = 0.2
"""Validations take at most this share of the minutes."""

MAX_CHECK_SHARE = 0.1
"""Loss checks that would take a larger share of the minutes are left out."""

_NO_CHECKS = (
    "the losses are not checked: {:g} s (training.check_seconds) are more than {:.0%} of {:g} minutes."
    " Fix: check them alone with --dry-run, or give more minutes"
)


@dataclass(frozen=True)
class MeasuredTraining:
    """A configuration with open data and measured steps.

    step_s: time of the samples of a step of `training.max_steps`.
    peak_bytes: peak memory of the last stage.
    """

    config: RecipeConfig
    data: TrainingData
    step_s: float
    validation_s: float
    peak_bytes: int
    device: str


@dataclass(frozen=True)
class PlannedTraining:
    """A training whose number of steps is chosen.

    data: opened for it, or None if the training opens its data.
    end: the end of the command by the clock, or None if the steps count.
    """

    config: RecipeConfig
    data: TrainingData | None
    end: CommandEnd | None


def measure_training(config: RecipeConfig, console: Console) -> MeasuredTraining:
    """Open the data, and train three steps of each stage and each dataset. Raises the errors of `train`."""
    config, data = open_checked_data(config, console)
    recipe_class = RECIPES.load(config.recipe)
    with announce_step(console, "measuring three steps of this training"):
        measured = [measure_steps(recipe_class, *stage) for stage in list_stages(config, data)]
    batches = len(data.val) if isinstance(data.val, Sized) else 0
    batch_s = fmean(measured[-1].seconds[1:]) / config.training.grad_accumulation_steps
    return MeasuredTraining(
        config=config,
        data=data,
        step_s=average_steps(config.training, data.train, measured),
        validation_s=batches * batch_s * VALIDATION_SHARE,
        peak_bytes=max(measured[-1].peak_bytes),
        device=measured[-1].device,
    )


def average_steps(training: TrainingConfig, train: object, measured: Sequence[DryRunResult]) -> float:
    """Return the time of a step: the mean over datasets by their batches, and over stages by their samples.

    The first step of each does not count, because it compiles and starts the workers.
    """
    if isinstance(train, MixtureLoader):
        (steps,) = measured  # stages have one dataset
        starts = range(0, len(steps.seconds), PROBE_STEPS)
        data_sets = [fmean(steps.seconds[start + 1 : start + PROBE_STEPS]) for start in starts]
        return fmean(data_sets, list(train.batches.values()))
    sizes = batch_sizes(training)
    shares = [stage.share * training.batch_size / size for stage, size in zip(training.stages, sizes, strict=True)]
    stages = [fmean(stage.seconds[1:]) for stage in measured]
    return sum(share * step_s for share, step_s in zip(shares or [1.0], stages, strict=True))


# -- `--minutes`: the clock ends the training


def choose_steps(
    config: RecipeConfig,
    minutes: float,
    console: Console,
    *,
    started_s: float | None = None,
    measured: MeasuredTraining | None = None,
) -> PlannedTraining:
    """Return the configuration with more steps than fit into the minutes: the clock ends them.

    The learning-rate schedule ends with the time; a warm-up that is too long is shortened.

    minutes: time limit of the whole command, minutes.
    console: gets the settings in one line.
    started_s: start of the command, by time.perf_counter; now by default.
    measured: this configuration, if it was measured before.

    Raises ConfigError if not one step fits, and the errors of `measure_training`.
    """
    started_s = time.perf_counter() if started_s is None else started_s
    measured = measured or measure_training(config, console)
    config, step_s, validation_s = measured.config, measured.step_s, measured.validation_s
    training = config.training
    at_s = started_s + 60 * minutes
    after_s = END_S + 2.5 * validation_s  # the last validation, and the scores of each image
    left_s = at_s - time.perf_counter() - after_s
    check_seconds = training.check_seconds
    if left_s >= FEW_STEPS * step_s:  # such a training checks its losses first
        if check_seconds == CHECK_SECONDS > MAX_CHECK_SHARE * 60 * minutes:
            console.print(_NO_CHECKS.format(check_seconds, MAX_CHECK_SHARE, minutes), highlight=False, soft_wrap=True)
            check_seconds = 0
        left_s -= check_seconds
    most = max(int(MAX_VALIDATION_SHARE * left_s / validation_s), 1) if validation_s else VALIDATIONS
    validations = min(VALIDATIONS, most)
    steps_s = left_s - (validations - 1) * validation_s
    fitting = int(steps_s / step_s)
    if fitting < 1:
        found = f"{minutes:g}: {max(left_s, 0):.0f} s are left, and a step takes {step_s:.2g} s"
        least = math.ceil(minutes + (10 * step_s - left_s) / 60)
        raise ConfigError("--minutes", found=found, expected="time for ten steps", fix=f"--minutes {least}")
    is_staged = training.stages or training.finish is not None
    steps = max(int(fitting * (STAGED_STEPS if is_staged else PLANNED_STEPS)), 1)
    chosen = replace_training(
        config,
        max_steps=steps,
        max_epochs=None,
        max_minutes=steps_s / 60,
        validate_every=training.validate_every or (-(-fitting // validations) if validations > 1 else steps),
        check_seconds=check_seconds,
    )
    settings = [f"training.max_steps={steps}", f"training.max_minutes={steps_s / 60:.3g}"]
    warmup_steps = shorten_warmup(config.schedule.warmup_steps, fitting)
    if warmup_steps != config.schedule.warmup_steps:
        schedule = config.schedule.model_copy(update={"warmup_steps": warmup_steps})
        chosen = chosen.model_copy(update={"schedule": schedule})
        settings.append(f"schedule.warmup_steps={warmup_steps}")
    line = f"--minutes {minutes:g}: about {min(fitting, steps)} steps of {step_s:.2g} s, until the time is over"
    console.print(f"{line} ({' '.join(settings)})", markup=False, highlight=False, soft_wrap=True)
    return PlannedTraining(chosen, None if training.stages else measured.data, CommandEnd(at_s, after_s))


# -- `--preset auto`: size, batch and precision for this machine and the minutes

AUTO_MINUTES = 20.0
"""Default time of a training with `--preset auto`."""

MIN_USEFUL_STEPS = 1000
"""A smaller image gives better depth if a run has fewer steps (docs/how-to/own-data.md)."""

MAX_MEMORY_SHARE = 0.6
"""The estimate may take this share of the free memory."""

AREAS = (30720, 53248, 122880)
"""These are the pixels of 320x96, 416x128 and 640x192."""

AUTO_SETTINGS = (
    "model.pose_net=correlation",
    "model.translation_scale=0.2",
    "loss.pyramid=4",
    "loss.auto_mask_from_step=100",
    "loss.temporal_from_step=null",
    "training.batch_size=4",
    "optimizer.lr=1e-3",
    "schedule.warmup_steps=50",
    "training.clip_norm=1.0",
)
"""A few steps with these settings adapt the depth of `base` (docs/results/published-networks.md)."""


def choose_for_machine(
    resolve: Callable[[list[str]], RecipeConfig], minutes: float, console: Console, *, started_s: float | None = None
) -> PlannedTraining:
    """Return the training of `--preset auto`: batch, precision and image size fit this machine and the minutes.

    It measures three steps at the smallest size, and scales time and memory by the pixels.

    resolve: returns the configuration of settings under the user's own.
    """
    started_s = time.perf_counter() if started_s is None else started_s
    settings = choose_batch()
    aspect = _read_aspect(resolve(settings))
    measured = measure_training(resolve([*settings, *_size_settings(AREAS[0], aspect)]), console)
    left_s = started_s + 60 * minutes - time.perf_counter() - END_S
    free = torch.cuda.mem_get_info()[0] if measured.device == "cuda" else available_memory_bytes() + measured.peak_bytes
    area = choose_area(left_s / measured.step_s, measured.peak_bytes, free)
    data: Any = measured.data
    camera = data.split.train[0].recording.filmed_camera(0)
    chosen = [*settings, *_size_settings(area, camera.width / camera.height)]
    config = resolve(chosen)
    console.print(f"--preset auto: {_describe_settings(config, chosen)}", markup=False, highlight=False, soft_wrap=True)
    known = measured if area == AREAS[0] else None
    return choose_steps(config, minutes, console, started_s=started_s, measured=known)


def choose_configuration(
    overrides: Sequence[str] = (), *, minutes: float = AUTO_MINUTES, **values: Any
) -> tuple[RecipeConfig, TrainingData | None]:
    """Choose batch size, precision and image size that fit this machine and a time limit.

    This is the preset "auto" of `stadia train selfsup`.

    overrides: `dotted.key=value` texts of the recipe `selfsup`.
    minutes: time limit of the training.
    values: nested values by the first key, such as data={"path": "drive.mp4"}.

    Returns the configuration and its opened data, for `stadia.training.train(config, data=data)`. Raises ConfigError if
    the time is too short for one step, and StadiaError if the data cannot be opened.
    """

    def resolve(chosen: list[str]) -> RecipeConfig:
        return make_paths_absolute(configure("selfsup", [*chosen, *overrides], **values))

    planned = choose_for_machine(resolve, minutes, Terminal(stderr=True))
    return planned.config, planned.data


def choose_area(steps: float, peak_bytes: int, free_bytes: int) -> int:
    """Return the largest of AREAS at which MIN_USEFUL_STEPS fit into the time, and the peak into the memory.

    steps, peak_bytes: number of updates and peak memory, bytes, at the smallest area.
    """
    fits = [
        area
        for area in AREAS
        if steps * AREAS[0] / area >= MIN_USEFUL_STEPS and peak_bytes * area / AREAS[0] <= MAX_MEMORY_SHARE * free_bytes
    ]
    return max(fits, default=AREAS[0])


def choose_batch() -> list[str]:
    """Return AUTO_SETTINGS with the batch of the device."""
    if not torch.cuda.is_available():
        return [*AUTO_SETTINGS]
    return [*AUTO_SETTINGS, "training.batch_size=12", "training.workers=4"]


def _describe_settings(config: RecipeConfig, chosen: Sequence[str]) -> str:
    values = {key: attrgetter(key)(config) for key in (setting.partition("=")[0] for setting in chosen)}
    return " ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items())


def _size_settings(area: int, aspect: float) -> list[str]:
    height = max(round(math.sqrt(area / aspect) / STRIDE), 1) * STRIDE
    width = max(round(height * aspect / STRIDE), 1) * STRIDE
    return [f"data.height={height}", f"data.width={width}"]


def _read_aspect(config: RecipeConfig) -> float:
    data: Any = getattr(config, "data", None)
    path = Path(data.path)
    if not is_own_video(path, data.format):
        return 640 / 192
    height, width = read_picture_size(data.camera, path)
    return width / height
