"""Train a recipe in a run folder, from the start or resumed: devices, loggers, signals, messages."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import stadia.process.torchvision_shim  # noqa: F401

# isort: split
import torch
from lightning.fabric import Fabric
from rich.console import Console

from stadia.core import seeds
from stadia.core.config import diff_mappings, select_relevant_changes
from stadia.core.errors import CheckpointError, ConfigError, RunError, StadiaError
from stadia.files.run_facts import TimeLimitEnd
from stadia.files.run_names import list_lost_files
from stadia.process.cpu_settings import keep_freed_memory, return_freed_memory, return_large_blocks
from stadia.process.signals import OutputClosedError
from stadia.process.terminal import Terminal
from stadia.training import LOGGERS, batches
from stadia.training.batches import BatchIterable, BatchStream, EpochLoader, TrainingPlan, select_device, shard_loaders
from stadia.training.best_checkpoint import compare_with_start, describe_best_checkpoint, note_best_checkpoint
from stadia.training.callbacks import Histograms, Images, ProgressBar, Scalars
from stadia.training.checkpoint import (
    Checkpoint,
    check_recipe,
    check_weights,
    load_weights,
    read_steps,
    repair_header_copies,
)
from stadia.training.config import MAX_STEPS, TrainingConfig
from stadia.training.fit_messages import describe_no_step, describe_time_over, name_weights, start_lines
from stadia.training.loggers import Logger, read_rows
from stadia.training.loop import Callback, StopRequest, TrainingLoop
from stadia.training.phase_clock import PhaseClock, describe_times, find_earlier_times
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import MAX_MINUTES, Run, remove_stale_files_of_run
from stadia.training.sharding import ShardedStrategy
from stadia.training.stop_signals import StopNow, StopSignals

FEW_PROCESSES = 8
"""Processes of a training on the CPU that any machine may start, for tests of distributed trainings."""

_NOT_SAVED = (
    "note: {} has no checkpoint: the run was stopped before its first one (a validation, or training.checkpoint_every),"
    " and starts again at step 0"
)
_PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Interrupted(KeyboardInterrupt):
    """The user stopped a training. `str` is how to go on."""


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    steps: updates made in all.  wall_s: of this call.
    checkpoint: the best, or the last where no validation chose one.
    metrics: of the latest validation, `val/NAME`.
    """

    steps: int
    wall_s: float
    checkpoint: Path
    metrics: dict[str, float]


def fit(
    recipe: AnyRecipe,
    train_loader: EpochLoader,
    val_loader: BatchIterable | None,
    config: TrainingConfig,
    run: Run,
    *,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    console: Console | None = None,
    resumed: Callable[[], None] = lambda: None,
    finish: Callable[[], None] = lambda: None,
    describe_resume: Callable[[Run], str] = lambda run: f"stadia train {run.recipe} --resume {run.folder}",
) -> TrainingResult:
    """Train, and keep everything in the run folder.

    Args:
        recipe: its weights are trained in place.
        train_loader: the batches of an epoch from a position on (see `EpochLoader`).
        val_loader: batches to validate on, or None.
        config: the same as in run.config where the run is resumed; `max_minutes` may be larger, and the run keeps it.
        run: from `Run.create`, or from `Run.open` to resume; the caller holds it (`Run.held`).
        resume: go on from checkpoints/last, exactly; from the start where nothing was saved yet. Configuration,
            checkpoint and logged rows are checked before a file of the run changes.
        callbacks: called before those of `fit`.
        console: for the progress; standard error by default.
        resumed: called in a resumed run when everything is checked, before its first step.
        finish: the last work of the run, its scores for example. The run is finished after it, and fails with it.
        describe_resume: returns how an interrupted run is resumed, for the message.

    Raises:
        RunError: the loss or a gradient is not finite; the run is resumed with another configuration.
        CheckpointError: the checkpoint is damaged, or of another recipe or model.
        Interrupted: it was stopped (Ctrl-C, SIGTERM, a closed terminal or pipe); the message is how to go on.
    """
    console = (console or Terminal(stderr=True)) if run.writes else Terminal(quiet=True)
    started = time.perf_counter()
    signals = StopSignals(console)
    with _quiet_lightning(), contextlib.ExitStack() as recorded:
        if not resume:
            recorded.enter_context(_recorded(run, signals, console, describe_resume))
        checkpoint = _check_resume(run, recipe, config) if resume else None
        step, metrics = checkpoint.header.step if checkpoint else 0, checkpoint.header.metrics if checkpoint else {}
        fabric = make_fabric(config)
        recipe.plan = plan = _make_plan(fabric, train_loader, val_loader, config)
        if checkpoint is not None and step > plan.total_steps:
            fix = "restore the run's own last.safetensors"
            raise CheckpointError(
                checkpoint.path, found=f"step {step}", expected=f"one of {plan.total_steps} steps", fix=fix
            )
        is_longer = resume and run.has_shorter_time_limit(config.max_minutes)
        ended = run.facts.ended_by_time if checkpoint and not is_longer else None
        steps, spent_s = (ended.step, ended.seconds) if ended else (plan.total_steps, None)
        loop = None
        if step < steps:
            loop = _make_loop(fabric, recipe, (train_loader, val_loader), config, run, signals.is_requested)
            if checkpoint is not None:
                loop.restore(checkpoint)
                loop.clock.before = find_earlier_times(run.facts, step)
        elif checkpoint is not None:  # it had finished
            load_weights(checkpoint, recipe, recipe=recipe.recipe)
        if resume:  # everything is checked: files change from here on
            recorded.enter_context(_recorded(run, signals, console, describe_resume))
            _remove_half_written(run)
            run.resume(from_start=checkpoint is None)
            notes = [_NOT_SAVED.format(run.folder)] if checkpoint is None else []
            if is_longer and loop is not None:
                run.set_time_limit(config.max_minutes)
            resumed()
            _print(console, notes)
        with signals, _open_loggers(config, run, step) as loggers:
            if step == 0:
                run.update_facts(
                    lambda facts: replace(
                        facts,
                        weights=name_weights(recipe),
                        start_steps=int(min(recipe.start_steps, MAX_STEPS)),
                        stages=batches.list_stage_facts(config.stages, plan.phases) if plan.phases else (),
                    )
                )
            if is_over := loop is None or loop.time_limit.is_over:
                spent_s = spent_s if loop is None else loop.time_limit.spent_s
                _print(console, [describe_no_step(recipe.recipe, config, run, plan, step, spent_s)])
            else:
                _print(console, start_lines(recipe, fabric, config, run, plan, step))
            if loop is not None:
                images, histograms = Images(run, loggers, config.images_every), config.histograms_every
                logged = Scalars(loggers, config.log_every), images, Histograms(loggers, histograms)
                loop.callbacks = [*callbacks, *logged, ProgressBar(console)]
                _train(loop, recipe)
                steps, metrics = loop.step, loop.metrics
                if steps < plan.total_steps:
                    end = TimeLimitEnd(step=steps, seconds=loop.time_limit.spent_s)
                    run.update_facts(lambda facts: replace(facts, ended_by_time=end))
                    _print(console, [] if is_over else [describe_time_over(config, plan, steps)])
                _print(console, [describe_times(loop.clock.times)] if loop.clock.times else [])
                _print(
                    console, [*compare_with_start(loop), *describe_best_checkpoint(loop, note_best_checkpoint(loop))]
                )
        if run.writes:
            finish()
    best, last = (run.checkpoints / f"{name}.safetensors" for name in ("best", "last"))
    return TrainingResult(steps, time.perf_counter() - started, best if best.exists() else last, metrics)


def _make_loop(
    fabric: Fabric,
    recipe: AnyRecipe,
    loaders: tuple[EpochLoader, BatchIterable | None],
    config: TrainingConfig,
    run: Run,
    stop_requested: Callable[[], bool],
) -> TrainingLoop:
    """Return the training loop at its start, in every process."""
    assert recipe.plan is not None
    keep_freed_memory()
    fabric.launch()
    shard_loaders(loaders, fabric.global_rank, fabric.world_size)
    validation: object = loaders[1]
    if isinstance(validation, batches.StartableLoader):
        with seeds.preserve_generators():
            validation.start()  # before the first step: a fork keeps the memory of the steps
    clock = PhaseClock(run, recipe.plan, config.precision)
    stream = BatchStream(loaders[0], recipe.plan, clock.mark)
    trained = copy.deepcopy(recipe) if config.strategy == "fsdp" else recipe  # sharded weights stay sharded
    return TrainingLoop(fabric, run, trained, stream, loaders[1], config, clock, stop_requested=stop_requested)


def _train(loop: TrainingLoop, recipe: AnyRecipe) -> None:
    """Run the training loop; the recipe has the trained weights then."""
    try:
        loop.train()
    finally:
        recipe.cpu()  # the memory of the device is free for scores
        return_large_blocks()
        return_freed_memory()
    if loop.recipe is not recipe:
        recipe.load_state_dict(loop.recipe.state_dict())
        recipe.load_training_state(loop.recipe.training_state())


def make_fabric(config: TrainingConfig) -> Fabric:
    """Return Lightning Fabric with the devices, processes and precision of a training, not launched yet."""
    check_precision(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    strategy = ShardedStrategy() if config.strategy == "fsdp" else config.strategy
    for key, value, expected in (
        ("training.precision", config.precision, "32, bf16 or fp16"),
        ("training.compile", config.compile, "off, loss, networks, all or graphs"),
    ):
        if value == "auto":
            fix = "train by stadia.recipes.train, which measures them"
            raise ConfigError(key, found="'auto', unresolved", expected=expected, fix=fix)
    precision = _PRECISION[config.precision]
    return Fabric(accelerator=config.accelerator, devices=config.devices, strategy=strategy, precision=precision)


def check_devices(config: TrainingConfig) -> None:
    """Raise ConfigError for an accelerator that is not here, more devices than there are, or an impossible precision.

    Opens no data.
    """
    kind, key = config.accelerator, "training.accelerator"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    is_here = {
        "cuda": gpus > 0,
        "gpu": gpus > 0 or has_mps,
        "mps": has_mps,
        "tpu": importlib.util.find_spec("torch_xla") is not None,
    }
    if not is_here.get(kind, True):
        fix = f"set {key}=auto, or install the driver and a torch for it"
        raise ConfigError(key, found=f"'{kind}', and none is here", expected="a device of this machine", fix=fix)
    place = select_device(kind).type
    most = gpus if place == "cuda" else max(os.cpu_count() or 1, FEW_PROCESSES)
    if config.devices != "auto" and kind not in ("tpu", "mps") and config.devices > most:
        what = "GPUs" if place == "cuda" else "processes on the CPU"
        expected, fix = f"at most {most} {what}", "set training.devices=auto, or a smaller number"
        raise ConfigError("training.devices", found=config.devices, expected=expected, fix=fix)
    check_precision(config)


def check_precision(config: TrainingConfig) -> None:
    """Raise ConfigError for fp16 without a scaler (no CUDA GPU, or sharded), and for auto of several sizes."""
    place = select_device(config.accelerator).type
    for key, value, fix in (
        ("training.precision", config.precision, "set training.precision=bf16 or 32"),
        ("training.compile", config.compile, "set training.compile=all or off"),
    ):
        if value == "auto" and (config.devices != 1 or config.stages):
            found = "auto with training.stages" if config.stages else f"auto with training.devices={config.devices}"
            raise ConfigError(key, found=found, expected="one device and one image size, to measure", fix=fix)
    if config.precision == "fp16" and (place != "cuda" or config.strategy == "fsdp"):
        found = "fp16 with training.strategy=fsdp" if config.strategy == "fsdp" else f"fp16 on {place}"
        expected, fix = "fp16 on a CUDA GPU, with another strategy than fsdp", "set training.precision=bf16 or 32"
        raise ConfigError("training.precision", found=found, expected=expected, fix=fix)


def _make_plan(
    fabric: Fabric, train_loader: EpochLoader, val_loader: BatchIterable | None, config: TrainingConfig
) -> TrainingPlan:
    """Return the length of the training. Raises RunError for data without a batch."""
    if val_loader is not None and len(val_loader) == 0:
        fix = "give it a recording, or train without"
        raise RunError("validation data", found="no batch", expected="at least one", fix=fix)
    shard_loaders((train_loader, val_loader), 0, fabric.world_size)  # the batches of each process are equally many
    return TrainingPlan.from_loader(train_loader, config)


def _check_resume(run: Run, recipe: AnyRecipe, config: TrainingConfig) -> Checkpoint | None:
    """Return the checkpoint to go on from, checked against the recipe; None where nothing was saved yet.

    Also reads the logged rows, so that damaged tables are refused. Changes no file.
    """
    groups = {"training": config, "optimizer": recipe.config.optimizer, "schedule": recipe.config.schedule}
    for group, values in groups.items():
        run.check_config(values, within=group)
    checkpoint = open_last_checkpoint(run, recipe.recipe)
    if checkpoint is not None:
        check_weights(checkpoint, checkpoint.weights(), recipe)
    rows = {table: read_rows(table) for table in (run.metrics_csv, run.histograms_csv) if table.exists()}
    was_logged = "csv" in (run.config.get("training") or {}).get("loggers", ())  # a resume may turn it on
    is_logged = was_logged and checkpoint is not None and checkpoint.header.step >= config.log_every
    if is_logged and rows.get(run.metrics_csv) == []:
        fix = f"restore the file, or train a new run from these weights: start_from={run.folder}"
        raise RunError(run.metrics_csv, found="no row", expected="those up to the checkpoint", fix=fix)
    return checkpoint


def open_last_checkpoint(run: Run, recipe: str) -> Checkpoint | None:
    """Return the checkpoint that a run goes on from; None where nothing was saved yet.

    Raises CheckpointError where it is damaged, cannot be resumed, or is of another recipe or configuration, and
    RunError where the run has lost a file.
    """
    path = run.checkpoints / "last.safetensors"
    lost = (one for one in list_lost_files(run.folder, run.facts, run.config) if one.is_needed)
    if (first := next(lost, None)) is not None:
        fix = f"restore the file, or train a new run from these weights: start_from={run.folder}"
        if not read_steps(run.checkpoints):
            fix = "restore the file, or train a new run"
        found, expected = "an empty file" if first.is_empty else "no such file", f"one: {first.reason}"
        raise RunError(run.folder / first.name, found=found, expected=expected, fix=fix)
    if not path.exists():
        return None
    checkpoint = Checkpoint.open(path)
    checkpoint.check_resumable()
    check_recipe(checkpoint, recipe)
    changes = select_relevant_changes(
        diff_mappings(run.config, checkpoint.header.config), ("data", "start_from", MAX_MINUTES)
    )
    if changes or checkpoint.header.kind != "training":
        found = f"a checkpoint of another run ({'; '.join(map(str, changes))})" if changes else "weights alone"
        fix = "restore the run's own last.safetensors, or start a new run with start_from"
        raise CheckpointError(path, found=found, expected="the training state of this run", fix=fix)
    return checkpoint


def _remove_half_written(run: Run) -> None:
    """Remove what a process that was killed left of its files, and complete the checkpoints that are whole."""
    if run.writes:
        remove_stale_files_of_run(run.folder)
        if run.checkpoints.is_dir():
            repair_header_copies(run.checkpoints)


@contextlib.contextmanager
def _open_loggers(config: TrainingConfig, run: Run, step: int) -> Iterator[list[Logger]]:
    """Open the loggers by name, in the main process."""
    with contextlib.ExitStack() as stack:
        names = config.loggers if run.writes else ()
        yield [stack.enter_context(contextlib.closing(LOGGERS.load(name)(run, step))) for name in names]


@contextlib.contextmanager
def _recorded(
    run: Run, signals: StopSignals, console: Console, describe_resume: Callable[[Run], str]
) -> Iterator[None]:
    """Write into run.json how the run ended; turn a requested stop into Interrupted."""
    try:
        yield
    except BaseException as error:
        # The same Ctrl-C may have ended a process of the loader: only an error of this package is reported then.
        interrupted = isinstance(error, StopRequest | StopNow | KeyboardInterrupt | OutputClosedError) or (
            signals.is_requested() and not isinstance(error, StadiaError)
        )
        with contextlib.suppress(StadiaError):  # a full disk must not hide why the training ended
            run.end("interrupted") if interrupted else run.failed(error)
        if not interrupted:
            raise
        message = f"interrupted; go on with: {describe_resume(run)}"
        _print(console, [message])
        raise Interrupted(message) from None
    run.end("finished")


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence the tips of Lightning. Warnings of other packages pass."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("fabric", "pytorch")]  # whichever was imported last
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for advice in ("GPU available but not used", "LeafSpec.*deprecated"):
            warnings.filterwarnings("ignore", message=f".*{advice}")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _print(console: Console, lines: Iterator[str] | Sequence[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
