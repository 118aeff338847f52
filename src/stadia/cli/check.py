"""`stadia check DATA`: check the data before training, with evidence and fixes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stadia.cli.arguments import ForceOption, JsonOption, argument, flag, option
from stadia.cli.output import echo
from stadia.core.errors import ConfigError, DataError

NOT_CHECKED = 1
"""Exit code with `--strict` where data were not checked."""

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from stadia.core.recording import Recording
    from stadia.dataloading.config import DataConfig, DatasetConfig
    from stadia.datasets.config import CameraConfig
    from stadia.diagnostics.finding import Finding
    from stadia.diagnostics.preflight.recording_survey import BaselineAgreement
    from stadia.diagnostics.preflight.split_checks import SplitFrames


def check(
    data: Annotated[Path, argument("A dataset, a video, or a folder of images.")],
    overrides: Annotated[
        list[str] | None, argument("How to open DATA: data.camera.focal_px=700, data.poses=FILE", metavar="KEY=VALUE")
    ] = None,
    format: Annotated[str, typer.Option(help="Format of DATA; `stadia list datasets` lists them.")] = "auto",
    only: Annotated[
        list[str] | None, option("Run only this check; repeatable. `stadia list checks` lists them.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Start no recording after this time.")] = 20.0,
    out: Annotated[Path | None, option("A folder for findings.jsonl and an image of each finding.")] = None,
    recipe: Annotated[str | None, option("Check DATA as input of this recipe: objectpose, overlay.")] = None,
    network: Annotated[
        Path | None, option("Also judge what a checkpoint or a published network predicts for DATA.")
    ] = None,
    strict: Annotated[
        bool, flag("--strict", "Exit with 1 where only a sample was checked, or a check of --only could not run.")
    ] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check cameras, rig, poses, ground truth, frames and splits. Exits with 1 where a finding stops training."""
    if out is not None:
        from stadia.files.output_files import check_output_folder

        inputs = [data, *(Path(word.partition("=")[2]) for word in overrides or [])]
        out = check_output_folder(out, "findings.jsonl", "list of findings", inputs=inputs, force=force)
    if recipe is None and not only and _is_composite(data):
        recipe = "overlay"
    if recipe is not None:
        findings = _recipe_findings(recipe, data, overrides or [], format, only or [])
        _report_findings(findings, [], f"as '{recipe}' would train on it", out, as_json=as_json)
        if strict:
            _require_checked(findings, only or [])
        return

    from stadia.datasets.recordings import summarize_recordings
    from stadia.diagnostics.preflight.preflight_runner import make_unreadable_finding, run_preflight
    from stadia.predict.options import parse_data_config, split_settings
    from stadia.process.progress import make_progress
    from stadia.process.terminal import Terminal

    overrides, settings = split_settings(overrides)
    config = parse_data_config(str(data), format, overrides)
    if assumed := _assume_camera(config):
        only = _choose_camera_free(only or [])
        config = config.model_copy(update={"camera": assumed})
    try:
        recordings, splits, one_camera = _open_all(config)
    except DataError as error:  # one line on stderr, and a finding for scripts
        if as_json:
            echo(json.dumps([make_unreadable_finding("", error).to_dict()], indent=2))
        raise
    if not as_json:  # before the checks, which take seconds
        if assumed:
            echo("camera: not known, so that only checks that need none are made; the one below is assumed")
        for line in summarize_recordings(recordings):
            Terminal(highlight=False).print(line, markup=False, soft_wrap=True)
    if out is not None:
        for line in _draw_ignored(recordings, out):
            echo(line, err=as_json)
    if not only or "borders" in only:
        for line in _propose_ignored(recordings, out):
            echo(line, err=as_json)
    agreements: list[BaselineAgreement] = []
    with make_progress(Terminal(stderr=True), "checks") as progress:
        bar = progress.add_task("checks", total=None)
        findings = run_preflight(
            recordings,
            splits,
            checks=only or None,
            seconds=seconds,
            one_camera=one_camera,
            progress=lambda what, done, total: progress.update(bar, description=what, completed=done, total=total),
            report_agreement=agreements.append,
        )
    if not as_json:
        for line in _describe_agreements(agreements):
            Terminal(highlight=False).print(line, markup=False, soft_wrap=True)
    if network is not None:
        findings += _judge_network(network, data, format, overrides, settings)
    _report_findings(findings, recordings, _describe_opened(recordings), out, as_json=as_json)
    if assumed:
        from stadia.diagnostics.preflight import CHECKS

        left_out = ", ".join(name for name in CHECKS if name not in CAMERA_FREE)
        echo(f"not checked, since the camera is not known: {left_out}; `stadia camera {data} --fov DEGREES`", err=True)
    if strict:
        _require_checked(findings, only or [])


CAMERA_FREE = ("frames", "timestamps", "borders", "exposure", "parallax", "splits")
"""Checks that need no camera, or hold for any plausible one."""


def _assume_camera(config: DataConfig) -> CameraConfig | None:
    """Return an assumed camera for your own video of which none is known; None where one is, or for a data set."""
    from stadia.files.paths import expand_home
    from stadia.predict.input_camera import choose_input_camera
    from stadia.predict.inputs import is_own_video

    path = expand_home(config.path)
    if config.extra_datasets or not path.exists() or not is_own_video(path, config.format):
        return None
    try:
        chosen = choose_input_camera(config.camera, path)
    except DataError:  # whoever opens the video reports it
        return None
    return chosen.config if chosen.is_assumed else None


def _choose_camera_free(only: Sequence[str]) -> list[str]:
    """Return the checks that need no camera. Raises ConfigError for others of `--only`."""
    if named := [name for name in only if name not in CAMERA_FREE]:
        fix = "give the camera: stadia camera VIDEO --fov DEGREES"
        raise ConfigError("--only", found=f"{', '.join(named)} without a camera", expected="a known camera", fix=fix)
    return list(only) or list(CAMERA_FREE)


def _draw_ignored(recordings: Sequence[Recording], out: Path) -> Iterator[str]:
    """Write a picture of each ignored region, such as what `stadia map` found never to move; yield a line for each."""
    from stadia.diagnostics.preflight.finding_images import draw_ignored_regions
    from stadia.files.atomic_files import open_atomic

    for number, (share, picture) in enumerate(draw_ignored_regions(recordings)):
        path = out / f"ignored{f'-{number}' if number else ''}.png"
        with open_atomic(path) as stream:
            stream.write(picture)
        yield f"{path}: {share:.1%} of the image is ignored, in red"


MAX_SEARCHED = 4
MIN_STATIC_SHARE = 0.005
"""Recordings that are searched for what never moves, and the least share of the image that is reported."""

STATIC = "static"
"""Folder of `--out` with a mask of each recording for `data.ignore`."""


def _propose_ignored(recordings: Sequence[Recording], out: Path | None) -> Iterator[str]:
    """Yield a line for each recording with parts that never move, such as a hood; write a folder for `data.ignore`."""
    from stadia.mapping.static_parts import find_static_parts

    found: dict[str, NDArray[np.bool_]] = {}
    for recording in recordings[:MAX_SEARCHED]:
        try:
            if recording.ignored() is not None:
                continue
            static = find_static_parts(recording)
        except DataError:  # the checks report it
            continue
        if (share := float(static.mean())) < MIN_STATIC_SHARE:
            continue
        found.setdefault(_name_whole(recording), static)
        what = f"{share:.1%} of the images of {recording.name} never moves, such as a hood or a logo"
        advice = "--out FOLDER writes a mask for data.ignore" if out is None else f"data.ignore={out / STATIC}"
        yield f"note: {what}; {advice}{'' if out is None else ' leaves it out'}"
    if found and out is not None:
        _write_ignored(recordings, found, out / STATIC)


def _write_ignored(recordings: Sequence[Recording], found: Mapping[str, NDArray[np.bool_]], folder: Path) -> None:
    """Write a mask of each recording for `data.ignore`: what was found or is ignored already; else it is black."""
    import cv2
    import numpy as np

    from stadia.datasets.ignored_regions import name_mask
    from stadia.files.atomic_files import open_atomic

    folder.mkdir(parents=True, exist_ok=True)
    for name, recording in {_name_whole(recording): recording for recording in recordings}.items():
        region = found.get(name, recording.ignored())
        if region is None:
            camera = recording.camera(0)
            region = np.zeros((camera.height, camera.width), bool)
        with open_atomic(folder / name_mask(name)) as stream:
            stream.write(cv2.imencode(".png", region.astype(np.uint8) * 255)[1].tobytes())


def _name_whole(recording: Recording) -> str:
    """Return the name that a recording has in a training, of which a stretch may be opened here."""
    return recording.name.partition(" from ")[0] if recording.is_part else recording.name


MAX_JUDGED_INPUTS, MAX_JUDGED_FRAMES = 4, 60
"""Inputs, and frames of each, whose predictions are judged."""


def _judge_network(
    network: Path, data: Path, format: str, overrides: Sequence[str], settings: Sequence[str]
) -> list[Finding]:
    """Return the findings of a network's predictions for the data; print a line for each recording."""
    from dataclasses import replace

    from stadia.models.published_networks import describe_licence
    from stadia.predict.network import open_network
    from stadia.predict.options import PredictOptions, parse_source_options

    opened = open_network(network, settings)
    if not opened.loaded.has_own_size and (line := describe_licence(opened.licence)):
        echo(line, err=True)
    findings: list[Finding] = []
    options = PredictOptions(data={"format": format, **parse_source_options(overrides)})
    for session in opened.open(data, options)[:MAX_JUDGED_INPUTS]:
        for line in session.input.camera_lines():
            echo(f"{session.name}: {line}", err=True)
        judged = session.judge(MAX_JUDGED_FRAMES)
        title, scale = session.network.checkpoint.title, session.predictor.depth_scale
        echo(f"{session.name}: predictions of {title} ({scale}) are {judged.verdict}", err=True)
        findings += [replace(finding, where=(session.name,)) for finding in judged.findings]
    return findings


def _require_checked(findings: list[Finding], only: Sequence[str]) -> None:
    """Print what was not checked and exit with 1, where only a sample was, or a check of `only` could not run."""
    from stadia.diagnostics.not_checked import NOT_CHECKED as COULD_NOT_RUN
    from stadia.diagnostics.not_checked import SAMPLED

    fixes = {SAMPLED: "raise --seconds"}
    if only:
        fixes[COULD_NOT_RUN] = "give DATA what the check needs, or leave it out of --only"
    if missing := [finding for finding in findings if finding.code in fixes]:
        measured = "; ".join(dict.fromkeys(finding.measured for finding in missing))
        fix = "; ".join(dict.fromkeys(fixes[finding.code] for finding in missing))
        echo(f"not checked: {measured}. Fix: {fix}; or leave out --strict", err=True)
        raise typer.Exit(NOT_CHECKED)


def _describe_agreements(agreements: Sequence[BaselineAgreement]) -> Iterator[str]:
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


def _report_findings(
    findings: list[Finding], recordings: Sequence[Recording], opened_text: str, out: Path | None, *, as_json: bool
) -> None:
    """Write and print findings; exit with 1 where one stops training."""
    from stadia.cli.findings import STOPPED
    from stadia.diagnostics.finding import Severity, write_findings
    from stadia.process.terminal import Terminal

    if out is not None:
        findings = write_findings(out / "findings.jsonl", findings)
    if as_json:
        echo(json.dumps([finding.to_dict() for finding in findings], indent=2, allow_nan=False))
    else:
        _print_findings(Terminal(highlight=False), findings, recordings, opened_text, out)
    if any(finding.severity is Severity.STOP for finding in findings):
        raise typer.Exit(STOPPED)


def _recipe_findings(recipe: str, data: Path, overrides: list[str], format: str, only: list[str]) -> list[Finding]:
    """Return the findings of a recipe in its data. For data without recordings."""
    from stadia.cli.train import resolve_recipe
    from stadia.process.terminal import Terminal
    from stadia.recipes import RECIPES

    if only:
        fix = "leave it out: a recipe has checks of its own"
        raise ConfigError("--only", found="used together with --recipe", expected="one of the two", fix=fix)
    given = [f"data.path={json.dumps(str(data))}"] + ([f"data.format={format}"] if format != "auto" else [])
    config = resolve_recipe(recipe, None, given + overrides, example={})
    _, opened = RECIPES.load(recipe).prepare(config, Terminal(stderr=True))
    return opened.findings()


def _is_composite(data: Path) -> bool:
    """Return whether the data are composite images, which are no recordings."""
    from stadia.files.paths import expand_home
    from stadia.synthetic.composites.composite_files import is_composite_set
    from stadia.synthetic.composites.published_layout import is_published

    data = expand_home(data)
    return is_composite_set(data) or is_published(data)


def _open_all(config: DataConfig) -> tuple[list[Recording], dict[str, list[SplitFrames]], list[Recording]]:
    """Return the recordings of all data sets, their joined splits, and the recordings with `data.stereo=false`."""
    recordings: list[Recording] = []
    one_camera: list[Recording] = []
    splits: dict[str, list[SplitFrames]] = {}
    for dataset in config.sets.values():
        opened, named = _open(dataset)
        recordings += opened
        one_camera += opened if dataset.stereo is False and dataset.offsets else []
        for name, frames in named.items():
            splits.setdefault(name, []).extend(frames)
    return recordings, splits, one_camera


def _open(config: DatasetConfig) -> tuple[list[Recording], dict[str, list[SplitFrames]]]:
    """Return the recordings and their splits: by `split_by` if given, else by the dataset's names.

    Only a few parts of a video file are decoded, unless `frames` or a split of it is set.
    """
    from stadia.dataloading.samples import open_split
    from stadia.datasets.config import SourceOptions
    from stadia.datasets.open_dataset import open_recordings, read_named_splits, sample_recordings
    from stadia.datasets.recordings import crop_recording
    from stadia.files.paths import expand_home

    if "split_by" in config.model_fields_set:
        split = open_split(config)
        named = {"train": split.train, "val": split.val}
        recordings = list({part.recording.name: part.recording for parts in named.values() for part in parts}.values())
        return recordings, {name: [(part.recording, part.indices) for part in parts] for name, parts in named.items()}
    path = expand_home(config.path)
    options = config.model_dump(include=set(SourceOptions.model_fields) & config.model_fields_set)
    if config.frames is None:
        recordings = sample_recordings(path, config.format, **options)
    else:
        recordings = open_recordings(path, config.format, **{"size": (config.height, config.width), **options})
    recordings = [crop_recording(recording, config.crop) for recording in recordings]
    splits: dict[str, list[SplitFrames]] = {
        split: [
            (recording, range(len(recording)))
            for recording in recordings
            if f"/{recording.name}".endswith(tuple(f"/{name}" for name in names))
        ]
        for split, names in read_named_splits(path, config.format).items()
    }
    return recordings, splits


def _print_findings(
    console: Console, findings: Sequence[Finding], recordings: Sequence[Recording], opened_text: str, out: Path | None
) -> None:
    """Print findings by family with numbers and tables, notes in one line each, and a verdict."""
    from rich.markup import escape

    from stadia.cli.findings import print_finding
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


def _describe_opened(recordings: Sequence[Recording]) -> str:
    """Describe how much of the data was opened. Of a video file and of a folder of many images it is only a part."""
    from stadia.datasets.recordings import RecordingView
    from stadia.datasets.video.video_files import ImageSegment, VideoSegment

    def is_stretch(recording: Recording) -> bool:
        if isinstance(recording, RecordingView):
            return is_stretch(recording.recording)
        return isinstance(recording, VideoSegment | ImageSegment)

    stretches = [recording for recording in recordings if is_stretch(recording)]
    if not stretches:
        return f"{len(recordings)} recording{'s' * (len(recordings) != 1)}"
    camera, parts = stretches[0].camera(0), f"{len(stretches)} stretch{'es' * (len(stretches) > 1)}"
    return f"{sum(map(len, stretches))} frames of the video checked, in {parts}, at {camera.width}x{camera.height}"


def _verdict(counts: Mapping[str, int], hidden: Sequence[str], noted: int) -> str:
    """Return the last line: whether to train, and which mistakes these data would not show."""
    notes = f", {counts['not checked']} not checked" if counts["not checked"] else ""
    notes += f"; {' and '.join(hidden)} would not show" if hidden else ""
    if counts["stop"]:
        return f"[bold red]stop[/bold red]: {counts['stop']} to fix before training, {counts['warn']} to review{notes}"
    if counts["warn"]:
        return f"[yellow]review[/yellow]: {counts['warn']} to review{notes}"
    found = f"nothing to fix, {noted} note{'s' * (noted > 1)}" if noted else "nothing found"
    return f"[green]good[/green]: {found}{notes}"
