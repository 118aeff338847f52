"""The workflow of a training: open and check the data, check the losses, train, score. Also its dry run."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from rich.console import Console

from stadia.core import seeds
from stadia.core.errors import ConfigError, DataError, RunError
from stadia.core.files import write_text
from stadia.core.input_files import read_text
from stadia.core.quick_stop import discard_if_interrupted
from stadia.core.terminal import Terminal, announce_step
from stadia.core.types import Batch
from stadia.diagnostics.catalog import CATALOG
from stadia.diagnostics.finding import (
    FINDINGS,
    TRAIN_ANYWAY,
    Finding,
    OnStop,
    Severity,
    Stage,
    append_finding,
    write_findings,
)
from stadia.diagnostics.loss_checks.loss_check_runner import (
    check_losses,
    check_training_start,
    collect_findings,
    stop_at,
)
from stadia.diagnostics.loss_checks.training_start import TIME_LIMIT, TrainingStart
from stadia.diagnostics.monitors.training_monitor import TrainingMonitor, read_kept_findings
from stadia.diagnostics.preflight_cache.reused_findings import FindingsCache
from stadia.recipes.base.build_recipe import TrainingData, check_init_weights, create_recipe, init_recipe, load_recipe
from stadia.recipes.base.config import DATA_PATH_KEYS, RecipeConfig, make_paths_absolute
from stadia.recipes.base.expected_cost import ExpectedCost
from stadia.recipes.base.measured_choices import choose_fastest, keep_measured_choices
from stadia.recipes.base.own_class import (
    OWN_CLASS,
    build_base,
    check_class,
    check_own_weights,
    choose_class,
    describe_resume,
    name_own_class,
    note_unchecked_loss,
)
from stadia.recipes.base.own_values import OWN_VALUES, list_own_values
from stadia.recipes.base.progressive_resizing import (
    OpenedData,
    check_stages,
    keep_batch_sizes,
    open_data,
    prepare_stages,
)
from stadia.recipes.base.recipe_commands import score_validation
from stadia.recipes.base.step_measurement import DryRunResult, measure_steps
from stadia.recipes.base.video_data import VideoData
from stadia.training.batches import TrainingPlan, select_device
from stadia.training.config import CHECK_SECONDS, MAX_CHECK_SECONDS
from stadia.training.fit import check_devices, fit, open_last_checkpoint
from stadia.training.fit_messages import FEW_STEPS
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run, is_main_process

_P = ParamSpec("_P")
_R = TypeVar("_R")

LOSS_CHECKS = "loss checks of the training"

NOT_CHECKED, DATA_NOT_CHECKED = "N01", "N02"
"""Codes of the notes about a check that could not be made, and about data that were not checked in time."""

RESERVED_SECONDS = 2.0
"""Kept for what cannot be interrupted: one law of a loss, or the loss and the optimizer of a step."""

LATE_SHARE = 0.75
"""Of a training's steps: an auto-mask that starts later prints a note. The time may end a training at such a share."""

LOSS_LAW_SHARE = 0.5
"""Share of the time for the laws of the losses, so that slow machines check the first step too."""


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
    if resume:
        stopped = Run.open(Path(resume))
        check_class(stopped, recipe_class)
        config = keep_measured_choices(keep_batch_sizes(config, stopped.config), stopped.config)
        open_last_checkpoint(stopped, recipe_class.recipe)
        read_kept_findings(stopped.folder)
    else:
        config = make_paths_absolute(config)
        check_init_weights(recipe_class, config)  # before anything is decoded
    if not is_main_process():
        logging.getLogger("stadia").setLevel(logging.ERROR)  # the first process warns for all
    resolved = opened.resolve(config) if opened is not None else None
    if opened is None or resolved is None:
        opened = (
            _open_resumed_data(recipe_class, config, console) if resume else open_data(recipe_class, config, console)
        )
        resolved = opened.config
    config, data = choose_fastest(resolved, opened.data, console), opened.data
    with announce_step(console, "checking the data"):
        findings = report_findings(find_data_findings(data, console, check_again=check_again), console, on_stop)
    if resume:
        run = Run.open(Path(resume))
        run.check_config(config, free=("start_from", *data_location_keys(config)))
        run.check_data(data.facts)
    else:
        run = Run.create(out, config.name, config, recipe=recipe_class.recipe, seed=config.seed, data=data.facts)
    with run.held():
        is_new = run.writes and not resume
        with discard_if_interrupted(run.folder) if is_new else contextlib.nullcontext():
            if is_new:
                run.note(**({OWN_CLASS: name} if (name := name_own_class(recipe_class)) else {}))
                write_findings(run.folder / "findings.jsonl", findings)
            with announce_step(console, "building the networks"):
                recipe = create_recipe(recipe_class, config, data, run)
            if is_new:
                _check_own_class(recipe, run, console)
            steps = TrainingPlan.from_loader(data.train, config.training).total_steps
            for note in list_late_starts(config, steps) if is_new else ():
                console.print(note, markup=False, highlight=False, soft_wrap=True)
            if is_new and steps >= FEW_STEPS and config.training.check_seconds:
                _check_losses(recipe, config, data, run, console, on_stop)
        begins()

        @torch.no_grad()
        def score() -> None:
            score_validation(load_recipe(run.folder, recipe_class), data, run, console)

        def keep_data() -> None:
            run.set_values(_list_locations(config))
            run.note(data=data.facts)
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
    _print_unchecked(note_unchecked_loss(recipe_class), console)
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


# -- findings


def find_data_findings(data: TrainingData, console: Console, *, check_again: bool) -> list[Finding]:
    """Return the findings of the data. Those of video are kept, and are used again where nothing changed since."""
    if not isinstance(data, VideoData):
        return data.findings()

    def announce(line: str) -> None:
        if is_main_process():
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return replace(data, findings_cache=FindingsCache.open(announce, check_again=check_again)).findings()


def replace_data_findings(run: Run, findings: list[Finding]) -> None:
    """Write the findings of the data over those of a resumed run. The lines that go are kept in `taken-back`."""
    if not run.writes:
        return
    path = run.folder / "findings.jsonl"
    before = read_text(path, expected=FINDINGS).splitlines(keepends=True) if path.exists() else []
    write_findings(path, [*findings, *read_kept_findings(run.folder)])
    now = set(read_text(path, expected=FINDINGS).splitlines(keepends=True))
    if gone := [line for line in before if line not in now]:
        write_text(run.taken_back / path.name, "".join(gone))


def report_findings(
    findings: list[Finding], console: Console, on_stop: OnStop, of: str = "checks of the data"
) -> list[Finding]:
    """Print findings above severity note, and notes of data that were not checked in time.

    Raises RunError on severity stop, unless `on_stop` is not HALT.
    """
    for finding in findings:
        if finding.severity is not Severity.NOTE or finding.code == DATA_NOT_CHECKED:
            line = f"{finding.severity}: {finding.code} {finding.measured}; {finding.fix}"
            console.print(line, markup=False, soft_wrap=True)
    stops = [finding for finding in findings if finding.severity is Severity.STOP]
    if stops and on_stop is OnStop.HALT:
        found = ", ".join(f"{finding.code} ({finding.measured})" for finding in stops)
        evidence = "the run's findings.jsonl, or `stadia check` --out DIR of data, show the evidence"
        fix = f"correct the cause ({evidence}), or train anyway {TRAIN_ANYWAY}"
        raise RunError(of, found=found, expected="no finding of severity stop", fix=fix)
    return findings


def data_location_keys(config: RecipeConfig) -> list[str]:
    """Return the keys of data paths and caches in every group of `data`; a resumed run may change them."""
    return list(_location_keys("data", config.model_dump(include={"data"}).get("data", {})))


def _open_resumed_data(recipe_class: type[AnyRecipe], config: RecipeConfig, console: Console) -> OpenedData:
    """Open the data of a run. Raises DataError, whose cure names the key of data that were moved."""
    try:
        return open_data(recipe_class, config, console)
    except DataError as error:
        missing = (key for key, value in _list_locations(config).items() if _is_missing(key, value))
        if (key := next(missing, None)) is None:
            raise
        fix = f"{error.fix}; or pass {key}=NEW where the data were moved"
        raise DataError(error.what, found=error.found, expected=error.expected, fix=fix) from error


def _list_locations(config: RecipeConfig) -> dict[str, Any]:
    """Return the absolute data paths and caches of a configuration by key: a resumed run keeps the new ones."""
    values = make_paths_absolute(config).model_dump(mode="json")
    return {key: reduce(lambda group, name: group[name], key.split("."), values) for key in data_location_keys(config)}


def _is_missing(key: str, value: object) -> bool:
    return not key.endswith(".cache") and isinstance(value, str) and bool(value) and not Path(value).exists()


def _location_keys(group: str, values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if key == "cache" or (key in DATA_PATH_KEYS and not isinstance(value, Mapping)):
            yield f"{group}.{key}"
        elif isinstance(value, Mapping):
            yield from _location_keys(f"{group}.{key}", value)


# -- loss checks before the first step


def _check_own_class(recipe: AnyRecipe, run: Run, console: Console) -> None:
    """Refuse a user's class whose weights no command loads; note its values and what the loss checks do not see."""
    if (base := build_base(recipe)) is None:
        return
    try:
        check_own_weights(recipe, base)
    except ConfigError as error:
        run.failed(error)
        raise
    run.note(**{OWN_VALUES: list_own_values(recipe, base)})
    notes = note_unchecked_loss(type(recipe))
    for note in notes:
        append_finding(run.folder / "findings.jsonl", note)
    _print_unchecked(notes, console)


def _check_losses(
    recipe: AnyRecipe, config: RecipeConfig, data: TrainingData, run: Run, console: Console, on_stop: OnStop
) -> None:
    """Run the loss checks and add their findings to the run. A finding with severity stop fails the run."""
    found = run_loss_checks(recipe, config, data, console)
    for finding in found:
        append_finding(run.folder / "findings.jsonl", finding)
    try:
        report_findings(found, console, on_stop, of=LOSS_CHECKS)
    except RunError as error:
        run.failed(error)
        raise


def run_loss_checks(recipe: AnyRecipe, config: RecipeConfig, data: TrainingData, console: Console) -> list[Finding]:
    """Return the findings of the loss checks. Changes neither the recipe nor the random number generators.

    recipe: about to be trained, with its initial weights.
    """
    with announce_step(console, "checking the losses"):
        found = _find_loss_findings(recipe, config, data)
        count = sum(one.code != NOT_CHECKED for one in found)
        where = " in what was checked" if count < len(found) else ""
        console.print(f"  {count or 'no'} finding{'s' * (count > 1)}{where}", highlight=False)
        _print_unchecked(found, console)
    return found


def _print_unchecked(findings: list[Finding], console: Console) -> None:
    """Print a line for each reason why something was not checked, with the fix where it is not the usual one."""
    unchecked: dict[tuple[str, str], list[str]] = {}
    for one in findings:
        if one.code == NOT_CHECKED:
            check, _, reason = one.measured.partition(": ")
            fix = "" if one.fix == CATALOG[NOT_CHECKED].fix else f"; {one.fix}"
            unchecked.setdefault((reason, fix), []).append(check)
    for (reason, fix), checks in unchecked.items():
        line = f"  not checked: {', '.join(dict.fromkeys(checks))} ({reason}){fix}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def list_out_of_time(findings: list[Finding]) -> tuple[str, ...]:
    """Return the names of the checks that the time limit left out."""
    notes = [one.measured for one in findings if one.code == NOT_CHECKED and TIME_LIMIT in one.measured]
    return tuple(dict.fromkeys(measured.partition(": ")[0] for measured in notes))


def _find_loss_findings(recipe: AnyRecipe, config: RecipeConfig, data: TrainingData) -> list[Finding]:
    started = time.monotonic()
    until = started + config.training.check_seconds - RESERVED_SECONDS
    training = config.training
    if training.threads is not None:
        torch.set_num_threads(training.threads)
    with seeds.preserve_generators():
        data.train.set_position(0, 0)
        batch = next(iter(data.train))
        device = select_device(training.accelerator)
        start = TrainingStart.prepare(
            recipe, batch, device, precision=training.precision, depth_range_m=recipe.depth_range_m
        )
        start.recipe.plan = TrainingPlan.from_loader(data.train, training)
        laws_until = started + LOSS_LAW_SHARE * (until - started)
        found = collect_findings("laws of the losses", "", lambda: _check_loss_laws(start, batch, laws_until))
        found += check_training_start(start, until - time.monotonic())
    return [_explain_time_limit(one, training.check_seconds) for one in found]


def _explain_time_limit(finding: Finding, seconds: float) -> Finding:
    """Return a note about a check that had no time with its cause and fix; any other finding unchanged.

    The stage of each note is set: a resume replaces the findings of the data.
    """
    if finding.code != NOT_CHECKED:
        return finding
    finding = replace(finding, stage=Stage.BEFORE_TRAINING)
    if TIME_LIMIT not in finding.measured:
        return finding
    cause = f"the checks before the first step have {seconds:g} s, and this machine was slow or busy"
    expected = "all checks within the time limit"
    return replace(finding, expected=expected, cause=cause, fix=describe_longer_checks(seconds))


def describe_longer_checks(seconds: float) -> str:
    """Return how checks that took longer than `training.check_seconds` get the time that they need."""
    fix = "run nothing else during the checks"
    if seconds >= MAX_CHECK_SECONDS:
        return fix
    longer = min(3 * seconds, MAX_CHECK_SECONDS)
    return f"set training.check_seconds={longer:g} (now {seconds:g}), or {fix}"


def _check_loss_laws(start: TrainingStart, batch: Batch[Any, Any], until: float) -> list[Finding]:
    with stop_at(until):  # a recipe may run its networks
        losses = start.recipe.loss_cases(batch)
    return check_losses(losses, until)
