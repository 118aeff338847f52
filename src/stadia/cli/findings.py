"""Print a finding: what was measured, its cause, its fix and its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from stadia.diagnostics.finding import Finding


STOPPED = 1
"""Exit code where a finding stops training."""

COLORS = {"stop": "bold red", "warn": "yellow", "note": "dim"}


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
