"""`stadia check DATA`: check the data before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stadia.cli.arguments import ForceOption, JsonOption, VerboseOption, argument, flag, number, option
from stadia.cli.output import echo
from stadia.cli.results import STOPPED, describe_agreements, print_findings
from stadia.core.errors import ConfigError, DataError

NOT_CHECKED = 1
"""Exit code of `--strict` if some data were not checked."""

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stadia.core.types import Recording
    from stadia.data.config import DataConfig
    from stadia.judge.finding import Finding
    from stadia.judge.recordings.checked_data import CheckedData
    from stadia.judge.recordings.recording_survey import BaselineAgreement


def check(
    data: Annotated[
        Path, argument("A dataset, a video, a folder of images; or a result of any program, with --images.")
    ],
    overrides: Annotated[
        list[str] | None, argument("How to open DATA: data.camera.focal_px=700, data.poses=FILE", metavar="KEY=VALUE")
    ] = None,
    format: Annotated[str, typer.Option(help="Format of DATA; `stadia list datasets` lists them.")] = "auto",
    only: Annotated[list[str] | None, option("Run only this check, of `stadia list checks`; repeatable.")] = None,
    seconds: Annotated[float, number("Start no recording after this time.", min=0, show_default=True)] = 20.0,
    out: Annotated[Path | None, option("A folder for findings.jsonl and an image of each finding.")] = None,
    recipe: Annotated[str | None, option("Check DATA for this recipe: objectpose, overlay.")] = None,
    network: Annotated[Path | None, option("Also judge the predictions of this network.")] = None,
    images: Annotated[
        Path | None, option("Images or video of the result DATA: judge its path, camera and depth.")
    ] = None,
    camera: Annotated[str | None, option("Camera of --images: a file, or fx=700,fy=700,cx=640,cy=360.")] = None,
    fix: Annotated[Path | None, option("Write the result with the mistakes undone that --images shows.")] = None,
    report: Annotated[Path | None, option("A folder for a page about the result, with --images.")] = None,
    strict: Annotated[
        bool, flag("--strict", "Exit with 1 if only a sample was checked, or a check of --only could not run.")
    ] = False,
    force: ForceOption = False,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Judge a video, a dataset, or the result of any program.

    For data: cameras, poses, depth, frames and splits. With --images: the poses, camera and depth of COLMAP, a SLAM
    system or a network. Exits with 1 if a finding stops training.
    """
    if images is not None:
        from stadia.cli.check_result import check_result

        check_result(data, images, camera=camera, fix=fix, report=report, force=force, as_json=as_json, verbose=verbose)
        return
    if idle := [name for name, given in (("--camera", camera), ("--fix", fix), ("--report", report)) if given]:
        advice = "add --images FOLDER, or leave it out"
        raise ConfigError(idle[0], found="used without --images", expected="the images of a result", fix=advice)
    if out is not None:
        from stadia.io.output_files import check_output_folder

        inputs = [data, *(Path(word.partition("=")[2]) for word in overrides or [])]
        out = check_output_folder(out, "findings.jsonl", "list of findings", inputs=inputs, force=force)
    from stadia.data.recordings import summarize_recordings
    from stadia.judge.recordings.checked_data import assume_camera, describe_opened, draw_ignored, is_composite

    if recipe is None and not only and is_composite(data):
        recipe = "overlay"
    if recipe is not None:
        findings = _recipe_findings(recipe, data, overrides or [], format, only or [])
        _report_findings(findings, [], f"as '{recipe}' would train on it", out, as_json=as_json, verbose=verbose)
        if strict:
            _require_checked(findings, only or [])
        return

    from stadia.predict.options import parse_data_config, split_settings

    overrides, settings = split_settings(overrides)
    config = parse_data_config(str(data), format, overrides)
    if assumed := assume_camera(config):
        only = _choose_camera_free(only or [])
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
    findings = _check_recordings(opened, only, seconds, as_json=as_json)
    if network is not None:
        findings += _judge_network(network, data, format, overrides, settings)
    _report_findings(
        findings, opened.recordings, describe_opened(opened.recordings), out, as_json=as_json, verbose=verbose
    )
    if assumed:
        _print_left_out(data)
    if strict:
        _require_checked(findings, only or [])


def _open_data(config: DataConfig, *, as_json: bool) -> CheckedData:
    from stadia.judge.recordings.checked_data import open_checked_data
    from stadia.judge.recordings.preflight_runner import make_unreadable_finding

    try:
        return open_checked_data(config)
    except DataError as error:  # one line on stderr, and a finding for scripts
        if as_json:
            echo(json.dumps([make_unreadable_finding("", error).to_dict()], indent=2))
        raise


def _check_recordings(opened: CheckedData, only: list[str] | None, seconds: float, *, as_json: bool) -> list[Finding]:
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
    from stadia.judge.recordings.checked_data import CAMERA_FREE

    if named := [name for name in only if name not in CAMERA_FREE]:
        fix = "run stadia camera VIDEO --fov DEGREES"
        raise ConfigError("--only", found=f"{', '.join(named)} without a camera", expected="a known camera", fix=fix)
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
    network: Path, data: Path, format: str, overrides: Sequence[str], settings: Sequence[str]
) -> list[Finding]:
    from dataclasses import replace

    from stadia.networks.published_networks import describe_licence
    from stadia.predict.describe import describe_questions
    from stadia.predict.network import open_network
    from stadia.predict.options import PredictOptions, parse_source_options

    opened = open_network(network, settings)
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
    findings: list[Finding],
    recordings: Sequence[Recording],
    opened_text: str,
    out: Path | None,
    *,
    as_json: bool,
    verbose: bool,
) -> None:
    from stadia.core.terminal import Terminal
    from stadia.judge.finding import Severity, write_findings

    if out is not None:
        findings = write_findings(out / "findings.jsonl", findings)
    if as_json:
        echo(json.dumps([finding.to_dict() for finding in findings], indent=2, allow_nan=False))
    else:
        print_findings(Terminal(highlight=False), findings, recordings, opened_text, out, verbose=verbose)
    if any(finding.severity is Severity.STOP for finding in findings):
        raise typer.Exit(STOPPED)


def _recipe_findings(recipe: str, data: Path, overrides: list[str], format: str, only: list[str]) -> list[Finding]:
    from stadia.cli.train import resolve_recipe
    from stadia.core.terminal import Terminal
    from stadia.training.recipes import RECIPES

    if only:
        fix = "remove --only"
        raise ConfigError("--only", found="used together with --recipe", expected="one of the two", fix=fix)
    given = [f"data.path={json.dumps(str(data))}"] + ([f"data.format={format}"] if format != "auto" else [])
    config = resolve_recipe(recipe, None, given + overrides, example={})
    _, opened = RECIPES.load(recipe).prepare(config, Terminal(stderr=True))
    return opened.findings()
