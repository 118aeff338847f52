"""Train a recipe in a run folder, from the start or resumed: prepare, run, report."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import stadia.process.torchvision_shim  # noqa: F401

# isort: split
from lightning.fabric import Fabric
from rich.console import Console

from stadia.core import seeds
from stadia.core.config import diff_mappings, select_relevant_changes
from stadia.core.errors import CheckpointError, RunError, StadiaError
from stadia.files.run_facts import TimeLimitEnd, list_lost_files
from stadia.process.cpu_settings import keep_freed_memory, return_freed_memory, return_large_blocks
from stadia.process.signals import OutputClosedError
from stadia.process.terminal import StopNow, StopSignals, Terminal
from stadia.training import LOGGERS, fit_messages
from stadia.training.batches import (
    BatchIterable,
    BatchStream,
    EpochLoader,
    StartableLoader,
    TrainingPlan,
    list_stage_facts,
    shard_loaders,
)
from stadia.training.callbacks import Histograms, Images, ProgressBar, Scalars
from stadia.training.checkpoint import (
    Checkpoint,
    check_recipe,
    check_weights,
    load_weights,
    read_steps,
    write_header_copy,
)
from stadia.training.config import MAX_STEPS, TrainingConfig
from stadia.training.devices import make_fabric, quiet_lightning
from stadia.training.loggers import Logger, read_rows
from stadia.training.loop import Callback, StopRequest, TrainingLoop
from stadia.training.phase_clock import PhaseClock, describe_times
from stadia.training.processes import start_attempt
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import MAX_MINUTES, Run, remove_stale_files_of_run
from stadia.training.training_state import CommandEnd


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
    end: CommandEnd | None = None,
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
        end: of the command that trains, by the clock; without it the time of the steps counts (`max_minutes`).

    Raises:
        RunError: the loss or a gradient is not finite; the run is resumed with another configuration.
        CheckpointError: the checkpoint is damaged, or of another recipe or model.
        Interrupted: it was stopped (Ctrl-C, SIGTERM, a closed terminal or pipe); the message is how to go on.
    """
    started_s = time.perf_counter()
    console = (console or Terminal(stderr=True)) if run.writes else Terminal(quiet=True)
    signals = StopSignals(console)
    is_checked = not resume  # a resume that is refused changes no file
    try:
        with quiet_lightning():
            training = _prepare(recipe, train_loader, val_loader, config, run, resume=resume, signals=signals, end=end)
            if resume:
                is_checked = True
                _begin_resume(training, console)
                resumed()
            with signals:
                _run(training, callbacks, console)
                _report(training, console)
            if run.writes:
                finish()
    except BaseException as error:
        if is_checked and _record_stop(run, error, signals):
            message = "interrupted"
            if run.writes:  # other processes have no folder
                message += f"; go on with: {describe_resume(run)}"
            _print(console, [message])
            raise Interrupted(message) from None
        raise
    run.end("finished")
    best, last = run.checkpoints / "best.safetensors", run.checkpoints / "last.safetensors"
    wall_s = time.perf_counter() - started_s
    return TrainingResult(training.steps, wall_s, best if best.exists() else last, training.metrics)


@dataclass
class _Training:
    """A training that is prepared.

    checkpoint: that it goes on from.
    loop: None for a training that had finished.
    has_more_time: whether a resume raised the time limit.
    spent_s: of all steps of a training that its time limit had ended.
    """

    recipe: AnyRecipe
    config: TrainingConfig
    run: Run
    plan: TrainingPlan
    fabric: Fabric
    checkpoint: Checkpoint | None
    loop: TrainingLoop | None
    has_more_time: bool
    spent_s: float | None

    @property
    def first_step(self) -> int:
        """Return the updates made before."""
        return self.checkpoint.header.step if self.checkpoint else 0

    @property
    def steps(self) -> int:
        """Return the updates made until now."""
        return self.loop.step if self.loop else self.first_step

    @property
    def metrics(self) -> dict[str, float]:
        """Return the scores of the latest validation."""
        if self.loop is not None:
            return self.loop.metrics
        return self.checkpoint.header.metrics if self.checkpoint else {}


# -- prepare -----------------------------------------------------------------------------------------------------------


def _prepare(
    recipe: AnyRecipe,
    train_loader: EpochLoader,
    val_loader: BatchIterable | None,
    config: TrainingConfig,
    run: Run,
    *,
    resume: bool,
    signals: StopSignals,
    end: CommandEnd | None,
) -> _Training:
    """Return the training, at its start or at its checkpoint. Changes no file of the run."""
    checkpoint = _check_resume(run, recipe, config) if resume else None
    fabric = make_fabric(config)
    if val_loader is not None and len(val_loader) == 0:
        fix = "give it a recording, or train without"
        raise RunError("validation data", found="no batch", expected="at least one", fix=fix)
    shard_loaders((train_loader, val_loader), 0, fabric.world_size)  # the batches of each process are equally many
    recipe.plan = plan = TrainingPlan.from_loader(train_loader, config)
    training = _Training(
        recipe=recipe,
        config=config,
        run=run,
        plan=plan,
        fabric=fabric,
        checkpoint=checkpoint,
        loop=None,
        has_more_time=resume and run.has_shorter_time_limit(config.max_minutes),
        spent_s=None,
    )
    if checkpoint is not None and training.first_step > plan.total_steps:
        found, expected = f"step {training.first_step}", f"one of {plan.total_steps} steps"
        fix = "restore the run's own last.safetensors"
        raise CheckpointError(checkpoint.path, found=found, expected=expected, fix=fix)
    ended = run.facts.ended_by_time if checkpoint is not None and not training.has_more_time else None
    if checkpoint is not None and training.first_step >= (ended.step if ended else plan.total_steps):
        load_weights(checkpoint, recipe, recipe=recipe.recipe)  # it had finished
        training.spent_s = ended.seconds if ended else None
        return training
    training.loop = _make_loop(training, train_loader, val_loader, signals, end)
    if checkpoint is not None:
        training.loop.restore(checkpoint)
        training.spent_s = training.loop.time_limit.spent_s
    return training


def _check_resume(run: Run, recipe: AnyRecipe, config: TrainingConfig) -> Checkpoint | None:
    """Return the checkpoint to go on from, checked against the recipe; None where nothing was saved yet.

    Also reads the logged rows, so that damaged tables are refused. Changes no file.
    """
    run.check_config(config, within="training")
    run.check_config(recipe.config.optimizer, within="optimizer")
    run.check_config(recipe.config.schedule, within="schedule")
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
    for lost in list_lost_files(run.folder, run.facts, run.config):
        if lost.is_needed:
            fix = "restore the file, or train a new run"
            if read_steps(run.checkpoints):
                fix += f" from these weights: start_from={run.folder}"
            found = "an empty file" if lost.is_empty else "no such file"
            raise RunError(run.folder / lost.name, found=found, expected=f"one: {lost.reason}", fix=fix)
    if not path.exists():
        return None
    checkpoint = Checkpoint.open(path)
    check_recipe(checkpoint, recipe)
    changes = select_relevant_changes(
        diff_mappings(run.config, checkpoint.header.config), ("data", "start_from", MAX_MINUTES)
    )
    if changes or checkpoint.header.kind != "training":
        found = f"a checkpoint of another run ({'; '.join(map(str, changes))})" if changes else "weights alone"
        fix = "restore the run's own last.safetensors, or start a new run with start_from"
        raise CheckpointError(path, found=found, expected="the training state of this run", fix=fix)
    return checkpoint


def _make_loop(
    training: _Training,
    train_loader: EpochLoader,
    val_loader: BatchIterable | None,
    signals: StopSignals,
    end: CommandEnd | None,
) -> TrainingLoop:
    """Return the training loop at its start, in every process."""
    config, fabric, recipe = training.config, training.fabric, training.recipe
    keep_freed_memory()
    start_attempt()
    fabric.launch()
    shard_loaders((train_loader, val_loader), fabric.global_rank, fabric.world_size)
    validation: object = val_loader
    if isinstance(validation, StartableLoader):
        with seeds.preserve_generators():
            validation.start()  # before the first step: a fork keeps the memory of the steps
    clock = PhaseClock(training.plan, config.precision)
    return TrainingLoop(
        fabric,
        training.run,
        copy.deepcopy(recipe) if config.strategy == "fsdp" else recipe,  # sharded weights stay sharded
        BatchStream(train_loader, training.plan, clock.mark),
        val_loader,
        config,
        clock,
        stop_requested=signals.is_requested,
        end=end,
    )


def _begin_resume(training: _Training, console: Console) -> None:
    """Write into the run that it goes on, and remove what a process that was killed left of its files."""
    run = training.run
    if run.writes:
        remove_stale_files_of_run(run.folder)
        if training.checkpoint is not None:
            write_header_copy(training.checkpoint.path, training.checkpoint.header)
    run.resume(from_start=training.checkpoint is None)
    if training.has_more_time and training.loop is not None:
        run.set_time_limit(training.config.max_minutes)
    if training.checkpoint is None:
        _print(console, [fit_messages.describe_start_again(run)])


# -- run ---------------------------------------------------------------------------------------------------------------


def _run(training: _Training, callbacks: Sequence[Callback], console: Console) -> None:
    """Train to the end, or to the first request to stop; the recipe has the trained weights then."""
    loop, recipe, config, run = training.loop, training.recipe, training.config, training.run
    if training.first_step == 0:
        _record_start(training)
    if loop is None or loop.time_limit.is_over:
        step, spent_s = training.steps, training.spent_s
        _print(console, [fit_messages.describe_no_step(recipe.recipe, config, run, training.plan, step, spent_s)])
    else:
        fabric, plan, step = training.fabric, training.plan, training.steps
        _print(console, fit_messages.start_lines(recipe, fabric, config, run, plan, step))
    if loop is None:
        return
    with _open_loggers(config, run, training.first_step) as loggers:
        loop.callbacks = [
            *callbacks,
            Scalars(loggers, config.log_every),
            Images(run, loggers, config.images_every),
            Histograms(loggers, config.histograms_every),
            ProgressBar(console),
        ]
        try:
            loop.train()
        finally:
            recipe.cpu()  # the memory of the device is free for scores
            return_large_blocks()
            return_freed_memory()
    if loop.recipe is not recipe:
        recipe.load_state_dict(loop.recipe.state_dict())
        recipe.load_training_state(loop.recipe.training_state())


def _record_start(training: _Training) -> None:
    """Write into run.json what a new training starts from."""
    recipe, plan = training.recipe, training.plan
    training.run.update_facts(
        lambda facts: replace(
            facts,
            weights=fit_messages.name_weights(recipe),
            start_steps=int(min(recipe.start_steps, MAX_STEPS)),
            stages=list_stage_facts(training.config.stages, plan.phases) if plan.phases else (),
        )
    )


@contextlib.contextmanager
def _open_loggers(config: TrainingConfig, run: Run, step: int) -> Iterator[list[Logger]]:
    """Open the loggers by name, in the main process."""
    with contextlib.ExitStack() as stack:
        names = config.loggers if run.writes else ()
        yield [stack.enter_context(contextlib.closing(LOGGERS.load(name)(run, step))) for name in names]


# -- report ------------------------------------------------------------------------------------------------------------


def _report(training: _Training, console: Console) -> None:
    """Write and print how the training ended: by its time, where the time went, and how good its best checkpoint is."""
    loop, recipe = training.loop, training.recipe
    if loop is None:
        return
    if loop.step < training.plan.total_steps:
        end = TimeLimitEnd(step=loop.step, seconds=loop.time_limit.spent_s)
        training.run.update_facts(lambda facts: replace(facts, ended_by_time=end))
        if loop.step > training.first_step:
            _print(console, [fit_messages.describe_time_over(training.config, training.plan, loop.step)])
    if loop.times is not None:
        _print(console, [describe_times(loop.times)])
    is_kept = loop.best_score is not None and loop.best_score.step == 0  # the start
    if loop.is_worse_than_start and loop.start_score is not None and loop.best is not None:
        _print(console, [fit_messages.describe_better_start(loop.start_score, loop.best, is_kept=is_kept)])
    comparison = loop.compare_best_with_last()
    if comparison is not None and comparison.doubt and not is_kept:
        _print(console, [fit_messages.describe_doubt(comparison, recipe.describe_score(comparison.name))])


def _record_stop(run: Run, error: BaseException, signals: StopSignals) -> bool:
    """Write into run.json that the run was interrupted or failed; return whether it was interrupted."""
    # The same Ctrl-C may have ended a process of the loader: only an error of this package is reported then.
    is_interrupted = isinstance(error, StopRequest | StopNow | KeyboardInterrupt | OutputClosedError) or (
        signals.is_requested() and not isinstance(error, StadiaError)
    )
    with contextlib.suppress(StadiaError):  # a full disk must not hide why the training ended
        if is_interrupted:
            run.end("interrupted")
        else:
            run.failed(error)
    return is_interrupted


def _print(console: Console, lines: Iterator[str] | Sequence[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
