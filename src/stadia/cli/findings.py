"""Print a finding: what was measured, its cause, its fix and its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from stadia.core.recording import Recording
    from stadia.diagnostics.finding import Finding
    from stadia.diagnostics.preflight.recording_survey import BaselineAgreement


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


def print_findings(
    console: Console, findings: Sequence[Finding], recordings: Sequence[Recording], opened_text: str, out: Path | None
) -> None:
    """Print findings by family with numbers and tables, notes in one line each, and a verdict."""
    from rich.markup import escape

    from stadia.diagnostics.finding import WRONG_BASELINE, Family

    family, line = None, ""  # no empty line before the first
    for finding in findings:
        if finding.family is not None and finding.family is not family:
            family = finding.family
            console.print(f"{line}[bold]{family.label}[/bold]")
            line = "\n"
        print_finding(console, finding, out)
    has_region = any((region := recording.ignored()) is not None and region.any() for recording in recordings)
    if out is None and (has_region or any(finding.image for finding in findings)):
        what = "an image of what can be seen" if any(finding.image for finding in findings) else "the ignored region"
        console.print(f"\n[dim]--out FOLDER writes {what}[/dim]")
    counts = {name: sum(finding.severity == name for finding in findings) for name in ("stop", "warn")}
    unchecked = [finding for finding in findings if finding.family is Family.NOT_CHECKED]
    notes = sum(finding.severity == "note" for finding in findings if finding.family is not Family.NOT_CHECKED)
    counts["not checked"] = len(unchecked)
    hidden = dict.fromkeys(  # mistakes whose check no recording allows
        str(finding.evidence["hides"])
        for finding in findings
        if "hides" in finding.evidence and len(finding.where) == len(recordings)
    )
    if any(finding.code == "E03" for finding in findings):
        hidden.pop(WRONG_BASELINE, None)  # it has shown
    verdict = _verdict(counts, list(hidden), notes)
    if counts["stop"] + counts["warn"] == 0 and recordings and all(len(recording) == 1 for recording in recordings):
        selections = (getattr(recording, "selection", None) for recording in recordings)
        dropped = [f": {selection}" for selection in selections if selection and selection.total > 1]
        verdict = f"[yellow]review[/yellow]: single images{dropped[0] if dropped else ''}, but training from one camera"
        verdict += " needs neighboring frames"
    console.print(f"{line}{verdict} ({escape(opened_text)})", soft_wrap=True)


def _verdict(counts: Mapping[str, int], hidden: Sequence[str], noted: int) -> str:
    notes = f", {counts['not checked']} not checked" if counts["not checked"] else ""
    notes += f"; {' and '.join(hidden)} would not show" if hidden else ""
    if counts["stop"]:
        return f"[bold red]stop[/bold red]: {counts['stop']} to fix before training, {counts['warn']} to review{notes}"
    if counts["warn"]:
        return f"[yellow]review[/yellow]: {counts['warn']} to review{notes}"
    found = f"nothing to fix, {noted} note{'s' * (noted > 1)}" if noted else "nothing found"
    return f"[green]good[/green]: {found}{notes}"


def describe_agreements(agreements: Sequence[BaselineAgreement]) -> Iterator[str]:
    """Yield a line for each baseline and each source that it agrees with: the widest interval over recordings."""
    from stadia.diagnostics.preflight.scale_consistency import WARN_FROM, format_interval, round_interval

    groups: dict[tuple[str, str], list[BaselineAgreement]] = {}
    for agreement in agreements:
        groups.setdefault((f"{agreement.baseline_m:.4g}", agreement.other), []).append(agreement)
    for (baseline_m, source), group in groups.items():
        low = min(agreement.low for agreement in group)
        high = max(agreement.high for agreement in group)
        shown_low, shown_high, _ = round_interval(low, high)
        ratio = format_interval(low, high)
        counted = f"{sum(agreement.count for agreement in group)} {'motions' if source == 'poses' else 'points'}"
        counted += f" of {len(group)} recordings" if len(group) > 1 else ""
        is_close = all(agreement.is_close for agreement in group)
        if is_close and not shown_low <= 1 <= shown_high:
            near, far = (low - 1, high - 1) if low > 1 else (1 - high, 1 - low)
            length = f"{100 * near:.2g} to {100 * far:.2g} % too {'long' if low > 1 else 'short'}"
            limit = f"below the limit of {100 * WARN_FROM:.0f} %"
            limit = limit if far < WARN_FROM else f"not all of it above the limit of {100 * WARN_FROM:.0f} %"
            yield f"baseline {baseline_m} m by the {source}: {length}, {limit} (95 %, {counted})"
        elif is_close:
            yield f"baseline {baseline_m} m agrees with the {source}: {ratio} times what they give (95 %, {counted})"
        else:
            counted += "), which does not exclude an error that would matter"
            yield f"baseline {baseline_m} m compared with the {source}: {ratio} times what they give (95 %, {counted}"
