"""Show loss, steps per second and the time left."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stadia.training.loop import Callback, TrainingLoop


class ProgressBar(Callback):
    """A bar in a terminal, else a line every half minute."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.pause_s = (
            1.0 if console.is_terminal else 30.0
        )  # between two readings of the loss: each waits for the device
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("{task.fields[rate]:.2f} steps/s"),
            TimeElapsedColumn(),
            TextColumn("<"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=console, transient=False)
        self.started_s, self.first_step, self.shown_s = 0.0, 0, 0.0

    def on_train_start(self, loop: TrainingLoop) -> None:
        self.started_s = self.shown_s = time.perf_counter()
        self.first_step = loop.step
        self.task = self.bar.add_task(
            "training", total=loop.plan.total_steps, completed=loop.step, loss=math.nan, rate=0.0
        )
        if self.console.is_terminal:
            self.bar.start()

    def on_step_end(self, loop: TrainingLoop) -> None:
        assert loop.report is not None
        now_s, step, total = time.perf_counter(), loop.step, loop.plan.total_steps
        rate = (step - self.first_step) / (now_s - self.started_s)
        is_bar = self.console.is_terminal
        if is_bar:
            self.bar.update(self.task, completed=step, rate=rate)
        if now_s - self.shown_s < self.pause_s and step != total and not (is_bar and step == self.first_step + 1):
            return
        self.shown_s, loss = now_s, loop.report.total.item()
        if is_bar:
            self.bar.update(self.task, loss=loss)
            return
        spent = now_s - self.started_s
        left = f"{_minutes(spent)} in all" if step == total else f"{_minutes((total - step) / rate)} left"
        line = f"step {step}/{total}  loss {loss:.4f}  {rate:.2f} steps/s  {left}"
        self.console.print(line, highlight=False)

    def on_validation_start(self, loop: TrainingLoop) -> None:
        self.bar.update(self.task, description="validating")

    def on_validation_end(self, loop: TrainingLoop) -> None:
        self.bar.update(self.task, description="training")

    def on_train_end(self, loop: TrainingLoop) -> None:
        if self.console.is_terminal:
            self.bar.stop()


def _minutes(seconds: float) -> str:
    """Return `48 s`, and minutes from two on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
