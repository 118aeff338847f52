"""`StepCallback`: what acts at the end of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import lightning.pytorch as pl

from stadia.training.task import Task


class StepCallback(pl.Callback):
    """A callback that acts when a step is done: after every `accumulate`-th batch."""

    def on_train_batch_end(self, trainer: pl.Trainer, task: Task, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.on_batch(trainer, task)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.on_step(trainer, task, batch, trainer.global_step)

    def on_batch(self, trainer: pl.Trainer, task: Task) -> None:
        """After every batch."""

    def on_step(self, trainer: pl.Trainer, task: Task, batch: Any, step: int) -> None:
        """After update number `step`, from 1."""

    def on_row(self, trainer: pl.Trainer, task: Task, step: int, row: Mapping[str, float]) -> None:
        """After the scalars of a step, or of a validation, were logged: in every process, means over all."""
