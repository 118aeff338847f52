"""`stadia check DATA`: what is wrong with the data, with the evidence and the fix, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from stadia.core.recording import Recording
    from stadia.data.config import DataConfig, OneDataConfig
    from stadia.diagnostics.checks.splits import Frames
    from stadia.diagnostics.finding import Finding

STOPPED = 1


def check(
    data: Annotated[Path, typer.Argument(help="A dataset, a video, or a folder of images.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="How to open DATA: data.camera.focal_px=700, data.poses=FILE", show_default=False
        ),
    ] = None,
    format: Annotated[str, typer.Option("--format", help="Of DATA; `stadia parts datasets` lists them.")] = "auto",
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="One check; may be repeated. `stadia parts` lists them.", show_default=False),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="No recording is begun after this time.")] = 20.0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A folder for findings.jsonl and an image of each finding.", show_default=False),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", help="Check DATA as this recipe would train on it: objectpose, overlay.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of findings and nothing else.")] = False,
) -> None:
    """Check cameras, rig, poses, ground truth, frames and splits. Exits with 1 where a finding says stop."""
    if recipe is None and not only and _is_composed(data):
        recipe = "overlay"
    if recipe is not None:
        findings, looked_at = _of_recipe(recipe, data, overrides or [], format, only or [])
        _tell(findings, [], looked_at, out, as_json=as_json)
        return

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from stadia.core.errors import DataError
    from stadia.diagnostics.engine import preflight, unreadable
    from stadia.recipes.source_config import data_config

    config = data_config(str(data), format, overrides or [])
    try:
        recordings, splits = _open_each(config)
    except DataError as error:  # told in one line on stderr, and to scripts as a finding
        if as_json:
            typer.echo(json.dumps([unreadable("", error).to_dict()], indent=2))
        raise
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    errors = Console(stderr=True)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task("checks")
        findings = preflight(
            recordings,
            splits,
            checks=only or None,
            seconds=seconds,
            progress=lambda what, done, total: progress.update(bar, description=f"{done + 1}/{total} {what}"),
        )
    _tell(findings, recordings, _looked_at(recordings), out, as_json=as_json)


def _tell(
    findings: list[Finding], recordings: Sequence[Recording], looked_at: str, out: Path | None, *, as_json: bool
) -> None:
    """Write and print findings; exit with 1 where one says stop."""
    from rich.console import Console

    from stadia.diagnostics.finding import Severity, write_findings

    if out is not None:
        findings = write_findings(out / "findings.jsonl", findings)
    if as_json:
        typer.echo(json.dumps([finding.to_dict() for finding in findings], indent=2, allow_nan=False))
    else:
        _print(Console(highlight=False), findings, recordings, looked_at, out)
    if any(finding.severity is Severity.STOP for finding in findings):
        raise typer.Exit(STOPPED)


def _of_recipe(
    recipe: str, data: Path, overrides: list[str], format: str, only: list[str]
) -> tuple[list[Finding], str]:
    """What a recipe finds in its data once it has opened them, and what it opened. For data that are no recordings."""
    from rich.console import Console

    from stadia.cli.train import resolve_recipe
    from stadia.core.errors import ConfigError
    from stadia.recipes import RECIPES

    if only:
        raise ConfigError(
            "--only",
            found="given with --recipe",
            expected="one of the two",
            fix="leave it out: a recipe has checks of its own",
        )
    given = [f"data.path={json.dumps(str(data))}"] + ([f"data.format={format}"] if format != "auto" else [])
    config = resolve_recipe(recipe, None, given + overrides, example={})
    _, opened = RECIPES.load(recipe).prepare(config, Console(stderr=True))
    return opened.findings(), f"as '{recipe}' would train on it"


def _is_composed(data: Path) -> bool:
    """Whether it is a set of composed images, which no recording is."""
    from stadia.data.overlay.published import is_published
    from stadia.data.overlay.written import is_written

    return is_written(data.expanduser()) or is_published(data.expanduser())


def _open_each(config: DataConfig) -> tuple[list[Recording], dict[str, list[Frames]]]:
    """The recordings of all data sets, and their splits: what trains is everything that trains, wherever it lies."""
    recordings: list[Recording] = []
    splits: dict[str, list[Frames]] = {}
    for one in config.sets.values():
        opened, named = _open(one)
        recordings += opened
        for name, frames in named.items():
            splits.setdefault(name, []).extend(frames)
    return recordings, splits


def _open(config: OneDataConfig) -> tuple[list[Recording], dict[str, list[Frames]]]:
    """The recordings and their splits: as `split_by` says where it is given, else as the dataset names them.

    Of a video file a few stretches are decoded, unless `frames` or a split of it are asked for: then all of it, as for
    a training.
    """
    from stadia.data.config import SourceOptions
    from stadia.data.crops import cropped_recording
    from stadia.data.sources import named_splits, open_recordings, sample_recordings
    from stadia.data.splits import open_split

    if "split_by" in config.model_fields_set:
        split = open_split(config)
        named = {"train": split.train, "val": split.val}
        recordings = list({part.recording.name: part.recording for parts in named.values() for part in parts}.values())
        return recordings, {name: [(part.recording, part.indices) for part in parts] for name, parts in named.items()}
    path = Path(config.path).expanduser()
    options = config.model_dump(include=set(SourceOptions.model_fields) & config.model_fields_set)
    if config.frames is None:
        recordings = sample_recordings(path, config.format, **options)
    else:
        recordings = open_recordings(path, config.format, **{"size": (config.height, config.width), **options})
    recordings = [cropped_recording(recording, config.crop) for recording in recordings]
    splits: dict[str, list[Frames]] = {
        split: [
            (r, range(len(r)))
            for r in recordings
            if any(r.name == name or r.name.endswith(f"/{name}") for name in names)
        ]
        for split, names in named_splits(path, config.format).items()
    }
    return recordings, splits


def _print(
    console: Console, findings: Sequence[Finding], recordings: Sequence[Recording], looked_at: str, out: Path | None
) -> None:
    """Findings family by family, the numbers and tables under each, notes in one line each, and a verdict."""
    from stadia.cli.findings import print_finding
    from stadia.diagnostics.catalog.entry import FAMILIES

    family, line = "", ""  # no empty line before the first
    for finding in findings:
        if FAMILIES[finding.code[0]] != family:
            family = FAMILIES[finding.code[0]]
            console.print(f"{line}[bold]{family}[/bold]")
            line = "\n"
        print_finding(console, finding, out)
    if out is None and any(finding.image for finding in findings):
        console.print("\n[dim]--out FOLDER writes an image of what can be seen[/dim]")
    counts = {name: sum(finding.severity == name for finding in findings) for name in ("stop", "warn")}
    counts["not checked"] = sum(finding.code.startswith("N") for finding in findings)
    everywhere = [finding for finding in findings if len(finding.where) == len(recordings)]  # what no recording tells
    hidden = dict.fromkeys(str(finding.evidence["hides"]) for finding in everywhere if "hides" in finding.evidence)
    verdict = _verdict(counts, list(hidden))
    if counts["stop"] + counts["warn"] == 0 and recordings and all(len(recording) == 1 for recording in recordings):
        verdict = "[yellow]look[/yellow]: single images, and learning from one camera needs neighbors in time"
    console.print(f"{line}{verdict} ({looked_at})", soft_wrap=True)


def _looked_at(recordings: Sequence[Recording]) -> str:
    """How much of the data was opened: of a video file only a part is."""
    from stadia.data.video_sample import Stretch

    stretches = [recording for recording in recordings if isinstance(recording, Stretch)]
    if not stretches:
        return f"{len(recordings)} recording{'s' * (len(recordings) != 1)}"
    camera, parts = stretches[0].camera(0), f"{len(stretches)} stretch{'es' * (len(stretches) > 1)}"
    return f"{sum(map(len, stretches))} frames of the video looked at, in {parts}, at {camera.width}x{camera.height}"


def _verdict(counts: Mapping[str, int], hidden: Sequence[str]) -> str:
    """The last line: whether to train, and what mistakes nothing here would have shown."""
    notes = f", {counts['not checked']} not checked" if counts["not checked"] else ""
    notes += f"; {' and '.join(hidden)} would not show" if hidden else ""
    if counts["stop"]:
        return (
            f"[bold red]stop[/bold red]: {counts['stop']} to mend before training, {counts['warn']} to look at{notes}"
        )
    if counts["warn"]:
        return f"[yellow]look[/yellow]: {counts['warn']} to look at{notes}"
    return f"[green]good[/green]: nothing found{notes}"
