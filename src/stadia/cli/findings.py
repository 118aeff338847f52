"""`stadia diagnose` and `stadia explain`, and how a finding is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.arguments import argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from stadia.diagnostics.finding import Finding
    from stadia.training.run_folder import Run

STOPPED = 1  # exit code

COLORS = {"stop": "bold red", "warn": "yellow", "note": "dim"}


def print_finding(console: Console, finding: Finding, folder: Path | None) -> None:
    """Print what was measured and expected, cause, fix and evidence; one line for what was not checked.

    folder: of the evidence's image; None prints no path.
    """
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    from stadia.report.metric_labels import arrange_evidence

    if finding.code.startswith("N"):
        console.print(f"  [{COLORS['note']}]{escape(finding.measured + where_of(finding))}[/{COLORS['note']}]")
        return
    console.print(headline(finding))
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


def headline(finding: Finding) -> str:
    """Return severity, code, title and place, in rich's markup."""
    from rich.markup import escape

    from stadia.diagnostics.catalog import CATALOG

    style = COLORS[finding.severity]
    title = CATALOG[finding.code].title if finding.code in CATALOG else "of another version's catalog"
    return f"[{style}]{finding.severity} {finding.code} {title}[/{style}]{escape(where_of(finding))}"


def where_of(finding: Finding) -> str:
    """Return up to three recordings or files, in brackets."""
    return f" ({', '.join(finding.where[:3])}{' ...' if len(finding.where) > 3 else ''})" if finding.where else ""


def diagnose(
    run: Annotated[Path, argument("A run's folder, also of a failed or unfinished run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print only the findings in this order, as JSON.")] = False,
) -> None:
    """Print which finding to fix first, which may follow from it, and which have another cause. Exits with 1 for a
    stop.
    """
    from rich.console import Console

    from stadia.diagnostics.catalog import find_root_cause
    from stadia.diagnostics.finding import read_valid_findings
    from stadia.training.run_folder import Run

    opened = Run.open(run)
    path = opened.folder / "findings.jsonl"
    written = path.exists()
    findings, damaged = read_valid_findings(path) if written else ([], [])
    if damaged and not findings:
        raise damaged[0]
    for error in damaged:
        typer.echo(f"note: left out: {error}", err=True)
    found = find_root_cause(findings)
    if as_json:
        parts = {"first": (found.first,) if found.first else ()}
        parts |= {name: getattr(found, name) for name in ("follows", "apart", "unchecked")}
        listed = {name: [finding.to_dict() for finding in some] for name, some in parts.items()}
        typer.echo(json.dumps(listed, indent=2, allow_nan=False))
    else:
        console = Console(highlight=False)
        console.print(_how_it_went(opened), markup=False, soft_wrap=True)
        if found.first is None:
            missing = "no findings.jsonl: the run ended before its data were checked"
            console.print("[green]nothing was found[/green]" if written else missing, soft_wrap=True)
        else:
            console.print("\n[bold]fix first[/bold]")
            print_finding(console, found.first, opened.folder)
        _print_rest(console, "may follow from it; check again after the fix", found.follows)
        _print_rest(console, "other causes", found.apart)
        if found.unchecked:
            console.print("\n[bold]not checked[/bold]")
            for one in found.unchecked:
                console.print(f"  {one.measured}", markup=False, soft_wrap=True, style="dim")
    if found.stops:
        raise typer.Exit(STOPPED)


def _how_it_went(run: Run) -> str:
    facts = run.facts
    status = str(facts.get("status"))
    ended = {"running": "is running, or was killed", "failed": f"failed: {facts.get('error')}"}.get(status, status)
    return f"{run.folder}: {run.recipe}, {ended}"


def _print_rest(console: Console, title: str, findings: Sequence[Finding]) -> None:
    from rich.markup import escape

    if findings:
        console.print(f"\n[bold]{title}[/bold]")
    for one in findings:
        console.print(f"  {headline(one)}: {escape(one.measured)}", soft_wrap=True)
        console.print(f"    [dim]fix[/dim] {escape(one.fix)}", soft_wrap=True)


def explain(
    code: Annotated[str | None, argument("Code of a finding, such as U01; a letter lists its family.")] = None,
) -> None:
    """Explain a finding: symptom, cause, fix, measurement, origin, and the test that proves it; or
    list all findings.
    """
    from rich.console import Console

    from stadia.core.errors import ConfigError
    from stadia.core.registry import find_nearest_name
    from stadia.diagnostics.catalog import CATALOG
    from stadia.diagnostics.catalog.entries import FAMILIES, TRACES, Trace

    console = Console(highlight=False)
    wanted = (code or "").upper()
    if wanted[1:].isdigit():
        wanted = f"{wanted[0]}{int(wanted[1:]):02d}"  # L5 is L05
    if wanted in CATALOG:
        entry, trace = CATALOG[wanted], TRACES.get(wanted, Trace(""))
        console.print(f"{entry.code} {entry.title}", style="bold", markup=False)
        lines = {"family": f"{FAMILIES[wanted[0]]}, checked at stage '{entry.stage}'"}
        lines |= {name: getattr(entry, name) for name in ("symptom", "cause", "fix", "measured", "source")}
        lines["from"] = f"{', '.join(trace.lines)} of the specifications" if trace.lines else trace.here
        lines["proof"] = trace.proof
        for name, text in lines.items():
            console.print(f"  {name + ':':<10}{text}", markup=False, soft_wrap=True)
        return
    listed = [entry for entry in CATALOG.values() if not wanted or entry.code[0] == wanted]
    if not listed:
        close = find_nearest_name(wanted, CATALOG)
        fix = f"did you mean {close}? " * bool(close) + "`stadia explain` lists all"
        raise ConfigError("finding", found=f"'{code}'", expected="a code of the catalog", fix=fix)
    for entry in listed:
        console.print(f"{entry.code}  {entry.title}", markup=False, soft_wrap=True)
    console.print(f"{len(listed)} findings", markup=False)
