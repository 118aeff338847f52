"""Train a recipe in a run folder, from the start or resumed; `stadia.training.train` also opens the data and scores."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split
import torch
from lightning_fabric import Fabric
from rich.console import Console

from stadia.core.config import diff_mappings, select_relevant_changes
from stadia.core.errors import CheckpointError, RunError, StadiaError
from stadia.core.terminal import StopNow, StopSignals, Terminal
from stadia.differentiable import torch_state
from stadia.io.metrics_table import read_rows
from stadia.io.run_facts import TimeLimitEnd, list_lost_files
from stadia.training.loop import LOGGERS, batches
from stadia.training.loop.batches import BatchIterable, BatchStream, EpochLoader, StartableLoader, TrainingPlan
from stadia.training.loop.callbacks import Histograms, Images, Logger, ProgressBar, Scalars
from stadia.training.loop.checkpoint import (
    Checkpoint,
    check_recipe,
    check_weights,
    load_weights,
    read_steps,
    write_header_copy,
)
from stadia.training.loop.clock import CommandEnd, PhaseClock, describe_times
from stadia.training.loop.config import MAX_STEPS, TrainingConfig
from stadia.training.loop.loop import Callback, StopRequest, TrainingLoop
from stadia.training.loop.processes import launch_processes, make_fabric, quiet_lightning, resolve_auto, start_attempt
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.loop.run_folder import MAX_MINUTES, Run, advise_new_run, remove_stale_files_of_run


class Interrupted(KeyboardInterrupt):
    """The user stopped a training. `str` is how to resume it."""


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    steps: updates made in all.
    wall_s: time of this call.
    checkpoint: the best, or the last if no validation chose one.
    metrics: scores of the latest validation, `val/NAME`.
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
) -> TrainingResult:
    """Train, and keep everything in the run folder.

    recipe: its weights are trained in place.
    config: the same as in run.config if the run is resumed; `max_minutes` may be larger.
    run: the run from `Run.create`, or from `Run.open` to resume; the caller holds it (`Run.held`).
    resume: continue exactly from checkpoints/last, if there is one.
    callbacks: called before the training's own.

    Raises:
        RunError: the loss or a gradient is not finite, or the run is resumed with another configuration.
        CheckpointError: the checkpoint is damaged, or of another recipe or model.
        Interrupted: it was stopped (Ctrl-C, SIGTERM, a closed terminal or pipe).
    """
    started_s = time.perf_counter()
    console = console or Terminal(stderr=True)
    signals = StopSignals(console)
    with contextlib.nullcontext() if resume else record_stop(run, signals, console):
        training = open_training(recipe, train_loader, val_loader, config, run, resume=resume, signals=signals)
    with record_stop(run, signals, console):
        run_training(training, callbacks, console)
        run.end("finished")
    best, last = run.checkpoints / "best.safetensors", run.checkpoints / "last.safetensors"
    wall_s = time.perf_counter() - started_s
    return TrainingResult(training.steps, wall_s, best if best.exists() else last, training.metrics)


@contextlib.contextmanager
def record_stop(run: Run, signals: StopSignals, console: Console) -> Iterator[None]:
    """Write into run.json that the block was interrupted or failed. Raises Interrupted after a request to stop."""
    try:
        yield
    except BaseException as error:
        # The same Ctrl-C may have ended a process of the loader: only an error of this package is reported then.
        is_interrupted = isinstance(error, StopRequest | StopNow | KeyboardInterrupt | BrokenPipeError) or (
            signals.is_requested() and not isinstance(error, StadiaError)
        )
        with contextlib.suppress(StadiaError):  # a full disk must not hide why the training ended
            if is_interrupted:
                run.end("interrupted")
            else:
                run.failed(error)
        if not is_interrupted:
            raise
        message = f"interrupted. To resume: {describe_resume(run)}" if run.writes else "interrupted"
        if run.writes:  # other processes have no folder
            _print(console, [message])
        raise Interrupted(message) from None


def describe_resume(run: Run) -> str:
    """Return how an interrupted run is resumed."""
    own_class = run.facts.recipe_class
    if own_class is None:
        return f"stadia train {run.recipe} --resume {run.folder}"
    return f"{name_resume_call(run.folder, own_class)} in Python, with the same config"


def name_resume_call(run: Path, own_class: str) -> str:
    """Return the line of Python that resumes a run of a user's class."""
    return f"training.train(config, resume={str(run)!r}, recipe_class={own_class.rpartition('.')[2]})"


# -- a training at its start, or at its checkpoint ---------------------------------------------------------------------


@dataclass
class Training:
    """A training that is ready to run.

    checkpoint: its start.
    loop: None if all steps were made before.
    has_more_time: a resume raised the time limit.
    spent_s: seconds of all steps, if the time limit had ended them.
    """

    recipe: AnyRecipe
    config: TrainingConfig
    run: Run
    plan: TrainingPlan
    fabric: Fabric
    signals: StopSignals
    is_resumed: bool
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


def open_training(
    recipe: AnyRecipe,
    train_loader: EpochLoader,
    val_loader: BatchIterable | None,
    config: TrainingConfig,
    run: Run,
    *,
    signals: StopSignals,
    resume: bool = False,
    end: CommandEnd | None = None,
) -> Training:
    """Return a training at its start, or at its checkpoint. Changes no file of the run.

    signals: requests to stop.
    end: end of the command by the clock; by default the time of the steps counts (`max_minutes`).
    Other arguments and errors: see `fit`.
    """
    config = resolve_auto(config, run.config.get("training"))
    checkpoint = _check_resume(run, recipe, config) if resume else None
    config = resolve_auto(config)  # a run of your own class may record "auto"
    with quiet_lightning():
        fabric = make_fabric(config)
    if val_loader is not None and len(val_loader) == 0:
        fix = "give it a recording, or train without"
        raise RunError("validation data", found="no batch", expected="at least one", fix=fix)
    loaders = train_loader, val_loader
    batches.shard_loaders(loaders, 0, fabric.world_size)  # each process has equally many batches
    recipe.plan = plan = TrainingPlan.from_loader(train_loader, config)
    training = Training(
        recipe=recipe,
        config=config,
        run=run,
        plan=plan,
        fabric=fabric,
        signals=signals,
        is_resumed=resume,
        checkpoint=checkpoint,
        loop=None,
        has_more_time=resume and run.has_shorter_time_limit(config.max_minutes),
        spent_s=None,
    )
    if checkpoint is not None and training.first_step > plan.total_steps:
        found, expected = f"step {training.first_step}", f"at most {plan.total_steps}, the steps of this run"
        fix = "restore the run's own last.safetensors; this one is of another run"
        raise CheckpointError(checkpoint.path, found=found, expected=expected, fix=fix)
    ended = run.facts.ended_by_time if checkpoint is not None and not training.has_more_time else None
    if checkpoint is not None and training.first_step >= (ended.step if ended else plan.total_steps):
        load_weights(checkpoint, recipe, recipe=recipe.recipe)  # it had finished
        training.spent_s = ended.seconds if ended else None
        return training
    start_attempt()
    with quiet_lightning():
        launch_processes(fabric)
        batches.shard_loaders(loaders, fabric.global_rank, fabric.world_size)
        validation: object = val_loader
        if isinstance(validation, StartableLoader):
            with torch_state.preserve_generators():
                validation.start()  # Workers start before the first step: a fork keeps the memory of the steps.
        clock = PhaseClock(plan)
        training.loop = TrainingLoop(
            fabric,
            run,
            recipe,
            BatchStream(train_loader, plan, clock.mark),
            val_loader,
            config,
            clock,
            stop_requested=signals.is_requested,
            end=end,
        )
        if checkpoint is not None:
            training.loop.restore(checkpoint)
            training.spent_s = training.loop.time_limit.spent_s
    return training


def _check_resume(run: Run, recipe: AnyRecipe, config: TrainingConfig) -> Checkpoint | None:
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
        expected, fix = "the rows up to the checkpoint", advise_new_run(run.folder)
        raise RunError(run.metrics_csv, found="no row", expected=expected, fix=fix)
    return checkpoint


def open_last_checkpoint(run: Run, recipe: str) -> Checkpoint | None:
    """Return the checkpoint that a run is resumed from, or None.

    Raises CheckpointError if it is damaged or of another run, and RunError if the run has lost a file.
    """
    path = run.checkpoints / "last.safetensors"
    for lost in list_lost_files(run.folder, run.facts, run.config):
        if lost.is_needed:
            fix = advise_new_run(run.folder) if read_steps(run.checkpoints) else "restore it, or train a new run"
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


# -- run ---------------------------------------------------------------------------------------------------------------


def run_training(training: Training, callbacks: Sequence[Callback], console: Console) -> None:
    """Train to the end, or to the first request to stop (StopRequest).

    callbacks: called before the training's own.
    """
    loop, recipe, config, run = training.loop, training.recipe, training.config, training.run
    console = console if run.writes else Terminal(quiet=True)
    if training.is_resumed:
        _record_resume(training, console)
    if training.first_step == 0:
        _record_start(training)
    with training.signals, quiet_lightning():
        if loop is None or loop.time_limit.is_over:
            step, spent_s = training.steps, training.spent_s
            _print(console, [describe_no_step(recipe.recipe, config, run, training.plan, step, spent_s)])
        else:
            fabric, plan = training.fabric, training.plan
            _print(console, start_lines(recipe, fabric, config, run, plan, training.steps))
        if loop is not None:
            _train(training, loop, callbacks, console)
            _print(console, end_lines(loop, training.first_step))


def _train(training: Training, loop: TrainingLoop, callbacks: Sequence[Callback], console: Console) -> None:
    recipe, config, run = training.recipe, training.config, training.run
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
    if loop.step < training.plan.total_steps:
        end = TimeLimitEnd(step=loop.step, seconds=loop.time_limit.spent_s)
        run.update_facts(lambda facts: replace(facts, ended_by_time=end))


def _record_resume(training: Training, console: Console) -> None:
    run = training.run
    if run.writes:
        remove_stale_files_of_run(run.folder)
        if training.checkpoint is not None:
            write_header_copy(training.checkpoint.path, training.checkpoint.header)
    run.resume(from_start=training.checkpoint is None)
    if training.has_more_time and training.loop is not None:
        run.set_time_limit(training.config.max_minutes)
    if training.checkpoint is None:
        _print(console, [describe_start_again(run)])


def _record_start(training: Training) -> None:
    recipe, plan = training.recipe, training.plan
    training.run.update_facts(
        lambda facts: replace(
            facts,
            weights=name_weights(recipe),
            start_steps=int(min(recipe.start_steps, MAX_STEPS)),
            stages=batches.list_stage_facts(training.config.stages, plan.phases) if plan.phases else (),
        )
    )


@contextlib.contextmanager
def _open_loggers(config: TrainingConfig, run: Run, step: int) -> Iterator[list[Logger]]:
    with contextlib.ExitStack() as stack:
        names = config.loggers if run.writes else ()
        yield [stack.enter_context(contextlib.closing(LOGGERS.load(name)(run, step))) for name in names]


def _print(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


FEW_STEPS = 300
"""A training of fewer steps is a trial: it prints a note, and its losses are not checked."""

_DRY_RUN = "check the losses alone with --dry-run (training.dry_run in Python)"
_FEW = f"note: {{}} steps are few: a network needs thousands. Fix: train longer (training.max_steps), or {_DRY_RUN}"
_FEW_MORE = f"note: the losses are not checked in trainings of less than {FEW_STEPS} steps. Fix: {_DRY_RUN}"
_WARM = "note: {} of {} steps warm up, with a low learning rate. Fix: set schedule.warmup_steps={}"
_TIME_OVER = "the time is over (training.max_minutes={:.3g}): step {} of at most {} was the last"
LONGEST_WARMUP = 0.25
"""A longer warm-up, as a share of the steps, prints a note."""

USUAL_WARMUP = 0.05
"""The note proposes this share of the steps."""


def shorten_warmup(warmup_steps: int, steps: int) -> int:
    """Return the warm-up, shortened if it is longer than LONGEST_WARMUP of the steps."""
    return warmup_steps if warmup_steps <= LONGEST_WARMUP * steps else round(USUAL_WARMUP * steps)


def start_lines(
    recipe: AnyRecipe, fabric: Fabric, config: TrainingConfig, run: Run, plan: TrainingPlan, step: int
) -> Iterator[str]:
    """Yield the network, device, length and folder of a training; its stages; and notes on its length."""
    steps, warmup = plan.total_steps, recipe.config.schedule.warmup_steps
    parts = _describe_weights(recipe, step), _describe_place(fabric), _describe_length(fabric, config, plan, step)
    yield "{} on {}, {}".format(*parts) + f", in {run.folder}"
    yield from (batches.describe_stages(config.stages, plan.phases, recipe.config.optimizer.lr) if plan.phases else ())
    if step == 0 and steps < FEW_STEPS:
        if steps + recipe.start_steps < FEW_STEPS:
            yield _FEW.format(steps)
        elif config.check_seconds:
            yield _FEW_MORE
    if step == 0 and warmup > LONGEST_WARMUP * steps:
        yield _WARM.format(min(warmup, steps), steps, round(USUAL_WARMUP * steps))


def end_lines(loop: TrainingLoop, first_step: int) -> Iterator[str]:
    """Yield how the training ended: by time, phases, and the best checkpoint."""
    if first_step < loop.step < loop.plan.total_steps:
        yield _TIME_OVER.format(loop.config.max_minutes, loop.step, loop.plan.total_steps)
    if loop.times is not None:
        yield describe_times(loop.times)
    is_kept = loop.best_score is not None and loop.best_score.step == 0  # the start
    if loop.is_worse_than_start and loop.start_score is not None and loop.best is not None:
        yield _describe_better_start(loop.start_score, loop.best, is_kept=is_kept)


def describe_start_again(run: Run) -> str:
    """Return that a resumed run starts at step 0."""
    return f"note: {run.folder} starts again at step 0: it was stopped before its first checkpoint"


def describe_no_step(
    recipe: str, config: TrainingConfig, run: Run, plan: TrainingPlan, step: int, spent_s: float | None
) -> str:
    """Return why a resumed run makes no step.

    spent_s: seconds of all its steps, or None.
    """
    new_run = f"train a new run from its weights: start_from={run.folder}"
    if step >= plan.total_steps:
        return f"{recipe}: all {step} steps are done already, in {run.folder}. Fix: {new_run}"
    spent = "" if spent_s is None else f" (the steps took {spent_s / 60:.3g})"
    used_up = f"training.max_minutes={config.max_minutes:g} are used up{spent} at step {step} of {plan.total_steps}"
    more = "resume it with more (training.max_minutes=MINUTES, or null for no limit)"
    return f"{recipe}: {used_up}, in {run.folder}. Fix: {more}, or {new_run}"


def name_weights(recipe: AnyRecipe) -> dict[str, str]:
    """Return the start of each network by name."""
    return {"weights of": recipe.started_from} if recipe.started_from else dict(recipe.weights)


def _describe_weights(recipe: AnyRecipe, step: int) -> str:
    trained, frozen = (sum(p.numel() for p in recipe.parameters() if p.requires_grad is kind) for kind in (True, False))
    line = f"{recipe.recipe}: {trained / 1e6:.1f} M parameters" + f" and {frozen / 1e6:.1f} M frozen" * bool(frozen)
    starts = ", ".join(f"{name.replace('_', ' ')} {weights}" for name, weights in name_weights(recipe).items())
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


def _describe_better_start(start_score: tuple[str, float], best: float, *, is_kept: bool) -> str:
    name, score = start_score
    if is_kept:
        fix = "train longer, with a lower optimizer.lr, or on more images"
        return f"note: no validation beats the start ({name} {score:.4g}), which is kept as best. Fix: {fix}"
    fix = "use the weights of the start, or train with a lower optimizer.lr or on more images"
    return f"note: the start was better: {name} {score:.4g} on these frames, after the training {best:.4g}. Fix: {fix}"
