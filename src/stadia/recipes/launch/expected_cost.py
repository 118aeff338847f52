"""Expected time, memory and disk of a training, from its first steps; steps and settings for given minutes."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from stadia.core.errors import ConfigError
from stadia.dataloading.config import STRIDE
from stadia.dataloading.loader import MixtureLoader
from stadia.datasets.video.video_files import read_image_size
from stadia.models.packaged_weights import find_packaged_file
from stadia.process.memory import PeakMemory, available_memory_bytes, unshared_child_bytes
from stadia.process.terminal import Terminal, announce_step
from stadia.recipes import RECIPES, configure
from stadia.recipes.base.build_recipe import check_init_weights
from stadia.recipes.base.config import RecipeConfig, make_paths_absolute
from stadia.recipes.launch.measured_choices import choose_fastest, keep_measured_choices
from stadia.recipes.launch.progressive_resizing import (
    OpenedData,
    check_stages,
    keep_batch_sizes,
    open_data,
    prepare_stages,
)
from stadia.recipes.launch.step_measurement import PROBE_INTERVAL_S, PROBE_STEPS, DryRunResult, measure_steps
from stadia.recipes.prediction.prediction_inputs import is_own_video
from stadia.training.batches import batch_sizes
from stadia.training.config import CHECK_SECONDS
from stadia.training.devices import check_devices
from stadia.training.fit_messages import FEW_STEPS, LONGEST_WARMUP, USUAL_WARMUP
from stadia.training.loop import Callback, TrainingLoop

SKIPPED_STEPS = 3
"""The first steps compile, fill the optimizer's state and wait for the loaders."""
MEASURED_STEPS = 10
MIN_TOTAL_S = 60.0
"""Shorter trainings print no line."""
LONG_S = 3600.0
"""The line about a longer training names `--minutes`."""
VALIDATION_SHARE = 0.4
"""Time of a validation batch over that of a training step's batch: no backward, no update."""
STATE_COPIES = 4
"""Weights in `best`, and weights with the two moments of adam in `last`."""

PLANNED_STEPS = 1.28
"""Planned steps over those that fit by the measured time, which ends the training: a busy machine may get faster."""
STAGED_STEPS = 0.9
"""The same with `training.stages`: the time must not end before the last stage, which has the full size."""
OTHER_S = 15.0
"""Time of what is not measured: loading the libraries, building the networks, writing the report."""
VALIDATIONS = 5
"""Validations of a training of given minutes; fewer where they would take more than MAX_VALIDATION_SHARE of it."""
MAX_VALIDATION_SHARE, MAX_CHECK_SHARE = 0.2, 0.1
_NO_CHECKS = (
    "the loss checks are left out: {:g} s (training.check_seconds) are more than {:.0%} of {:g} minutes."
    " Fix: run them alone with --dry-run, or give more minutes"
)
REPORT_S = 5.0
"""Verdict, report and the start of the scores at the end: 4 to 11 s in trainings of 12 to 50 s on busy cores."""
SCORING_SHARE = 1.5
"""Time of the scores at the end over that of a validation: they also compute the metrics of each image."""


class ExpectedCost(Callback):
    """Prints one line about the whole training when MEASURED_STEPS steps were measured; changes nothing.

    console: of the training.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.memory = PeakMemory(PROBE_INTERVAL_S, with_children=False)
        self.ends: list[float] = []
        self.first_step = 0

    def on_train_start(self, loop: TrainingLoop) -> None:
        self.first_step = loop.step

    def on_step_end(self, loop: TrainingLoop) -> None:
        done = loop.step - self.first_step
        if done < SKIPPED_STEPS or done > SKIPPED_STEPS + MEASURED_STEPS:
            return
        if done == SKIPPED_STEPS:
            self.memory.__enter__()
        self.ends.append(time.perf_counter())
        if done == SKIPPED_STEPS + MEASURED_STEPS:
            self.memory.__exit__()
            if loop.fabric.is_global_zero:
                self._report(loop)

    def on_train_end(self, loop: TrainingLoop) -> None:
        if 0 < len(self.ends) <= MEASURED_STEPS:  # it ended while it was measured
            self.memory.__exit__()

    def _report(self, loop: TrainingLoop) -> None:
        times = sorted(after - before for before, after in zip(self.ends, self.ends[1:], strict=False))
        step_s = statistics.mean(times[:-1])  # of several data sets; a step that waited does not count
        left, left_s = count_steps_left(loop, step_s)
        validations = count_validations(loop, loop.step + left)
        batches = len(loop.val_batches) if isinstance(loop.val_batches, Sized) else 0
        batch_s = step_s / loop.plan.grad_accumulation_steps * relative_phase_costs(loop)[-1]
        total_s = left_s + validations * batches * batch_s * VALIDATION_SHARE + REPORT_S
        if total_s < MIN_TOTAL_S:
            return
        on_gpu = loop.fabric.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated() if on_gpu else self.memory.bytes + unshared_child_bytes()
        disk = STATE_COPIES * sum(one.numel() * one.element_size() for one in loop.recipe.parameters())
        until = datetime.now() + timedelta(seconds=total_s)
        of_device = " of the GPU" if on_gpu else ""
        line = (
            f"expected: {left} more steps of {left_s / max(left, 1):.2g} s and {validations}"
            f" validation{'s' * (validations != 1)},"
            f" {describe_time(total_s)} in all (until {until:%H:%M}); memory {peak / 1e9:.1f} GB{of_device};"
            f" disk {max(disk, 1e7) / 1e9:.2f} GB in the run's folder"
        )
        shorter = "; shorter: `--minutes 20`, or a smaller data.height and data.width" if total_s > LONG_S else ""
        self.console.print(f"{line}{shorter}", markup=False, highlight=False, soft_wrap=True)


def relative_phase_costs(loop: TrainingLoop) -> list[float]:
    """Return the time of a step of each stage over that of the first one: their pixels. [1.0] without stages."""
    pixels = [
        stage.height * stage.width * size
        for stage, size in zip(loop.config.stages, batch_sizes(loop.config), strict=True)
    ]
    return [one / pixels[0] for one in pixels] or [1.0]


def count_steps_left(loop: TrainingLoop, step_s: float) -> tuple[int, float]:
    """Return how many steps are still to come, and their seconds; the time limit of the training ends them.

    step_s: time of a step of the first stage.
    """
    limit_s = loop.time_limit.left_s
    phases = [phase.steps for phase in loop.plan.phases] or [loop.plan.total_steps]
    left, left_s, done = 0, 0.0, loop.step
    for steps, cost in zip(phases, relative_phase_costs(loop), strict=True):
        passed = min(done, steps)
        count = int(min(steps - passed, max(limit_s - left_s, 0.0) / (cost * step_s)))
        left, left_s, done = left + count, left_s + count * cost * step_s, done - passed
    return left, left_s


def count_validations(loop: TrainingLoop, last: int) -> int:
    """Return how many validations are still to come, where step `last` is the last one."""
    if loop.val_batches is None:
        return 0
    if loop.config.validate_every is None and len(loop.plan.phases) > 1:
        return sum(loop.plan.is_pass_end(step) for step in range(loop.step + 1, last)) + 1
    every = loop.config.validate_every or max(round(loop.plan.steps_per_epoch / max(len(loop.plan.pass_ends), 1)), 1)
    return -(-last // every) - loop.step // every


def describe_time(seconds: float) -> str:
    """Return "95 s", "21 min" or "3.5 h"."""
    if seconds < 2 * 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class MeasuredTraining:
    """A configuration whose data are open, and whose first steps were measured.

    steps: of each stage; of a training without stages, one.
    spent_s: time for opening the data and for measuring.
    """

    opened: OpenedData
    steps: tuple[DryRunResult, ...]
    spent_s: float = 0.0

    @property
    def phase_step_s(self) -> list[float]:
        """Return the time of a step of each stage; of several data sets, the mean over an epoch.

        The first step of a stage or a data set does not count: it compiles, and starts the workers.
        """
        train = getattr(self.opened.data, "train", None)
        if not isinstance(train, MixtureLoader):
            return [statistics.mean(one.seconds[1:]) for one in self.steps]
        (measured,) = self.steps  # stages have one data set
        of_sets = [
            statistics.mean(measured.seconds[first + 1 : first + PROBE_STEPS])
            for first in range(0, len(measured.seconds), PROBE_STEPS)
        ]
        return [statistics.fmean(of_sets, list(train.batches.values()))]

    @property
    def step_s(self) -> float:
        """Return the time of the samples of one step of `training.max_steps`: with stages, the mean by their shares."""
        training = self.opened.config.training
        times = self.phase_step_s
        shares = [
            stage.share * training.batch_size / size
            for stage, size in zip(training.stages, batch_sizes(training), strict=True)
        ] or [1.0]
        return sum(share * step_s for share, step_s in zip(shares, times, strict=True))

    @property
    def validation_s(self) -> float:
        """Return the expected time of a validation, at the size of the last stage."""
        batches = getattr(self.opened.data, "val", None)
        count = len(batches) if isinstance(batches, Sized) else 0
        batch_s = self.phase_step_s[-1] / self.opened.config.training.grad_accumulation_steps
        return count * batch_s * VALIDATION_SHARE


def measure_training(config: RecipeConfig, console: Console) -> MeasuredTraining:
    """Open the data, and train three steps of each stage and each data set, of which nothing is kept.

    Raises ConfigError for a device that is not here before the data are opened, and what a training raises before its
    first step.
    """
    started = time.perf_counter()
    recipe_class = RECIPES.load(config.recipe)
    check_stages(recipe_class, config)
    check_devices(config.training)
    check_init_weights(recipe_class, config)
    opened = open_data(recipe_class, config, console)
    with announce_step(console, "measuring three steps of this training"):
        chosen = choose_fastest(opened.config, opened.data, console)
        prepared = prepare_stages(recipe_class, chosen) if chosen.training.stages else [(chosen, opened.data)]
        steps = tuple(measure_steps(recipe_class, *one) for one in prepared)
    return MeasuredTraining(replace(opened, config=chosen), steps, time.perf_counter() - started)


def choose_steps(
    config: RecipeConfig, minutes: float, console: Console, measured: MeasuredTraining | None = None
) -> tuple[RecipeConfig, OpenedData]:
    """Return the configuration with more steps than fit into the minutes by the measured time of a step.

    The minutes include opening the data, the loss checks, validating and scoring. `training.max_minutes` ends the
    steps, and the schedule of the learning rate ends with them. A warm-up that is too long for the steps that fit is
    shortened.

    Args:
        measured: steps of a configuration before; they are used where the data are the same.

    Returns the configuration, and its opened data. Raises ConfigError where not one step fits, and what
    `measure_training` raises.
    """
    spent_s = 0.0 if measured is None else measured.spent_s
    if measured is None or measured.opened.resolve(config) is None:
        measured = measure_training(config, console)
        spent_s += measured.spent_s
    left_s = 60 * minutes - spent_s
    length = choose_length(measured, left_s, config.training.validate_every)
    check_seconds = config.training.check_seconds
    if length.steps >= FEW_STEPS and check_seconds == CHECK_SECONDS > MAX_CHECK_SHARE * 60 * minutes:
        console.print(_NO_CHECKS.format(check_seconds, MAX_CHECK_SHARE, minutes), highlight=False, soft_wrap=True)
        check_seconds = 0
    elif length.steps >= FEW_STEPS:  # such a training checks its losses first
        shorter = choose_length(measured, left_s - check_seconds, config.training.validate_every)
        unchecked = replace(length, steps=FEW_STEPS - 1, expected_steps=min(length.expected_steps, FEW_STEPS - 1))
        length = max(shorter, unchecked, key=lambda one: one.steps)
    if length.expected_steps < 1:
        found = (
            f"{minutes:g}: opening the data took {spent_s:.0f} s, a step takes {measured.step_s:.2g} s and a validation"
            f" {measured.validation_s:.2g} s"
        )
        fix = "give more minutes, or a smaller data.width"
        raise ConfigError("--minutes", found=found, expected="time for one step and its scores", fix=fix)
    changes = {"max_steps": length.steps, "max_epochs": None, "max_minutes": length.steps_s / 60}
    changes |= {"validate_every": length.validate_every, "check_seconds": check_seconds}
    resolved = measured.opened.config.model_dump(mode="json")  # what was searched and measured is kept
    config = keep_measured_choices(keep_batch_sizes(config, resolved), resolved)
    chosen = config.model_copy(update={"training": config.training.model_copy(update=changes)})
    chosen, settings = shorten_warmup(chosen, length.expected_steps)
    settings = [f"training.max_steps={length.steps}", f"training.max_minutes={length.steps_s / 60:.3g}", *settings]
    line = f"--minutes {minutes:g}: about {length.expected_steps} steps of {measured.step_s:.2g} s"
    if length.steps > length.expected_steps:
        line += f"; the time ends the training, after at most {length.steps} steps if the machine gets faster"
    console.print(f"{line} ({' '.join(settings)})", markup=False, highlight=False, soft_wrap=True)
    return chosen, measured.opened


@dataclass(frozen=True)
class Length:
    """The length of a training.

    steps: planned; the training ends after them at the latest.
    expected_steps: those of them that fit into the time as it was measured.
    steps_s: seconds after which its steps end, however many were made.
    """

    steps: int
    expected_steps: int
    validate_every: int
    steps_s: float


def choose_length(measured: MeasuredTraining, left_s: float, validate_every: int | None) -> Length:
    """Return how many steps fit into the seconds, beside validations and the scores at the end.

    validate_every: in steps; None validates VALIDATIONS times, or less often where that would take too long.
    """
    step_s, validation_s = measured.step_s, measured.validation_s
    usable_s = left_s - OTHER_S - SCORING_SHARE * validation_s
    share = STAGED_STEPS if measured.opened.config.training.stages else PLANNED_STEPS
    if validate_every is None:
        most = MAX_VALIDATION_SHARE * max(usable_s, 0.0)
        validations = VALIDATIONS if VALIDATIONS * validation_s <= most else max(int(most / validation_s), 1)
        steps_s = usable_s - validations * validation_s
        steps = int(share * steps_s / step_s)
        return Length(steps, min(int(steps_s / step_s), steps), max(-(-steps // validations), 1), steps_s)
    fitting = int((usable_s - validation_s) / (step_s + validation_s / validate_every))
    steps = int(share * fitting)
    return Length(steps, min(fitting, steps), validate_every, fitting * step_s)


def shorten_warmup(config: RecipeConfig, steps: int) -> tuple[RecipeConfig, list[str]]:
    """Return the configuration with a warm-up that suits the steps, and the changed settings.

    Only one of more than LONGEST_WARMUP of the steps changes.
    """
    schedule: Any = getattr(config, "schedule", None)
    if schedule is None or schedule.warmup_steps <= LONGEST_WARMUP * steps:
        return config, []
    warmup_steps = round(USUAL_WARMUP * steps)
    schedule = schedule.model_copy(update={"warmup_steps": warmup_steps})
    return config.model_copy(update={"schedule": schedule}), [f"schedule.warmup_steps={warmup_steps}"]


# -- `--preset auto`: encoder, size, batch and precision for this machine and the minutes

AUTO_MINUTES = 20.0
MIN_USEFUL_STEPS = 1000
"""Fewer steps give no usable depth (docs/how-to/own-data.md); a smaller image is better then."""
MAX_MEMORY_SHARE = 0.6
"""Of the free memory. The estimate for larger images is within 30 % of the measured peak."""
AREAS = (30720, 53248, 122880)
"""Pixels of 320x96, 416x128 and 640x192, in the shape of the data."""
MAX_WARMUP_STEPS = 50
PACKAGED_ENCODER, SMALL_ENCODER = "tf_efficientnet_lite0", "mobilenetv3_small_100"
SMALL_NETWORKS = (
    *("model.network.decoder_channels=8,16,24,32,64", "model.network.scales=1"),
    *("model.pose_net=correlation", "model.translation_scale=0.2"),
    *("loss.pyramid=4", "loss.auto_mask_from_step=100", "loss.temporal_from_step=null"),
    *("training.batch_size=4", "optimizer.lr=1e-3", "training.clip_norm=1.0"),
)
"""As in the preset `tiny-laptop`: a few hundred steps find the motion of one camera (docs/results/mono.md).

With a stereo source the pair alone trains depth, as in the preset `demo`: where the neighbors in time compete with it,
they lose in the first steps, and the pose network has no gradient left that would bring it back.
"""


def choose_settings(
    resolve: Callable[[list[str]], RecipeConfig], minutes: float, console: Console
) -> tuple[list[str], MeasuredTraining]:
    """Return settings that fit this machine and the minutes: encoder, batch, precision, and the size of the images.

    Measures three steps at the smallest size, and scales time and memory by the pixels. The data decide the shape.

    resolve: returns the configuration of settings; what the user set is over them.

    Returns the settings, and what was measured; it serves `choose_steps` where the smallest size is chosen.
    """
    networks = _choose_networks()
    aspect = _read_aspect(resolve(networks))
    measured = measure_training(resolve([*networks, *_size_settings(AREAS[0], aspect)]), console)
    probe = measured.steps[-1]
    peak = max(probe.peak_bytes)
    on_gpu = probe.device == "cuda"
    free = torch.cuda.mem_get_info()[0] if on_gpu else available_memory_bytes() + peak
    steps = choose_length(measured, 60 * minutes - measured.spent_s, None).expected_steps
    area = choose_area(steps, peak, free)
    warmup_steps = max(min(MAX_WARMUP_STEPS, int(steps * AREAS[0] / area * USUAL_WARMUP)), 0)
    warmup = f"schedule.warmup_steps={warmup_steps}"
    chosen = [*networks, warmup, *_size_settings(area, _find_aspect(measured.opened.data))]
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
    resolve: Callable[[list[str]], RecipeConfig], minutes: float, console: Console
) -> tuple[RecipeConfig, OpenedData]:
    """Return the configuration of `--preset auto` and its opened data. resolve: as of `choose_settings`."""
    chosen, measured = choose_settings(resolve, minutes, console)
    return choose_steps(resolve(chosen), minutes, console, measured)


def choose_configuration(
    overrides: Sequence[str] = (), *, minutes: float = AUTO_MINUTES, **values: Any
) -> tuple[RecipeConfig, OpenedData]:
    """Return what `stadia train selfsup --preset auto` trains: a configuration for this machine and the minutes.

    Args:
        overrides, values: as of `stadia.recipes.configure`, with the data. They are over what is chosen.
        minutes: of the whole training.

    Returns the configuration, and its opened data for `stadia.recipes.train(config, opened=opened)`. Raises ConfigError
    where not one step fits, and the errors of opening the data.
    """

    def resolve(chosen: list[str]) -> RecipeConfig:
        return make_paths_absolute(configure("selfsup", [*chosen, *overrides], **values))

    return choose_for_machine(resolve, minutes, Terminal(stderr=True))


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


def _choose_networks() -> list[str]:
    """Return encoders, batch and precision: published weights where they are installed, else small random networks."""
    on_gpu, has_weights = torch.cuda.is_available(), find_packaged_file(PACKAGED_ENCODER) is not None
    if on_gpu:
        both = [
            f"model.network.encoder={PACKAGED_ENCODER}",
            f"model.pose_encoder={PACKAGED_ENCODER}",
            "model.pretrained=true",
        ]
        encoders = both if has_weights else []  # the default's weights are of the hub
        precision = "bf16" if torch.cuda.is_bf16_supported() else "32"
        return [*encoders, "training.batch_size=12", "training.workers=4", f"training.precision={precision}"]
    encoder = PACKAGED_ENCODER if has_weights else SMALL_ENCODER
    return [f"model.network.encoder={encoder}", f"model.pretrained={has_weights}".lower(), *SMALL_NETWORKS]


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
