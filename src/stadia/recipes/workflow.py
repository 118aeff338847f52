"""What every training goes through: open the data, check it, train, score what validates."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from rich.console import Console

from stadia.core.errors import CheckpointError, RunError
from stadia.core.types import Predictor
from stadia.diagnostics.finding import Finding, OnStop, Severity, add_finding, write_findings
from stadia.diagnostics.watch import Watch, found_while_training
from stadia.recipes import CONFIGS, RECIPES
from stadia.recipes.config import RecipeConfig, without_pretrained
from stadia.recipes.contract import contract
from stadia.recipes.recipe import AnyRecipe, TrainingData
from stadia.recipes.stages import as_settled, check_stages, prepare
from stadia.recipes.starting import build_task as build_task
from stadia.recipes.starting import check_start, started_task
from stadia.training.checkpoints import Checkpoint, load_weights
from stadia.training.fit import FEW_STEPS, check_precision, fit
from stadia.training.run import Run, is_main_process
from stadia.training.stream import Plan

CONTRACT = "contract of the training"

SAMPLED = "N02"
"""The note that some of the data were not looked at in time."""


def train(
    config: RecipeConfig,
    *,
    out: Path = Path("runs"),
    resume: Path | None = None,
    on_stop: OnStop = OnStop.HALT,
    ended: Callable[[Run], object] = lambda run: None,
) -> Run:
    """Check the data, train, and score the validation recordings with the best checkpoint.

    Args:
        config: of a recipe, as `stadia.recipes.configure` gives it.
        out: the folder that gets a new folder for this run.
        resume: a run's folder, to go on in it; its configuration must be this one.
        on_stop: what to do where a finding says stop, of the data or while it trains.
        ended: told of the run when it has ended, well or not; to build its report.

    Raises RunError where a check says stop, and what opening the data and `fit` raise.
    """
    console = Console(stderr=True)
    recipe: type[AnyRecipe] = RECIPES.load(config.recipe)
    check_stages(recipe, config)
    check_precision(config.training)
    if resume:
        config = as_settled(config, Run.open(resume).config)
    else:
        check_start(recipe, config)  # before anything is decoded
    if not is_main_process():
        logging.getLogger("stadia").setLevel(logging.ERROR)  # the first process warns for all
    config, data = prepare(recipe, config, console)
    findings = report_findings(data.findings(), console, on_stop)
    if resume:
        run = Run.open(resume)
        run.check_config(config, free=("start_from", *where_it_lies(config)))
        run.check_data(data.facts)
    else:
        run = Run.create(out, config.name, config, recipe=recipe.recipe, seed=config.seed, data=data.facts)
    with run.held():
        if run.writes:
            write_findings(run.folder / "findings.jsonl", [*findings, *found_while_training(run.folder)])
        task = started_task(recipe, config, data, run)
        if resume is None and run.writes and Plan.of(data.train, config.training).total_steps >= FEW_STEPS:
            _contracted(task, config, data, run, console, on_stop)

        @torch.no_grad()
        def score() -> None:
            load_task(run.folder).score(data, run, console)

        try:
            fit(
                task,
                data.train,
                data.val,
                config.training,
                run,
                resume=resume is not None,
                callbacks=[Watch(run, console, on_stop)],
                console=console,
                finish=score,
            )
        except BaseException:
            with contextlib.suppress(Exception):  # nothing may hide why it ended
                ended(run)
            raise
        ended(run)
    return run


def _contracted(
    task: AnyRecipe, config: RecipeConfig, data: TrainingData, run: Run, console: Console, on_stop: OnStop
) -> None:
    """Hold a training to its contract, and add what is found to the run's findings. Where it says stop the run has
    failed.
    """
    found = contract(task, config, data, console)
    for finding in found:
        add_finding(run.folder / "findings.jsonl", finding)
    try:
        report_findings(found, console, on_stop, of=CONTRACT)
    except RunError as error:
        run.failed(error)
        raise


def where_it_lies(config: RecipeConfig) -> list[str]:
    """The keys that say where data are and are kept, in every group of `data`: a resumed run may find them elsewhere."""
    return list(_where("data", config.model_dump(include={"data"}).get("data", {})))


def _where(group: str, values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if key == "cache" or (key == "path" and not isinstance(value, Mapping)):
            yield f"{group}.{key}"
        elif isinstance(value, Mapping):
            yield from _where(f"{group}.{key}", value)


def report_findings(
    findings: list[Finding], console: Console, on_stop: OnStop, of: str = "checks of the data"
) -> list[Finding]:
    """Print what is more than a note, and what there was no time to look at. Raises RunError where one says stop,
    unless told otherwise.
    """
    for finding in findings:
        if finding.severity is not Severity.NOTE or finding.code == SAMPLED:
            console.print(
                f"{finding.severity}: {finding.code} {finding.measured}; {finding.fix}", markup=False, soft_wrap=True
            )
    stops = [finding for finding in findings if finding.severity is Severity.STOP]
    if stops and on_stop is OnStop.HALT:
        raise RunError(
            of,
            found=", ".join(f"{finding.code} ({finding.measured})" for finding in stops),
            expected="none that says stop",
            fix=(
                "the run's findings.jsonl, or `stadia check` --out DIR of data, show the evidence; --on-stop warn"
                " trains all the same"
            ),
        )
    return findings


def load_predictor(checkpoint: Path, size: tuple[int, int] | None = None) -> Predictor:
    """What a trained recipe predicts of images: depth, and motion where it has one.

    size: (height, width) of what its networks are shown; by default the training's.
    Raises as `load_task`, CheckpointError for one without depth, ConfigError for a size that its networks cannot take.
    """
    task = load_task(checkpoint)
    predictor = task.predictor(size)
    if predictor is None:
        raise CheckpointError(
            checkpoint,
            found=f"a checkpoint of '{task.recipe}', which predicts no depth",
            expected="one that does",
            fix="pass another",
        )
    return predictor


def load_task(checkpoint: Path) -> AnyRecipe:
    """A trained recipe from a checkpoint or a run's folder (its best, else its last).

    Raises CheckpointError where it is missing, damaged, of no known recipe, or does not fit its own configuration.
    """
    opened = Checkpoint.open(Path(checkpoint))
    recipe = opened.header.recipe
    if recipe not in RECIPES:
        raise CheckpointError(
            opened.path,
            found=f"a checkpoint of '{recipe}'",
            expected=f"one of {', '.join(RECIPES)}",
            fix="update stadia, or pass another",
        )
    try:
        config = CONFIGS.load(recipe).model_validate(opened.header.config)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise CheckpointError(
            opened.path,
            found=f"a configuration with a wrong '{key}'",
            expected="one of this version",
            fix="train again",
        ) from error
    task: AnyRecipe = RECIPES.load(recipe)(without_pretrained(config))
    load_weights(opened, task, recipe=recipe)
    return task.eval()
