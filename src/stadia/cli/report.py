"""`stadia report`, `journal`, `compare`, `diagnose` and `explain`: read finished runs and their findings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.arguments import ForceOption, JsonOption, RunArgument, argument, flag, option
from stadia.cli.output import echo
from stadia.core.errors import ConfigError, DataError
from stadia.core.registry import find_nearest_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from stadia.diagnostics.finding import Finding

STOPPED = 1
"""Exit code where a finding stops training."""

COLORS = {"stop": "bold red", "warn": "yellow", "note": "dim"}


def report(
    run: RunArgument,
    out: Annotated[Path | None, option("The output file; RUN/report.html by default.")] = None,
    private: Annotated[
        bool, flag("--private", "Also show the command line, paths, and uncommitted changes of the code.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Write a run's report.html: curves, images, scores, findings, and what changed against the run before."""
    from stadia.files.output_files import check_replaceable
    from stadia.report import build_report

    if run.is_dir():  # else the error is that of the run
        out = check_replaceable(out or run / "report.html", "report", inputs=[run], force=force)
    path = build_report(run, out, private=private, warn=lambda line: echo(f"note: {run}: {line}", err=True))
    echo(f"report: {path}")


def journal(
    runs: Annotated[list[Path] | None, argument("Folders of runs, or ones that hold runs; `runs` by default.")] = None,
    out: Annotated[Path | None, option("Write to this file instead.")] = None,
    force: ForceOption = False,
) -> None:
    """Print the journal of runs: changes against the run before, events and findings."""
    from stadia.files.atomic_files import write_text
    from stadia.files.output_files import check_replaceable
    from stadia.report.run_journal import find_runs, write_journal

    found = find_runs(runs or [Path("runs")])
    if out is not None:
        out = check_replaceable(out, "journal", inputs=[run.folder for run in found], force=force)
    text = write_journal(found)
    if out is None:
        echo(text, nl=False)
    else:
        write_text(out, text)
        echo(f"journal: {out}")


def compare(
    first: RunArgument,
    second: Annotated[Path, argument("Another run's folder.")],
    image: Annotated[Path | None, option("Draw their curves: a .svg or .png.")] = None,
    force: ForceOption = False,
) -> None:
    """Compare two runs: their differences, then their scores."""
    from stadia.files.output_files import check_replaceable
    from stadia.report.run_files import read_run
    from stadia.report.run_journal import draw_comparison, write_comparison

    if image is not None:
        if image.suffix not in (".svg", ".png"):
            raise DataError(image, found=f"an image '{image.suffix}'", expected=".svg or .png", fix="name it so")
        image = check_replaceable(image, "comparison", inputs=[first, second], force=force)
    a, b = read_run(first), read_run(second)
    echo(write_comparison(a, b), nl=False)
    if image is not None:
        echo(f"image: {image if draw_comparison(a, b, image) else 'none, they share no curve'}")


# -- findings


def print_finding(console: Console, finding: Finding, folder: Path | None) -> None:
    """Print what was measured and expected, cause, fix and evidence; one line for what was not checked.

    folder: of the evidence's image; None prints no path.
    """
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    from stadia.diagnostics.finding import Family
    from stadia.report.metric_labels import arrange_evidence

    if finding.family is Family.NOT_CHECKED:
        console.print(f"  [{COLORS['note']}]{escape(finding.measured + format_place(finding))}[/{COLORS['note']}]")
        return
    console.print(format_headline(finding))
    grid = Table.grid(padding=(0, 2))
    for name in ("measured", "expected", "cause", "fix"):
        grid.add_row("", f"[dim]{name}[/dim]", escape(getattr(finding, name)))
    evidence = arrange_evidence(finding.to_dict()["evidence"])
    for name, text in evidence.numbers:
        grid.add_row("", f"[dim]{escape(name)}[/dim]", escape(text))
    console.print(grid)
    if folder is not None and evidence.image:
        console.print(f"  [dim]image[/dim]  {escape(str(folder / evidence.image))}", soft_wrap=True)
    for table in evidence.tables:
        style: dict[str, Any] = {"box": None, "padding": (0, 3, 0, 0), "header_style": "dim"}
        drawn = Table(*map(escape, table.head), show_header=bool(table.head), **style)
        for row in table.rows:
            drawn.add_row(*map(escape, row))
        console.print(Padding(drawn, (0, 0, 0, 4)))


def format_headline(finding: Finding) -> str:
    """Return severity, code, title and place, in rich's markup."""
    from rich.markup import escape

    from stadia.diagnostics.catalog import CATALOG

    style = COLORS[finding.severity]
    title = CATALOG[finding.code].title if finding.code in CATALOG else "of another version's catalog"
    headline = escape(f"{finding.severity} {finding.code} {title}")
    return f"[{style}]{headline}[/{style}]{escape(format_place(finding))}"


def format_place(finding: Finding) -> str:
    """Return up to three recordings or files, in brackets."""
    return f" ({', '.join(finding.where[:3])}{' ...' if len(finding.where) > 3 else ''})" if finding.where else ""


def diagnose(
    run: Annotated[Path, argument("A run's folder, also of a failed or unfinished run.")], as_json: JsonOption = False
) -> None:
    """Print the finding to fix first, what may follow from it, and other causes. Exits with 1 for a stop."""
    from stadia.diagnostics.catalog import find_root_cause
    from stadia.diagnostics.finding import read_valid_findings
    from stadia.diagnostics.prediction_checks import TrainingRecord, Verdict
    from stadia.diagnostics.prediction_checks.prediction_verdict import describe_own_term
    from stadia.predict.verdict import read_verdict
    from stadia.process.terminal import Terminal
    from stadia.training.run_folder import Run

    opened = Run.open(run)
    path = opened.folder / "findings.jsonl"
    findings, damaged = read_valid_findings(path) if path.exists() else ([], [])
    if damaged and not findings:
        raise damaged[0]
    for error in damaged:
        echo(f"note: left out: {error}", err=True)
    facts = opened.facts
    found, verdict = find_root_cause(findings), read_verdict(facts, findings)
    own_term = ""
    if facts.recipe_class and verdict in (Verdict.DOUBTFUL, Verdict.UNUSABLE):
        record = TrainingRecord.read(opened.folder)
        if record.recipe_class and record.own_terms:
            own = describe_own_term(record.recipe_class, record.own_terms)
            own_term = f"{own.cause}. Fix: {own.fix}"
    if as_json:
        parts: dict[str, Sequence[Finding]] = {"first": [found.first] if found.first else []}
        parts |= {"follows": found.follows, "apart": found.apart, "unchecked": found.unchecked}
        listed = {name: [finding.to_dict() for finding in some] for name, some in parts.items()}
        judged = {} if verdict is None else {"predictions": str(verdict)}
        judged |= {"also_possible": own_term} if own_term else {}
        echo(json.dumps({**judged, **listed}, indent=2, allow_nan=False))
    else:
        console = Terminal(highlight=False)
        ended = {"running": "is running, or was killed", "failed": f"failed: {facts.error}"}
        outcome = f"{opened.folder}: {opened.recipe}, {ended.get(facts.status, facts.status)}"
        console.print(outcome, markup=False, soft_wrap=True)
        if verdict is not None:
            console.print(f"predictions: {verdict}", markup=False)
        if own_term:
            console.print(f"also possible: {own_term}", markup=False, soft_wrap=True)
        if found.first is None:
            missing = "no findings.jsonl: the run ended before its data were checked"
            nothing = (
                "no finding that would explain a bad result" if found.apart else "[green]no problem was found[/green]"
            )
            console.print(nothing if path.exists() else missing, soft_wrap=True)
        else:
            console.print("\n[bold]fix first[/bold]")
            print_finding(console, found.first, opened.folder)
        _print_rest(console, "may follow from it; check again after the fix", found.follows)
        _print_rest(console, "other causes", found.apart)
        if found.unchecked:
            console.print("\n[bold]not checked[/bold]")
            for finding in found.unchecked:
                console.print(f"  {finding.measured}", markup=False, soft_wrap=True, style="dim")
    if found.stops:
        raise typer.Exit(STOPPED)


def _print_rest(console: Console, title: str, findings: Sequence[Finding]) -> None:
    from rich.markup import escape

    if findings:
        console.print(f"\n[bold]{title}[/bold]")
    for finding in findings:
        measured = f"{finding.measured}; expected {finding.expected}"
        console.print(f"  {format_headline(finding)}: {escape(measured)}", soft_wrap=True)
        console.print(f"    [dim]fix[/dim] {escape(finding.fix)}", soft_wrap=True)


def explain(
    code: Annotated[str | None, argument("Code of a finding, such as U01; a letter lists its family.")] = None,
) -> None:
    """Explain a finding: symptom, cause, fix, measurement, source and the test that proves it; or list all."""
    from stadia.diagnostics.catalog import CATALOG
    from stadia.files.input_files import parse_integer
    from stadia.process.terminal import Terminal

    console = Terminal(highlight=False)
    wanted = (code or "").upper()
    if (number := parse_integer(wanted[1:], most=99)) is not None:
        wanted = f"{wanted[0]}{number:02d}"  # L5 is L05
    if wanted in CATALOG:
        entry = CATALOG[wanted]
        console.print(f"{entry.code} {entry.title}", style="bold", markup=False)
        lines = {"family": f"{entry.family.label}, checked at stage '{entry.stage}'"}
        lines |= {name: getattr(entry, name) for name in ("symptom", "cause", "fix", "measured", "source", "proof")}
        for name, text in lines.items():
            console.print(f"  {name + ':':<10}{text}", markup=False, soft_wrap=True)
        return
    listed = [entry for entry in CATALOG.values() if not wanted or entry.family == wanted]
    if not listed:
        close = find_nearest_name(wanted, CATALOG)
        fix = f"did you mean {close}? " * bool(close) + "`stadia explain` lists all"
        raise ConfigError("finding", found=f"'{code}'", expected="a code of the catalog", fix=fix)
    for entry in listed:
        console.print(f"{entry.code}  {entry.title}", markup=False, soft_wrap=True)
    console.print(f"{len(listed)} findings", markup=False)
