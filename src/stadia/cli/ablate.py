"""`stadia ablate STUDY.yaml`: compare changes with one base over seeds, with equal budgets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stadia.metrics.verdicts import Better
    from stadia.recipes.studies.config import StudyConfig
    from stadia.recipes.studies.folder import StudyFolder
    from stadia.recipes.studies.launch import Job, Launcher
    from stadia.recipes.studies.plan import Planned


def ablate(
    study: Annotated[
        Path | None, typer.Argument(help="A study as YAML, see docs/experiments.md.", show_default=False)
    ] = None,
    base: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="A setting of every run.", show_default=False)
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--change", help='A change as "NAME: KEY=VALUE ..."; repeatable.', show_default=False),
    ] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="The recipe to train.", show_default=False)] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Short for data.path=PATH.", show_default=False)] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Seeds of every change, such as 0,1,2,3,4.", show_default=False)
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="The metric to compare.", show_default=False)] = None,
    better: Annotated[
        str | None, typer.Option("--better", help="Whether lower or higher values are better.", show_default=False)
    ] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", help="The smallest relevant difference.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the study and its folder.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder for studies.")] = Path("studies"),
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Number of parallel runs, which share the cores.")] = 1,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            "--slurm", metavar="KEY=VALUE", help="Parameters of submitit, to train on SLURM.", show_default=False
        ),
    ] = None,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(
            "--reuse", metavar="STUDY", help="A study's folder whose equal runs are reused.", show_default=False
        ),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed runs again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the planned runs and stop.")] = False,
) -> None:
    """Train a base and changes to it from several seeds, and test which changes help. The same command
    resumes a study.
    """
    from stadia.core.files import check_writable
    from stadia.recipes.studies.config import read_study
    from stadia.recipes.studies.folder import StudyFolder
    from stadia.recipes.studies.plan import plan

    words = list(base or [])
    if study is not None and "=" in str(study):  # STUDY is left out: the first word is a setting
        words, study = [str(study), *words], None
    given: dict[str, Any] = {
        "recipe": recipe,
        "metric": metric,
        "better": better,
        "margin": margin,
        "name": name or (None if study else "study"),
    }
    given |= {
        "seeds": _numbers(seeds),
        "base": [*([f"data.path={data.expanduser().absolute()}"] if data else []), *words],
    }
    config = read_study(study, given, change or [])
    runs = plan(config, _resolve)
    if dry_run:
        _print_plan(config, runs, _metric(config)[0][0])
        return
    check_writable(out)
    names, direction = _metric(config)
    folder = StudyFolder(out / config.name)
    folder.write(config, runs)
    for other in reuse or []:
        for run_name in folder.reuse(StudyFolder(other), runs):
            typer.echo(f"{run_name}: that of {other}", err=True)
    todo = [job for run in runs if (job := folder.job(run, config.recipe, retry_failed=retry_failed))]
    _train(folder, config, runs, names, direction, _launcher(folder, jobs, slurm), todo)
    _judge(folder, config, runs, names, direction)


def _numbers(text: str | None) -> list[Any] | None:
    from stadia.core.config import parse_value

    return None if text is None else [parse_value(word) for word in text.split(",") if word]


def _resolve(recipe: str, words: list[str]) -> Any:
    from stadia.cli.train import resolve_recipe, with_whole_paths

    return with_whole_paths(resolve_recipe(recipe, None, words, example={}))


def _launcher(folder: StudyFolder, jobs: int, slurm: list[str] | None) -> Launcher:
    from stadia.recipes.studies.launch import Local, Slurm, slurm_options

    return Local(jobs) if slurm is None else Slurm(folder.root / "slurm", slurm_options(slurm))


def _metric(study: StudyConfig) -> tuple[tuple[str, ...], Better]:
    """Return the names of the metric and its better direction; the first name that runs have counts.

    Raises ConfigError where either is unknown.
    """
    from stadia.core.errors import ConfigError
    from stadia.recipes.studies.plan import check_metric
    from stadia.report.wording import score

    if study.metric is None:
        from stadia.recipes import RECIPES

        names = RECIPES.load(study.recipe).best_metrics
        if not names:
            fix = "name one with --metric: a column of metrics.csv, for example val/abs_rel"
            raise ConfigError(
                "metric", found=f"'{study.recipe}', which no metric chooses the best of", expected="a metric", fix=fix
            )
        return names, "lower"  # the best metric of every recipe is an error
    check_metric(study.recipe, study.metric)
    direction = study.better or score(study.metric).better
    if direction not in ("lower", "higher"):
        raise ConfigError(
            "better",
            found=f"a metric '{study.metric}' that is not known",
            expected="lower or higher",
            fix="set --better",
        )
    return (study.metric,), direction


def _print_plan(study: StudyConfig, runs: list[Planned], metric: str) -> None:
    from stadia.recipes.studies.judgement import yardstick_notes
    from stadia.recipes.studies.plan import changed, samples

    size, several = samples(runs[0].config), "s" * (len(study.changes) > 1)
    typer.echo(
        f"{len(runs)} runs of {f'{size:,} samples each' if size else 'as many epochs each'}: base and"
        f" {len(study.changes)} change{several}"
    )
    for run in runs[1 : 1 + len(study.changes)]:
        keys = changed(runs[0].config, run.config)
        typer.echo(f"  {run.change}: {'; '.join(map(str, keys))}")
        for note in yardstick_notes(study.recipe, metric, keys):
            typer.echo(f"    {note}")
    n = len(study.seeds)
    typer.echo(
        f"{n} seeds: a difference of {_detectable(n, study):.2g} standard deviations of it is found in four studies of"
        " five"
    )


def _detectable(n: int, study: StudyConfig) -> float:
    from stadia.metrics.paired import detectable

    return detectable(1.0, n, alpha=study.alpha / len(study.changes))


def _train(
    folder: StudyFolder,
    study: StudyConfig,
    runs: list[Planned],
    names: tuple[str, ...],
    better: Better,
    launcher: Launcher,
    jobs: list[Job],
) -> None:
    """Train the remaining runs, and update results.jsonl after each. A killed run is reported, and the
    others continue.
    """
    from stadia.core.errors import RunError
    from stadia.recipes.studies.folder import add_line
    from stadia.recipes.studies.judgement import check_budgets

    left, planned, rows = len(jobs), {run.name: run for run in runs}, []
    typer.echo(f"{folder.root}: {len(runs)} runs, {left} to train", err=True)

    def ended(job: Job, code: int) -> None:
        nonlocal left
        left -= 1
        row = _row(folder, planned[job.name], names, better)
        if row is None:  # it ended before it made its folder
            last = (
                job.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                if job.log.exists()
                else []
            )
            found = last[0].removeprefix("stadia: ") if last else f"exit code {code}"
            raise RunError(job.name, found=f"no end ({found})", expected="a training that ended", fix=f"see {job.log}")
        value = "no value" if row["value"] is None else f"{row['metric']} {row['value']:.5g}"
        why = "" if row["status"] in ("finished", "failed") else f" (exit code {code}: see {job.log})"
        typer.echo(f"{job.name}: {row['status']}{why}, {value}; {left} to go", err=True)
        add_line(folder.root / "results.jsonl", row)
        rows.append(row)
        if study.budget == "samples":  # seconds are only equal at the end
            check_budgets(study, rows)

    try:
        launcher.run(jobs, ended)
    except KeyboardInterrupt:
        typer.echo(f"stopped; the same command resumes the study in {folder.root}", err=True)
        raise


def _row(folder: StudyFolder, run: Planned, names: tuple[str, ...], better: Better) -> dict[str, Any] | None:
    """Return a run's row of results.jsonl; None where it never began. Raise RunError where its metric is missing."""
    from stadia.report.outcomes import row
    from stadia.report.run_files import read_run

    found = folder.find(run.name)
    if found is None:
        return None
    of_run = row(read_run(found), names, better=better, at=folder.study["at"])
    if of_run["status"] == "running":  # its process has ended without a final status
        of_run |= {"status": "killed", "error": "the process was killed, for example without memory"}
    elif of_run["status"] == "interrupted":
        of_run |= {"error": "interrupted: the same command resumes it"}
    return {"name": run.name, "change": run.change, "seed": run.seed, **of_run}


def _rows(folder: StudyFolder, runs: list[Planned], names: tuple[str, ...], better: Better) -> list[dict[str, Any]]:
    """Return a row for each run that has ended, and write them to results.jsonl."""
    from stadia.recipes.studies.folder import write_lines

    rows = [row for run in runs if (row := _row(folder, run, names, better)) is not None]
    write_lines(folder.root / "results.jsonl", rows)
    return rows


def _judge(
    folder: StudyFolder, study: StudyConfig, runs: list[Planned], names: tuple[str, ...], better: Better
) -> None:
    """Write verdicts to verdicts.json, and print them."""
    from rich.console import Console
    from rich.table import Table

    from stadia.core.files import write_json
    from stadia.recipes.studies.folder import AFTER_A_LOOK
    from stadia.recipes.studies.judgement import judged
    from stadia.report import study as shown

    rows = _rows(folder, runs, names, better)
    metric = next((row["metric"] for row in rows if row["metric"]), names[0])
    verdicts = judged(study, better, metric, runs, rows)
    if after := folder.study.get(AFTER_A_LOOK):
        verdicts["notes"].append(
            f"Chosen when results were there ({'; '.join(after)}): p and intervals hold for what was fixed before."
        )
    write_json(folder.root / "verdicts.json", verdicts)
    files = shown.write(folder.root)
    table = Table(*shown.HEAD, title=f"{study.name}: {metric}, {better} is better")
    for cells in shown.cells(verdicts):
        table.add_row(*cells)
    Console(width=140).print(table)
    for verdict in verdicts["verdicts"]:
        typer.echo(shown.sentence(verdicts, verdict))
        for note in verdict["notes"]:
            typer.echo(f"  {note}")
    for note in verdicts["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(", ".join(map(str, files)))
