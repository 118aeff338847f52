"""The workflow of a training: open and check the data, check the losses, train, score. Also its dry run."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
from rich.console import Console

from stadia.diagnostics.finding import OnStop, write_findings
from stadia.diagnostics.monitors.training_monitor import TrainingMonitor, read_kept_findings
from stadia.process.signals import discard_if_interrupted
from stadia.process.terminal import Terminal, announce_step
from stadia.recipes.base.build_recipe import TrainingData, check_init_weights, create_recipe, init_recipe, load_recipe
from stadia.recipes.base.config import RecipeConfig, make_paths_absolute
from stadia.recipes.launch.data_locations import (
    list_data_formats,
    list_data_locations,
    list_movable_keys,
    open_resumed_data,
)
from stadia.recipes.launch.expected_cost import ExpectedCost
from stadia.recipes.launch.measured_choices import choose_fastest, keep_measured_choices
from stadia.recipes.launch.own_class import (
    build_base,
    check_class,
    check_own_weights,
    choose_class,
    describe_resume,
    name_own_class,
    note_unchecked_loss,
)
from stadia.recipes.launch.progressive_resizing import (
    OpenedData,
    check_stages,
    keep_batch_sizes,
    open_data,
    prepare_stages,
)
from stadia.recipes.launch.start_checks import (
    LOSS_CHECKS,
    check_own_class,
    check_run_losses,
    find_data_findings,
    list_out_of_time,
    print_unchecked,
    replace_data_findings,
    report_findings,
    run_loss_checks,
)
from stadia.recipes.launch.step_measurement import DryRunResult, measure_steps
from stadia.recipes.prediction.task import score_validation
from stadia.training.batches import TrainingPlan
from stadia.training.checkpoint import Checkpoint
from stadia.training.config import CHECK_SECONDS
from stadia.training.devices import check_devices
from stadia.training.fit import fit, open_last_checkpoint
from stadia.training.fit_messages import FEW_STEPS
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run, is_main_process

_P = ParamSpec("_P")
_R = TypeVar("_R")

LATE_SHARE = 0.75
"""Of a training's steps: an auto-mask that starts later prints a note. The time may end a training at such a share."""


def _interrupt_cleanly(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """Raise KeyboardInterrupt itself after Ctrl-C, without the frames of libraries: a script exits as interrupted."""

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
    ended: Callable[[Run], object] = lambda run: None,
    opened: OpenedData | None = None,
    begins: Callable[[], object] = lambda: None,
    recipe_class: type[AnyRecipe] | None = None,
    check_again: bool = False,
) -> Run:
    """Check the data, train, and score the validation data with the best checkpoint.

    Args:
        config: of a recipe, from `stadia.recipes.configure`.
        out: folder that gets a new folder for this run.
        resume: a run's folder to resume; its configuration must be equal, or have a larger `training.max_minutes`.
        on_stop: what to do on a finding with severity stop, of the data or during training: "halt" or "warn".
        ended: called with the run when it ends, also after an error; builds the report.
        opened: data that were opened for this configuration before; they are not read again.
        begins: called when the set-up is done. Ctrl-C before leaves no run.
        recipe_class: your own class with the recipe's configuration and networks, such as a subclass of SelfsupRecipe
            with another `training_step`; by default the recipe's own. A resume needs the same one.
        check_again: check the data also where nothing changed since an earlier check, whose findings are used again.

    Raises RunError on a finding with severity stop, ConfigError for a class with other weights than its recipe, the
    errors of opening the data and of `fit`, and KeyboardInterrupt after Ctrl-C, SIGTERM, or a closed terminal or pipe.
    Where there is a run to resume, its message is how.
    """
    console, on_stop = Terminal(stderr=True), OnStop.parse(on_stop)
    recipe_class = choose_class(config, recipe_class)
    check_stages(recipe_class, config)
    check_devices(config.training)
    config, data = _open_training_data(recipe_class, config, resume, opened, console)
    with announce_step(console, "checking the data"):
        facts = data.facts
        if resume:
            Run.open(Path(resume)).check_data(facts)
        findings = report_findings(find_data_findings(data, console, check_again=check_again), console, on_stop)
    if resume:
        run = Run.open(Path(resume))
    else:
        run = Run.create(out, config.name, config, recipe=recipe_class.recipe, seed=config.seed, data=facts)
    with run.held():
        is_new = run.writes and not resume
        with discard_if_interrupted(run.folder) if is_new else contextlib.nullcontext():
            if is_new:
                run.update_facts(lambda facts: replace(facts, recipe_class=name_own_class(recipe_class)))
                write_findings(run.folder / "findings.jsonl", findings)
            with announce_step(console, "building the networks"):
                recipe = create_recipe(recipe_class, config, data, run)
            if is_new:
                check_own_class(recipe, run, console)
                _check_start(recipe, config, data, run, console, on_stop)
        begins()

        @torch.no_grad()
        def score() -> None:
            checkpoint = Checkpoint.open(run.folder)
            score_validation(load_recipe(checkpoint, recipe_class), checkpoint, data, run, console)

        def keep_data() -> None:
            run.set_values({**list_data_locations(config), **list_data_formats(config)})
            run.update_facts(lambda recorded: replace(recorded, data=facts))
            replace_data_findings(run, findings)

        try:
            fit(
                recipe,
                data.train,
                data.val,
                config.training,
                run,
                resume=resume is not None,
                callbacks=[TrainingMonitor(run, console, on_stop), ExpectedCost(console)],
                console=console,
                resumed=keep_data,
                finish=score,
                describe_resume=describe_resume,
            )
        except BaseException:
            with contextlib.suppress(Exception):  # nothing may hide why it ended
                ended(run)
            raise
        ended(run)
    return run


def _open_training_data(
    recipe_class: type[AnyRecipe],
    config: RecipeConfig,
    resume: Path | str | None,
    opened: OpenedData | None,
    console: Console,
) -> tuple[RecipeConfig, TrainingData]:
    """Return the configuration with its measured choices, and its data; a run to resume has the same choices."""
    config = make_paths_absolute(config)
    stopped = Run.open(Path(resume)) if resume else None
    if stopped is not None:
        check_class(stopped, recipe_class)
        config = keep_measured_choices(keep_batch_sizes(config, stopped.config), stopped.config)
        open_last_checkpoint(stopped, recipe_class.recipe)
        read_kept_findings(stopped.folder)
    else:
        check_init_weights(recipe_class, config)  # before anything is decoded
    if not is_main_process():
        logging.getLogger("stadia").setLevel(logging.ERROR)  # the first process warns for all
    resolved = opened.resolve(config) if opened is not None else None
    if opened is None or resolved is None:
        opened = (
            open_data(recipe_class, config, console)
            if stopped is None
            else open_resumed_data(recipe_class, config, stopped, console)
        )
        resolved = opened.config
    config, data = choose_fastest(resolved, opened.data, console), opened.data
    if stopped is not None:
        stopped.check_config(config, free=("start_from", *list_movable_keys(config, stopped)))
    return config, data


def _check_start(
    recipe: AnyRecipe, config: RecipeConfig, data: TrainingData, run: Run, console: Console, on_stop: OnStop
) -> None:
    """Print what starts too late for this many steps, and check the losses of a new run that is long enough."""
    steps = TrainingPlan.from_loader(data.train, config.training).total_steps
    for note in list_late_starts(config, steps):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if steps >= FEW_STEPS and config.training.check_seconds:
        check_run_losses(recipe, config, data, run, console, on_stop)


@_interrupt_cleanly
def dry_run(
    config: RecipeConfig,
    *,
    on_stop: OnStop | str = OnStop.HALT,
    recipe_class: type[AnyRecipe] | None = None,
    check_again: bool = False,
) -> DryRunResult:
    """Open and check the data, build the networks, check the losses, and train three steps in a temporary folder.

    config, on_stop, recipe_class, check_again: as of `train`.

    Each data set and each stage trains that many steps. `not_checked` of the result names the loss checks that
    `training.check_seconds` left no time for. Raises what `workflow.train` raises before training, and
    RunError if memory does not suffice, with the step.
    """
    console, on_stop = Terminal(stderr=True), OnStop.parse(on_stop)
    recipe_class = choose_class(config, recipe_class)
    check_stages(recipe_class, config)
    check_devices(config.training)
    opened = open_data(recipe_class, make_paths_absolute(config), console)  # as a training, which uses its findings
    config, data = choose_fastest(opened.config, opened.data, console), opened.data
    with announce_step(console, "checking the data"):
        report_findings(find_data_findings(data, console, check_again=check_again), console, on_stop)
    recipe = init_recipe(recipe_class, config, resumed=False)
    if (base := build_base(recipe)) is not None:
        check_own_weights(recipe, base)
    print_unchecked(note_unchecked_loss(recipe_class), console)
    recipe.save_data_stats(data)
    config = _set_check_seconds(config)
    found = report_findings(run_loss_checks(recipe, config, data, console), console, on_stop, of=LOSS_CHECKS)
    unchecked = list_out_of_time(found)
    del recipe  # the steps' peak of memory is without it
    with announce_step(console, "training three steps"):
        if not config.training.stages:
            return replace(measure_steps(recipe_class, config, data), not_checked=unchecked)
        each = [measure_steps(recipe_class, *prepared) for prepared in prepare_stages(recipe_class, config)]
    peaks, seconds = ([number for one in each for number in getattr(one, name)] for name in ("peak_bytes", "seconds"))
    return DryRunResult(each[-1].device, tuple(peaks), tuple(seconds), unchecked)


def _set_check_seconds(config: RecipeConfig) -> RecipeConfig:
    """Return the configuration with a time limit of the loss checks: a dry run makes them always."""
    seconds = config.training.check_seconds or CHECK_SECONDS
    return config.model_copy(update={"training": config.training.model_copy(update={"check_seconds": seconds})})


def list_late_starts(config: RecipeConfig, steps: int) -> list[str]:
    """Return a note where the auto-mask of one camera starts after the end of the training, or shortly before it.

    It is not moved: earlier it hides the pixels from which the motion is learned.
    """
    loss, data = getattr(config, "loss", None), getattr(config, "data", None)
    start = getattr(loss, "auto_mask_from_step", 0)
    has_mask = getattr(loss, "auto_mask", False) and getattr(data, "stereo", None) is False
    if not has_mask or start == 0 or start < LATE_SHARE * steps:
        return []
    acts = f"the auto-mask starts at step {start} (loss.auto_mask_from_step)"
    ends = f"this training ends after {steps} steps at most: until then, what moves with the camera trains too"
    return [f"note: {acts}, and {ends}. Fix: train longer; an earlier start hides what the motion is learned from"]
