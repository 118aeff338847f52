"""What `ablate` and `sweep` share: their options, the settings of each run, and the metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from stadia.cli.arguments import argument, option

if TYPE_CHECKING:
    pass


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
