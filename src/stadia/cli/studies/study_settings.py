"""What `ablate` and `sweep` share: their options, the settings of each run, and the metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from stadia.cli.arguments import argument, option

if TYPE_CHECKING:
    from stadia.metrics.statistics import Better


UNFINISHED = 1
"""The command exits with this code where a run of a study did not finish."""

PresetOption = Annotated[str | None, option("A name of `stadia list presets`, or a YAML file, under all settings.")]
EngineOption = Annotated[str | None, option("What trains the runs: local (default), ray, slurm.")]
BaseSettings = Annotated[list[str] | None, argument("A setting of every run.", metavar="KEY=VALUE")]


def make_settings(data: Path | None, words: Sequence[str]) -> list[str]:
    """Return settings of every run, with `--data` as a setting."""
    from stadia.files.paths import make_absolute

    return [*([f"data.path={make_absolute(data)}"] if data else []), *words]


def resolve_run(recipe: str, words: list[str]) -> Any:
    """Return the configuration of a recipe and `dotted.key=value` settings, with absolute paths."""
    from stadia.cli.train import resolve_recipe
    from stadia.recipes.base.config import make_paths_absolute

    return make_paths_absolute(resolve_recipe(recipe, None, words, example={}))


def choose_metric(recipe: str, metric: str | None, better: str | None) -> tuple[tuple[str, ...], Better]:
    """Return the names of the metric, by default the recipe's best ones, and its better direction.

    The first name that a run has counts. Raises ConfigError where either is unknown, or they contradict each other.
    """
    from stadia.apps.studies.config import check_metric
    from stadia.core.errors import ConfigError
    from stadia.recipes import RECIPES
    from stadia.report.metric_labels import metric_label

    if metric is not None:
        check_metric(recipe, metric)
    names = RECIPES.load(recipe).best_metrics if metric is None else (metric,)
    if not names:
        found, fix = f"'{recipe}', which has no best metric", "set --metric: a column of metrics.csv, as val/abs_rel"
        raise ConfigError("metric", found=found, expected="a metric", fix=fix)
    label = "lower" if metric is None else metric_label(metric).better  # the best metric of every recipe is an error
    valid = (label,) if label in ("lower", "higher") else ("lower", "higher")
    direction = better or label
    if direction not in valid:
        found = f"{better or 'nothing'} of '{names[0]}'"
        raise ConfigError("better", found=found, expected=" or ".join(valid), fix="set --better")
    return names, "lower" if direction == "lower" else "higher"
