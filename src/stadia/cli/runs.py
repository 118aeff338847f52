"""Commands that read runs and their findings: `stadia report`, `diagnose`, `explain` and `compare`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.options import (
    ForceOption,
    JsonOption,
    RunArgument,
    VerboseOption,
    add_options_of_inputs,
    argument,
    flag,
    option,
    refuse_options,
    take_options,
)
from stadia.cli.output import echo, print_lines, show_progress
from stadia.cli.results import STOPPED, format_headline, print_finding
from stadia.core.errors import ConfigError, DataError
from stadia.core.registry import find_nearest_name
from stadia.predict.options import about

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from stadia.judge.finding import Finding
    from stadia.predict.ranking import Ranking
    from stadia.scale.camera_height.mount_change import MountChange


def report(
    run: RunArgument,
    out: Annotated[Path | None, option("The output file; RUN/report.html by default.")] = None,
    private: Annotated[
        bool, flag("--private", "Also show the command line, paths, and uncommitted changes of the code.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Write the page of a run: curves, images, scores, findings."""
    from stadia.io.output_files import check_replaceable
    from stadia.report import build_report

    if run.is_dir():  # else the error is that of the run
        out = check_replaceable(out or run / "report.html", "report", inputs=[run], force=force)
    path = build_report(run, out, private=private, warn=lambda line: echo(f"note: {run}: {line}", err=True))
    echo(f"report: {path}")


def diagnose(
    context: typer.Context,
    run: Annotated[Path, argument("A run's folder, also of a failed or unfinished run.")],
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the finding to fix first. Exits with 1 for a stop."""
    if as_json:
        refuse_options(context, ["verbose"], found="no effect on --json, which has all", expected="text")
    from stadia.core.terminal import Terminal
    from stadia.core.verdict import Verdict
    from stadia.judge.catalog import find_root_cause
    from stadia.judge.depth import TrainingRecord
    from stadia.judge.depth.training_record import describe_own_term
    from stadia.judge.finding import read_valid_findings
    from stadia.predict.verdict import read_verdict
    from stadia.training.loop.run_folder import Run

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
"""Most findings of a kind that are printed without `--verbose`, so that the output fits 20 lines."""


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


def explain(
    code: Annotated[str | None, argument("Code of a finding, such as U01; a letter lists its family.")] = None,
) -> None:
    """Explain a finding by its code. Without a code, lists the families of findings."""
    from stadia.core.terminal import Terminal
    from stadia.io.input_files import parse_integer
    from stadia.judge.catalog import CATALOG

    console = Terminal(highlight=False)
    wanted = (code or "").upper()
    if (number := parse_integer(wanted[1:], most=99)) is not None:
        wanted = f"{wanted[0]}{number:02d}"  # L5 is L05
    if wanted in CATALOG:
        entry = CATALOG[wanted]
        console.print(f"{entry.code} {entry.title}", style="bold", markup=False)
        lines = {"family": f"{entry.family.label}, checked at stage '{entry.stage}'"}
        lines |= {name: getattr(entry, name) for name in ("symptom", "cause", "fix", "measured", "source", "proof")}
        for name, text in ((name, text) for name, text in lines.items() if text):
            console.print(f"  {name + ':':<10}{text}", markup=False, soft_wrap=True)
        return
    if not wanted:
        for family, count in Counter(entry.family for entry in CATALOG.values()).items():
            console.print(f"{family}  {family.label} ({count})", markup=False)
        console.print(f"{len(CATALOG)} findings; `stadia explain LETTER` lists a family", markup=False)
        return
    listed = [entry for entry in CATALOG.values() if entry.family == wanted]
    if not listed:
        close = find_nearest_name(wanted, CATALOG)
        fix = f"did you mean {close}? " * bool(close) + "`stadia explain` lists the families"
        raise ConfigError("finding", found=f"'{code}'", expected="a code of the catalog", fix=fix)
    for entry in listed:
        console.print(f"{entry.code}  {entry.title}", markup=False, soft_wrap=True)
    console.print(f"{len(listed)} findings", markup=False)


RUN_RECORD = "run.json"


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Options of `stadia compare` for two runs."""

    plot: Path | None = field(default=None, metadata=about("Draw the curves of the runs: a .svg or .png."))
    force: bool = field(default=False, metadata=about("Replace a file that stadia did not write."))


@dataclass(frozen=True, kw_only=True)
class NetworkComparison:
    """Options of `stadia compare` for networks on a video."""

    out: Path = field(default=Path("compare.html"), metadata=about("The page of the comparison."))
    force: bool = field(default=False, metadata=about("Replace a file that stadia did not write."))


@dataclass(frozen=True, kw_only=True)
class MountComparison:
    """Options of `stadia compare` for two drives of one camera."""

    mount: bool = field(
        default=False, metadata=about("Measure whether the camera moved on its vehicle between the drives.")
    )
    as_json: bool = field(default=False, metadata=about("Print only JSON.", name="--json"))


RUNS, NETWORKS, MOUNTS = "two runs", "networks and a video", "two drives (--mount)"
COMPARISONS: dict[str, type[RunComparison | NetworkComparison | MountComparison]] = {
    RUNS: RunComparison,
    NETWORKS: NetworkComparison,
    MOUNTS: MountComparison,
}
"""Options of what is compared."""

PATH_SUFFIXES = (".txt", ".csv", ".tum")
"""Suffixes of files with a camera's path, which are no network and no video."""


@add_options_of_inputs(COMPARISONS)
def compare(
    context: typer.Context,
    things: Annotated[
        list[Path],
        argument("Two runs; networks and folders of depth, then a video; or with --mount two drives.", metavar="A B"),
    ],
    **options: Any,
) -> None:
    """Compare two runs or two mounts of a camera, or rank networks on a video.

    `stadia compare NET NET ... VIDEO` ranks networks, and depth folders of other programs, by the map of the video.
    `stadia compare A B --mount` measures the angles between the cameras of drives A and B. Settings of the videos such
    as data.camera.K_file=K.txt follow them.
    """
    settings = [str(thing) for thing in things if "=" in str(thing) and not thing.exists()]
    paths = [thing for thing in things if str(thing) not in settings]
    if len(paths) < 2:
        fix = "stadia compare RUN RUN, stadia compare NET NET VIDEO, or stadia compare A.mp4 B.mp4 --mount"
        raise ConfigError("compare", found=f"{len(paths)} names", expected="two or more", fix=fix)
    are_runs = len(paths) == 2 and all((path / RUN_RECORD).is_file() or not path.exists() for path in paths)
    title = MOUNTS if options["mount"] else RUNS if are_runs else NETWORKS
    chosen = take_options(context, COMPARISONS, title, options)
    if isinstance(chosen, RunComparison):
        if settings:
            expected = f"{NETWORKS}, or {MOUNTS}"
            raise ConfigError(settings[0], found=f"no effect on {RUNS}", expected=expected, fix="leave it out")
        if chosen.plot is None:
            refuse_options(context, ["force"], found="no effect without --plot", expected="a file of --plot")
        _compare_runs(paths[0], paths[1], chosen.plot, force=chosen.force)
    elif isinstance(chosen, NetworkComparison):
        if all(path.suffix.lower() in PATH_SUFFIXES and path.is_file() for path in paths):
            fix = f"stadia evaluate --trajectory {paths[0]} --reference {paths[1]}"
            raise ConfigError("compare", found="camera paths", expected=", ".join(COMPARISONS), fix=fix)
        _rank([str(path) for path in paths[:-1]], paths[-1], settings, chosen.out, force=chosen.force)
    else:
        if len(paths) != 2:
            found, fix = f"{len(paths)} names", "stadia compare A.mp4 B.mp4 --mount data.camera.K_file=K.txt"
            raise ConfigError("compare --mount", found=found, expected="two recordings of one camera", fix=fix)
        _compare_mounts(paths[0], paths[1], settings, as_json=chosen.as_json)


def _compare_runs(first: Path, second: Path, plot: Path | None, *, force: bool) -> None:
    from stadia.io.output_files import check_replaceable
    from stadia.report.run_comparison import draw_comparison, write_comparison
    from stadia.report.run_files import read_run

    if plot is not None:
        if plot.suffix not in (".svg", ".png"):
            raise DataError(
                plot,
                found=f"'{plot.suffix}'",
                expected=".svg or .png",
                fix="let the name of the plot end in .svg or .png",
            )
        plot = check_replaceable(plot, "comparison", inputs=[first, second], force=force)
    a, b = read_run(first), read_run(second)
    echo(write_comparison(a, b), nl=False)
    if plot is not None:
        echo(f"plot: {plot if draw_comparison(a, b, plot) else 'no common curve'}")


def _compare_mounts(first: Path, second: Path, settings: list[str], *, as_json: bool) -> None:
    from stadia.data.config import parse_source_options
    from stadia.predict.inputs import open_inputs
    from stadia.scale.camera_height.mount_change import compare_mounts, measure_input

    options = parse_source_options(settings)
    measured, assumed, durations_s = [], [], list[float]()
    with show_progress() as bars:
        for path in (first, second):
            inputs = open_inputs(path, **options)
            durations_s.append(sum((given.count or 0) / given.rate_hz for given in inputs))
            assumed += [str(path)] if any(given.camera_is_assumed for given in inputs) else []
            measured.append([stretch for given in inputs for stretch in measure_input(given, bars.track)])
    lasting = durations_s[0], durations_s[1]
    change = compare_mounts(measured[0], measured[1], durations_s=lasting, names=(str(first), str(second)))
    if assumed:
        echo(
            f"note: the camera of {' and '.join(assumed)} is assumed: angles are wrong as its focal length is", err=True
        )
    if as_json:
        echo(json.dumps(change.to_json(), indent=2, allow_nan=False))
    else:
        print_lines(describe_mount_change(change, first.name, second.name))


MIN_SHOWN_P = 1e-4  # deviations are not known well enough for smaller probabilities


def describe_mount_change(change: MountChange, first: str, second: str) -> list[str]:
    """Return lines that describe how a camera moved on its vehicle.

    change: the measured change.
    first, second: names of the recordings.
    """
    values = {name: getattr(change, f"{name}_deg") for name in ("yaw", "pitch", "roll")}
    angles = [
        f"{name} {value:+.2f} +- {change.deviations[f'{name}_deg']:.2f}"
        for name, value in values.items()
        if value == value
    ]
    verdict = f"the camera moved: a calibration from {first} does not hold for {second}"
    if not change.has_moved:
        verdict = f"no change of the mount is measurable from {first} to {second}"
    chance = f"p = {change.p_value:.2g}" if change.p_value >= MIN_SHOWN_P else f"p < {MIN_SHOWN_P:g}"
    lines = [verdict, f"{', '.join(angles)} degrees ({chance} without a change)"]
    lines += [] if change.roll_deg == change.roll_deg else ["roll: not measured, no road with texture was found"]
    height = f"height {change.height_cm:+.1f} +- {change.deviations['height_cm']:.1f} cm"
    lines.append(
        height if change.height_cm == change.height_cm else "height: not measured, it needs positions in metres"
    )
    counts = " and ".join(map(str, change.stretches))
    return [
        *lines,
        f"from {counts} straight stretches; yaw is positive to the right, pitch upwards, roll right side down",
    ]


def _rank(networks: list[str], video: Path, settings: list[str], out: Path, *, force: bool) -> None:
    from stadia.data.config import parse_source_options
    from stadia.evaluation.plots.colormaps import color_inverse_depth
    from stadia.io.output_files import check_replaceable
    from stadia.predict.ranking import COLUMNS, rank_networks
    from stadia.report.ranking_page import write_ranking_page

    page = check_replaceable(out, "comparison", inputs=[video], force=force)
    with show_progress() as bars:
        ranking = rank_networks(networks, video, parse_source_options(settings), bars.track)
    conclusion = describe_conclusion(ranking)
    print_lines([*_describe_rows(ranking), conclusion, *(f"note: {note}" for note in list_notes(ranking))])
    pictures: dict[str, Any] = {}
    for name, image in ranking.images.items():
        depths = {candidate: color_inverse_depth(depth) for candidate, depth in ranking.shown[name].items()}
        pictures[name] = {"image": image[..., ::-1], **{key: shown[..., ::-1] for key, shown in depths.items()}}
    write_ranking_page(
        page,
        title=f"Networks on {ranking.video}",
        conclusion=conclusion,
        columns=dict(COLUMNS.values()),
        rows=[
            {
                "name": row.name,
                "licence": row.candidate.licence or "unknown",
                "weights": f"{row.candidate.weights_mb:.0f} MB" if row.candidate.weights_mb else "",
                "is_tied": row.is_tied,
                "cells": [_format(row.estimates[name], with_range=name != "ms") for name in COLUMNS],
            }
            for row in ranking.rows
        ],
        pictures=pictures,
        notes=list_notes(ranking),
    )
    echo(f"page: {page}")


def describe_conclusion(ranking: Ranking) -> str:
    """Return one line that names the best network, or states that the video cannot decide."""
    tied, best = ranking.tied, ranking.rows[0]
    on = f"{ranking.frames} frames with {ranking.points} points each"
    if len(tied) == 1:
        return f"best: {best.name}, error {best.estimates['error'].value:.1%} at the points of the map ({on})"
    return f"cannot tell: {', '.join(tied)} differ by less than the noise ({on})"


def list_notes(ranking: Ranking) -> list[str]:
    """Return notes about what limits a ranking of networks."""
    notes = []
    if ranking.map_grade != "usable":
        notes.append(f"the map is {ranking.map_grade}, and so is this order")
    affine = [row.name for row in ranking.rows if row.candidate.is_affine]
    if affine:
        notes.append(f"scale and shift of {', '.join(affine)} were fitted to the points in each frame")
    return [*notes, "the points do not show depth in metres, on smooth surfaces, or of things that move"]


def _describe_rows(ranking: Ranking) -> list[str]:
    from stadia.predict.ranking import COLUMNS

    table = [["network", *(title for title, _ in COLUMNS.values())]]
    for row in ranking.rows:
        cells = [_format(row.estimates[name], with_range=name == "error") for name in COLUMNS]
        table.append([f"{row.name}{' *' * row.is_tied}", *cells])
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]


def _format(estimate: Any, *, with_range: bool) -> str:
    if estimate.value != estimate.value:
        return "-"
    text = f"{estimate.value:.3g}"
    return f"{text} ({estimate.low:.2g} to {estimate.high:.2g})" if with_range else text
