"""`stadia diagnose RUN`: print the findings of a run from cause to effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from stadia.diagnostics.finding import Finding
    from stadia.training.run import Run

STOPPED = 1


def diagnose(
    run: Annotated[
        Path, typer.Argument(help="A run's folder, also of a failed or unfinished run.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print only the findings in this order, as JSON.")] = False,
) -> None:
    """Print which finding to fix first, which may follow from it, and which have another cause. Exits with 1 for a
    stop.
    """
    from rich.console import Console

    from stadia.diagnostics.diagnosis import diagnosis
    from stadia.diagnostics.finding import readable_findings
    from stadia.training.run import Run

    opened = Run.open(run)
    path = opened.folder / "findings.jsonl"
    written = path.exists()
    findings, damaged = readable_findings(path) if written else ([], [])
    if damaged and not findings:
        raise damaged[0]
    for error in damaged:
        typer.echo(f"note: left out: {error}", err=True)
    found = diagnosis(findings)
    if as_json:
        parts = {
            "first": (found.first,) if found.first else (),
            "follows": found.follows,
            "apart": found.apart,
            "unchecked": found.unchecked,
        }
        typer.echo(
            json.dumps(
                {name: [one.to_dict() for one in some] for name, some in parts.items()}, indent=2, allow_nan=False
            )
        )
    else:
        console = Console(highlight=False)
        console.print(_how_it_went(opened), markup=False, soft_wrap=True)
        if found.first is None:
            nothing = (
                "nothing was found" if written else "no findings.jsonl: the run ended before its data were checked"
            )
            console.print(f"[green]{nothing}[/green]" if written else nothing, soft_wrap=True)
        else:
            _print_first(console, found.first, opened.folder)
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


def _print_first(console: Console, first: Finding, folder: Path) -> None:
    from stadia.cli.findings import print_finding

    console.print(
        "\
[bold]fix first[/bold]"
    )
    print_finding(console, first, folder)


def _print_rest(console: Console, title: str, findings: Sequence[Finding]) -> None:
    from rich.markup import escape

    from stadia.cli.findings import headline

    if findings:
        console.print(f"\n[bold]{title}[/bold]")
    for one in findings:
        console.print(f"  {headline(one)}: {escape(one.measured)}", soft_wrap=True)
        console.print(f"    [dim]fix[/dim] {escape(one.fix)}", soft_wrap=True)
