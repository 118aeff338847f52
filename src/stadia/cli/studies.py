"""Commands that train many runs: `stadia ablate` compares changes, `stadia sweep` searches hyperparameters."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.options import (
    BetterOption,
    DataOption,
    MetricOption,
    VerboseOption,
    argument,
    flag,
    number,
    option,
    refuse_options,
)
from stadia.cli.output import echo

if TYPE_CHECKING:
    from stadia.training.studies.ablation import Ablation, JudgedStudy
    from stadia.training.studies.config import PlannedRun, StudyConfig
    from stadia.training.studies.launch import Job, Launch

UNFINISHED = 1
"""Exit code if a run of a study did not finish."""

PresetOption = Annotated[str | None, option("A preset of `stadia list presets`, or a YAML file; settings override it.")]
BaseSettings = Annotated[list[str] | None, argument("A setting of every run.", metavar="KEY=VALUE")]


def make_settings(data: Path | None, words: Sequence[str]) -> list[str]:
    """Return the settings that all runs of a study share.

    data: path of the option `--data`, which becomes a setting; or None.
    words: further `KEY=VALUE` settings.
    """
    from stadia.io.input_files import make_absolute

    return [*([f"data.path={make_absolute(data)}"] if data else []), *words]


def resolve_run(recipe: str, words: list[str]) -> Any:
    """Return the complete configuration of a run, with absolute paths.

    recipe: kind of training.
    words: `dotted.key=value` settings.
    """
    from stadia.cli.train import resolve_recipe
    from stadia.training.recipes.base.config import make_paths_absolute

    return make_paths_absolute(resolve_recipe(recipe, None, words, example={}))


def ablate(
    context: typer.Context,
    study: Annotated[Path | None, argument("A study as YAML, see docs/how-to/experiments.md.")] = None,
    base: BaseSettings = None,
    change: Annotated[list[str] | None, option('A change as "NAME: KEY=VALUE ..."; repeatable.')] = None,
    recipe: Annotated[str | None, option("The recipe to train.")] = None,
    data: DataOption = None,
    preset: PresetOption = None,
    seeds: Annotated[str | None, option("Seeds of every change, such as 0,1,2,3,4.")] = None,
    metric: MetricOption = None,
    better: BetterOption = None,
    margin: Annotated[float | None, number("The smallest relevant difference.")] = None,
    until: Annotated[float | None, number("Add seeds until the interval is below |effect| or this.")] = None,
    max_seeds: Annotated[int | None, number("The most seeds with --until.")] = None,
    name: Annotated[str | None, option("Name of the study and its folder.")] = None,
    out: Annotated[Path, typer.Option(help="The folder for studies.")] = Path("studies"),
    jobs: Annotated[int, typer.Option(min=1, help="Number of parallel runs, which share the cores.")] = 1,
    reuse: Annotated[
        list[Path] | None, option("A study's folder whose equal runs are reused.", metavar="STUDY")
    ] = None,
    retry_failed: Annotated[bool, flag("--retry-failed", "Run failed runs again.")] = False,
    scores: Annotated[bool, flag("--scores", "Score and judge each run at its end.")] = False,
    dry_run: Annotated[bool, flag("--dry-run", "Print the planned runs and stop.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Test which changes help, over several seeds. The same command resumes."""
    if dry_run:
        idle = ("jobs", "reuse", "retry_failed", "verbose")
        refuse_options(context, idle, found="no effect with --dry-run, which trains nothing", expected="a study")
    from stadia.io.input_files import check_writable
    from stadia.training.recipes.presets import preset_overrides, read_preset, read_preset_for
    from stadia.training.studies.ablation import Ablation
    from stadia.training.studies.config import read_study
    from stadia.training.studies.study_folder import StudyFolder
    from stadia.training.studies.study_metric import check_has_depth, choose_metric

    words = list(base or [])
    if study is not None and "=" in str(study):  # STUDY is left out: the first word is a setting
        words, study = [str(study), *words], None
    if recipe is None and study is None and preset is not None:
        recipe = str(read_preset(preset)["recipe"])
    given: dict[str, Any] = {"recipe": recipe, "metric": metric, "better": better, "margin": margin}
    given |= {"scores": True if scores else None, "until": until, "max_seeds": max_seeds}
    given |= {
        "name": name or (None if study else "study"),
        "seeds": _numbers(seeds),
        "base": make_settings(data, words),
    }
    config = read_study(study, given, change or [], preset=preset_overrides(preset) if preset is not None else ())
    if preset is not None:
        read_preset_for(config.recipe, preset)
    if config.until is None:
        refuse_options(context, ["max_seeds"], found="no effect without --until", expected="a study that adds seeds")
    folder = StudyFolder(out / config.name)
    config, runs = folder.plan(config, resolve_run)
    metrics, direction = choose_metric(config.recipe, config.metric, config.better)
    if config.metric is not None:
        check_has_depth(config.metric, runs[0].config)
    if dry_run:
        _print_plan(config, runs, metrics)
        return
    check_writable(out)
    folder.write(config, runs)
    ablation = Ablation(config, folder, runs, metrics, direction)
    train = partial(_train_runs, _choose_launch(jobs), reuse or [], retry_failed)
    try:
        train(ablation)
        while changes := ablation.find_open_changes():
            ablation = ablation.add_seed(changes, resolve_run)
            echo(f"Seed {ablation.config.seeds[-1]}: {', '.join(changes)} undecided", err=True)
            train(ablation)
    except KeyboardInterrupt:
        echo(f"Stopped. The same command resumes {folder.root}.", err=True)
        raise
    for run_name, report in ablation.write_missing_reports().items():
        echo(f"{run_name}: wrote the missing report {report}", err=True)
    judged = ablation.judge()
    _print_verdicts(config.name, direction, judged, verbose=verbose)
    if judged.unfinished:
        fix = "The same command resumes them; add --retry-failed for failed runs."
        echo(f"{judged.unfinished} of {len(ablation.runs)} runs did not finish. {fix}", err=True)
        raise typer.Exit(UNFINISHED)


def _train_runs(launch: Launch, reuse: Sequence[Path], retry_failed: bool, ablation: Ablation) -> None:
    from stadia.training.studies.study_folder import StudyFolder

    for root in reuse:
        for run_name in ablation.folder.reuse(StudyFolder(root), ablation.runs):
            echo(f"{run_name}: reused from {root}", err=True)
    jobs = ablation.list_jobs(retry_failed=retry_failed)
    echo(f"{ablation.folder.root}: {len(ablation.runs)} runs, {len(jobs)} to train", err=True)
    ablation.train(launch, jobs, _print_run)


def _numbers(text: str | None) -> list[Any] | None:
    from stadia.core.config import parse_value

    return None if text is None else [parse_value(word) for word in text.split(",") if word]


def _choose_launch(jobs: int) -> Launch:
    from stadia.training.studies.launch import run_here

    return partial(run_here, at_once=jobs)


def _print_plan(study: StudyConfig, runs: Sequence[PlannedRun], metrics: Sequence[str]) -> None:
    from stadia.metrics.statistics import detectable_difference
    from stadia.training.studies.ablation import evaluation_notes
    from stadia.training.studies.config import changed_keys, count_samples
    from stadia.training.studies.study_metric import choose_expected_metric

    samples, num_changes, num_seeds = count_samples(runs[0].config), len(study.changes), len(study.seeds)
    length = f"{samples:,} samples each" if samples else "as many epochs each"
    metric = choose_expected_metric(metrics, runs[0].config)
    changes = f"{num_changes} change{'s' * (num_changes > 1)}"
    echo(f"{len(runs)} runs of {length}: base and {changes}, compared in {metric}")
    for run in runs[1 : 1 + num_changes]:
        keys = changed_keys(runs[0].config, run.config)
        echo(f"  {run.change}: {'; '.join(map(str, keys))}")
        for note in evaluation_notes(study.recipe, metric, keys, runs[0].config):
            echo(f"    Not comparable. {note}")
    size = f"{detectable_difference(1.0, num_seeds, alpha=study.alpha / num_changes):.2g} standard deviations"
    echo(f"{num_seeds} seeds detect a difference of {size} in 4 of 5 studies")
    if study.until is not None:
        until = f"until the interval is below |effect| or {study.until:g}"
        echo(f"Then seeds are added, {study.max_seeds} at most, {until}")


def _print_run(job: Job, code: int, row: Mapping[str, Any], left: int) -> None:
    value = "no value" if row["value"] is None else f"{row['metric']} {row['value']:.5g}"
    cause = "" if row["status"] in ("finished", "failed") else f" (exit code {code}: see {job.log})"
    echo(f"{job.name}: {row['status']}{cause}, {value}; {left} to go", err=True)


MAX_LINES = 17
"""Most verdicts that are printed without `--verbose`, so that the output fits 20 lines."""


def _print_verdicts(name: str, better: str, judged: JudgedStudy, *, verbose: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    from stadia.core.terminal import Terminal
    from stadia.report import study_report

    study = judged.study
    if verbose:
        table = Table(*study_report.TABLE_HEAD, title=escape(f"{name}: {study['metric']}, {better} is better"))
        for cells in study_report.make_table_cells(study):
            table.add_row(*map(escape, cells))
        Terminal(width=140).print(table)
    verdicts = study["verdicts"]
    lines = [study_report.describe_verdict(study, verdict) for verdict in verdicts]
    lines += [f"note on '{verdict['change']}': {note}" for verdict in verdicts for note in verdict["notes"]]
    if undecided := [verdict["change"] for verdict in verdicts if verdict["is_open"]]:
        cost = study["rest_seconds"]
        hours = "10,000 seeds" if cost is None else f"{cost / 3600:.2g} hours of training"
        lines.append(f"Deciding {', '.join(undecided)} takes at least {hours}. Raise --max-seeds to continue.")
    lines += [f"note: {note}" for note in study["notes"]]
    for line in lines if verbose else lines[:MAX_LINES]:
        echo(line)
    if len(lines) > MAX_LINES and not verbose:
        echo(f"... and {len(lines) - MAX_LINES} more lines: --verbose shows them")
    echo(", ".join(map(str, judged.files)))


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
) -> None:
    """Search the best values of a recipe's keys. The same command resumes."""
    from stadia.core.errors import ConfigError, ConfigMistakes
    from stadia.io.input_files import check_writable
    from stadia.training.recipes.presets import preset_overrides, read_preset_for
    from stadia.training.studies.config import read_json_mapping
    from stadia.training.studies.study_metric import check_has_depth, choose_expected_metric, choose_metric
    from stadia.training.studies.sweep import Sweep, confirm_command, rank_keys, read_space

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
    search = Sweep(out, recipe, settings, ranges, name, direction, seed)
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
    fix = f"Read {logs}" if logs.is_dir() else f"correct {space}, and choose another --out"
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

    from stadia.core.terminal import Terminal

    keys = list(dict.fromkeys(key for trial in study.trials for key in trial.params))
    table = Table(*map(escape, ("trial", metric, *keys, "state")))
    sign = 1 if better == "lower" else -1
    for trial in sorted(study.trials, key=lambda trial: (trial.value is None, sign * (trial.value or 0))):
        value = "–" if trial.value is None else f"{trial.value:.5g}"
        settings = (escape(f"{trial.params.get(key, '–')}") for key in keys)
        table.add_row(str(trial.number), value, *settings, trial.state.name.lower())
    Terminal(width=140).print(table)
