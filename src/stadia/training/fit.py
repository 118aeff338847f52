"""Train a recipe in a run folder, from the start or resumed: devices, loggers, signals, messages."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import torch
from lightning.fabric import Fabric
from rich.console import Console

from stadia.core import seeds
from stadia.core.config import diff_mappings, select_relevant_changes
from stadia.core.errors import CheckpointError, ConfigError, RunError, StadiaError
from stadia.core.files import remove_stale_files
from stadia.core.freed_memory import keep_freed_memory, return_freed_memory, return_large_blocks
from stadia.core.terminal import Terminal
from stadia.training import LOGGERS, batches
from stadia.training.batches import BatchIterable, BatchStream, EpochLoader, TrainingPlan, select_device, shard_loaders
from stadia.training.best_checkpoint import compare_with_start, note_best_checkpoint
from stadia.training.callbacks import Histograms, Images, ProgressBar, Scalars
from stadia.training.checkpoint import Checkpoint, check_recipe, check_weights, load_weights, repair_header_copies
from stadia.training.config import MAX_STEPS, TrainingConfig
from stadia.training.loggers import Logger, read_rows
from stadia.training.loop import Callback, StopRequest, TrainingLoop
from stadia.training.phase_clock import PhaseClock, describe_times, find_earlier_times
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import START_STEPS, Run
from stadia.training.sharding import ShardedStrategy

FEW_PROCESSES = 8
"""Processes of a training on the CPU that any machine may start, for tests of distributed trainings."""

FEW_STEPS = 300
_CHECKS = f"the loss checks run from {FEW_STEPS} steps on. Fix: "
_DRY_RUN = "run the loss checks alone with --dry-run (in Python recipes.dry_run)"
_FEW = (
    "note: {} steps are few: a network needs thousands, and "
    f"{_CHECKS}train longer (training.max_steps, or --minutes), or {_DRY_RUN}"
)
_FEW_MORE = f"note: {{}} steps, after {{}} of the weights that it starts from: {_CHECKS}{_DRY_RUN}"
_NOT_SAVED = (
    "note: {} has no checkpoint: the run was stopped before its first one (a validation, or training.checkpoint_every),"
    " and starts again at step 0"
)
_WARM = (
    "note: {} of {} steps are warm-up, in which the learning rate rises to its value. Fix: set schedule.warmup_steps={}"
)
_TIME_OVER = (
    "training.max_minutes={:g} are over: step {} of {} was the last; the learning rate followed the time to the end of"
    " its schedule"
)
_TIME_WAS_OVER = "training.max_minutes={:g} were over at step {} of {}"
LONGEST_WARMUP, USUAL_WARMUP = 0.25, 0.05
"""Of a run's steps: a longer warm-up than the first prints a note, which proposes the second."""

_PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Interrupted(KeyboardInterrupt):
    """The user stopped a training. `str` is how to go on."""


class StopNow(BaseException):
    """Raised at the second signal, wherever the training is."""


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
        config: the same as in run.config where the run is resumed.
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
        Interrupted: the user stopped it (Ctrl-C, SIGTERM); the message is how to go on.
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
        steps = run.facts.get("ended_by_time_at", plan.total_steps) if checkpoint else plan.total_steps
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
            run.resume()
            resumed()
            _print(console, [] if checkpoint is not None else [_NOT_SAVED.format(run.folder)])
        with signals, _open_loggers(config, run, step) as loggers:
            if step == 0:
                staged = {"stages": batches.stages_to_json(config.stages, plan.phases)} if plan.phases else {}
                before = {START_STEPS: int(min(recipe.start_steps, MAX_STEPS))} if recipe.start_steps > 0 else {}
                run.note(weights=_weights(recipe), **before, **staged)
            is_over = loop is None or loop.time_limit.is_over
            _print(console, _start_lines(recipe, fabric, config, run, plan, step, is_over=is_over))
            if loop is not None:
                images, histograms = Images(run, loggers, config.images_every), config.histograms_every
                logged = Scalars(loggers, config.log_every), images, Histograms(loggers, histograms)
                loop.callbacks = [*callbacks, *logged, ProgressBar(console)]
                _train(loop, recipe)
                steps, metrics = loop.step, loop.metrics
                _print(console, _end_lines(run, plan, config, loop.clock, steps))
                _print(console, [*compare_with_start(loop), *note_best_checkpoint(loop)])
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


class StopSignals:
    """While entered, the first SIGINT or SIGTERM requests a stop; the second raises StopNow."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._requested = False
        self._owner = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            self._before = {one: signal.signal(one, self._handle) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def is_requested(self) -> bool:
        """Return whether this process received a signal."""
        return self._requested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a forked process of a loader: its parent decides
        if self._requested:
            raise StopNow
        self._requested = True
        self.console.print("stopping at the end of this step; once more to stop at once")


def _weights(recipe: AnyRecipe) -> dict[str, str]:
    """Return what its networks start from, by name."""
    return {"weights of": recipe.started_from} if recipe.started_from else dict(recipe.weights)


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
    for table in (run.metrics_csv, run.histograms_csv):
        if table.exists():
            read_rows(table)
    return checkpoint


def open_last_checkpoint(run: Run, recipe: str) -> Checkpoint | None:
    """Return the checkpoint that a run goes on from; None where nothing was saved yet.

    Raises CheckpointError where it is damaged, cannot be resumed, or is of another recipe or configuration.
    """
    path = run.checkpoints / "last.safetensors"
    if not path.exists():
        return None
    checkpoint = Checkpoint.open(path)
    checkpoint.check_resumable()
    check_recipe(checkpoint, recipe)
    changes = select_relevant_changes(diff_mappings(run.config, checkpoint.header.config), ("data", "start_from"))
    if changes or checkpoint.header.kind != "training":
        found = f"a checkpoint of another run ({'; '.join(map(str, changes))})" if changes else "weights alone"
        fix = "restore the run's own last.safetensors, or start a new run with start_from"
        raise CheckpointError(path, found=found, expected="the training state of this run", fix=fix)
    return checkpoint


def _remove_half_written(run: Run) -> None:
    """Remove what a process that was killed left of a checkpoint, and complete the checkpoints that are whole."""
    if run.writes and run.checkpoints.is_dir():
        remove_stale_files(run.checkpoints)
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
        interrupted = isinstance(error, StopRequest | StopNow | KeyboardInterrupt) or (
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


def _start_lines(
    recipe: AnyRecipe, fabric: Fabric, config: TrainingConfig, run: Run, plan: TrainingPlan, step: int, *, is_over: bool
) -> Iterator[str]:
    """Yield what is trained, from which weights, on what, how long, where to; its stages; and notes on its length.

    is_over: no step is left, or no time for one.
    """
    steps, warmup = plan.total_steps, recipe.config.schedule.warmup_steps
    if is_over:
        done = f"all {step} steps are done" if step >= steps else _TIME_WAS_OVER.format(config.max_minutes, step, steps)
        more = f"a new training goes on from its weights: start_from={run.folder}"
        yield f"{recipe.recipe}: {done} already, in {run.folder}; {more}"
    else:
        parts = _describe_weights(recipe, step), _describe_place(fabric), _describe_length(fabric, config, plan, step)
        yield "{} on {}, {}".format(*parts) + f", in {run.folder}"
    yield from (batches.describe_stages(config.stages, plan.phases, recipe.config.optimizer.lr) if plan.phases else ())
    if step == 0 and steps < FEW_STEPS:
        is_few = steps + recipe.start_steps < FEW_STEPS
        before = f"{recipe.start_steps:.0f}" if math.isfinite(recipe.start_steps) else "those"
        yield _FEW.format(steps) if is_few else _FEW_MORE.format(steps, before)
    if step == 0 and warmup > LONGEST_WARMUP * steps:
        yield _WARM.format(min(warmup, steps), steps, round(USUAL_WARMUP * steps))


def _describe_weights(recipe: AnyRecipe, step: int) -> str:
    trained, frozen = (sum(p.numel() for p in recipe.parameters() if p.requires_grad is one) for one in (True, False))
    line = f"{recipe.recipe}: {trained / 1e6:.1f} M parameters" + f" and {frozen / 1e6:.1f} M frozen" * bool(frozen)
    starts = ", ".join(f"{name.replace('_', ' ')} {weights}" for name, weights in _weights(recipe).items())
    return line + (f" ({starts})" if starts and not step else "")


def _describe_place(fabric: Fabric) -> str:
    device, threads = fabric.device.type, torch.get_num_threads()
    if device == "cpu":
        return f"{threads} thread{'s' * (threads > 1)}"
    return torch.cuda.get_device_name() if device == "cuda" else device


def _describe_length(fabric: Fabric, config: TrainingConfig, plan: TrainingPlan, step: int) -> str:
    sizes = batches.batch_sizes(config) or [config.batch_size]
    of_step = config.grad_accumulation_steps * fabric.world_size
    samples = " to ".join(str(size * of_step) for size in dict.fromkeys((sizes[0], sizes[-1])))
    last = f"at most {plan.total_steps}" if config.max_minutes is not None else str(plan.total_steps)
    steps = f"steps {step + 1} to {last}" if step else f"{last} steps"
    return f"{steps} of {samples} samples"


def _end_lines(run: Run, plan: TrainingPlan, config: TrainingConfig, clock: PhaseClock, step: int) -> Iterator[str]:
    """Yield that the time was over before the steps, which run.json keeps; and where the time went."""
    if step < plan.total_steps:
        run.note(ended_by_time_at=step)
        yield _TIME_OVER.format(config.max_minutes, step, plan.total_steps)
    yield from [describe_times(clock.found)] if clock.found else ()
