"""Expected time, memory and disk of a training, from its first steps; steps and settings for given minutes."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sized
from datetime import datetime, timedelta
from typing import Any

import psutil
import torch
from rich.console import Console

from stadia.core.errors import ConfigError
from stadia.dataloading.config import STRIDE
from stadia.datasets.recordings import FrameRange
from stadia.datasets.video_files import FileVideo
from stadia.models.packaged_weights import find_packaged_file
from stadia.recipes import RECIPES
from stadia.recipes.base.config import RecipeConfig
from stadia.recipes.base.dry_run import PROBE_INTERVAL_S, DryRunResult, PeakMemory, measure_steps
from stadia.recipes.base.progressive_resizing import prepare_data
from stadia.training.fit import USUAL_WARMUP, check_devices
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

STEP_SHARE = 0.85
"""Share of the given minutes for steps; the rest is for opening the data, validating and scoring."""
VALIDATIONS = 5
"""Validations of a training of given minutes."""


class ExpectedCost(Callback):
    """Prints one line about the whole training when MEASURED_STEPS steps were measured; changes nothing.

    console: of the training.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.memory = PeakMemory(PROBE_INTERVAL_S)
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
        step_s = statistics.median(after - before for before, after in zip(self.ends, self.ends[1:], strict=False))
        left, validations = loop.plan.total_steps - loop.step, count_validations(loop)
        batches = len(loop.val_batches) if isinstance(loop.val_batches, Sized) else 0
        batch_s = step_s / loop.plan.grad_accumulation_steps
        total_s = left * step_s + validations * batches * batch_s * VALIDATION_SHARE
        if loop.config.max_minutes is not None:
            total_s = min(total_s, 60 * loop.config.max_minutes)
        if total_s < MIN_TOTAL_S:
            return
        on_gpu = loop.fabric.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated() if on_gpu else self.memory.bytes
        disk = STATE_COPIES * sum(one.numel() * one.element_size() for one in loop.recipe.parameters())
        until = datetime.now() + timedelta(seconds=total_s)
        of_device = " of the GPU" if on_gpu else ""
        line = (
            f"expected: {left} more steps of {step_s:.2g} s and {validations} validation{'s' * (validations != 1)},"
            f" {describe_time(total_s)} in all (until {until:%H:%M}); memory {peak / 1e9:.1f} GB{of_device};"
            f" disk {max(disk, 1e7) / 1e9:.2f} GB in the run's folder"
        )
        shorter = "; shorter: `--minutes 20`, or a smaller data.height and data.width" if total_s > LONG_S else ""
        self.console.print(f"{line}{shorter}", markup=False, highlight=False, soft_wrap=True)


def count_validations(loop: TrainingLoop) -> int:
    """Return how many validations are still to come."""
    if loop.val_batches is None:
        return 0
    every = loop.config.validate_every or max(round(loop.plan.steps_per_epoch), 1)
    return -(-loop.plan.total_steps // every) - loop.step // every


def describe_time(seconds: float) -> str:
    """Return "21 min" or "3.5 h"."""
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def choose_steps(config: RecipeConfig, minutes: float, console: Console) -> RecipeConfig:
    """Return the configuration with as many steps as fit into the minutes, by the measured time of a step.

    Opens the data, builds the networks and trains three steps, of which nothing is kept. Raises ConfigError where not
    one step fits, and what a training raises before its first step.
    """
    _, measured = _open_and_measure(config, console)
    step_s = min(measured.seconds[1:])
    steps = int(60 * minutes * STEP_SHARE / step_s)
    if steps < 1:
        found, fix = f"{minutes:g}, and a step takes {step_s:.0f} s", "give more minutes, or a smaller data.width"
        raise ConfigError("--minutes", found=found, expected="time for one step", fix=fix)
    changes = {"max_steps": steps, "max_epochs": None}
    if config.training.validate_every is None:
        changes["validate_every"] = max(steps // VALIDATIONS, 1)
    console.print(
        f"--minutes {minutes:g}: {steps} steps of {step_s:.2g} s (training.max_steps={steps})",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return config.model_copy(update={"training": config.training.model_copy(update=changes)})


def _open_and_measure(config: RecipeConfig, console: Console) -> tuple[Any, DryRunResult]:
    """Open the data, and train three steps of which nothing is kept. Devices are checked before."""
    recipe_class = RECIPES.load(config.recipe)
    check_devices(config.training)
    prepared, data = prepare_data(recipe_class, config, console)
    return data, measure_steps(recipe_class, prepared, data)


# -- `--preset auto`: encoder, size, batch and precision for this machine and the minutes

AUTO_MINUTES = 20.0
MIN_STEPS = 1000
"""Fewer steps give no usable depth (docs/own-data.md); a smaller image is better then."""
MAX_MEMORY_SHARE = 0.6
"""Of the free memory. The estimate for larger images is within 30 % of the measured peak."""
AREAS = (30720, 53248, 122880)
"""Pixels of 320x96, 416x128 and 640x192, in the shape of the data."""
MAX_WARMUP_STEPS = 50
PACKAGED_ENCODER, SMALL_ENCODER, SMALL_POSE_ENCODER = (
    "tf_efficientnet_lite0",
    "mobilenetv3_small_100",
    "mobilenetv3_small_050",
)


def choose_settings(resolve: Callable[[list[str]], RecipeConfig], minutes: float, console: Console) -> list[str]:
    """Return settings that fit this machine and the minutes: encoder, batch, precision, and the size of the images.

    Measures three steps at the smallest size, and scales time and memory by the pixels. The data decide the shape.

    resolve: returns the configuration of settings; what the user set is over them.
    """
    settings = [*_choose_networks(), *_size_settings(AREAS[0], 640 / 192)]
    data, measured = _open_and_measure(resolve(settings), console)
    step_s, peak = min(measured.seconds[1:]), max(measured.peak_bytes)
    free = torch.cuda.mem_get_info()[0] if measured.device == "cuda" else psutil.virtual_memory().available + peak
    steps = 60 * minutes * STEP_SHARE / step_s
    area = choose_area(steps, peak, free)
    warmup_steps = min(MAX_WARMUP_STEPS, int(steps * AREAS[0] / area * USUAL_WARMUP))
    warmup = f"schedule.warmup_steps={warmup_steps}"
    chosen = [*settings[:-2], warmup, *_size_settings(area, _find_aspect(data))]
    console.print(f"--preset auto: {' '.join(chosen)}", markup=False, highlight=False, soft_wrap=True)
    return chosen


def choose_area(steps: float, peak_bytes: int, free_bytes: int) -> int:
    """Return the largest of AREAS at which MIN_STEPS fit into the time, and the peak into the memory.

    steps: that fit at the smallest.  peak_bytes: there.
    """
    fits = [
        area
        for area in AREAS
        if steps * AREAS[0] / area >= MIN_STEPS and peak_bytes * area / AREAS[0] <= MAX_MEMORY_SHARE * free_bytes
    ]
    return max(fits, default=AREAS[0])


def _choose_networks() -> list[str]:
    """Return encoder, batch and precision: published weights where they are installed, else small random networks."""
    if torch.cuda.is_available():
        precision = "bf16" if torch.cuda.is_bf16_supported() else "32"
        return ["training.batch_size=12", "training.workers=4", f"training.precision={precision}"]
    small = ["training.batch_size=4", "optimizer.lr=5e-4", "training.clip_norm=1.0"]
    encoder = PACKAGED_ENCODER if find_packaged_file(PACKAGED_ENCODER) else SMALL_ENCODER
    pretrained = "true" if encoder == PACKAGED_ENCODER else "false"
    networks = [
        f"model.encoder={encoder}",
        f"model.pose_encoder={SMALL_POSE_ENCODER}",
        f"model.pretrained={pretrained}",
    ]
    return [*networks, "model.decoder_channels=8,16,24,32,64", "model.translation_scale=0.01", *small]


def _size_settings(area: int, aspect: float) -> list[str]:
    """Return height and width of about this area and this width over height, multiples of STRIDE."""
    height = max(round(math.sqrt(area / aspect) / STRIDE), 1) * STRIDE
    width = max(round(height * aspect / STRIDE), 1) * STRIDE
    return [f"data.height={height}", f"data.width={width}"]


def _find_aspect(data: Any) -> float:
    """Return width over height of the images as they were filmed."""
    recording = data.split.train[0].recording
    whole = recording.recording if isinstance(recording, FrameRange) else recording
    if isinstance(whole, FileVideo):
        height, width = whole.filmed_size
        return width / height
    camera = recording.camera(0)
    return camera.width / camera.height
