"""`stadia ablate STUDY.yaml`: compare changes with one base over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.arguments import BetterOption, DataOption, MetricOption, argument, flag, option
from stadia.cli.output import echo
from stadia.cli.studies.study_settings import (
    UNFINISHED,
    BaseSettings,
    EngineOption,
    PresetOption,
    choose_metric,
    make_settings,
    resolve_run,
)

if TYPE_CHECKING:
    from stadia.apps.studies.config import PlannedRun, StudyConfig
    from stadia.apps.studies.launch import Job, Launcher
    from stadia.apps.studies.study_folder import StudyFolder
    from stadia.metrics.statistics import Better


def ablate(
    study: Annotated[Path | None, argument("A study as YAML, see docs/how-to/experiments.md.")] = None,
    base: BaseSettings = None,
    change: Annotated[list[str] | None, option('A change as "NAME: KEY=VALUE ..."; repeatable.')] = None,
    recipe: Annotated[str | None, option("The recipe to train.")] = None,
    data: DataOption = None,
    preset: PresetOption = None,
    seeds: Annotated[str | None, option("Seeds of every change, such as 0,1,2,3,4.")] = None,
    metric: MetricOption = None,
    better: BetterOption = None,
    margin: Annotated[float | None, option("The smallest relevant difference.")] = None,
    name: Annotated[str | None, option("Name of the study and its folder.")] = None,
    out: Annotated[Path, typer.Option(help="The folder for studies.")] = Path("studies"),
    jobs: Annotated[int, typer.Option(min=1, help="Number of parallel runs, which share the cores.")] = 1,
    engine: EngineOption = None,
    slurm: Annotated[
        list[str] | None, option("Parameters of submitit, to train on SLURM.", metavar="KEY=VALUE")
    ] = None,
    reuse: Annotated[
        list[Path] | None, option("A study's folder whose equal runs are reused.", metavar="STUDY")
    ] = None,
    retry_failed: Annotated[bool, flag("--retry-failed", "Run failed runs again.")] = False,
    scores: Annotated[bool, flag("--scores", "Score and judge each run at its end.")] = False,
    dry_run: Annotated[bool, flag("--dry-run", "Print the planned runs and stop.")] = False,
) -> None:
    """Train a base and changes to it from several seeds, and test which help. The same command resumes a study."""
    from stadia.apps.studies.config import check_has_depth, plan_runs, read_study
    from stadia.apps.studies.launch import check_study_engine
    from stadia.apps.studies.study_folder import StudyFolder
    from stadia.files.paths import check_writable
    from stadia.recipes.presets import preset_overrides, read_preset, read_preset_for

    words = list(base or [])
    if study is not None and "=" in str(study):  # STUDY is left out: the first word is a setting
        words, study = [str(study), *words], None
    if recipe is None and study is None and preset is not None:
        recipe = str(read_preset(preset)["recipe"])
    given: dict[str, Any] = {"recipe": recipe, "metric": metric, "better": better, "margin": margin}
    given["scores"] = True if scores else None
    given |= {
        "name": name or (None if study else "study"),
        "seeds": _numbers(seeds),
        "base": make_settings(data, words),
    }
    config = read_study(study, given, change or [], preset=preset_overrides(preset) if preset is not None else ())
    if preset is not None:
        read_preset_for(config.recipe, preset)
    runs = plan_runs(config, resolve_run)
    metrics, direction = choose_metric(config.recipe, config.metric, config.better)
    if config.metric is not None:
        check_has_depth(config.metric, runs[0].config)
    if dry_run:
        _print_plan(config, runs, metrics)
        return
    engine = check_study_engine(engine, slurm)
    check_writable(out)
    folder = StudyFolder(out / config.name)
    folder.write(config, runs)
    for root in reuse or []:
        for run_name in folder.reuse(StudyFolder(root), runs):
            echo(f"{run_name}: taken from {root}, not trained again", err=True)
    options: dict[str, Any] = {"retry_failed": retry_failed, "has_scores": config.has_scores}
    jobs_left = [job for run in runs if (job := folder.job(run, config.recipe, **options))]
    ablation = _Ablation(config, folder, runs, metrics, direction)
    _train(ablation, _launcher(folder, jobs, engine, slurm or []), jobs_left)
    _write_missing_reports(ablation)
    if unfinished := _judge(ablation):
        fix = "Fix: the same command resumes killed and interrupted runs, and --retry-failed runs failed ones again"
        echo(f"{unfinished} of {len(runs)} runs did not finish. {fix}", err=True)
        raise typer.Exit(UNFINISHED)


@dataclass(frozen=True)
class _Ablation:
    """A study, its folder and planned runs, and its metric: the first of `metrics` that a run has."""

    config: StudyConfig
    folder: StudyFolder
    runs: Sequence[PlannedRun]
    metrics: Sequence[str]
    better: Better


def _numbers(text: str | None) -> list[Any] | None:
    from stadia.core.config import parse_value

    return None if text is None else [parse_value(word) for word in text.split(",") if word]


def _launcher(folder: StudyFolder, jobs: int, engine: str, slurm: list[str]) -> Launcher:
    from stadia.apps.studies.launch import LocalLauncher, RayLauncher, SlurmLauncher, slurm_options

    if engine == "slurm":
        return SlurmLauncher(folder.root / "slurm", slurm_options(slurm))
    return RayLauncher(jobs) if engine == "ray" else LocalLauncher(jobs)


def _print_plan(study: StudyConfig, runs: Sequence[PlannedRun], metrics: Sequence[str]) -> None:
    from stadia.apps.studies.config import changed_keys, choose_expected_metric, count_samples
    from stadia.apps.studies.study_verdicts import evaluation_notes
    from stadia.metrics.statistics import detectable_difference

    samples, num_changes, num_seeds = count_samples(runs[0].config), len(study.changes), len(study.seeds)
    length = f"{samples:,} samples each" if samples else "as many epochs each"
    metric = choose_expected_metric(metrics, runs[0].config)
    changes = f"{num_changes} change{'s' * (num_changes > 1)}"
    echo(f"{len(runs)} runs of {length}: base and {changes}, compared in {metric}")
    for run in runs[1 : 1 + num_changes]:
        keys = changed_keys(runs[0].config, run.config)
        echo(f"  {run.change}: {'; '.join(map(str, keys))}")
        for note in evaluation_notes(study.recipe, metric, keys, runs[0].config):
            echo(f"    Not comparable in {metric}. {note}")
    size = f"{detectable_difference(1.0, num_seeds, alpha=study.alpha / num_changes):.2g} standard deviations"
    echo(f"with {num_seeds} seeds, a difference of {size} between seeds is found in 4 of 5 studies")


def _train(ablation: _Ablation, launcher: Launcher, jobs: Sequence[Job]) -> None:
    """Train the remaining runs, and update results.jsonl after each. The others continue where one is killed."""
    from stadia.apps.studies.study_folder import add_line
    from stadia.apps.studies.study_verdicts import check_budgets
    from stadia.core.errors import RunError
    from stadia.report.study_report import RESULTS

    planned, rows = {run.name: run for run in ablation.runs}, list[dict[str, Any]]()
    echo(f"{ablation.folder.root}: {len(planned)} runs, {len(jobs)} to train", err=True)

    def end_job(job: Job, code: int) -> None:
        row = _make_row(ablation, planned[job.name])
        if row is None:  # it ended before it made its folder
            found, expected = f"no end ({job.explain_failure(code)})", "a training that ended"
            raise RunError(job.name, found=found, expected=expected, fix=f"see {job.log}")
        rows.append(row)
        value = "no value" if row["value"] is None else f"{row['metric']} {row['value']:.5g}"
        cause = "" if row["status"] in ("finished", "failed") else f" (exit code {code}: see {job.log})"
        echo(f"{job.name}: {row['status']}{cause}, {value}; {len(jobs) - len(rows)} to go", err=True)
        add_line(ablation.folder.root / RESULTS, row)
        if ablation.config.budget == "samples":  # seconds are only equal at the end
            check_budgets(ablation.config, rows)

    try:
        launcher.run(jobs, end_job)
    except KeyboardInterrupt:
        echo(f"stopped; the same command resumes the study in {ablation.folder.root}", err=True)
        raise


def _make_row(ablation: _Ablation, run: PlannedRun) -> dict[str, Any] | None:
    """Return a run's row of results.jsonl; None where it never began. Raise RunError where its metric is missing."""
    from stadia.report.run_files import read_run
    from stadia.report.study_report import make_result_row

    folder = ablation.folder.find(run.name)
    if folder is None:
        return None
    row = make_result_row(read_run(folder), ablation.metrics, better=ablation.better, at=ablation.config.at)
    if row["status"] == "running":  # its process has ended without a final status
        row |= {"status": "killed", "error": "the process was killed, for example without memory"}
    elif row["status"] == "interrupted":
        row |= {"error": "interrupted: the same command resumes it"}
    return {"name": run.name, "change": run.change, "seed": run.seed, **row}


def _write_missing_reports(ablation: _Ablation) -> None:
    """Write the report of each finished run without one: its process ended while it wrote it, and is not repeated."""
    from stadia.report import build_report
    from stadia.training.run_folder import Run

    for run in ablation.runs:
        folder = ablation.folder.find(run.name)
        if folder is None or folder.is_symlink() or (folder / "report.html").exists():  # a link: of another study
            continue
        if Run.open(folder).facts.status == "finished":
            echo(f"{run.name}: its report was missing: {build_report(folder)}", err=True)


def _judge(ablation: _Ablation) -> int:
    """Write a row of each ended run to results.jsonl and the verdicts to verdicts.json, and print them.

    Returns the number of runs that did not finish.
    """
    from rich.markup import escape
    from rich.table import Table

    from stadia.apps.studies.study_folder import write_lines
    from stadia.apps.studies.study_verdicts import judge_study
    from stadia.files.atomic_files import write_json
    from stadia.process.terminal import Terminal
    from stadia.report import study_report

    root, better = ablation.folder.root, ablation.better
    rows = [row for run in ablation.runs if (row := _make_row(ablation, run)) is not None]
    write_lines(root / study_report.RESULTS, rows)
    metric = next((row["metric"] for row in rows if row["metric"]), ablation.metrics[0])
    study = judge_study(ablation.folder.study, better, metric, ablation.runs, rows)
    write_json(root / "verdicts.json", study)
    files = study_report.write_ablation_report(root)
    table = Table(*study_report.TABLE_HEAD, title=escape(f"{ablation.config.name}: {metric}, {better} is better"))
    for cells in study_report.make_table_cells(study):
        table.add_row(*map(escape, cells))
    Terminal(width=140).print(table)
    for verdict in study["verdicts"]:
        echo(study_report.describe_verdict(study, verdict))
        for note in verdict["notes"]:
            echo(f"  {note}")
    for note in study["notes"]:
        echo(f"note: {note}")
    echo(", ".join(map(str, files)))
    return sum(row["status"] != "finished" for row in rows)
