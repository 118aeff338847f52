"""Plan the runs of an ablation: one change at a time against the base, each seed, equal budget. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from stadia.core.differences import Change, differences, that_matter
from stadia.core.errors import ConfigError, ConfigMistakes
from stadia.core.tables import nearest
from stadia.recipes import CONFIGS
from stadia.recipes.config import RecipeConfig
from stadia.recipes.studies.config import BASE, StudyConfig

LENGTHS = ("max_epochs", "max_steps", "stages")
FACTORS = ("batch_size", "accumulate", "devices")
"""Keys of `training` that define the budget: length, and samples per step."""

AS_MANY = (
    *(
        "augmentation",
        "cache",
        "color",
        "crop",
        "fresh",
        "ground_truth_depth",
        "height",
        "per_background",
        "placement",
        "sparse_depth",
    ),
    *("val_samples", "width"),
)
"""Keys of `data` that do not change the number of samples of an epoch."""

OF_THE_LOSS = ("val/loss", "val/term/", "val/residual")
"""Metrics that depend on the training loss."""

Resolve = Callable[[str, list[str]], RecipeConfig]


@dataclass(frozen=True)
class Planned:
    """One run: name of its folder, its change ("base"), its seed and its configuration."""

    name: str
    change: str
    seed: int
    config: dict[str, Any]


def plan(study: StudyConfig, resolve: Resolve) -> list[Planned]:
    """Return every run, ordered by seed, so that an interrupted study has complete pairs.

    resolve: returns the configuration of a recipe and `dotted.key=value` settings; raises ConfigMistakes.

    Raises ConfigError for a change that changes nothing, sets seed or name, or has another budget; ConfigMistakes with
    the name of the change.
    """
    runs = []
    for seed in study.seeds:
        for name, words in {BASE: (), **{name: change.set for name, change in study.changes.items()}}.items():
            run = f"{name}-seed{seed}"
            config = _resolved(resolve, study, name, [*study.base, *words, f"seed={seed}", f"name={run}"])
            runs.append(Planned(run, name, seed, config.model_dump(mode="json")))
    base = runs[0].config
    for name, one in zip(study.changes, runs[1:], strict=False):
        _check_change(name, study, base, one.config)
    return runs


def changed(base: dict[str, Any], config: dict[str, Any]) -> list[Change]:
    """Return the keys that a change sets, without those that no result depends on."""
    return that_matter(differences(base, config), ("seed",))


def of_the_yardstick(recipe: str, metric: str, changes: Sequence[Change]) -> list[Change]:
    """Return the changes that alter how `metric` is measured."""
    keys = CONFIGS.load(recipe).yardstick
    if metric.startswith(OF_THE_LOSS):
        keys = (*keys, "loss")
    return [change for change in changes if change.under(keys)]


def check_metric(recipe: str, metric: str) -> None:
    """Raise ConfigError, with the nearest name, for a metric that a recipe does not log.

    Only names of validation are checked; other columns and score files exist after a run.
    """
    known = [f"val/{name}" for name in CONFIGS.load(recipe).validation]
    if metric.startswith("val/"):
        name = metric.removeprefix("val/")
        of_one = name.partition("/")[2]  # of several data sets each has scores of its own, val/NAME/...
        if not known or any(fnmatchcase(f"val/{logged}", one) for logged in (name, of_one) for one in known):
            return
    elif "/" in metric or "." in metric:
        return
    near = nearest(metric if metric.startswith("val/") else f"val/{metric}", known)
    raise ConfigError(
        "metric",
        found=f"'{metric}', which no run of '{recipe}' has",
        expected=f"a column of metrics.csv ({', '.join(known) or 'val/...'}), or SCOREFILE.metric",
        fix=f"did you mean '{near}'?" if near else "name one of these",
    )


def samples(config: dict[str, Any]) -> int | None:
    """Return the number of training samples of a run; None if epochs define its length."""
    training = config["training"]
    if training.get("max_steps") is None or training.get("max_epochs") is not None:
        return None
    factors = [training.get(key, 1) for key in FACTORS]
    if not all(isinstance(factor, int) for factor in factors):
        return None
    count = int(training["max_steps"])
    for factor in factors:
        count *= factor
    return count


def _resolved(resolve: Resolve, study: StudyConfig, name: str, words: list[str]) -> RecipeConfig:
    try:
        return resolve(study.recipe, words)
    except ConfigMistakes as error:
        raise ConfigMistakes([f"{name}: {mistake}" for mistake in error.mistakes], fix="correct the study") from error


def _check_change(name: str, study: StudyConfig, base: dict[str, Any], config: dict[str, Any]) -> None:
    taken = [word.partition("=")[0] for word in study.changes[name].set]
    if own := [key for key in taken if key in ("seed", "name", "recipe")]:
        raise ConfigError(
            f"change '{name}'", found=f"'{own[0]}'", expected="keys of the recipe", fix="the study sets it"
        )
    changes = changed(base, config)
    if not changes:
        found = f"{', '.join(study.changes[name].set)}, which is what the base has"
        raise ConfigError(
            f"change '{name}'", found=found, expected="another value", fix="leave the change out, or change the base"
        )
    _check_time(name, study, base, config)
    if study.budget == "seconds":
        return
    of_budget = [change for change in changes if change.under([f"training.{key}" for key in (*LENGTHS, *FACTORS)])]
    ours, theirs = samples(base), samples(config)
    if ours is None:  # epochs and data define the length
        of_budget += [
            change
            for change in changes
            if change.under(["data"]) and not change.under([f"data.{key}" for key in AS_MANY])
        ]
    if of_budget and (ours is None or ours != theirs):
        sizes = "" if ours is None or theirs is None else f", {theirs:,} samples against {ours:,}"
        raise ConfigError(
            f"change '{name}'",
            found=f"another budget than the base ({'; '.join(map(str, of_budget))}{sizes})",
            expected="as many samples: steps x batch_size x accumulate x devices",
            fix=(
                "set training.max_steps (and max_epochs=null) so that they are equal, or compare at equal time with"
                " `budget: seconds`"
            ),
        )


def _check_time(name: str, study: StudyConfig, base: dict[str, Any], config: dict[str, Any]) -> None:
    """Raise ConfigError if a time limit may end runs of a study with budget "samples", or differs from the base."""
    ours, theirs = (one["training"].get("max_minutes") for one in (base, config))
    if ours != theirs or (study.budget == "samples" and theirs is not None):
        raise ConfigError(
            f"change '{name}'",
            found=f"training.max_minutes={theirs}, and {ours} of the base, with `budget: {study.budget}`",
            expected="the same of all runs with `budget: seconds`, else null",
            fix="compare at equal time with `budget: seconds` and training.max_minutes in `base`, or leave it out",
        )
