"""`stadia sweep RECIPE --space SPACE.yaml`: search hyperparameters with Optuna. The same command resumes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def sweep(
    recipe: Annotated[str, typer.Argument(help="The recipe to train.", show_default=False)],
    base: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="A setting of every trial.", show_default=False)
    ] = None,
    space: Annotated[Path, typer.Option("--space", help="Ranges as YAML, see docs/experiments.md.")] = Path(
        "space.yaml"
    ),
    data: Annotated[Path | None, typer.Option("--data", help="Short for data.path=PATH.", show_default=False)] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", help="A column of metrics.csv; the recipe's best metric by default.", show_default=False
        ),
    ] = None,
    better: Annotated[
        str | None, typer.Option("--better", help="Whether lower or higher values are better.", show_default=False)
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Total number of trials.")] = 30,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the search.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="The folder of the sweep.")] = Path("studies/sweep"),
) -> None:
    """Search keys of a recipe. Trials with bad validation results are pruned. The same command resumes a search."""
    from stadia.core.files import check_writable
    from stadia.recipes.studies.sweep import Sweep, importance, proof, read_space

    metric, direction = _search_metric(recipe, metric, better)
    words = [*([f"data.path={data.expanduser().absolute()}"] if data else []), *(base or [])]
    search = Sweep(out, recipe, words, read_space(space), metric, direction, seed)
    check_writable(out)

    def resolved(given: Sequence[str]) -> Mapping[str, Any]:
        from stadia.cli.train import resolve_recipe, with_whole_paths

        return with_whole_paths(resolve_recipe(recipe, None, list(given), example={})).model_dump(mode="json")

    try:
        study = search.run(trials, resolved, lambda trial: typer.echo(_trial_line(trial, metric), err=True))
    except KeyboardInterrupt:
        typer.echo(f"stopped; the same command resumes the sweep in {out}", err=True)
        raise
    _print_trials(study, metric, direction)
    for key, share in importance(study).items():
        typer.echo(f"importance of {key}: {share:.0%}")
    if any(trial.value is not None for trial in study.trials):
        tried = f"{len(study.trials)} trial{'s' * (len(study.trials) > 1)}"
        typer.echo(
            f"The best of {tried} of one seed is a choice, no proof. To see whether it holds, from seeds that did not"
            " choose it:"
        )
        typer.echo(f"  {shlex.join(proof(search, study.best_trial))}")


def _search_metric(recipe: str, metric: str | None, better: str | None) -> tuple[str, Literal["lower", "higher"]]:
    """Return the metric and its better direction; by default the recipe's best metric. Raise ConfigError."""
    from stadia.core.errors import ConfigError
    from stadia.recipes.studies.plan import check_metric
    from stadia.report.wording import score

    if metric is None:
        from stadia.recipes import RECIPES

        best = RECIPES.load(recipe).best_metrics
        if not best:
            found, fix = (
                f"'{recipe}', which no metric chooses the best of",
                "name one: a column of metrics.csv, for example val/abs_rel",
            )
            raise ConfigError("--metric", found=found, expected="a metric", fix=fix)
        metric, better = best[0], better or "lower"  # the best metric of every recipe is an error
    if not metric.startswith("val/"):
        raise ConfigError(
            "--metric", found=repr(metric), expected="one of validation", fix="name a column of metrics.csv, val/..."
        )
    check_metric(recipe, metric)
    known = score(metric).better
    if (better or known) not in ("lower", "higher") or (better and known in ("lower", "higher") and better != known):
        expected = known if known in ("lower", "higher") else "lower or higher"
        raise ConfigError(
            "--better", found=f"{better or 'nothing'} of '{metric}'", expected=expected, fix="set --better"
        )
    return metric, "lower" if (better or known) == "lower" else "higher"


def _trial_line(trial: Any, metric: str) -> str:
    value = f", {metric} {trial.value:.5g}" if trial.value is not None else ""
    why = f" ({trial.user_attrs['why']})" if "why" in trial.user_attrs else ""
    return (
        f"trial {trial.number}: {trial.state.name.lower()}{value}{why},"
        f" {', '.join(f'{k}={v}' for k, v in trial.params.items())}"
    )


def _print_trials(study: Any, metric: str, better: str) -> None:
    """Print ended trials, best first, then the others."""
    from rich.console import Console
    from rich.table import Table

    keys = list(dict.fromkeys(key for trial in study.trials for key in trial.params))
    table = Table("trial", metric, *keys, "state")
    sign = 1 if better == "lower" else -1
    for trial in sorted(study.trials, key=lambda one: (one.value is None, sign * (one.value or 0))):
        value = "–" if trial.value is None else f"{trial.value:.5g}"
        table.add_row(
            str(trial.number), value, *(f"{trial.params.get(key, '–')}" for key in keys), trial.state.name.lower()
        )
    Console(width=140).print(table)
