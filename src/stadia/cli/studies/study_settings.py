"""What `ablate` and `sweep` share: options, and the settings of each run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from stadia.cli.arguments import argument, option

UNFINISHED = 1
"""Exit code if a run of a study did not finish."""

PresetOption = Annotated[str | None, option("A preset of `stadia list presets`, or a YAML file; settings override it.")]
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
