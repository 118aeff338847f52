"""Train a recipe: `prepare` opens and checks the data, `run_training` trains, `report` scores. Also the dry run."""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from pydantic import ValidationError
from rich.console import Console

from stadia.core import seeds
from stadia.core.errors import ConfigError, DataError, RunError, StadiaError
from stadia.core.progress import SHOWN_PROGRESS
from stadia.core.signals import discard_if_interrupted
from stadia.core.terminal import StopSignals, Terminal, announce_step
from stadia.core.types import Batch
from stadia.data.config import DataConfig
from stadia.data.video.input_camera import choose_input_camera, is_own_video
from stadia.data.video.video_camera import read_image_size, read_user_intrinsics
from stadia.io.input_files import expand_home
from stadia.judge.catalog import CATALOG, NOT_CHECKED, SAMPLED, describe_case, make_not_checked
from stadia.judge.finding import TRAIN_ANYWAY, Finding, OnStop, Severity, Stage, append_finding, write_findings
from stadia.predict.tasks import score_validation
from stadia.training.keep import keep_better_start
from stadia.training.loop.batches import StagedBatches, TrainingPlan, scale_batch_size, select_device
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.loop.config import CHECK_SECONDS, MAX_CHECK_SECONDS, StageConfig, TrainingConfig
from stadia.training.loop.fit import (
    FEW_STEPS,
    name_resume_call,
    open_last_checkpoint,
    open_training,
    record_stop,
    run_training,
)
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
from stadia.training.loop.time_limit import CommandEnd
from stadia.training.loss_checks.loss_check_runner import check_losses, check_training_start, collect_findings, stop_at
from stadia.training.loss_checks.training_start import TrainingStart
from stadia.training.monitors.training_monitor import TrainingMonitor, read_kept_findings
from stadia.training.recipes import RECIPES
from stadia.training.recipes.base.build_recipe import (
    TrainingData,
    check_init_weights,
    create_recipe,
    init_recipe,
    load_recipe,
    record_failure,
)
from stadia.training.recipes.base.config import (
    DATA_PATH_KEYS,
    RecipeConfig,
    make_paths_absolute,
    replace_training,
    without_pretrained,
)
from stadia.training.step_measurement import DryRunResult, measure_steps

LOSS_CHECKS = "loss checks"

MAX_LISTED = 3


def choose_class(config: RecipeConfig, own: type[AnyRecipe] | None) -> type[AnyRecipe]:
    """Return the class that trains a configuration: the user's `own` one, or the recipe's. Raises ConfigError."""
    base: type[AnyRecipe] = RECIPES.load(config.recipe)
    given: object = base if own is None else own
    if isinstance(given, type) and issubclass(given, base) and given.recipe == config.recipe:
        return given
    name = given.__name__ if isinstance(given, type) else f"an object of {type(given).__name__}"
    of = getattr(given, "recipe", None)
    found = f"{name}, a class of '{of}'" if of else f"{name}, which derives from no recipe"
    fix = f"pass a class that derives from {base.__name__}, and keep its name '{config.recipe}' in `recipe`"
    raise ConfigError("recipe_class", found=found, expected=f"a class of '{config.recipe}'", fix=fix)


def name_own_class(recipe_class: type[AnyRecipe]) -> str | None:
    """Return the name of a user's class; None for a recipe's."""
    return None if RECIPES.load(recipe_class.recipe) is recipe_class else recipe_class.__qualname__


def check_class(stopped: Run, recipe_class: type[AnyRecipe]) -> None:
    """Raise RunError if another class trained a run that is to be resumed."""
    before, now = stopped.facts.recipe_class, name_own_class(recipe_class)
    if before != now:
        known = f"the recipe '{recipe_class.recipe}' itself"
        fix = "leave recipe_class out"
        if before:
            fix = f"resume it from Python, with its configuration: {name_resume_call(stopped.folder, before)}"
        raise RunError(stopped.folder, found=now or known, expected=f"{before or known}, which trained it", fix=fix)


def check_own_weights(recipe: AnyRecipe) -> None:
    """Raise ConfigError if a user's class has other weights than its recipe: no command could load them."""
    if not name_own_class(type(recipe)):
        return
    with seeds.preserve_generators():
        base: AnyRecipe = RECIPES.load(recipe.recipe)(without_pretrained(recipe.config))
    own = {name: tensor.shape for name, tensor in recipe.state_dict().items()}
    known = {name: tensor.shape for name, tensor in base.state_dict().items()}
    differing = sorted(name for name in own.keys() | known.keys() if own.get(name) != known.get(name))
    if differing:
        listed = ", ".join(differing[:MAX_LISTED]) + " ..." * (len(differing) > MAX_LISTED)
        raise ConfigError(
            "recipe_class",
            found=f"{type(recipe).__name__} with other weights: {listed}",
            expected=f"the weights of '{recipe.recipe}', which `stadia predict` loads",
            fix=(
                "put them into a depth network of your own (model.network=module:Class),"
                " or add a recipe (docs/how-to/add-a-recipe.md)"
            ),
        )


def note_unchecked_loss(recipe_class: type[AnyRecipe]) -> list[Finding]:
    """Return a note if a user's class changes `training_step` but not `loss_cases`."""
    base: type[AnyRecipe] = RECIPES.load(recipe_class.recipe)
    if recipe_class.training_step is base.training_step or recipe_class.loss_cases is not base.loss_cases:
        return []
    name = recipe_class.__name__
    reason = f"{name} changes training_step but not loss_cases, so its part of the loss is not checked"
    note = make_not_checked(LOSS_CHECKS, reason, case="own_training_step")
    return [replace(note, stage=Stage.BEFORE_TRAINING)]  # a resume replaces the findings of the data


CHECKED_LOSSES = "loss checks of the training"

RESERVED_SECONDS = 2.0
"""One law of a loss, or a step, cannot be interrupted, and takes up to this time."""

LOSS_LAW_SHARE = 0.5
"""The laws of the losses get this share of the time, so that slow machines check the first step too."""


def replace_data_findings(run: Run, findings: list[Finding]) -> None:
    """Replace the findings of the data in a resumed run."""
    if run.writes:
        write_findings(run.folder / "findings.jsonl", [*findings, *read_kept_findings(run.folder)])


def report_findings(
    findings: list[Finding], console: Console, on_stop: OnStop, checked: str = "checks of the data"
) -> list[Finding]:
    """Print findings above severity note, and notes of unchecked data.

    Raises RunError on severity stop if `on_stop` is HALT.
    """
    for finding in findings:
        if finding.severity is not Severity.NOTE or finding.code == SAMPLED:
            line = f"{finding.severity}: {finding.code} {finding.measured}; {finding.fix}"
            console.print(line, markup=False, soft_wrap=True)
            SHOWN_PROGRESS.finding = f"{finding.severity} {finding.code}"
    stops = [finding for finding in findings if finding.severity is Severity.STOP]
    if stops and on_stop is OnStop.HALT:
        found = ", ".join(f"{finding.code} ({finding.measured})" for finding in stops)
        evidence = "the run's findings.jsonl, or `stadia check` --out DIR of data, show the evidence"
        fix = f"correct the cause ({evidence}), or train anyway {TRAIN_ANYWAY}"
        raise RunError(checked, found=found, expected="no finding of severity stop", fix=fix)
    return findings


def check_own_class(recipe: AnyRecipe, run: Run | None, console: Console) -> None:
    """Raise ConfigError for a user's class whose weights no command can load, and print parts that the checks miss."""
    check_own_weights(recipe)
    notes = note_unchecked_loss(type(recipe))
    if run is not None:
        for note in notes:
            append_finding(run.folder / "findings.jsonl", note)
    print_unchecked(notes, console)


def check_run_losses(
    recipe: AnyRecipe, config: RecipeConfig, data: TrainingData, run: Run, console: Console, on_stop: OnStop
) -> None:
    """Run the loss checks and add their findings to the run. Raises RunError on severity stop."""
    findings = run_loss_checks(recipe, config, data, console)
    for finding in findings:
        append_finding(run.folder / "findings.jsonl", finding)
    report_findings(findings, console, on_stop, checked=CHECKED_LOSSES)


def run_loss_checks(recipe: AnyRecipe, config: RecipeConfig, data: TrainingData, console: Console) -> list[Finding]:
    """Return the findings of the loss checks of a new recipe, which stays unchanged."""
    with announce_step(console, "checking the losses"):
        findings = _find_loss_findings(recipe, config, data)
        count = sum(finding.code != NOT_CHECKED for finding in findings)
        where = " in what was checked" if count < len(findings) else ""
        console.print(f"  {count or 'no'} finding{'s' * (count > 1)}{where}", highlight=False)
        print_unchecked(findings, console)
    return findings


def print_unchecked(findings: list[Finding], console: Console) -> None:
    """Print a line for each reason why something was not checked."""
    unchecked: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        if finding.code == NOT_CHECKED:
            fix = "" if finding.fix == CATALOG[NOT_CHECKED].fix else f"; {finding.fix}"
            unchecked.setdefault((finding.evidence["reason"], fix), []).append(finding.evidence["check"])
    for (reason, fix), checks in unchecked.items():
        line = f"  not checked: {', '.join(dict.fromkeys(checks))} ({reason}){fix}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def list_out_of_time(findings: list[Finding]) -> tuple[str, ...]:
    """Return the names of the checks that the time limit left out."""
    return tuple(
        dict.fromkeys(finding.evidence["check"] for finding in findings if finding.evidence.get("is_out_of_time"))
    )


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
        camera = getattr(batch.inputs, "camera", None)
        limits_m = None if camera is None else recipe.depth_range_m(camera)
        start = TrainingStart.prepare(recipe, batch, device, precision=training.precision, depth_range_m=limits_m)
        start.recipe.plan = TrainingPlan.from_loader(data.train, training)
        laws_until = started + LOSS_LAW_SHARE * (until - started)
        findings = collect_findings("laws of the losses", "", lambda: _check_loss_laws(start, batch, laws_until))
        findings += check_training_start(start, until - time.monotonic())
    return [_explain_time_limit(finding, training.check_seconds) for finding in findings]


def _explain_time_limit(finding: Finding, seconds: float) -> Finding:
    if finding.code != NOT_CHECKED:
        return finding
    finding = replace(finding, stage=Stage.BEFORE_TRAINING)
    if not finding.evidence.get("is_out_of_time"):
        return finding
    values = {"seconds": f"{seconds:g}", "fix": describe_longer_checks(seconds)}
    late = describe_case(NOT_CHECKED, "out_of_time", values)
    return replace(finding, expected="all checks within the time limit", cause=late.cause, fix=late.fix)


def describe_longer_checks(seconds: float) -> str:
    """Return how to give checks longer than `training.check_seconds` more time."""
    fix = "run nothing else during the checks"
    if seconds >= MAX_CHECK_SECONDS:
        return fix
    longer = min(3 * seconds, MAX_CHECK_SECONDS)
    return f"set training.check_seconds={longer:g} (now {seconds:g}), or {fix}"


def _check_loss_laws(start: TrainingStart, batch: Batch[Any, Any], until: float) -> list[Finding]:
    with stop_at(until):  # a recipe may run its networks
        losses = start.recipe.loss_cases(batch)
    return check_losses(losses, until)


def open_data(recipe: type[AnyRecipe], config: RecipeConfig, console: Console) -> tuple[RecipeConfig, TrainingData]:
    """Print the data's paths, and prepare the recipe's data; with stages, the data of each stage combined.

    Validation and checks use the last stage's size. The returned configuration has every "auto" resolved.
    """
    config = choose_cameras(config, console)
    with announce_step(console, f"reading {name_data(config)}"):
        if not config.training.stages:
            return recipe.prepare(config, console)
        last = len(config.training.stages) - 1
        resolved, data = recipe.prepare(stage_config(config, last), console)
        config = replace_training(config, stages=choose_batch_sizes(config.training, len(data.train.samples)))
        quiet = Terminal(quiet=True)
        loaders = [recipe.prepare(stage_config(config, number), quiet)[1].train for number in range(last)]
        staged = StagedBatches([*loaders, data.train], config.training)
        resolved = resolved.model_copy(update={"training": config.training})
        return resolved, replace(data, train=staged)


def choose_cameras(config: RecipeConfig, console: Console) -> RecipeConfig:
    """Return the configuration with the cameras of your own videos, as `predict` chooses them.

    Prints an assumed camera with the warning of `predict`.
    """
    data: Any = getattr(config, "data", None)
    if not isinstance(data, DataConfig):
        return config

    def choose(data_set: Any) -> Any:
        path = expand_home(data_set.path)
        try:
            if not path.exists() or not is_own_video(path, data_set.format):
                return data_set
            camera = choose_input_camera(data_set.camera, path)
            known = read_user_intrinsics(camera.config, path, *read_image_size(path))
        except StadiaError:  # reported when the video is opened
            return data_set
        for line in camera.lines(known) if camera.is_assumed else ():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return data_set.model_copy(update={"camera": camera.config})

    others = {name: choose(data_set) for name, data_set in data.extra_datasets.items()}
    return config.model_copy(update={"data": choose(data).model_copy(update={"extra_datasets": others})})


def name_data(config: RecipeConfig) -> str:
    """Return the paths of the data."""
    data = config.model_dump().get("data", {})
    paths = [data_set.get("path") for data_set in (data, *data.get("extra_datasets", {}).values())]
    return ", ".join(map(str, filter(None, paths))) or f"the data of {config.recipe}"


# -- progressive resizing: the stages of a training

MIN_STAGE_STEPS = 100
"""A stage has at least this many steps, if its share of the samples allows it."""

SIZE_KEYS = frozenset({"height", "width"})


def check_stages(recipe: type[AnyRecipe], config: RecipeConfig) -> None:
    """Raise ConfigError if the recipe cannot train in these stages, before data are opened."""
    stages = config.training.stages
    if not stages:
        return
    data: Any = getattr(config, "data", None)
    if not recipe.supports_stages or not type(data).model_fields.keys() >= SIZE_KEYS:
        found, expected = f"stages for '{recipe.recipe}'", "a recipe that trains at any size"
        raise ConfigError("training.stages", found=found, expected=expected, fix="leave them out")
    if getattr(data, "extra_datasets", None):
        fix = "leave data.extra_datasets or the stages out"
        raise ConfigError("training.stages", found="several datasets", expected="one", fix=fix)
    if config.schedule.milestones_in == "epochs":
        found, fix = "schedule.milestones_in=epochs, which differ in length", "set milestones_in=fractions"
        raise ConfigError("training.stages", found=found, expected="milestones as fractions of the run", fix=fix)
    if (stages[-1].height, stages[-1].width) != (data.height, data.width):
        key, found = f"training.stages[{len(stages) - 1}]", f"{stages[-1].width}x{stages[-1].height}"
        expected = f"{data.width}x{data.height} (data.width, data.height), which validation and prediction have"
        raise ConfigError(key, found=found, expected=expected, fix="end with a stage of that size")
    for number in range(len(stages)):
        stage_config(config, number)


def stage_config(config: RecipeConfig, number: int) -> RecipeConfig:
    """Return the configuration of one stage. Raises ConfigError for an unsupported size."""
    stage, values = config.training.stages[number], config.model_dump(mode="json")
    batch_size = config.training.batch_size if stage.batch_size == "auto" else stage.batch_size
    values["data"] |= {"height": stage.height, "width": stage.width}
    values["training"] |= {"batch_size": batch_size, "stages": []}
    try:
        return type(config).model_validate(values)
    except ValidationError as error:
        mistakes = "; ".join(str(mistake["msg"]).removeprefix("Value error, ") for mistake in error.errors())
        raise ConfigError(
            f"training.stages[{number}]",
            found=f"{stage.width}x{stage.height} ({mistakes})",
            expected=f"a size that '{config.recipe}' can have",
            fix="change this stage's height and width",
        ) from error


def list_stages(config: RecipeConfig, data: TrainingData) -> list[tuple[RecipeConfig, TrainingData]]:
    """Return the configuration and the data of each stage; without stages, of the whole training."""
    if not isinstance(data.train, StagedBatches):
        return [(config, data)]
    return [
        (stage_config(config, number), replace(data, train=loader))  # type: ignore[type-var]
        for number, loader in enumerate(data.train.loaders)
    ]


def choose_batch_sizes(training: TrainingConfig, samples: int) -> tuple[StageConfig, ...]:
    """Return the stages with a number for each batch size "auto": as many pixels as in a batch of the last stage.

    A stage has at least MIN_STAGE_STEPS steps if `training.batch_size` allows them.

    samples: the training data.
    """
    last = training.stages[-1]
    step_samples = training.batch_size * training.grad_accumulation_steps
    lengths = [] if training.max_epochs is None else [training.max_epochs * samples]
    if training.max_steps is not None:
        lengths.append(training.max_steps * step_samples)
    stages = []
    for stage in training.stages[:-1]:
        size = stage.batch_size
        if size == "auto":
            stage_samples = int(stage.share * min(lengths))
            most = stage_samples // (training.grad_accumulation_steps * MIN_STAGE_STEPS)
            equal_pixels = scale_batch_size(stage, last, training.batch_size)
            size = min(equal_pixels, samples, max(most, training.batch_size))
        stages.append(stage.model_copy(update={"batch_size": size}))
    return (*stages, last.model_copy(update={"batch_size": training.batch_size}))


# -- a resumed run: its data may have been moved


def open_resumed_data(
    recipe_class: type[AnyRecipe], config: RecipeConfig, console: Console
) -> tuple[RecipeConfig, TrainingData]:
    """Open the data of a run. Raises DataError, whose fix names the key of data that were moved."""
    try:
        return open_data(recipe_class, config, console)
    except DataError as error:
        places = list_data_locations(config).items()
        missing = (key for key, value in places if _is_missing(key, value) and str(value) in error.where)
        if (key := next(missing, None)) is None:
            raise
        moved = f"if the data were moved, pass {key}=NEW"
        fix = f"{error.fix}; or {moved}" if error.fix else moved
        raise DataError(error.where, found=error.found, expected=error.expected, fix=fix) from error


def list_movable_keys(config: RecipeConfig, run: Run) -> list[str]:
    """Return the keys that a resumed run may change: data paths, caches, detected formats."""
    detected = [key for key, value in _find_values(run.config, {"format"}) if value == "auto"]
    return [*list_data_locations(config), *detected]


def list_data_locations(config: RecipeConfig) -> dict[str, Any]:
    """Return the absolute data paths and caches of a configuration by key."""
    values = make_paths_absolute(config).model_dump(mode="json")
    return dict(_find_values(values, {*DATA_PATH_KEYS, "cache"}))


def list_data_formats(config: RecipeConfig) -> dict[str, Any]:
    """Return the formats of data by key."""
    return dict(_find_values(config.model_dump(mode="json"), {"format"}))


def _is_missing(key: str, value: object) -> bool:
    return not key.endswith(".cache") and isinstance(value, str) and bool(value) and not Path(value).exists()


def _find_values(config: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[str, Any]]:
    yield from _find_in_group("data", config.get("data", {}), names)


def _find_in_group(group: str, values: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name in names and (name == "cache" or not isinstance(value, Mapping)):  # Only a cache may be a group.
            yield f"{group}.{name}", value
        elif isinstance(value, Mapping):
            yield from _find_in_group(f"{group}.{name}", value, names)


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
    check_seconds = config.training.check_seconds or CHECK_SECONDS  # a dry run always checks the losses
    findings = run_loss_checks(recipe, replace_training(config, check_seconds=check_seconds), data, console)
    report_findings(findings, console, on_stop, checked=LOSS_CHECKS)
    del recipe  # the steps' peak of memory excludes it
    with announce_step(console, "training three steps"):
        stages = [measure_steps(prepared.recipe_class, *stage) for stage in list_stages(config, data)]
    return DryRunResult(
        device=stages[-1].device,
        peak_bytes=tuple(peak for stage in stages for peak in stage.peak_bytes),
        seconds=tuple(step_s for stage in stages for step_s in stage.seconds),
        not_checked=list_out_of_time(findings),
    )


# -- prepare: refuse all mistakes before there is a run


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


# -- build: the networks, and the checks of their losses


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


# -- report: the scores of the best checkpoint


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
