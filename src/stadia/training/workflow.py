"""Train a recipe: `prepare` opens and checks the data, `run_training` trains, `report` scores. Also the dry run."""

import contextlib
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from rich.console import Console

from stadia.core.signals import discard_if_interrupted
from stadia.core.terminal import StopSignals, Terminal, announce_step
from stadia.judge.finding import Finding, OnStop, write_findings
from stadia.training.keep import keep_better_start
from stadia.training.loop.batches import TrainingPlan
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.loop.clock import CommandEnd
from stadia.training.loop.fit import FEW_STEPS, open_last_checkpoint, open_training, record_stop, run_training
from stadia.training.loop.processes import (
    check_devices,
    find_run_of_job,
    record_job,
    resolve_auto,
    resolve_batch_size,
    start_attempt,
)
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.loop.run_folder import Run, is_main_process
from stadia.training.monitors.training_monitor import TrainingMonitor, read_kept_findings
from stadia.training.prediction.validation import score_validation
from stadia.training.recipes.base.build_recipe import (
    TrainingData,
    check_init_weights,
    create_recipe,
    init_recipe,
    load_recipe,
    record_failure,
)
from stadia.training.recipes.base.config import RecipeConfig, make_paths_absolute, replace_training
from stadia.training.start_checks import (
    LOSS_CHECKS,
    check_class,
    check_own_class,
    check_run_losses,
    choose_class,
    list_out_of_time,
    name_own_class,
    replace_data_findings,
    report_findings,
    run_loss_checks,
)
from stadia.training.step_measurement import (
    MAX_DRY_STEPS_S,
    PROBE_STEPS,
    DryRunResult,
    check_memory,
    find_check_seconds,
    measure_sample,
    measure_steps,
)
from stadia.training.training_data import (
    check_stages,
    list_data_formats,
    list_data_locations,
    list_movable_keys,
    list_stages,
    open_data,
    open_resumed_data,
)

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _interrupt_cleanly(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """Raise KeyboardInterrupt without the frames of libraries, so that a script exits as interrupted."""

    @functools.wraps(call)
    def raise_one(*args: _P.args, **options: _P.kwargs) -> _R:
        try:
            return call(*args, **options)
        except KeyboardInterrupt as stopped:
            raise KeyboardInterrupt(*stopped.args) from None

    return raise_one


@_interrupt_cleanly
def train(
    config: RecipeConfig,
    *,
    out: Path = Path("runs"),
    resume: Path | str | None = None,
    on_stop: OnStop | str = OnStop.HALT,
    data: TrainingData | None = None,
    recipe_class: type[AnyRecipe] | None = None,
    has_scores: bool = True,
    compares_start: bool = True,
    end: CommandEnd | None = None,
    is_command: bool = False,
) -> Run:
    """Check the data, train, and score the validation data with the best checkpoint.

    config: configuration of a recipe, from `stadia.training.recipes.configure`.
    out: folder that gets a new folder for this run.
    resume: folder of a run to resume with an equal configuration; only `training.max_minutes` may be larger.
    on_stop: reaction to a finding of severity "stop": "halt" ends the run, "warn" continues.
    data: the opened data of this configuration, from `choose_configuration`; None opens them.
    recipe_class: your own subclass of the recipe, with the same configuration and networks.
    has_scores: whether to score the validation data and judge the predictions at the end.
    compares_start: whether to keep the depth of published weights if the trained depth is not better.
    end: end of the command by the clock; by default `training.max_minutes` limits the time of the steps.
    is_command: whether this process only trains, so that the report is built.

    Returns the run. Raises RunError on a finding of severity "stop", ConfigError for a wrong configuration, and
    StadiaError if the data cannot be opened or the training fails. After a request to stop it raises KeyboardInterrupt,
    which contains the command that resumes.
    """
    console, on_stop = Terminal(stderr=True), OnStop.parse(on_stop)
    start_attempt()
    resume = resume or find_run_of_job(out)
    stopped = Run.open(Path(resume)) if resume else None
    with contextlib.ExitStack() as stack:
        prepared = prepare(config, console, on_stop, recipe_class=recipe_class, data=data, stopped=stopped)
        config, data = prepared.config, prepared.data
        recipe_name = prepared.recipe_class.recipe
        run = stopped or Run.create(out, config.name, config, recipe=recipe_name, seed=config.seed, data=data.facts)
        if run.writes and stopped is None:
            record_job(out, run.folder)
        stack.enter_context(run.held())
        recipe = build_networks(prepared, run, console, on_stop)
        signals = StopSignals(console)
        try:
            with contextlib.nullcontext() if prepared.is_resumed else record_stop(run, signals, console):
                training = open_training(
                    recipe,
                    data.train,
                    data.val,
                    config.training,
                    run,
                    signals=signals,
                    resume=prepared.is_resumed,
                    end=end,
                )
            with record_stop(run, signals, console):
                if prepared.is_resumed:
                    update_resumed_run(prepared, run)
                run_training(training, [TrainingMonitor(run, console, on_stop)], console)
                if run.writes:
                    report(prepared, run, console, has_scores=has_scores, compares_start=compares_start)
                run.end("finished")
        except BaseException:
            with contextlib.suppress(Exception):  # nothing may hide why it ended
                build_report(run, is_command=is_command)
            raise
        build_report(run, is_command=is_command)
    return run


@_interrupt_cleanly
def dry_run(
    config: RecipeConfig, *, on_stop: OnStop | str = OnStop.HALT, recipe_class: type[AnyRecipe] | None = None
) -> DryRunResult:
    """Try a training: check the data, networks and losses, and train three steps in a temporary folder.

    If three steps would take long, time and memory are estimated from one sample instead.

    config: configuration of a recipe.
    on_stop: reaction to a finding of severity "stop": "halt" or "warn".
    recipe_class: your own subclass of the recipe.

    Raises the same errors as `train` before the first step, and RunError if memory does not suffice.
    """
    console, on_stop = Terminal(stderr=True), OnStop.parse(on_stop)
    prepared = prepare(config, console, on_stop, recipe_class=recipe_class)
    config, data = prepared.config, prepared.data
    recipe = init_recipe(prepared.recipe_class, config, resumed=False)
    check_own_class(recipe, None, console)
    recipe.save_data_stats(data)
    estimated = estimate_dry_run(recipe, config, data)
    check_seconds = find_check_seconds(config.training, is_estimated=estimated is not None)
    findings = run_loss_checks(recipe, replace_training(config, check_seconds=check_seconds), data, console)
    report_findings(findings, console, on_stop, checked=LOSS_CHECKS)
    if estimated is not None:
        return replace(estimated, not_checked=list_out_of_time(findings))
    del recipe  # the steps' peak of memory excludes it
    with announce_step(console, "training three steps"):
        stages = [measure_steps(prepared.recipe_class, *stage) for stage in list_stages(config, data)]
    return DryRunResult(
        device=stages[-1].device,
        peak_bytes=tuple(peak for stage in stages for peak in stage.peak_bytes),
        seconds=tuple(step_s for stage in stages for step_s in stage.seconds),
        not_checked=list_out_of_time(findings),
    )


def estimate_dry_run(recipe: AnyRecipe, config: RecipeConfig, data: TrainingData) -> DryRunResult | None:
    """Return the time and memory of a step by those of one sample; None if three steps are short enough to be made.

    Raises RunError if a step does not fit into the memory.
    """
    sample = measure_sample(recipe, config, data)
    if sample is None:
        return None
    training = config.training
    estimated = sample.estimate_steps(training.batch_size, training.grad_accumulation_steps)
    check_memory(estimated, config)
    return estimated if PROBE_STEPS * estimated.seconds[0] > MAX_DRY_STEPS_S else None


@dataclass(frozen=True)
class PreparedTraining:
    """A training that is ready to start: its data are open and checked.

    recipe_class: the recipe's, or the user's own.
    config: the configuration with absolute paths, and every "auto" resolved.
    findings: findings of the data.
    """

    recipe_class: type[AnyRecipe]
    config: RecipeConfig
    data: TrainingData
    findings: list[Finding]
    is_resumed: bool


def prepare(
    config: RecipeConfig,
    console: Console,
    on_stop: OnStop,
    *,
    recipe_class: type[AnyRecipe] | None = None,
    data: TrainingData | None = None,
    stopped: Run | None = None,
) -> PreparedTraining:
    """Open and check the data of a training. Raises the errors of `train` before there is a run.

    stopped: a run to resume, whose configuration and data must be equal.
    """
    recipe_class = choose_class(config, recipe_class)
    check_stages(recipe_class, config)
    check_devices(config.training)
    config = make_paths_absolute(config)
    saved = None if stopped is None else stopped.config.get("training")
    config = config.model_copy(update={"training": resolve_auto(resolve_batch_size(config.training), saved)})
    if not is_main_process():
        logging.getLogger("stadia").setLevel(logging.ERROR)  # the first process warns for all
    if stopped is not None:
        check_class(stopped, recipe_class)
        open_last_checkpoint(stopped, recipe_class.recipe)
        read_kept_findings(stopped.folder)
        config, data = open_resumed_data(recipe_class, config, console)
    else:
        check_init_weights(recipe_class, config)  # The check runs before anything is decoded.
        if data is None:
            config, data = open_data(recipe_class, config, console)
    if stopped is not None:
        stopped.check_config(config, free=("start_from", *list_movable_keys(config, stopped)))
    with announce_step(console, "checking the data"):
        if stopped is not None:
            stopped.check_data(data.facts)
        findings = report_findings(data.findings(), console, on_stop)
    return PreparedTraining(recipe_class, config, data, findings, is_resumed=stopped is not None)


def build_networks(prepared: PreparedTraining, run: Run, console: Console, on_stop: OnStop) -> AnyRecipe:
    """Return the recipe at its start, with its losses checked in a new run. Ctrl-C removes a new run."""
    recipe_class, config, data = prepared.recipe_class, prepared.config, prepared.data
    is_new = run.writes and not prepared.is_resumed
    with discard_if_interrupted(run.folder) if is_new else contextlib.nullcontext():
        if is_new:
            own_class, own_values = name_own_class(recipe_class), dict(recipe_class.own_values) or None
            run.update_facts(lambda facts: replace(facts, recipe_class=own_class, own_values=own_values))
            write_findings(run.folder / "findings.jsonl", prepared.findings)
        with announce_step(console, "building the networks"):
            recipe = create_recipe(recipe_class, config, data, run)
        if is_new:
            with record_failure(run):
                check_own_class(recipe, run, console)
                steps = TrainingPlan.from_loader(data.train, config.training).total_steps
                if steps >= FEW_STEPS and config.training.check_seconds:
                    check_run_losses(recipe, config, data, run, console, on_stop)
    return recipe


def update_resumed_run(prepared: PreparedTraining, run: Run) -> None:
    """Write into a resumed run the paths and findings of its data."""
    config, data = prepared.config, prepared.data
    run.set_values({**list_data_locations(config), **list_data_formats(config)})
    run.update_facts(lambda facts: replace(facts, data=data.facts))
    replace_data_findings(run, prepared.findings)


@torch.no_grad()
def report(prepared: PreparedTraining, run: Run, console: Console, *, has_scores: bool, compares_start: bool) -> None:
    """Keep the better of start and result if `compares_start`; score and judge it if `has_scores`."""
    recipe = load_recipe(Checkpoint.open(run.folder), prepared.recipe_class)
    is_compared = compares_start and starts_from_depth(prepared.config)
    if is_compared and keep_better_start(prepared.config, recipe, prepared.data, run, console):
        recipe = load_recipe(Checkpoint.open(run.folder), prepared.recipe_class)
    if has_scores:
        with announce_step(console, "scoring and judging what the best checkpoint predicts"):
            score_validation(recipe, Checkpoint.open(run.folder), prepared.data, run, console)
    else:
        recipe.finish_training(run, console)


def starts_from_depth(config: Any) -> bool:
    """Return whether a new `selfsup` training of one camera starts from published weights that predict metres."""
    if config.recipe != "selfsup" or config.start_from is not None or not config.model.pretrained:
        return False
    return bool(config.model.network.starts_in_metres) and len(config.data.mono) == len(config.data.sets)


def build_report(run: Run, *, is_command: bool) -> None:
    """Build the report of a run that a command trained, and print its path."""
    if is_command and run.writes:
        from stadia.report import build_report as build

        Terminal().print(f"report: {build(run.folder)}", markup=False, highlight=False, soft_wrap=True)
