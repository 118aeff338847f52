"""Monitors read the names that recipes log: of a loss alone, and of one that `combine_losses` added to others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from mutations import output_logs, training_logs
from mutations.mutation import MutationCase
from mutations.training_logs import LogRows

import stadia
from stadia.diagnostics.finding import Finding
from stadia.losses.loss_report import LossReport, combine_losses
from stadia.recipes import CONFIGS
from stadia.recipes.metric.recipe import MetricRecipe

CASES = (*training_logs.ROWS, *output_logs.ROWS)

LOOP_VALUES = {"train/loss", "train/lr", "train/gradient_norm", "train/update_ratio"}
"""Logged by the training loop itself, so under one name whatever the loss."""

LOGGING_PACKAGES = ("losses", "training", "evaluation", "metrics", "recipes", "objectpose", "overlay")


def combined_name(name: str) -> str:
    """Return the name of a value of `selfsup` in the recipe `metric`, as `combine_losses` makes it."""
    group, _, value = name.partition("/")
    if group != "train" or value.startswith("metric/") or name in LOOP_VALUES:
        return name
    zero, term = torch.zeros(()), value.removeprefix("term/")
    report = LossReport(zero, {term: zero}, {}, logged={value: zero})
    combined = combine_losses({MetricRecipe.base_recipe: (1.0, report)})
    return f"train/term/{next(iter(combined.terms))}" if term != value else f"train/{next(iter(combined.logged))}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_monitors_read_the_values_of_a_combined_loss(
    case: MutationCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure that is named in `selfsup` is also named in a recipe that adds losses to it."""
    run_monitors, names = training_logs.run_monitors, set[str]()

    def run_combined(folder: Path, course: LogRows = (), losses: Iterable[float] = ()) -> list[Finding]:
        names.update(*(row for _, row in course))
        rows = [(step, {combined_name(name): value for name, value in row.items()}) for step, row in course]
        return run_monitors(folder, rows, losses, MetricRecipe.base_recipe)

    monkeypatch.setattr(training_logs, "run_monitors", run_combined)
    found = case.broken(tmp_path)
    if not any(name.startswith("train/weight/") for name in names):  # of `overlay`, whose loss is not combined
        assert found[:1], "no finding"
        assert found[0].code in case.codes


def test_recipes_log_every_monitored_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the mutations hold what monitors read: each name is one that the code logs or a recipe declares."""
    names: set[str] = set()

    def collect(folder: Path, course: LogRows = (), losses: Iterable[float] = ()) -> list[Any]:
        names.update(*(row for _, row in course))
        return []

    monkeypatch.setattr(training_logs, "run_monitors", collect)
    for case in CASES:
        case.broken(tmp_path)
    declared = [f"val/{pattern}" for name in CONFIGS for pattern in CONFIGS.load(name).validation]
    declared += [name.replace("val/", "val/?/", 1) for name in declared]  # of one of several data sets
    root = Path(stadia.__file__).parent
    source = "".join(path.read_text() for package in LOGGING_PACKAGES for path in root.glob(f"{package}/**/*.py"))
    logged = set(re.findall(r"""["']([a-z0-9_/]+?)/?["'{]""", source))
    unknown = {name for name in names if not any(fnmatch(name, pattern) for pattern in declared)}
    assert {name for name in unknown if not possible_literals(name) & logged} == set()


def possible_literals(name: str) -> set[str]:
    """Return the strings by which code may log a name: whole, and without the source or scale at its end."""
    value = re.sub(r"^(train|time|gradient|speed)/(term/)?", "", name.removesuffix("_s"))
    groups = {name.rpartition("/")[0], value.rpartition("/")[0]}
    return {name, value, value.removeprefix("metric/"), *groups} - {"", "train", "val"}
