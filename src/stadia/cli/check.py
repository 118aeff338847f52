"""`stadia check`: check data before training, or judge the result of another program."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.check_result import CheckOptions, ResultOptions, check_result
from stadia.cli.options import add_options_of_inputs, argument, refuse_options, take_options
from stadia.cli.output import echo
from stadia.cli.results import STOPPED, describe_agreements, print_findings
from stadia.core.errors import ConfigError, DataError
from stadia.predict.options import about

NOT_CHECKED = 1
"""Exit code of `--strict` if some data were not checked."""

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stadia.core.types import Recording
    from stadia.data.config import DataConfig
    from stadia.judge.finding import Finding
    from stadia.judge.recordings.checked_data import CheckedData
    from stadia.judge.recordings.recording_survey import BaselineAgreement
    from stadia.predict.network import Network


@dataclass(frozen=True, kw_only=True)
class DataOptions(CheckOptions):
    """Options of `stadia check` for data, with or without a recipe."""

    format: str = field(default="auto", metadata=about("Format of DATA; `stadia list datasets` lists them."))
    out: Path | None = field(default=None, metadata=about("A folder for findings.jsonl and an image of each finding."))
    strict: bool = field(
        default=False, metadata=about("Exit with 1 if only a sample was checked, or a check of --only could not run.")
    )


@dataclass(frozen=True, kw_only=True)
class RecordingOptions(DataOptions):
    """Options of `stadia check` for recordings."""

    only: tuple[str, ...] = field(
        default=(), metadata=about("Run only this check, of `stadia list checks`; repeatable.")
    )
    seconds: float = field(default=20.0, metadata=about("Start no recording after this time.", least=0))
    network: Path | None = field(default=None, metadata=about("Also judge the predictions of this network."))


@dataclass(frozen=True, kw_only=True)
class RecipeOptions(DataOptions):
    """Options of `stadia check` for the data of a recipe."""

    recipe: str | None = field(default=None, metadata=about("Check DATA for this recipe: objectpose, overlay."))


RECORDING, RECIPE, RESULT = "a recording or dataset", "the data of a recipe (--recipe)", "a result (--images)"
INPUTS: dict[str, type[CheckOptions]] = {RECORDING: RecordingOptions, RECIPE: RecipeOptions, RESULT: ResultOptions}
"""Options of each kind of input."""


@add_options_of_inputs(INPUTS)
def check(
    context: typer.Context,
    data: Annotated[
        Path, argument("A dataset, a video, a folder of images; or a result of any program, with --images.")
    ],
    overrides: Annotated[
        list[str] | None, argument("How to open DATA: data.camera.focal_px=700, data.poses=FILE", metavar="KEY=VALUE")
    ] = None,
    **options: Any,
) -> None:
    """Judge a video, a dataset, or the result of any program.

    For data: cameras, poses, depth, frames and splits. With --images: the poses, camera and depth of COLMAP, a SLAM
    system or a network. Exits with 1 if a finding stops training.
    """
    title = RECORDING
    if options["images"] is None:
        options["images"] = _find_images(data)
    if options["images"] is not None:
        title = RESULT
    elif options["recipe"] is not None:
        title = RECIPE
    elif not options["only"]:
        from stadia.judge.recordings.checked_data import is_composite

        if is_composite(data):
            title, options["recipe"] = RECIPE, "overlay"
    chosen = take_options(context, INPUTS, title, options)
    if chosen.as_json:
        refuse_options(context, ["verbose"], found="no effect on --json, which has all", expected="text")
        refuse_options(context, ["github"], found="no effect on --json", expected="text")
    written = "--report" if title == RESULT else "--out"
    if title == RESULT and options["fix"] is not None and options["report"] is None and options["junit"] is None:
        fix = "leave it out, and choose a new name for --fix"
        refuse_options(context, ["force"], found="no effect on --fix", expected="a folder of --report", fix=fix)
    if options[written[2:]] is None and options["junit"] is None:
        refuse_options(context, ["force"], found=f"no effect without {written}", expected=f"a file of {written}")
    if isinstance(chosen, ResultOptions):
        refuse_options(context, ["overrides"], found=f"no effect on {title}", expected=RECORDING)
        check_result(data, chosen)
        return
    assert isinstance(chosen, DataOptions)
    out = chosen.out
    if out is not None:
        from stadia.io.output_files import check_output_folder

        inputs = [data, *(Path(word.partition("=")[2]) for word in overrides or [])]
        out = check_output_folder(out, "findings.jsonl", "list of findings", inputs=inputs, force=chosen.force)
    only: tuple[str, ...] = ()
    if isinstance(chosen, RecordingOptions):
        findings, only = _check_recordings(data, overrides or [], chosen, out), chosen.only
    else:
        assert isinstance(chosen, RecipeOptions)
        findings = _check_for_recipe(data, overrides or [], chosen, out)
    if chosen.strict:
        _require_checked(findings, only)


def _find_images(folder: Path) -> Path | None:
    """Return the images of a folder that `stadia map` wrote, or the folder `images` next to a JSON file; None for other
    data.
    """
    from stadia.data.video.video_map import RECORD, read_map

    if folder.suffix == ".json" and folder.is_file():
        images = folder.parent / "images"
        return images if images.is_dir() else None
    if not (folder / RECORD).is_file():
        return None
    name = Path(read_map(folder).source).name
    images = folder.resolve().parent / name
    if not name or not images.exists():
        found = f"a map, without {name} next to it" if name else "a map whose map.json names no source"
        fix = f"stadia check {folder} --images VIDEO"
        raise DataError(folder, found=found, expected="the video or the images of the map", fix=fix)
    return images


def _check_recordings(data: Path, overrides: list[str], options: RecordingOptions, out: Path | None) -> list[Finding]:
    from stadia.data.config import parse_data_config
    from stadia.data.recordings import summarize_recordings
    from stadia.judge.recordings.checked_data import assume_camera, describe_opened, draw_ignored
    from stadia.predict.options import split_settings

    given, settings = split_settings(overrides)
    if options.network is None and settings:
        expected, fix = "the settings of --network", "add --network NETWORK, or leave it out"
        raise ConfigError(settings[0], found="no effect without --network", expected=expected, fix=fix)
    _check_names(options.only)
    config = parse_data_config(str(data), options.format, given)
    only, as_json = list(options.only), options.as_json
    if assumed := assume_camera(config):
        only = _choose_camera_free(only)
        config = config.model_copy(update={"camera": assumed})
    opened = _open_data(config, as_json=as_json)
    if not as_json:  # The line appears before the checks, which take seconds.
        if assumed:
            echo("The camera is unknown: only some checks run, with an assumed camera.")
        _print_plain(summarize_recordings(opened.recordings))
    if out is not None:
        for path, share in draw_ignored(opened.recordings, out):
            echo(f"{path}: {share:.1%} of the image is ignored, in red", err=as_json)
    if not only or "borders" in only:
        _propose_ignored(opened.recordings, out, as_json=as_json)
    network = None
    if options.network is not None:  # a wrong name is found before the checks, which take seconds
        from stadia.predict.network import open_network

        network = open_network(options.network, settings)
    findings = _run_checks(opened, only, options.seconds, as_json=as_json)
    if network is not None:
        findings += _judge_network(network, data, options.format, given, settings)
    opened_text = describe_opened(opened.recordings)
    _report_findings(findings, opened.recordings, opened_text, out, options)
    if assumed:
        _print_left_out(data)
    return findings


def _check_names(only: Sequence[str]) -> None:
    from stadia.core.registry import find_nearest_name
    from stadia.judge.recordings import CHECKS, SPLIT_CHECKS

    names = [*CHECKS, *SPLIT_CHECKS]
    if wrong := next((name for name in only if name not in names), None):
        near = find_nearest_name(wrong, names)
        fix = f"did you mean '{near}'?" if near else "see `stadia list checks`"
        raise ConfigError("--only", found=f"'{wrong}'", expected=f"one of {', '.join(names)}", fix=fix)


def _open_data(config: DataConfig, *, as_json: bool) -> CheckedData:
    from stadia.judge.recordings.checked_data import open_checked_data
    from stadia.judge.recordings.preflight_runner import make_unreadable_finding

    try:
        return open_checked_data(config)
    except DataError as error:  # one line on stderr, and a finding for scripts
        if as_json:
            echo(json.dumps([make_unreadable_finding("", error).to_dict()], indent=2))
        raise


def _run_checks(opened: CheckedData, only: list[str], seconds: float, *, as_json: bool) -> list[Finding]:
    from stadia.core.terminal import Terminal, make_progress
    from stadia.judge.recordings.preflight_runner import run_preflight

    agreements: list[BaselineAgreement] = []
    with make_progress(Terminal(stderr=True), "checks") as progress:
        bar = progress.add_task("checks", total=None)
        findings = run_preflight(
            opened.recordings,
            opened.splits,
            checks=only or None,
            seconds=seconds,
            one_camera=opened.one_camera,
            progress=lambda what, done, total: progress.update(bar, description=what, completed=done, total=total),
            report_agreement=agreements.append,
        )
    if not as_json:
        _print_plain(describe_agreements(agreements))
    return findings


def _print_plain(lines: Iterable[str]) -> None:
    from stadia.core.terminal import Terminal

    for line in lines:
        Terminal(highlight=False).print(line, markup=False, soft_wrap=True)


def _print_left_out(data: Path) -> None:
    from stadia.judge.recordings import CHECKS
    from stadia.judge.recordings.checked_data import CAMERA_FREE

    left_out = ", ".join(name for name in CHECKS if name not in CAMERA_FREE)
    echo(f"Not checked: {left_out}. First run `stadia camera {data} --fov DEGREES`.", err=True)


def _choose_camera_free(only: Sequence[str]) -> list[str]:
    from stadia.data.config import SET_CAMERA
    from stadia.judge.recordings.checked_data import CAMERA_FREE

    if named := [name for name in only if name not in CAMERA_FREE]:
        found = f"{', '.join(named)} without a camera"
        raise ConfigError("--only", found=found, expected="a known camera", fix=SET_CAMERA)
    return list(only) or list(CAMERA_FREE)


STATIC = "static"
"""Name of the folder in `--out` that gets masks for `data.ignore`."""


def _propose_ignored(recordings: Sequence[Recording], out: Path | None, *, as_json: bool) -> None:
    from stadia.judge.recordings.checked_data import search_static_parts, write_static_masks

    parts = search_static_parts(recordings)
    advice = "--out FOLDER writes a mask for data.ignore"
    if parts and out is not None:
        write_static_masks(recordings, parts, out / STATIC)
        advice = f"data.ignore={out / STATIC} leaves it out"
    for part in parts:
        echo(f"note: {part.share:.1%} of {part.recording} never moves, such as a hood; {advice}", err=as_json)


MAX_JUDGED_INPUTS, MAX_JUDGED_FRAMES = 4, 60
"""Most frames of each input that `--network` judges (MAX_JUDGED_INPUTS: most inputs)."""


def _judge_network(
    opened: Network, data: Path, format: str, overrides: Sequence[str], settings: Sequence[str]
) -> list[Finding]:
    from dataclasses import replace

    from stadia.data.config import parse_source_options
    from stadia.predict.describe import describe_questions
    from stadia.predict.networks.published_networks import describe_licence
    from stadia.predict.options import PredictOptions

    if not opened.has_own_size and (line := describe_licence(opened.licence)):
        echo(line, err=True)
    findings: list[Finding] = []
    options = PredictOptions(data={"format": format, **parse_source_options(overrides)})
    for session in opened.open(data, options)[:MAX_JUDGED_INPUTS]:
        for line in session.input.camera_lines():
            echo(f"{session.name}: {line}", err=True)
        judged = session.judge(MAX_JUDGED_FRAMES)
        title, scale = session.network.checkpoint.title, session.predictor.depth_scale
        echo(f"{session.name}: predictions of {title} ({scale}) are {judged.verdict}", err=True)
        for line in describe_questions(judged.to_json()):
            echo(line, err=True)
        findings += [replace(finding, where=(session.name,)) for finding in judged.findings]
    return findings


def _require_checked(findings: list[Finding], only: Sequence[str]) -> None:
    from stadia.judge.catalog import NOT_CHECKED as COULD_NOT_RUN
    from stadia.judge.catalog import SAMPLED

    fixes = {SAMPLED: "raise --seconds"}
    if only:
        fixes[COULD_NOT_RUN] = "remove the check from --only"
    if missing := [finding for finding in findings if finding.code in fixes]:
        measured = "; ".join(dict.fromkeys(finding.measured for finding in missing))
        fix = "; ".join(dict.fromkeys(fixes[finding.code] for finding in missing))
        echo(f"Not checked: {measured}. Fix: {fix}.", err=True)
        raise typer.Exit(NOT_CHECKED)


def _report_findings(
    findings: list[Finding], recordings: Sequence[Recording], opened_text: str, out: Path | None, options: CheckOptions
) -> None:
    from stadia.core.terminal import Terminal
    from stadia.judge.finding import Severity, write_findings

    if out is not None:
        findings = write_findings(out / "findings.jsonl", findings)
    if options.as_json:
        echo(json.dumps([finding.to_dict() for finding in findings], indent=2, allow_nan=False))
    else:
        console = Terminal(highlight=False)
        print_findings(console, findings, recordings, opened_text, out, verbose=options.verbose)
    if any(finding.severity is Severity.STOP for finding in findings):
        raise typer.Exit(STOPPED)


def _check_for_recipe(data: Path, overrides: list[str], options: RecipeOptions, out: Path | None) -> list[Finding]:
    from stadia.cli.train import resolve_recipe
    from stadia.core.terminal import Terminal
    from stadia.training.recipes import RECIPES

    recipe, format = str(options.recipe), options.format
    given = [f"data.path={json.dumps(str(data))}"] + ([f"data.format={format}"] if format != "auto" else [])
    config = resolve_recipe(recipe, None, given + overrides, example={})
    _, opened = RECIPES.load(recipe).prepare(config, Terminal(stderr=True))
    findings: list[Finding] = opened.findings()
    _report_findings(findings, [], f"as '{recipe}' would train on it", out, options)
    return findings
