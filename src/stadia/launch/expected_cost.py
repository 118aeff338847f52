"""Print the expected time, memory and disk of a training after its first steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sized
from datetime import datetime, timedelta

import torch
from rich.console import Console

from stadia.launch.step_measurement import PROBE_INTERVAL_S
from stadia.process.memory import PeakMemory, unshared_child_bytes
from stadia.training.batches import batch_sizes
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

REPORT_S = 5.0
"""Verdict, report and the start of the scores at the end: 4 to 11 s in trainings of 12 to 50 s on busy cores."""


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
        disk = STATE_COPIES * sum(weight.numel() * weight.element_size() for weight in loop.recipe.parameters())
        until = datetime.now() + timedelta(seconds=total_s)
        line = (
            f"expected: {left} more steps of {left_s / max(left, 1):.2g} s and {validations}"
            f" validation{'s' * (validations != 1)},"
            f" {describe_time(total_s)} in all (until {until:%H:%M});"
            f" memory {peak / 1e9:.1f} GB{' of the GPU' * on_gpu};"
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
    return [count / pixels[0] for count in pixels] or [1.0]


def count_steps_left(loop: TrainingLoop, step_s: float) -> tuple[int, float]:
    """Return how many steps are still to come, and their seconds; the time limit of the training ends them.

    step_s: time of a step of the first stage.
    """
    limit_s = loop.time_limit.left_s
    phases = [phase.steps for phase in loop.plan.phases] or [loop.plan.total_steps]
    done = loop.step
    left = 0
    left_s = 0.0
    for steps, cost in zip(phases, relative_phase_costs(loop), strict=True):
        passed = min(done, steps)
        fitting = int(min(steps - passed, max(limit_s - left_s, 0.0) / (cost * step_s)))
        left += fitting
        left_s += fitting * cost * step_s
        done -= passed
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
