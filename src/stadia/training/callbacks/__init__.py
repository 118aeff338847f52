"""What happens beside the steps: scalars, images, histograms, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import cv2
import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim import Optimizer

from stadia.core import random_state
from stadia.core.files import atomic_write
from stadia.losses.loss_report import check_loss
from stadia.losses.output_gradients import OutputGradients
from stadia.training.batches import TrainingPlan, shard_loaders
from stadia.training.callbacks.images import compose_image_sheet
from stadia.training.checkpoint import CheckpointHeader
from stadia.training.config import TrainingConfig
from stadia.training.loggers import Logger
from stadia.training.phases import PhaseClock
from stadia.training.run_folder import Run
from stadia.training.step_callback import StepCallback as StepCallback
from stadia.training.stopping import StopRequest, TimeLimit
from stadia.training.task import Task
from stadia.training.update_ratio import UpdateRatio

TERM = "train/term/"
OF_A_STEP = ("loading", "forward", "loss", "backward", "optimizer")
"""Phases that have columns of their own; what else a step is made of is `time/rest_s`."""


class Sharding(pl.Callback):
    """Tells the loaders which process they load for, once Lightning has started them all."""

    def __init__(self, *loaders: object) -> None:
        self.loaders = loaders

    def setup(self, trainer: pl.Trainer, task: Task, stage: str) -> None:
        shard_loaders(self.loaders, trainer.global_rank, trainer.world_size)


class Validation(StepCallback):
    """Decides when to validate: every so many steps, and at the last. Before the others, since they ask whether it is
    due.

    By default once an epoch; where data sets train one after another whenever one of them has been gone through, so
    that what it was worth before the next one trains is known, and in stages after each epoch of each and at its end.

    limit: a callback too, before this one, which says whether the time is over.

    Validation leaves the random numbers alone, so that how often one validates changes nothing in the training.
    """

    def __init__(self, plan: TrainingPlan, config: TrainingConfig, present: bool) -> None:
        self.every = config.validate_every or max(round(plan.steps_per_epoch), 1)
        self.validates_by_pass = config.validate_every is None and plan.validates_by_pass
        self.plan, self.present, self.limit = plan, present, TimeLimit(config.max_minutes)
        self.generators: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, task: Task) -> None:
        trainer.val_check_batch = self.every * self.plan.accumulate  # Lightning validates after each multiple of this

    def due(self, step: int) -> bool:
        its_turn = self.plan.is_pass_end(step) if self.validates_by_pass else step % self.every == 0
        return self.present and (its_turn or self.ends(step))

    def ends(self, step: int) -> bool:
        """Whether the training ends with it, since it has had all its steps, or its time."""
        return step == self.plan.total_steps or self.limit.over

    def on_batch(self, trainer: pl.Trainer, task: Task) -> None:
        if self.validates_by_pass:
            trainer.val_check_batch = self.plan.total_batches + 1  # not now, unless `on_step` says so

    def on_step(self, trainer: pl.Trainer, task: Task, batch: Any, step: int) -> None:
        due = self.due(step)
        if due:
            self.generators = random_state.capture_generators()
        if self.ends(step) or (due and self.validates_by_pass):
            trainer.val_check_batch = 1

    def on_validation_end(self, trainer: pl.Trainer, task: Task) -> None:
        random_state.restore_generators(self.generators)


class Scalars(StepCallback):
    """Logs a row every `log_every` steps, and one a validation; asks of each step's row what holds of every loss
    (`loss_laws`).

    A row holds the step's own values (means over its batches and processes), not averages over the steps between: so it
    does not depend on where a training was interrupted. `time/...` are means over the steps since the last row,
    `gradient/...` are of the step's last batch in the process that logs.

    clock: measures the parts of `time/step_s`, which is of the processor's clock, by that of the device.
    """

    def __init__(self, loggers: list[Logger], plan: TrainingPlan, clock: PhaseClock, every: int) -> None:
        self.loggers, self.plan, self.clock, self.every = loggers, plan, clock, every
        self.sums: dict[str, Tensor] = {}
        self.update, self.quantities = UpdateRatio(), OutputGradients()
        self.marked = (0, 0.0)  # step and time at the last row

    def on_train_start(self, trainer: pl.Trainer, task: Task) -> None:
        self._mark(trainer.global_step)

    def on_batch(self, trainer: pl.Trainer, task: Task) -> None:
        assert task.report is not None
        values = {
            "train/loss": task.report.total,
            **{f"{TERM}{name}": term for name, term in task.report.terms.items()},
        }
        for name, value in (values | {f"train/{name}": value for name, value in task.report.seen.items()}).items():
            value = value.detach().float() / self.plan.accumulate
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def due(self, step: int) -> bool:
        return step % self.every == 0 or step == self.plan.total_steps

    def on_train_batch_start(self, trainer: pl.Trainer, task: Task, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % self.plan.accumulate == 0 and self.due(trainer.global_step + 1):
            self.quantities.watch(task)

    def on_before_optimizer_step(self, trainer: pl.Trainer, task: Task, optimizer: Optimizer) -> None:
        if self.due(trainer.global_step + 1):
            self.update.before(task.parameters())

    def on_step(self, trainer: pl.Trainer, task: Task, batch: Any, step: int) -> None:
        sums, self.sums = self.sums, {}
        if not self.due(step):
            return
        means = torch.stack(list(sums.values()))
        if trainer.world_size > 1:
            means = trainer.strategy.reduce(means, reduce_op="mean")
        ratio = self.update.after()
        alike = {"train/gradient_norm": task.gradient_norm} | (
            {} if ratio is None else {"train/update_ratio": ratio}
        )  # in every process
        sizes = self.quantities.sizes(getattr(batch, "source_names", ()))
        mine = {f"gradient/{name}": self.plan.accumulate * size for name, size in sizes.items()}
        values = torch.cat(
            [means, torch.stack([value.float() for value in (alike | mine).values()])]
        ).tolist()  # one transfer
        row = dict(zip((*sums, *alike, *mine), values, strict=True)) | {"train/lr": task.lr}
        self._log(trainer, task, step, row | self._times(step))
        assert task.report is not None
        terms = {name.removeprefix(TERM): value for name, value in row.items() if name.startswith(TERM)}
        check_loss(step, row["train/loss"], terms, task.report.least, task.report.total.dtype)

    def on_validation_end(self, trainer: pl.Trainer, task: Task) -> None:
        self._log(trainer, task, trainer.global_step, task.validated)
        self._mark(trainer.global_step)

    def _times(self, step: int) -> dict[str, float]:
        """Seconds of a step since the last row, and the parts that they are made of."""
        before, begun_s = self.marked
        parts = self.clock.lap()
        steps, now_s = max(step - before, 1), time.perf_counter()
        named = {f"time/{name}_s": parts.pop(name, 0.0) / steps for name in OF_A_STEP}
        self.marked = (step, now_s)
        return {"time/step_s": (now_s - begun_s) / steps, **named, "time/rest_s": sum(parts.values()) / steps}

    def _mark(self, step: int) -> None:
        self.clock.lap()
        self.marked = (step, time.perf_counter())

    def _log(self, trainer: pl.Trainer, task: Task, step: int, row: dict[str, float]) -> None:
        for logger in self.loggers if row else ():
            logger.scalars(step, self.plan.epoch_of(step), row)
        for callback in trainer.callbacks if row else ():
            if isinstance(callback, StepCallback):
                callback.on_row(trainer, task, step, row)


class Images(StepCallback):
    """Writes images/step-000100.png every so many steps, at the first and at the last: what the recipe's `images`
    gives.

    And images/NAME/step-000100.png of each validation: its `validation_images`.
    """

    def __init__(self, run: Run, loggers: list[Logger], every: int, plan: TrainingPlan) -> None:
        self.run, self.loggers, self.every, self.last = run, loggers, every, plan.total_steps

    def on_step(self, trainer: pl.Trainer, task: Task, batch: Any, step: int) -> None:
        if not self.every or (step % self.every and step not in (1, self.last)) or not trainer.is_global_zero:
            return
        assert task.report is not None
        with torch.no_grad(), random_state.preserve_generators():
            images = task.images(batch, task.report)
        if not images:
            return
        self._write(self.run.images, step, "images", compose_image_sheet(images))

    def on_validation_end(self, trainer: pl.Trainer, task: Task) -> None:
        if self.every and trainer.is_global_zero:
            for name, image in task.validation_images().items():
                self._write(self.run.images / name, trainer.global_step, name, image)

    def _write(self, folder: Path, step: int, name: str, image: NDArray[np.uint8]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _, png = cv2.imencode(".png", image[..., ::-1])
        with atomic_write(folder / f"step-{step:06d}.png") as temporary:
            temporary.write_bytes(png.tobytes())
        for logger in self.loggers:
            logger.image(step, name, image)


class Checkpoints(StepCallback):
    """Keeps `last` (everything, to resume from) and `best` (the weights alone, of the best validation).

    Every checkpoint belongs to the moment after a step and after the validation that was due at it.
    """

    def __init__(
        self, run: Run, task: Task, validation: Validation, every: int, stop_wanted: Callable[[], bool]
    ) -> None:
        self.run, self.validation, self.every, self.stop_wanted = run, validation, every, stop_wanted
        self.recipe, self.plan = task.recipe, validation.plan
        self.best: float | None = None
        self.metrics: dict[str, float] = {}  # of the latest validation
        self.generators: dict[str, Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.metrics = state_dict["best"], state_dict["metrics"]

    def on_save_checkpoint(self, trainer: pl.Trainer, task: Task, checkpoint: dict[str, Any]) -> None:
        checkpoint["random"] = {
            name: _gathered(state, trainer) for name, state in random_state.capture_generators().items()
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, task: Task, checkpoint: dict[str, Any]) -> None:
        self.generators = {name: states[trainer.global_rank] for name, states in checkpoint["random"].items()}

    def on_train_start(self, trainer: pl.Trainer, task: Task) -> None:
        if self.generators is None:
            random_state.seed_generators(self.run.seed, "training", trainer.global_rank)
        else:
            random_state.restore_generators(self.generators)  # as late as can be: setting up draws random numbers too

    def on_step(self, trainer: pl.Trainer, task: Task, batch: Any, step: int) -> None:
        if self.validation.due(step):
            return  # and goes on in on_validation_end
        wanted = self._stop_wanted(trainer)
        if wanted or step % self.every == 0 or self.validation.ends(step):
            self.save_last(trainer)
        if wanted:
            raise StopRequest

    def on_validation_end(self, trainer: pl.Trainer, task: Task) -> None:
        self.metrics = {name: value for name, value in task.validated.items() if math.isfinite(value)}
        chosen = next((self.metrics[name] for name in task.best_metrics if name in self.metrics), None)
        if chosen is not None and (self.best is None or chosen < self.best):
            self.best = chosen
            self._save(trainer, "best", "weights")
        self.save_last(trainer)
        if self._stop_wanted(trainer):
            raise StopRequest

    def save_last(self, trainer: pl.Trainer) -> None:
        self._save(trainer, "last", "training")

    def _save(self, trainer: pl.Trainer, name: str, kind: Any) -> None:
        step = trainer.global_step
        header = CheckpointHeader(
            recipe=self.recipe,
            config=self.run.config,
            kind=kind,
            step=step,
            epoch=self.plan.epoch_of(step),
            metrics=self.metrics,
        )
        path = self.run.checkpoints / f"{name}.safetensors"
        trainer.save_checkpoint(path, weights_only=kind == "weights", storage_options=header)

    def _stop_wanted(self, trainer: pl.Trainer) -> bool:
        wanted = self.stop_wanted()
        return trainer.strategy.reduce_boolean_decision(wanted, all=False) if trainer.world_size > 1 else wanted


def _gathered(state: Tensor, trainer: pl.Trainer) -> Tensor:
    """(world_size, ...) the state of every process, in the order of their ranks."""
    if trainer.world_size == 1:
        return state[None]
    mine = state.to(trainer.strategy.root_device)
    every = [torch.empty_like(mine) for _ in range(trainer.world_size)]
    torch.distributed.all_gather(every, mine)
    return torch.stack(every).cpu()


class ProgressBar(StepCallback):
    """Loss, steps a second and the time left; a line now and then where the output is no terminal."""

    def __init__(self, console: Console, plan: TrainingPlan) -> None:
        self.console, self.plan = console, plan
        self.pause_s = 1.0 if console.is_terminal else 30.0  # between two looks at the loss: each waits for the device
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("{task.fields[rate]:.2f} steps/s"), TimeElapsedColumn(), TextColumn("<"), TimeRemainingColumn(),
        )  # fmt: skip
        self.bar = Progress(*columns, console=console, transient=False)
        self.started, self.first_step, self.told = 0.0, 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, task: Task) -> None:
        self.started = self.told = time.perf_counter()
        self.first_step = trainer.global_step
        self.bar_task = self.bar.add_task(
            "training", total=self.plan.total_steps, completed=self.first_step, loss=math.nan, rate=0.0
        )
        if self.console.is_terminal:
            self.bar.start()

    def on_step(self, trainer: pl.Trainer, task: Task, batch: Any, step: int) -> None:
        assert task.report is not None
        now = time.perf_counter()
        rate = (step - self.first_step) / (now - self.started)
        shown = self.console.is_terminal
        if shown:
            self.bar.update(self.bar_task, completed=step, rate=rate)
        ends = step == self.plan.total_steps
        if now - self.told < self.pause_s and not ends and not (shown and step == self.first_step + 1):
            return
        self.told, loss = now, task.report.total.item()
        if shown:
            self.bar.update(self.bar_task, loss=loss)
        else:
            left = (
                _minutes(now - self.started) + " in all"
                if ends
                else _minutes((self.plan.total_steps - step) / rate) + " left"
            )
            self.console.print(
                f"step {step}/{self.plan.total_steps}  loss {loss:.4f}  {rate:.2f} steps/s  {left}", highlight=False
            )

    def on_validation_start(self, trainer: pl.Trainer, task: Task) -> None:
        self.bar.update(self.bar_task, description="validating")

    def on_validation_end(self, trainer: pl.Trainer, task: Task) -> None:
        self.bar.update(self.bar_task, description="training")

    def teardown(self, trainer: pl.Trainer, task: Task, stage: str) -> None:
        if self.console.is_terminal:
            self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, task: Task, exception: BaseException) -> None:
        self.teardown(trainer, task, "fit")


def _minutes(seconds: float) -> str:
    """`48 s`, and minutes from two on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
