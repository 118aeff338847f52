"""Stopping without losing a step: on Ctrl-C and SIGTERM, and where a training has had its time."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any, Self

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import lightning.pytorch as pl
from rich.console import Console

from stadia.training.step_callback import StepCallback
from stadia.training.task import Task


class Interrupted(KeyboardInterrupt):
    """The user stopped a training. `str` tells what was kept and how to go on."""


class StopRequest(Exception):
    """Raised between two batches, once the last checkpoint is written."""


class StopNow(BaseException):
    """Raised at the second signal, wherever the training is. No KeyboardInterrupt, on which Lightning ends the process."""


class StopSignals(pl.Callback):
    """While entered, the first SIGINT or SIGTERM is a wish, kept in `wanted`; the second one raises StopNow.

    A Lightning callback too, because Lightning puts its own handler over SIGTERM's when a fit starts; that one would
    stop in the middle of an accumulated step.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.wanted = False
        self._owner = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a loader's forked process: its parent decides
        if self.wanted:
            raise StopNow
        self.wanted = True
        self.console.print("stopping at the end of this step; once more to stop at once")


class TimeLimit(StepCallback):
    """Ends a training after the step at whose end its steps have taken so long, validations left out. The first of
    ours: others ask it.

    over: whether they have, in all processes alike; that step is the last one then.  The time of a run that is resumed
        goes on.

    Args:
        minutes: null = any.
    """

    def __init__(self, minutes: float | None) -> None:
        self.limit_s = None if minutes is None else 60 * minutes
        self.spent_s, self.since_s, self.over = 0.0, 0.0, False

    def state_dict(self) -> dict[str, Any]:
        return {"spent_s": self.spent_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent_s = state_dict["spent_s"]

    def on_train_start(self, trainer: pl.Trainer, task: Task) -> None:
        self.since_s = time.perf_counter()

    def on_step(self, trainer: pl.Trainer, task: Task, batch: Any, step: int) -> None:
        now_s = time.perf_counter()
        self.spent_s, self.since_s = self.spent_s + now_s - self.since_s, now_s
        if self.limit_s is not None:
            over = self.spent_s >= self.limit_s
            self.over = trainer.strategy.reduce_boolean_decision(over, all=False) if trainer.world_size > 1 else over
            trainer.should_stop = self.over

    def on_validation_end(self, trainer: pl.Trainer, task: Task) -> None:
        self.since_s = time.perf_counter()
