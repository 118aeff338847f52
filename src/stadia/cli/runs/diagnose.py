"""`stadia diagnose`: the finding of a run to fix first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stadia.cli.arguments import JsonOption, VerboseOption, argument
from stadia.cli.findings import STOPPED, format_headline, print_finding
from stadia.cli.output import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from stadia.diagnostics.finding import Finding


def diagnose(
    run: Annotated[Path, argument("A run's folder, also of a failed or unfinished run.")],
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the finding to fix first. Exits with 1 for a stop."""
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
            missing = "not checked: the run ended before"
            nothing = "no stop or warning" if found.apart else "[green]no problem found[/green]"
            console.print(nothing if path.exists() else missing, soft_wrap=True)
        else:
            console.print("[bold]fix first[/bold]")
            print_finding(console, found.first, opened.folder, has_evidence=verbose)
        _print_rest(console, "may follow from it", found.follows, verbose=verbose)
        _print_rest(console, "other causes", found.apart, verbose=verbose)
        if found.unchecked:
            reasons = [
                finding.measured if verbose else finding.measured.partition(":")[0] for finding in found.unchecked
            ]
            separator = "\n  " if verbose else ", "
            console.print(f"not checked: {separator.join(reasons)}", markup=False, soft_wrap=True, style="dim")
    if found.stops:
        raise typer.Exit(STOPPED)


MAX_SHOWN = 3
"""The output without `--verbose` fits 20 lines with this many findings of a kind."""


def _print_rest(console: Console, title: str, findings: Sequence[Finding], *, verbose: bool) -> None:
    from rich.markup import escape

    if findings:
        console.print(f"[bold]{title}[/bold]")
    for finding in findings if verbose else findings[:MAX_SHOWN]:
        expected = f"; expected {finding.expected}" if verbose else ""
        console.print(f"  {format_headline(finding)}: {escape(finding.measured + expected)}", soft_wrap=True)
        if verbose:
            console.print(f"    [dim]fix[/dim] {escape(finding.fix)}", soft_wrap=True)
    if len(findings) > MAX_SHOWN and not verbose:
        console.print(f"  ... and {len(findings) - MAX_SHOWN} more: --verbose shows them")
