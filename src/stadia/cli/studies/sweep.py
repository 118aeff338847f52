"""`stadia sweep`: search hyperparameters."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from stadia.cli.arguments import BetterOption, DataOption, MetricOption, argument, option
from stadia.cli.output import echo
from stadia.cli.studies.study_settings import UNFINISHED, BaseSettings, PresetOption, make_settings, resolve_run


def sweep(
    recipe: Annotated[str, argument("The recipe to train.")],
    base: BaseSettings = None,
    space: Annotated[Path, typer.Option(help="Ranges as YAML, see docs/how-to/experiments.md.")] = Path("space.yaml"),
    data: DataOption = None,
    preset: PresetOption = None,
    metric: MetricOption = None,
    better: BetterOption = None,
    trials: Annotated[int, typer.Option(min=1, help="Total number of trials.")] = 30,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed of the search.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder of the sweep.")] = Path("studies/sweep"),
    storage: Annotated[
        str | None, option("A database, postgresql://USER@HOST/NAME; a file in the folder by default.")
    ] = None,
) -> None:
    """Search the best values of a recipe's keys. The same command resumes."""
    from stadia.apps.studies.config import read_json_mapping
    from stadia.apps.studies.study_metric import check_has_depth, choose_expected_metric, choose_metric
    from stadia.apps.studies.sweep import Sweep, confirm_command, rank_keys, read_space
    from stadia.core.errors import ConfigError, ConfigMistakes
    from stadia.files.paths import check_writable
    from stadia.recipes.presets import preset_overrides, read_preset_for

    if recipe.endswith((".yaml", ".yml")):
        expected = f"`stadia sweep RECIPE --space {recipe}`"
        raise ConfigError("sweep", found=f"{recipe} as the recipe", expected=expected, fix="name the recipe first")
    names, direction = choose_metric(recipe, metric, better)
    if metric is not None and not metric.startswith("val/"):
        fix = "name a column of metrics.csv, val/..."
        raise ConfigError("--metric", found=repr(metric), expected="one of validation", fix=fix)

    def resolve(given: Sequence[str]) -> Mapping[str, Any]:
        return resolve_run(recipe, list(given)).model_dump(mode="json")

    words = preset_overrides(preset) if preset is not None and read_preset_for(recipe, preset) else ()
    settings, ranges, shared = [*words, *make_settings(data, base or [])], read_space(space), dict[str, Any]()
    with suppress(ConfigMistakes):  # a trial has the keys that are searched, too, and names what is wrong
        shared = dict(resolve(settings))
    record = out / "sweep.json"
    kept = read_json_mapping(record, "a sweep that stadia wrote").get("metric") if record.exists() else None
    if metric is not None and metric != kept:
        check_has_depth(metric, shared)
    name = kept if kept in names else choose_expected_metric(names, shared)
    search = Sweep(out, recipe, settings, ranges, name, direction, seed, storage)
    check_writable(out)

    try:
        study = search.run(
            trials,
            resolve,
            on_trial_end=lambda trial: echo(_trial_line(trial, name), err=True),
            on_wait=lambda reason: echo(reason, err=True),
        )
    except KeyboardInterrupt:
        echo(f"Stopped. The same command resumes {out}.", err=True)
        raise
    _print_trials(study, name, direction)
    for key, share in rank_keys(study).items():
        echo(f"importance of {key}: {share:.0%}")
    num_values = sum(trial.value is not None for trial in study.trials)
    if num_values:
        tried = f"{num_values} trial{'s' * (num_values > 1)}"
        echo(f"The best of {tried} may be luck. Test it with other seeds:")
        echo(f"  {shlex.join(confirm_command(search, study.best_trial))}")
        return
    logs, why = out / "logs", str(study.trials[0].user_attrs.get("why", "stopped"))
    fix = f"Read {logs}" if logs.is_dir() else f"Correct {space}, and pass another --out"
    echo(f"No trial has a value of {name} ({why}). {fix}.", err=True)
    raise typer.Exit(UNFINISHED)


def _trial_line(trial: Any, metric: str) -> str:
    value = f", {metric} {trial.value:.5g}" if trial.value is not None else ""
    why = f" ({trial.user_attrs['why']})" if "why" in trial.user_attrs else ""
    settings = ", ".join(f"{key}={setting}" for key, setting in trial.params.items())
    return f"trial {trial.number}: {trial.state.name.lower()}{value}{why}, {settings}"


def _print_trials(study: Any, metric: str, better: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    from stadia.process.terminal import Terminal

    keys = list(dict.fromkeys(key for trial in study.trials for key in trial.params))
    table = Table(*map(escape, ("trial", metric, *keys, "state")))
    sign = 1 if better == "lower" else -1
    for trial in sorted(study.trials, key=lambda trial: (trial.value is None, sign * (trial.value or 0))):
        value = "–" if trial.value is None else f"{trial.value:.5g}"
        settings = (escape(f"{trial.params.get(key, '–')}") for key in keys)
        table.add_row(str(trial.number), value, *settings, trial.state.name.lower())
    Terminal(width=140).print(table)
