"""Check a training before its first step: the user's own recipe class, the data and the losses."""

import time
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console

from stadia.core.errors import ConfigError, RunError
from stadia.core.progress import SHOWN_PROGRESS
from stadia.core.terminal import announce_step
from stadia.differentiable import torch_state
from stadia.differentiable.batch import Batch
from stadia.judge.catalog import CATALOG, NOT_CHECKED, SAMPLED, describe_case, make_not_checked
from stadia.judge.finding import TRAIN_ANYWAY, Finding, OnStop, Severity, Stage, append_finding, write_findings
from stadia.training.loop.batches import TrainingPlan, select_device
from stadia.training.loop.config import MAX_CHECK_SECONDS
from stadia.training.loop.fit import name_resume_call
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.loop.run_folder import Run
from stadia.training.loss_checks.loss_check_runner import check_losses, check_training_start, collect_findings, stop_at
from stadia.training.loss_checks.training_start import TrainingStart
from stadia.training.monitors.training_monitor import read_kept_findings
from stadia.training.recipes import RECIPES
from stadia.training.recipes.base.build_recipe import TrainingData
from stadia.training.recipes.base.config import RecipeConfig, without_pretrained

LOSS_CHECKS = "loss checks"
"""Name of the checks in findings and errors of a dry run."""

CHECKED_LOSSES = "loss checks of the training"
"""Name of the same checks in the error of a training that they stop."""

RESERVED_SECONDS = 2.0
"""One law of a loss, or a step, cannot be interrupted, and takes up to this time."""

LOSS_LAW_SHARE = 0.5
"""The laws of the losses get this share of the time, so that slow machines check the first step too."""


MAX_LISTED = 3
"""Names of weights that an error lists: enough to find the layer."""


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
        evidence = "look at findings.jsonl of the run or of `stadia check DATA --out DIR`"
        fix = f"correct the cause ({evidence}), or train anyway {TRAIN_ANYWAY}"
        raise RunError(checked, found=found, expected="no finding of severity stop", fix=fix)
    return findings


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
    with torch_state.preserve_generators():
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
    with torch_state.preserve_generators():
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


def check_own_class(recipe: AnyRecipe, run: Run | None, console: Console) -> None:
    """Raise ConfigError for a user's class whose weights no command can load, and print parts that the checks miss."""
    check_own_weights(recipe)
    notes = note_unchecked_loss(type(recipe))
    if run is not None:
        for note in notes:
            append_finding(run.folder / "findings.jsonl", note)
    print_unchecked(notes, console)
