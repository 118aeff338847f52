"""Print results: findings with their cause and fix, and scores as a table or as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.cli.output import echo
from stadia.core.errors import ConfigError
from stadia.core.registry import find_nearest_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from stadia.batches.video_batch import BatchSummary
    from stadia.core.types import Recording
    from stadia.judge.finding import Finding
    from stadia.judge.recordings.recording_survey import BaselineAgreement

STOPPED = 1
"""Exit code if a finding stops a training, or a result, calibration or dataset is not as good as it has to be."""

LEFT_OPEN = 3
"""Exit code if this cannot be measured."""


def print_batch(out: Path, done: BatchSummary, *, strict: bool = False) -> None:
    """Print the numbers of a batch of videos; exit with 1 if some failed, or are unusable with `strict`."""
    import typer

    echo(f"{out}: {done.done} done ({done.before} by earlier calls), {done.failed} failed; details: ledger.jsonl")
    if done.failed:
        echo("The same command tries failed videos again.", err=True)
    if done.unusable:
        echo(f"{done.unusable} videos have unusable results: see `verdict` in ledger.jsonl", err=True)
    if done.failed or (strict and done.unusable):
        raise typer.Exit(STOPPED)


COLORS = {"stop": "bold red", "warn": "yellow", "note": "dim"}


def print_finding(console: Console, finding: Finding, folder: Path | None, *, has_evidence: bool = True) -> None:
    """Print a finding with its cause, fix and evidence; one line if something was not checked.

    console: prints it.
    finding: the finding.
    folder: folder of the evidence's image; None prints no path.
    has_evidence: whether numbers and tables of the evidence are printed.
    """
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    from stadia.judge.finding import Family
    from stadia.report.run_files import arrange_evidence

    if finding.family is Family.NOT_CHECKED:
        console.print(f"  [{COLORS['note']}]{escape(finding.measured + format_place(finding))}[/{COLORS['note']}]")
        return
    console.print(format_headline(finding))
    grid = Table.grid(padding=(0, 2))
    for name in ("measured", "expected", "cause", "fix"):
        grid.add_row("", f"[dim]{name}[/dim]", escape(getattr(finding, name)))
    evidence = arrange_evidence(finding.to_dict()["evidence"] if has_evidence else {})
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
    """Return severity, code, title and place of a finding, in the markup of rich."""
    from rich.markup import escape

    from stadia.judge.catalog import CATALOG

    style = COLORS[finding.severity]
    title = CATALOG[finding.code].title if finding.code in CATALOG else "of another version"
    headline = escape(f"{finding.severity} {finding.code} {title}")
    return f"[{style}]{headline}[/{style}]{escape(format_place(finding))}"


def format_place(finding: Finding) -> str:
    """Return up to three recordings or files of a finding in brackets; "" without any."""
    return f" ({', '.join(finding.where[:3])}{' ...' if len(finding.where) > 3 else ''})" if finding.where else ""


MAX_SHOWN = 3
"""Most findings that are printed without `--verbose`, so that the output fits 20 lines."""


def print_findings(
    console: Console,
    findings: Sequence[Finding],
    recordings: Sequence[Recording],
    opened_text: str,
    out: Path | None,
    *,
    verbose: bool = False,
) -> None:
    """Print the most severe findings in four lines each, or all with their evidence; then the verdict on the data.

    console: prints them.
    findings: the findings.
    recordings: the recordings that were checked.
    opened_text: words for what was checked.
    out: folder of the images of findings; None if none were written.
    verbose: whether all findings are printed with their evidence.
    """
    from rich.markup import escape

    from stadia.judge.finding import WRONG_BASELINE, Family

    counts = {name: sum(finding.severity == name for finding in findings) for name in ("stop", "warn")}
    unchecked = [finding for finding in findings if finding.family is Family.NOT_CHECKED]
    notes = [finding for finding in findings if finding.severity == "note" and finding not in unchecked]
    severe = sorted((one for one in findings if one.severity != "note"), key=lambda one: one.severity != "stop")
    if verbose:
        _print_by_family(console, findings, out)
    else:
        for finding in severe[:MAX_SHOWN]:
            console.print(format_headline(finding), soft_wrap=True)
            text = f"  {finding.measured}\n  Cause: {finding.cause}\n  Fix: {finding.fix}"
            console.print(text, markup=False, soft_wrap=True)
            if out is not None and (image := finding.to_dict()["evidence"].get("image")):
                console.print(f"  {out / str(image)}", markup=False, soft_wrap=True)
        if len(severe) > MAX_SHOWN:
            console.print(f"... and {len(severe) - MAX_SHOWN} more")
        if findings:
            explain = f"`stadia explain {severe[0].code}` and --verbose say more" if severe else "--verbose says more"
            console.print(f"[dim]{explain}[/dim]")
    has_region = any((region := recording.ignored()) is not None and region.any() for recording in recordings)
    if out is None and (has_region or any(finding.image for finding in findings)):
        console.print("[dim]--out FOLDER writes images[/dim]")
    hidden = dict.fromkeys(  # mistakes whose check no recording allows
        str(finding.evidence["hides"])
        for finding in findings
        if "hides" in finding.evidence and len(finding.where) == len(recordings)
    )
    if any(finding.code == "E03" for finding in findings):
        hidden.pop(WRONG_BASELINE, None)  # it has shown
    left_out = list(dict.fromkeys(finding.measured.partition(":")[0] for finding in unchecked))
    gaps = list(dict.fromkeys(filter(None, (getattr(recording, "missing", "") for recording in recordings))))
    verdict = _verdict(counts, list(hidden), len(notes), left_out, gaps)
    if counts["stop"] + counts["warn"] == 0 and recordings and all(len(recording) == 1 for recording in recordings):
        selections = (getattr(recording, "selection", None) for recording in recordings)
        dropped = [f": {selection}" for selection in selections if selection and selection.total > 1]
        verdict = f"[yellow]review[/yellow]: training needs neighboring frames, not single images{''.join(dropped[:1])}"
    console.print(f"{verdict} ({escape(opened_text)})", soft_wrap=True)


def _print_by_family(console: Console, findings: Sequence[Finding], out: Path | None) -> None:
    family = None
    for finding in findings:
        if finding.family is not None and finding.family is not family:
            family = finding.family
            console.print(f"[bold]{family.label}[/bold]")
        print_finding(console, finding, out)


def _verdict(
    counts: Mapping[str, int], hidden: Sequence[str], noted: int, left_out: Sequence[str], gaps: Sequence[str]
) -> str:
    notes = "".join(f"; {gap}" for gap in gaps)
    notes += f"; not checked: {', '.join(left_out)}" if left_out else ""
    notes += f"; cannot show {' or '.join(hidden)}" if hidden else ""
    if counts["stop"]:
        return f"[bold red]stop[/bold red]: {counts['stop']} to fix before training, {counts['warn']} to review{notes}"
    if counts["warn"]:
        return f"[yellow]review[/yellow]: {counts['warn']} to review{notes}"
    found = f"nothing to fix, {noted} note{'s' * (noted > 1)}" if noted else "nothing to fix"
    return f"[green]good[/green]: {found}{notes}"


def describe_agreements(agreements: Sequence[BaselineAgreement]) -> list[str]:
    """Return a line for each stereo baseline and each source that measures it, with the widest interval over the
    recordings.
    """
    from stadia.judge.recordings.scale_errors import format_interval

    groups: dict[tuple[str, str], list[BaselineAgreement]] = {}
    for agreement in agreements:
        groups.setdefault((f"{agreement.baseline_m:.4g}", agreement.other), []).append(agreement)
    lines = []
    for (baseline_m, source), group in groups.items():
        ratio = format_interval(min(one.low for one in group), max(one.high for one in group))
        verb = "agrees with" if all(one.is_close for one in group) else "is uncertain by"
        lines.append(f"baseline {baseline_m} m {verb} the {source}: {ratio} times theirs (95 %)")
    return lines


def check_score_file(path: Path | None, inputs: Iterable[Path | None], *, force: bool) -> Path | None:
    """Return the score file to write, after a check that it may be written; None if the user requested no plot.

    path: the file, or None.
    inputs: files that must not be overwritten.
    force: whether a file that stadia did not write may be replaced.

    Raises StadiaError for a file that stadia did not write.
    """
    from stadia.io.output_files import check_replaceable

    return None if path is None else check_replaceable(path, "score file", inputs=inputs, force=force)


def write_score_file(path: Path, score: dict[str, Any]) -> None:
    """Write a score file; if an earlier one is kept under another name, print that name."""
    from stadia.evaluation.recording_scores import write_score

    if kept := write_score(path, score):
        echo(f"note: the earlier scores are kept as {kept}", err=True)


def check_choice(option: str, text: str, choices: Sequence[str]) -> str:
    """Return the value of an option, if it is one of the choices.

    option: name of the option.
    text: the value.
    choices: the allowed values.

    Raises ConfigError, which suggests the most similar choice, for any other value.
    """
    if text not in choices:
        near = find_nearest_name(text, list(choices))
        fix = f"did you mean '{near}'?" if near else "choose one of them"
        raise ConfigError(option, found=f"'{text}'", expected=f"one of {', '.join(choices)}", fix=fix)
    return text


DETAILS = frozenset(("mae", "scale_ratio_spread", "uncertainty", "by_alignment"))
"""Scores that the table only has with `--verbose`; JSON and score files always have them."""


def print_scores(summary: dict[str, Any], *, as_json: bool, verbose: bool) -> None:
    """Print scores as a table; or as JSON on stdout, with the notes on stderr.

    summary: the scores by name.
    as_json: whether JSON is printed.
    verbose: whether the table has all scores.
    """
    if not as_json:
        shown = summary if verbose else _select_main_scores(summary)
        print_score_table(shown)
        if len(shown) < len(summary):
            echo("--verbose shows all scores")
        return
    for note in summary.get("notes", ()):
        echo(f"note: {note}", err=True)
    echo(json.dumps(summary, indent=2, allow_nan=False))


def _select_main_scores(summary: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in summary.items() if name not in DETAILS and value is not None}
    return {name: value for name, value in chosen.items() if not (name.startswith("images_without") and value == 0)}


def print_score_table(summary: dict[str, Any]) -> None:
    """Print scores in rows, notes in lines, and nested scores under their headings."""
    from rich.markup import escape
    from rich.table import Table

    from stadia.core.terminal import Terminal

    console = Terminal()
    table = Table(show_header=False, box=None)
    has_rows = summary.get("images") != 0
    for name, value in summary.items() if has_rows else ():
        if not isinstance(value, dict | list):
            shown = f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
            table.add_row(escape(name), escape(shown))
    if table.row_count:
        console.print(table)
    for note in summary.get("notes", ()):
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    for heading, values in summary.items():
        if isinstance(values, dict):
            for name, nested in values.items():
                console.print(f"\n{heading}: {name}", markup=False, highlight=False)
                print_score_table(nested)
