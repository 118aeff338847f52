"""Stopping on Ctrl-C and SIGTERM without losing a step."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import lightning.pytorch as pl
from rich.console import Console


class Interrupted(KeyboardInterrupt):
    """The user stopped a training. `str` tells what was kept and how to go on."""


class StopRequest(Exception):
    """Raised between two batches, once the last checkpoint is written."""


class StopNow(BaseException):
    """Raised at the second signal, wherever the training is. No KeyboardInterrupt, on which Lightning ends the process."""


class StopSignals(pl.Callback):
    """While entered, the first SIGINT or SIGTERM is a wish, kept in `wanted`; the second one raises StopNow.

    A Lightning callback too, because Lightning puts its own handler over SIGTERM's when a fit starts; that one would stop in
    the middle of an accumulated step.
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
