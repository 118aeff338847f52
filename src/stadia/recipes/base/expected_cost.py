"""Expected time, memory and disk of a training, from its first steps; and steps for given minutes."""

from __future__ import annotations

import statistics
import time
from datetime import datetime, timedelta

import torch
from rich.console import Console

from stadia.core.errors import ConfigError
from stadia.recipes import RECIPES
from stadia.recipes.base.config import RecipeConfig
from stadia.recipes.base.dry_run import PROBE_INTERVAL_S, PeakMemory, measure_steps
from stadia.recipes.base.progressive_resizing import prepare_data
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
        batches = len(loop.val_batches) if hasattr(loop.val_batches, "__len__") else 0
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
            f"expected: {left} more steps of {step_s:.2g} s and {validations} validations,"
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
    recipe_class = RECIPES.load(config.recipe)
    prepared, data = prepare_data(recipe_class, config, console)
    measured = measure_steps(recipe_class, prepared, data)
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
