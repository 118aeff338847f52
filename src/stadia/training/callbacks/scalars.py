"""Log the scalars of steps and validations."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stadia.losses.loss_report import check_loss
from stadia.losses.output_gradients import OutputGradients
from stadia.training.loggers import Logger
from stadia.training.loop import Callback, TrainingLoop
from stadia.training.optim import UpdateRatio

TERM = "train/term/"
OF_A_STEP = ("loading", "forward", "loss", "backward", "optimizer")
"""Phases with columns of their own; `time/rest_s` is the rest of a step."""


class Scalars(Callback):
    """Log a row every `log_every` steps and one per validation; check each row of a step by `loss_laws`.

    A row holds the values of its step (means over its batches and processes), not averages over the steps between rows:
    so it does not depend on where a training was interrupted. `time/...` are means over the steps since the last row.
    `gradient/...` are of the last batch of the step in the process that logs.
    """

    def __init__(self, loggers: Sequence[Logger], every: int) -> None:
        self.loggers, self.every = loggers, every
        self.sums: dict[str, Tensor] = {}
        self.update_ratio, self.output_gradients = UpdateRatio(), OutputGradients()
        self.marked = (0, 0.0)  # step and time at the last row

    def on_train_start(self, loop: TrainingLoop) -> None:
        self._mark(loop)

    def _is_due(self, loop: TrainingLoop, step: int) -> bool:
        return step % self.every == 0 or step == loop.plan.total_steps

    def on_batch_start(self, loop: TrainingLoop, is_last: bool) -> None:
        if is_last and self._is_due(loop, loop.step + 1):
            self.output_gradients.attach(loop.recipe)

    def on_before_update(self, loop: TrainingLoop) -> None:
        if self._is_due(loop, loop.step + 1):
            self.update_ratio.measure_before(loop.recipe.parameters())

    def on_batch_end(self, loop: TrainingLoop) -> None:
        report = loop.report
        assert report is not None
        values = {"train/loss": report.total} | {f"{TERM}{name}": term for name, term in report.terms.items()}
        for name, value in (values | {f"train/{name}": value for name, value in report.seen.items()}).items():
            value = value.detach().float() / loop.plan.grad_accumulation_steps
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def on_step_end(self, loop: TrainingLoop) -> None:
        sums, self.sums = self.sums, {}
        if not self._is_due(loop, loop.step):
            return
        assert loop.report is not None
        means = torch.stack(list(sums.values()))
        if loop.fabric.world_size > 1:
            means = loop.fabric.all_reduce(means, reduce_op="mean")
        same_everywhere = {"train/gradient_norm": loop.gradient_norm}
        if (ratio := self.update_ratio.measure_after()) is not None:
            same_everywhere["train/update_ratio"] = ratio
        sizes = self.output_gradients.collect(getattr(loop.batch, "source_names", ()))
        of_process = {f"gradient/{name}": loop.plan.grad_accumulation_steps * size for name, size in sizes.items()}
        others = torch.stack([value.float() for value in (same_everywhere | of_process).values()])
        values = torch.cat([means, others]).tolist()  # one transfer from the device
        row = dict(zip((*sums, *same_everywhere, *of_process), values, strict=True)) | {"train/lr": loop.lr}
        if loop.scaler is not None:
            row["train/loss_scale"] = loop.scaler.get_scale()
        self._log(loop, row | self._times(loop))
        terms = {name.removeprefix(TERM): value for name, value in row.items() if name.startswith(TERM)}
        check_loss(loop.step, row["train/loss"], terms, loop.report.least, loop.report.total.dtype)

    def on_validation_end(self, loop: TrainingLoop) -> None:
        self._log(loop, loop.metrics)
        self._mark(loop)

    def _times(self, loop: TrainingLoop) -> dict[str, float]:
        """Return seconds of a step since the last row, and its parts."""
        before, begun_s = self.marked
        parts = loop.clock.lap()
        steps, now_s = max(loop.step - before, 1), time.perf_counter()
        named = {f"time/{name}_s": parts.pop(name, 0.0) / steps for name in OF_A_STEP}
        self.marked = (loop.step, now_s)
        return {"time/step_s": (now_s - begun_s) / steps, **named, "time/rest_s": sum(parts.values()) / steps}

    def _mark(self, loop: TrainingLoop) -> None:
        loop.clock.lap()
        self.marked = (loop.step, time.perf_counter())

    def _log(self, loop: TrainingLoop, row: Mapping[str, float]) -> None:
        if row:
            for logger in self.loggers:
                logger.scalars(loop.step, loop.plan.epoch_of(loop.step), row)
            loop.call("on_row", loop.step, row)
