"""Choose steps and settings for given minutes: `--minutes`, `--preset auto`, and `launch.choose_configuration`."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from stadia.core.errors import ConfigError
from stadia.dataloading.config import STRIDE
from stadia.dataloading.loader import MixtureLoader
from stadia.datasets.video.video_camera import read_image_size
from stadia.launch.expected_cost import VALIDATION_SHARE
from stadia.launch.step_measurement import (
    PROBE_STEPS,
    DryRunResult,
    choose_fastest,
    keep_measured_choices,
    measure_steps,
)
from stadia.launch.training_data import OpenedData, check_stages, list_stages, open_data
from stadia.predict.prediction_inputs import is_own_video
from stadia.process.memory import available_memory_bytes
from stadia.process.slowdown import Slowdown
from stadia.process.terminal import Terminal, announce_step
from stadia.recipes import RECIPES, configure
from stadia.recipes.base.build_recipe import check_init_weights
from stadia.recipes.base.config import RecipeConfig, make_paths_absolute, replace_training
from stadia.training.batches import batch_sizes
from stadia.training.config import CHECK_SECONDS
from stadia.training.devices import check_devices
from stadia.training.fit_messages import FEW_STEPS, LONGEST_WARMUP, USUAL_WARMUP
from stadia.training.training_state import CommandEnd

PLANNED_STEPS = 1.5
"""Planned steps over those that fit by the measured time, which ends the training: a busy machine may get faster."""

STAGED_STEPS = 0.9
"""The same with `training.stages` or `training.finish`: the time must not end before the last part."""

START_S = 4.0
"""Time between the choice of the steps and the first one: checking the data, building the networks."""

END_S = 8.0
"""Time after the last validation, without other programs: depth before and after, verdict, report (4 to 8 s)."""

VALIDATIONS = 5
"""Validations of a training of given minutes; fewer where they would take more than MAX_VALIDATION_SHARE of it."""

MAX_VALIDATION_SHARE = 0.2

MAX_CHECK_SHARE = 0.1
"""Largest share of the minutes that the loss checks may take; else they are left out, in one line."""

MIN_STEPS = 10
"""Steps of the shortest training that the error without time for one proposes."""

SCORING_SHARE = 1.5
"""Time of the scores at the end over that of a validation: they also compute the metrics of each image."""

_NO_CHECKS = (
    "the loss checks are left out: {:g} s (training.check_seconds) are more than {:.0%} of {:g} minutes."
    " Fix: run them alone with --dry-run, or give more minutes"
)


@dataclass(frozen=True)
class MeasuredTraining:
    """A configuration whose data are open, and whose first steps were measured.

    steps: of each stage; of a training without stages, one.
    slowdown: of this machine meanwhile, by other programs.
    """

    opened: OpenedData
    steps: tuple[DryRunResult, ...]
    slowdown: float = 1.0

    @property
    def stage_step_s(self) -> list[float]:
        """Return the time of a step of each stage; of several data sets, the mean over an epoch.

        The first step of a stage or a data set does not count: it compiles, and starts the workers.
        """
        train = getattr(self.opened.data, "train", None)
        if not isinstance(train, MixtureLoader):
            return [statistics.mean(measured.seconds[1:]) for measured in self.steps]
        (measured,) = self.steps  # stages have one data set
        data_set_step_s = [
            statistics.mean(measured.seconds[first + 1 : first + PROBE_STEPS])
            for first in range(0, len(measured.seconds), PROBE_STEPS)
        ]
        return [statistics.fmean(data_set_step_s, list(train.batches.values()))]

    @property
    def step_s(self) -> float:
        """Return the time of the samples of one step of `training.max_steps`: with stages, the mean by their shares."""
        training = self.opened.config.training
        shares = [
            stage.share * training.batch_size / size
            for stage, size in zip(training.stages, batch_sizes(training), strict=True)
        ] or [1.0]
        return sum(share * step_s for share, step_s in zip(shares, self.stage_step_s, strict=True))

    @property
    def validation_s(self) -> float:
        """Return the expected time of a validation, at the size of the last stage."""
        batches = getattr(self.opened.data, "val", None)
        count = len(batches) if isinstance(batches, Sized) else 0
        batch_s = self.stage_step_s[-1] / self.opened.config.training.grad_accumulation_steps
        return count * batch_s * VALIDATION_SHARE


def measure_training(config: RecipeConfig, console: Console) -> MeasuredTraining:
    """Open the data, and train three steps of each stage and each data set, of which nothing is kept.

    Raises ConfigError for a device that is not here before the data are opened, and what a training raises before its
    first step.
    """
    recipe_class = RECIPES.load(config.recipe)
    check_stages(recipe_class, config)
    check_devices(config.training)
    check_init_weights(recipe_class, config)
    opened = open_data(recipe_class, config, console)
    with announce_step(console, "measuring three steps of this training"):
        slowdown = Slowdown()
        opened = replace(opened, config=choose_fastest(opened.config, opened.data, console))
        steps = tuple(measure_steps(recipe_class, *stage) for stage in list_stages(opened.config, opened.data))
        slowdown.add()
    return MeasuredTraining(opened, steps, slowdown.value)


# -- `--minutes`: steps that fit into a time


@dataclass(frozen=True)
class TimeBudget:
    """The minutes of a whole command: all that it does counts, from its start to its end.

    started_s: when it began, by time.perf_counter.
    after_s: of what follows the training, in seconds, where no other program computes.
    """

    minutes: float
    started_s: float = field(default_factory=lambda: time.perf_counter())
    after_s: float = 0.0

    @property
    def spent_s(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self.started_s

    @property
    def left_s(self) -> float:
        """Return the seconds until the end."""
        return 60 * self.minutes - self.spent_s


class PlannedTraining(NamedTuple):
    """A training that ends with its command.

    config: with the steps.  opened: its data.  end: of the command, for `train`.
    """

    config: RecipeConfig
    opened: OpenedData
    end: CommandEnd


@dataclass(frozen=True)
class Length:
    """The length of a training.

    steps: planned; the training ends after them at the latest.
    expected_steps: those of them that fit into the time as it was measured.
    steps_s: seconds of its steps.
    needed_s: seconds of all else that is still to come, with the least that a training does.
    """

    steps: int
    expected_steps: int
    validate_every: int
    steps_s: float
    needed_s: float


def choose_steps(
    config: RecipeConfig, budget: TimeBudget, console: Console, measured: MeasuredTraining | None = None
) -> PlannedTraining:
    """Return the configuration with more steps than fit into the time that is left, by the measured time of a step.

    The minutes include all before, the loss checks, validating and scoring. The clock ends the steps, and the schedule
    of the learning rate ends with them. A warm-up that is too long for the steps that fit is shortened.

    Args:
        measured: steps of a configuration before; they are used where the data are the same.

    Raises ConfigError where not one step fits, and what `measure_training` raises.
    """
    if measured is None or measured.opened.resolve(config) is None:
        measured = measure_training(config, console)
    minutes = budget.minutes
    left_s = budget.left_s - budget.after_s * measured.slowdown
    check_seconds = config.training.check_seconds
    length = choose_length(measured, left_s, config.training.validate_every)
    if length.steps >= FEW_STEPS:  # such a training checks its losses first
        if check_seconds == CHECK_SECONDS > MAX_CHECK_SHARE * 60 * minutes:
            console.print(_NO_CHECKS.format(check_seconds, MAX_CHECK_SHARE, minutes), highlight=False, soft_wrap=True)
            check_seconds = 0
        length = choose_length(measured, left_s - check_seconds, config.training.validate_every)
    if length.expected_steps < 1:
        after_s = length.needed_s + budget.after_s * measured.slowdown
        found = f"{minutes:g}: {budget.spent_s:.0f} s are over, and validating and scoring take {after_s:.0f} s"
        least = math.ceil((budget.spent_s + after_s + MIN_STEPS * measured.step_s) / 6) / 10
        expected = f"at least {least:g}, for {MIN_STEPS} steps of {measured.step_s:.2g} s"
        raise ConfigError("--minutes", found=found, expected=expected, fix=f"--minutes {math.ceil(least)}")
    resolved = measured.opened.config
    chosen = replace_training(
        keep_measured_choices(config, resolved.model_dump(mode="json")),
        stages=resolved.training.stages,
        max_steps=length.steps,
        max_epochs=None,
        max_minutes=length.steps_s / 60,
        validate_every=length.validate_every,
        check_seconds=check_seconds,
    )
    settings = [f"training.max_steps={length.steps}", f"training.max_minutes={length.steps_s / 60:.3g}"]
    warmup_steps = shorten_warmup(chosen.schedule.warmup_steps, length.expected_steps)
    if warmup_steps != chosen.schedule.warmup_steps:
        schedule = chosen.schedule.model_copy(update={"warmup_steps": warmup_steps})
        chosen = chosen.model_copy(update={"schedule": schedule})
        settings.append(f"schedule.warmup_steps={warmup_steps}")
    line = f"--minutes {minutes:g}: about {length.expected_steps} steps of {measured.step_s:.2g} s"
    if length.steps > length.expected_steps:
        line += f"; the time ends the training, after at most {length.steps} steps if the machine gets faster"
    console.print(f"{line} ({' '.join(settings)})", markup=False, highlight=False, soft_wrap=True)
    before_s = (1 + SCORING_SHARE) * measured.validation_s / measured.slowdown
    end = CommandEnd(budget.started_s + 60 * minutes, END_S + before_s + budget.after_s)
    return PlannedTraining(chosen, measured.opened, end)


def choose_length(measured: MeasuredTraining, left_s: float, validate_every: int | None) -> Length:
    """Return how many steps fit into the seconds, beside validations and the scores at the end.

    validate_every: in steps; None validates VALIDATIONS times, or less often where that would take too long.
    """
    step_s, validation_s = measured.step_s, measured.validation_s
    other_s = (START_S + END_S) * measured.slowdown + SCORING_SHARE * validation_s
    usable_s = left_s - other_s
    needed_s = other_s + validation_s
    training = measured.opened.config.training
    planned_share = STAGED_STEPS if training.stages or training.finish is not None else PLANNED_STEPS
    if validate_every is None:
        most_s = MAX_VALIDATION_SHARE * max(usable_s, 0.0)
        validations = VALIDATIONS if VALIDATIONS * validation_s <= most_s else max(int(most_s / validation_s), 1)
        steps_s = usable_s - validations * validation_s
        steps = int(planned_share * steps_s / step_s)
        expected_steps = min(int(steps_s / step_s), steps)
        every = max(-(-expected_steps // validations) if validations > 1 else steps, 1)
        return Length(steps, expected_steps, every, steps_s, needed_s)
    fitting = int((usable_s - validation_s) / (step_s + validation_s / validate_every))
    steps = int(planned_share * fitting)
    return Length(steps, min(fitting, steps), validate_every, fitting * step_s, needed_s)


def shorten_warmup(warmup_steps: int, steps: int) -> int:
    """Return a warm-up that suits the steps: the given one, unless it is longer than LONGEST_WARMUP of them."""
    return warmup_steps if warmup_steps <= LONGEST_WARMUP * steps else round(USUAL_WARMUP * steps)


# -- `--preset auto`: size, batch and precision for this machine and the minutes

AUTO_MINUTES = 20.0

MIN_USEFUL_STEPS = 1000
"""Fewer steps give no usable depth (docs/how-to/own-data.md); a smaller image is better then."""

MAX_MEMORY_SHARE = 0.6
"""Largest share of the free memory: the estimate for larger images is within 30 % of the measured peak."""

AREAS = (30720, 53248, 122880)
"""Pixels of 320x96, 416x128 and 640x192, in the shape of the data."""

MAX_WARMUP_STEPS = 50

AUTO_SETTINGS = (
    "model.pose_net=correlation",
    "model.translation_scale=0.2",
    "loss.pyramid=4",
    "loss.auto_mask_from_step=100",
    "loss.temporal_from_step=null",
    "training.batch_size=4",
    "optimizer.lr=1e-3",
    "training.clip_norm=1.0",
)
"""As in the preset `tiny-laptop`, for the default network, `base`: few steps adapt its depth (docs/results/mono.md).

With a stereo source the pair alone trains depth, as in the preset `demo`: where the neighbors in time compete with it,
they lose in the first steps, and the pose network has no gradient left that would bring it back.
"""


def choose_settings(
    resolve: Callable[[list[str]], RecipeConfig], budget: TimeBudget, console: Console
) -> tuple[list[str], MeasuredTraining]:
    """Return settings that fit this machine and the minutes: batch, precision, and the size of the images.

    Measures three steps at the smallest size, and scales time and memory by the pixels. The data decide the shape.

    resolve: returns the configuration of settings; what the user set is over them.

    Returns the settings, and what was measured; it serves `choose_steps` where the smallest size is chosen.
    """
    settings = _choose_batch()
    aspect = _read_aspect(resolve(settings))
    measured = measure_training(resolve([*settings, *_size_settings(AREAS[0], aspect)]), console)
    probe = measured.steps[-1]
    peak = max(probe.peak_bytes)
    free = torch.cuda.mem_get_info()[0] if probe.device == "cuda" else available_memory_bytes() + peak
    steps = choose_length(measured, budget.left_s, None).expected_steps
    area = choose_area(steps, peak, free)
    warmup_steps = max(min(MAX_WARMUP_STEPS, int(steps * AREAS[0] / area * USUAL_WARMUP)), 0)
    sizes = _size_settings(area, _find_aspect(measured.opened.data))
    chosen = [*settings, f"schedule.warmup_steps={warmup_steps}", *sizes]
    used = _describe_settings(resolve(chosen), chosen)
    console.print(f"--preset auto: {used}", markup=False, highlight=False, soft_wrap=True)
    return chosen, measured


def _describe_settings(config: RecipeConfig, chosen: Sequence[str]) -> str:
    """Return the keys of chosen settings with the values that a configuration has: the user's are over the chosen."""
    values = {key: attrgetter(key)(config) for key in (setting.partition("=")[0] for setting in chosen)}
    return " ".join(f"{key}={_format_value(value)}" for key, value in values.items())


def _format_value(value: Any) -> str:
    """Return a value as on the command line: lists with commas, strings without quotes."""
    if isinstance(value, list | tuple):
        return ",".join(map(_format_value, value))
    return value if isinstance(value, str) else json.dumps(value)


def choose_for_machine(
    resolve: Callable[[list[str]], RecipeConfig], budget: TimeBudget, console: Console
) -> PlannedTraining:
    """Return the training of `--preset auto`. resolve: as of `choose_settings`."""
    chosen, measured = choose_settings(resolve, budget, console)
    return choose_steps(resolve(chosen), budget, console, measured)


def choose_configuration(
    overrides: Sequence[str] = (), *, minutes: float = AUTO_MINUTES, **values: Any
) -> tuple[RecipeConfig, OpenedData]:
    """Return what `stadia train selfsup --preset auto` trains: a configuration for this machine and the minutes.

    Args:
        overrides, values: as of `stadia.recipes.configure`, with the data. They are over what is chosen.
        minutes: of the whole training.

    Returns the configuration, and its opened data for `stadia.launch.train(config, opened=opened)`. Raises ConfigError
    where not one step fits, and the errors of opening the data.
    """

    def resolve(chosen: list[str]) -> RecipeConfig:
        return make_paths_absolute(configure("selfsup", [*chosen, *overrides], **values))

    planned = choose_for_machine(resolve, TimeBudget(minutes), Terminal(stderr=True))
    return planned.config, planned.opened


def choose_area(steps: float, peak_bytes: int, free_bytes: int) -> int:
    """Return the largest of AREAS at which MIN_USEFUL_STEPS fit into the time, and the peak into the memory.

    steps: that fit at the smallest.  peak_bytes: there.
    """
    fits = [
        area
        for area in AREAS
        if steps * AREAS[0] / area >= MIN_USEFUL_STEPS and peak_bytes * area / AREAS[0] <= MAX_MEMORY_SHARE * free_bytes
    ]
    return max(fits, default=AREAS[0])


def _choose_batch() -> list[str]:
    """Return the settings of AUTO_SETTINGS, with batch and precision of the device."""
    if not torch.cuda.is_available():
        return [*AUTO_SETTINGS]
    precision = "bf16" if torch.cuda.is_bf16_supported() else "32"
    return [*AUTO_SETTINGS, "training.batch_size=12", "training.workers=4", f"training.precision={precision}"]


def _size_settings(area: int, aspect: float) -> list[str]:
    """Return height and width of about this area and this width over height, multiples of STRIDE."""
    height = max(round(math.sqrt(area / aspect) / STRIDE), 1) * STRIDE
    width = max(round(height * aspect / STRIDE), 1) * STRIDE
    return [f"data.height={height}", f"data.width={width}"]


def _read_aspect(config: RecipeConfig) -> float:
    """Return width over height of your own video; for a data set that of 640x192, before its data are opened."""
    data: Any = getattr(config, "data", None)
    path = Path(data.path)
    if not is_own_video(path, data.format):
        return 640 / 192
    height, width = read_image_size(path)
    return width / height


def _find_aspect(data: Any) -> float:
    """Return width over height of the images as they were filmed."""
    camera = data.split.train[0].recording.filmed_camera(0)
    return camera.width / camera.height
