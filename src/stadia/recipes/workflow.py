"""The workflow of a training: open the data, check it, train, score the validation data."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from rich.console import Console

from stadia.core.config import list_renamed_keys
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

CONTRACT = "loss checks of the training"

SAMPLED = "N02"
"""Code of the note about data that were not checked in time."""


def train(
    config: RecipeConfig,
    *,
    out: Path = Path("runs"),
    resume: Path | None = None,
    on_stop: OnStop = OnStop.HALT,
    ended: Callable[[Run], object] = lambda run: None,
) -> Run:
    """Check the data, train, and score the validation data with the best checkpoint.

    Args:
        config: of a recipe, from `stadia.recipes.configure`.
        out: folder that gets a new folder for this run.
        resume: a run's folder to resume; its configuration must be equal.
        on_stop: what to do on a finding with severity stop, of the data or during training.
        ended: called with the run when it ends, also after an error; builds the report.

    Raises RunError on a finding with severity stop, and the errors of opening the data and of `fit`.
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
            _check_losses(task, config, data, run, console, on_stop)

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


def _check_losses(
    task: AnyRecipe, config: RecipeConfig, data: TrainingData, run: Run, console: Console, on_stop: OnStop
) -> None:
    """Run the loss checks and add their findings to the run. A finding with severity stop fails the run."""
    found = contract(task, config, data, console)
    for finding in found:
        add_finding(run.folder / "findings.jsonl", finding)
    try:
        report_findings(found, console, on_stop, of=CONTRACT)
    except RunError as error:
        run.failed(error)
        raise


def where_it_lies(config: RecipeConfig) -> list[str]:
    """Return the keys of data paths and caches in every group of `data`; a resumed run may change them."""
    return list(_location_keys("data", config.model_dump(include={"data"}).get("data", {})))


def _location_keys(group: str, values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if key == "cache" or (key == "path" and not isinstance(value, Mapping)):
            yield f"{group}.{key}"
        elif isinstance(value, Mapping):
            yield from _location_keys(f"{group}.{key}", value)


def report_findings(
    findings: list[Finding], console: Console, on_stop: OnStop, of: str = "checks of the data"
) -> list[Finding]:
    """Print findings above severity note, and notes of data that were not checked in time.

    Raises RunError on severity stop, unless `on_stop` is not HALT.
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
            expected="none with severity stop",
            fix=(
                "the run's findings.jsonl, or `stadia check` --out DIR of data, show the evidence; --on-stop warn"
                " trains all the same"
            ),
        )
    return findings


def load_predictor(checkpoint: Path, size: tuple[int, int] | None = None) -> Predictor:
    """Return a predictor of a trained recipe: depth, and motion if it was trained.

    size: (height, width) of the network; default: the training's.
    Raises the errors of `load_task`, CheckpointError without depth, ConfigError for an unsupported size.
    """
    task = load_task(checkpoint)
    predictor = task.predictor(size)
    if predictor is None:
        raise CheckpointError(
            checkpoint,
            found=f"a checkpoint of '{task.recipe}', which predicts no depth",
            expected="a recipe that does",
            fix="pass another checkpoint",
        )
    return predictor


def load_task(checkpoint: Path) -> AnyRecipe:
    """Load a trained recipe from a checkpoint or a run's folder (its best checkpoint, else its last).

    Raises CheckpointError if it is missing, damaged, of an unknown recipe, or does not fit its own configuration.
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
            found="; ".join(list_renamed_keys(opened.header.config)) or f"a configuration with a wrong '{key}'",
            expected="one of this version",
            fix="train again",
        ) from error
    task: AnyRecipe = RECIPES.load(recipe)(without_pretrained(config))
    load_weights(opened, task, recipe=recipe)
    return task.eval()
