"""Train a recipe in a run folder, from the start or resumed: devices, loggers, signals, messages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from rich.console import Console

from stadia.core.errors import StadiaError
from stadia.training import LOGGERS, batches
from stadia.training.batches import (
    BatchLoader,
    BatchStream,
    EpochLoader,
    TrainingPlan,
    ValidationBatches,
    shard_loaders,
)
from stadia.training.callbacks import Checkpoints, Images, ProgressBar, Scalars, Sharding, Validation
from stadia.training.checkpoint import Checkpoint, check_recipe, check_weights, load_weights
from stadia.training.config import TrainingConfig
from stadia.training.histograms import Histograms
from stadia.training.lightning_io import SafetensorsIO, quiet
from stadia.training.loggers import Logger
from stadia.training.phases import Mark, PhaseClock, in_words
from stadia.training.run_folder import Run
from stadia.training.stopping import Interrupted, StopNow, StopRequest, StopSignals
from stadia.training.task import Task

FEW_STEPS = 300
_FEW = (
    "note: {} steps are few, a network takes thousands, and no contract is asked of fewer than "
    f"{FEW_STEPS}; more training.max_steps (or training.max_epochs) train longer"
)
_WARM = (
    "note: {} of {} steps are warm-up, in which the learning rate rises to its value; schedule.warmup_steps={} makes"
    " them fewer"
)
_TIME_OVER = (
    "training.max_minutes={:g} are over: step {} of {} was the last, and the learning rate has not come to its"
    " schedule's end"
)
LONGEST_WARMUP, USUAL_WARMUP = 0.25, 0.05
"""Of a run's steps: above the first it is told, with the second as the fix."""
_PRECISION = {"32": "32-true", "bf16": "bf16-mixed"}


@dataclass(frozen=True)
class Fitted:
    """What a training came to.

    steps: updates made in all.  wall_s: of this call.
    checkpoint: the best, or the last where no validation chose one.
    """

    steps: int
    wall_s: float
    checkpoint: Path


def fit(
    task: Task[Any, Any],
    train_loader: EpochLoader,
    val_loader: BatchLoader | None,
    config: TrainingConfig,
    run: Run,
    *,
    resume: bool = False,
    extra_callbacks: Sequence[pl.Callback] = (),
    console: Console | None = None,
    finish: Callable[[], None] = lambda: None,
) -> Fitted:
    """Train, and keep everything in the run's folder.

    Args:
        task: the recipe; its weights are trained in place.
        train_loader: the batches of an epoch from a position on (see `stream.EpochLoader`).
        val_loader: batches to validate on, or None.
        config: how long, where, how often; the same as in run.config where the run is resumed.
        run: from `Run.create`, or from `Run.open` to resume; who calls this holds it (`Run.held`).
        resume: go on from checkpoints/last, exactly; from the start where nothing was saved yet.
        extra_callbacks: Lightning's, run before ours.
        console: for the progress; standard error by default.
        finish: what else the run is for, its scores for example; the run has not finished before it has, and fails with
            it.

    Raises:
        RunError: the loss or a gradient is not finite; the run is resumed with another configuration.
        CheckpointError: the checkpoint is damaged, or of another recipe or model.
        Interrupted: the user stopped it (Ctrl-C, SIGTERM); the message says how to go on.
    """
    console = (console or Console(stderr=True)) if run.writes else Console(quiet=True)
    started = time.perf_counter()
    signals = StopSignals(console)
    with quiet():
        checkpoint = _prepare_resume(run, task, config) if resume else None
        step = checkpoint.header.step if checkpoint else 0
        with _recorded(run, signals, console):
            with signals, _open_loggers(config, run, step) as loggers:
                trainer = _trainer(config, run)
                shard_loaders((train_loader, val_loader), 0, trainer.world_size)
                task.plan = plan = TrainingPlan.of(train_loader, config)
                clock = PhaseClock(run, plan)
                stream = BatchStream(train_loader, plan, clock.mark)
                val_batches = None if val_loader is None else ValidationBatches(val_loader)
                validation = Validation(plan, config, present=val_batches is not None)
                trainer.callbacks += [
                    clock,
                    validation.limit,
                    signals,
                    Sharding(train_loader, val_loader),
                    *extra_callbacks,
                    validation,
                    Scalars(loggers, plan, clock, config.log_every),
                    Mark(clock, "metrics"),
                    Images(run, loggers, config.images_every, plan),
                    Mark(clock, "images"),
                    Histograms(loggers, config.histograms_every, plan),
                    ProgressBar(console, plan),
                    Mark(clock, "metrics", last=True),
                    Checkpoints(run, task, validation, config.checkpoint_every, lambda: signals.wanted),
                    Mark(clock, "checkpoints"),
                ]
                if step == 0:
                    staged = {"stages": batches.stages_to_json(config.stages, plan.stretches)} if plan.stretches else {}
                    run.note(weights=_weights(task), **staged)
                for line in _at_the_start(task, trainer, config, run, step):
                    console.print(line, soft_wrap=True, highlight=False, markup=False)
                steps = run.facts.get("ended_by_time_at", plan.total_steps) if checkpoint else plan.total_steps
                if step < steps:
                    trainer.fit(task, stream, val_batches, ckpt_path=str(checkpoint.path) if checkpoint else None)
                    for line in _at_the_end(run, plan, config, clock, steps := trainer.global_step):
                        console.print(line, soft_wrap=True, highlight=False, markup=False)
                elif checkpoint is not None:  # it had finished
                    load_weights(checkpoint, task, recipe=task.recipe)
            if run.writes:
                finish()
    best, last = (run.checkpoints / f"{name}.safetensors" for name in ("best", "last"))
    return Fitted(steps, time.perf_counter() - started, best if best.exists() else last)


def _weights(task: Task) -> dict[str, str]:
    """What its networks start from, by name."""
    return {"weights of": task.started_from} if task.started_from else dict(task.weights)


def _trainer(config: TrainingConfig, run: Run) -> pl.Trainer:
    """Lightning's loop, strategies and precision, with what we do ourselves switched off."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    plugins: list[Any] = [SafetensorsIO()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # SIGTERM saves and stops; the job script resumes
    return pl.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        strategy=config.strategy,
        precision=_PRECISION[config.precision],
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.clip_norm,
        max_epochs=1,  # the stream is one long epoch
        check_val_every_n_epoch=None,
        val_check_interval=1,  # `Validation` decides
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # loaders shard themselves
        plugins=plugins,
        default_root_dir=run.folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _prepare_resume(run: Run, task: Task, config: TrainingConfig) -> Checkpoint | None:
    """The checkpoint to go on from, compared with what is about to be trained; None where nothing was saved yet."""
    for group, values in (
        ("training", config),
        ("optimizer", task.optimizer_config),
        ("schedule", task.schedule_config),
    ):
        run.check_config(values, within=group)
    path, checkpoint = run.checkpoints / "last.safetensors", None
    if path.exists():
        checkpoint = Checkpoint.open(path)
        check_recipe(checkpoint, task.recipe)
        check_weights(checkpoint, checkpoint.weights(), task)
    if run.writes:
        for half_written in run.checkpoints.glob(".*"):  # by a process that was killed
            half_written.unlink()
    run.resume()
    return checkpoint


@contextlib.contextmanager
def _open_loggers(config: TrainingConfig, run: Run, step: int) -> Iterator[list[Logger]]:
    """The loggers by name, in the main process."""
    with contextlib.ExitStack() as stack:
        loggers: list[Logger] = []
        for name in config.loggers if run.writes else ():
            loggers.append(LOGGERS.load(name)(run, step))
            stack.callback(loggers[-1].close)
        yield loggers


@contextlib.contextmanager
def _recorded(run: Run, signals: StopSignals, console: Console) -> Iterator[None]:
    """Write into run.json how the run ended; a wish to stop becomes Interrupted."""
    try:
        yield
    except BaseException as error:
        # A loader's process may have died of the same Ctrl-C: an error of ours is worth telling all the same.
        interrupted = isinstance(error, StopRequest | StopNow | KeyboardInterrupt) or (
            signals.wanted and not isinstance(error, StadiaError)
        )
        with contextlib.suppress(StadiaError):  # a full disk must not hide why the training ended
            run.end("interrupted") if interrupted else run.failed(error)
        if not interrupted:
            raise
        message = f"interrupted; go on with: stadia train {run.recipe} --resume {run.folder}"
        console.print(message, soft_wrap=True, highlight=False, markup=False)
        raise Interrupted(message) from None
    run.end("finished")


def _at_the_start(task: Task, trainer: pl.Trainer, config: TrainingConfig, run: Run, step: int) -> Iterator[str]:
    """What is about to train, its stages, and what is odd about its length."""
    assert task.plan is not None
    steps, warmup = task.plan.total_steps, task.schedule_config.warmup_steps
    yield _start_message(task, trainer, config, run, step)
    yield from (
        batches.describe_stages(config.stages, task.plan.stretches, task.optimizer_config.lr)
        if task.plan.stretches
        else ()
    )
    if step == 0 and steps < FEW_STEPS:
        yield _FEW.format(steps)
    if step == 0 and warmup > LONGEST_WARMUP * steps:
        yield _WARM.format(min(warmup, steps), steps, round(USUAL_WARMUP * steps))


def _at_the_end(run: Run, plan: TrainingPlan, config: TrainingConfig, clock: PhaseClock, step: int) -> Iterator[str]:
    """That its time was over before its steps, which run.json keeps; and where the time went."""
    if step < plan.total_steps:
        run.note(ended_by_time_at=step)
        yield _TIME_OVER.format(config.max_minutes, step, plan.total_steps)
    yield from [in_words(clock.found)] if clock.found else ()


def _start_message(task: Task, trainer: pl.Trainer, config: TrainingConfig, run: Run, step: int) -> str:
    """One line: what is trained, from which weights, on what, how long, where to."""
    assert task.plan is not None
    parameters = sum(p.numel() for p in task.parameters() if p.requires_grad)
    device = trainer.strategy.root_device.type
    threads = torch.get_num_threads()
    place = (
        f"{threads} thread{'s' * (threads > 1)}"
        if device == "cpu"
        else torch.cuda.get_device_name()
        if device == "cuda"
        else device
    )
    sizes = batches.batch_sizes(config) or [config.batch_size]
    samples = " to ".join(
        str(size * config.accumulate * trainer.world_size) for size in dict.fromkeys((sizes[0], sizes[-1]))
    )
    if step >= task.plan.total_steps:
        return f"{task.recipe}: all {step} steps are done already, in {run.folder}"
    steps = f"steps {step + 1} to {task.plan.total_steps}" if step else f"{task.plan.total_steps} steps"
    started_from = ", ".join(f"{name.replace('_', ' ')} {weights}" for name, weights in _weights(task).items())
    frozen = sum(p.numel() for p in task.parameters() if not p.requires_grad)
    weights = f"{parameters / 1e6:.1f} M parameters" + f" and {frozen / 1e6:.1f} M frozen" * bool(frozen)
    weights += f" ({started_from})" if started_from and not step else ""
    return f"{task.recipe}: {weights} on {place}, {steps} of {samples} samples, in {run.folder}"
