"""Check calibrations between sensors: `stadia rig`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stadia.cli.options import ForceOption, JsonOption, argument, option, refuse_options
from stadia.cli.output import echo, list_purposes, print_lines, show_progress
from stadia.cli.results import LEFT_OPEN, STOPPED
from stadia.core.errors import ConfigError, StadiaError

if TYPE_CHECKING:
    from stadia.core.types import Recording
    from stadia.core.verdict import Verdict
    from stadia.judge.purposes import Purpose
    from stadia.judge.rigs.camera_pair import CameraPairVerdict
    from stadia.judge.rigs.camera_rig import CameraRigVerdict
    from stadia.judge.rigs.check_hand_eye import HandEyeVerdict
    from stadia.judge.rigs.gyroscope_check import GyroscopeVerdict
    from stadia.judge.rigs.lidar_check import LidarVerdict
    from stadia.judge.rigs.pinned_rig import PinnedRigVerdict

MAX_PICTURE_WIDTH = 1000
"""Largest width of a picture in the page of a check, pixels."""

rig = typer.Typer(help="Check calibrations between cameras, robots and other sensors.", no_args_is_help=True)

ForOption = Annotated[
    list[str] | None,
    typer.Option("--for", help="What the calibration is to be good for; repeatable.", show_default=False),
]


@rig.command("hand-eye")
def hand_eye(
    context: typer.Context,
    cameras: Annotated[
        Path,
        argument("Poses of the camera, of any program, or a file of OpenCV or MoveIt with both.", metavar="CAMERA"),
    ],
    log: Annotated[
        Path | None, argument("The log of the robot: csv with a header, rows of UR, JSON or YAML.", metavar="ROBOT")
    ] = None,
    camera_on: Annotated[
        Literal["hand", "base"], typer.Option(help="Where the camera is; on the base, CAMERA is in the hand's target.")
    ] = "hand",
    calibration: Annotated[Path | None, option("The calibration to check: the pose of the camera in the hand.")] = None,
    purposes: ForOption = None,
    fix: Annotated[Path | None, option("Write the log without its mistake, as csv.")] = None,
    out: Annotated[Path | None, option("Write the measured calibration, as JSON.")] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Judge the log of a robot and its hand-eye calibration by poses of the camera.

    Measures the residual of AX = YB, names a wrong convention or pairing of the log, and measures the calibration with
    its deviation. Purposes are grasping=5mm and reaching=20mm. Exits with 1 if one does not hold, and with 3 if the
    motion of the hand does not determine the calibration.
    """
    from stadia.io.atomic_files import write_json
    from stadia.io.input_files import check_path_exists, expand_home, replace_nan
    from stadia.io.output_files import check_replaceable
    from stadia.io.records.robot_log import read_calibration, write_robot_log
    from stadia.judge.purposes import RIG_PURPOSES, parse_purpose
    from stadia.judge.rigs.check_hand_eye import describe_hand_eye, judge_hand_eye, read_pairing

    if fix is None and out is None:
        expected = "a file of --fix or --out"
        refuse_options(context, ["force"], found="no effect without --fix and --out", expected=expected)
    given = [expand_home(path) for path in (cameras, log, calibration) if path is not None]
    for path in given:
        check_path_exists(path)
    wanted = [parse_purpose(text, RIG_PURPOSES) for text in purposes or []]
    for name, written, suffix in (("--fix", fix, ".csv"), ("--out", out, ".json")):
        if written is not None and written.suffix.lower() != suffix:
            raise ConfigError(name, found=written, expected=f"a file name with {suffix}", fix=f"pass NAME{suffix}")
    if fix is not None:
        fix = check_replaceable(expand_home(fix), "log of a robot", inputs=given, force=force)
    if out is not None:
        out = check_replaceable(expand_home(out), "calibration", inputs=given, force=force)
    pairing, has_unit, notes = read_pairing(expand_home(cameras), None if log is None else expand_home(log))
    checked = None if calibration is None else read_calibration(expand_home(calibration))
    verdict = judge_hand_eye(
        pairing, is_on_hand=camera_on == "hand", has_unit=has_unit, given=checked, purposes=wanted, notes=notes
    )
    record = describe_hand_eye(verdict)
    if as_json:
        echo(json.dumps(replace_nan(record), indent=2, allow_nan=False))
    else:
        print_lines(list_hand_eye_lines(log or cameras, verdict))
    if fix is not None and not verdict.reason and verdict.T_base_hand is not None and verdict.images is not None:
        used = [row for row, image in enumerate(verdict.images) if image not in verdict.wrong]
        images = verdict.images[used]
        times = None if verdict.times_s is None else verdict.times_s[images]
        write_robot_log(fix, verdict.T_base_hand[used], [verdict.names[image] for image in images], times)
        echo(f"{fix}: {len(used)} poses of the hand in its base, metres", err=as_json)
    elif fix is not None:
        echo("Nothing is written: the log is not understood", err=True)
    if out is not None and not verdict.reason and verdict.T_hand_camera is not None:
        write_json(out, record)
        echo(out, err=as_json)
    code = find_exit_code(verdict.grade, are_asked=verdict.are_asked)
    if code := STOPPED if verdict.causes and not verdict.are_asked and code == 0 else code:
        raise typer.Exit(code)


def find_exit_code(grade: Verdict, *, are_asked: bool) -> int:
    """Return 0 if a calibration holds, 1 if it does not, and 3 if this cannot be measured."""
    if grade == "unusable":
        return STOPPED
    return LEFT_OPEN if grade == "not judged" or (are_asked and grade == "doubtful") else 0


def find_worst_code(grades: Iterable[Verdict], *, are_asked: bool) -> int:
    """Return the exit code of several calibrations: 1 if one does not hold, else 3 if one is open, else 0."""
    codes = [find_exit_code(grade, are_asked=are_asked) for grade in grades]
    return next((code for code in (STOPPED, LEFT_OPEN) if code in codes), 0)


def list_hand_eye_lines(log: Path, verdict: HandEyeVerdict) -> Iterator[str]:
    """Yield the lines of a verdict: the grade, causes, the measured error, and what the calibration is good for."""
    place = "hand" if verdict.is_on_hand else "base"
    count = len(verdict.names)
    paired = f"{count} images" if verdict.images is None else f"{len(verdict.images)} of {count} images have a pose"
    yield f"{log} is {verdict.grade}: {paired}" + ("" if verdict.images is None else " of the robot")
    for cause in verdict.causes:
        yield f"  cause: {cause.what}"
        yield f"    fix: {cause.fix}"
        if cause.items:
            yield f"    images: {', '.join(cause.items[:8])}{', ...' * (len(cause.items) > 8)}"
    if verdict.reason:
        yield f"  not measurable: {verdict.reason}"
        return
    X, angle, length = verdict.T_hand_camera, verdict.calibration_deg, verdict.calibration_m
    assert X is not None
    assert angle is not None
    assert length is not None
    assert verdict.rotation_deg is not None
    assert verdict.position_m is not None
    if verdict.causes:
        yield "  after these fixes:"
    if verdict.has_given:
        yield f"  {'calibration:':17}{angle.show()} degrees and {length.show(1000)} mm from the measured one"
    millimetres = ", ".join(f"{1000 * value:.1f}" for value in X[:3, 3])
    deviations = f"± {1000 * length.deviation:.2g} mm and {angle.deviation:.2g} degrees"
    yield f"  {'camera in ' + place + ':':17}{millimetres} mm, {deviations}"
    yield f"  {'residual:':17}{verdict.rotation_deg.show()} degrees, {verdict.position_m.show(1000)} mm (AX = YB)"
    yield from list_purposes(verdict.purposes)
    yield from (f"  note: {note}" for note in verdict.notes)


@rig.command("pin")
def pin(
    cameras: Annotated[
        Path, argument("Recordings of the cameras: a folder of videos or of folders of images.", metavar="CAMERAS")
    ],
    out: Annotated[Path, option("A folder for the pinned views.")],
    camera: Annotated[str | None, option("The camera of all: a file, or fx=700,fy=700,cx=640,cy=360.")] = None,
    force: ForceOption = False,
) -> None:
    """Pin the views of fixed cameras, which `stadia rig check` compares with later recordings.

    A minute of each camera is enough. Things that move are left out. Without --camera, degrees assume a field of view
    of 65 degrees; pixels do not.
    """
    from stadia.io.input_files import check_path_exists, expand_home
    from stadia.io.output_files import check_output_folder
    from stadia.judge.rigs.pinned_rig import RIG, pin_cameras, write_rig

    cameras = expand_home(cameras)
    check_path_exists(cameras)
    if not force and (expand_home(out) / RIG).exists():  # later recordings are compared with these views
        fix = "choose another folder, or pass --force to replace them"
        raise StadiaError(out, found="the pinned views of cameras", expected="a new folder", fix=fix)
    out = check_output_folder(out, RIG, "pinned rig", inputs=[cameras], force=force)
    with show_progress() as bars:
        pinned = pin_cameras(cameras, camera=camera, track=bars.track)
    out.mkdir(parents=True, exist_ok=True)
    record = write_rig(out, pinned)
    for one in pinned:
        moving = one.background.moving.mean()
        print_lines([f"{one.name}: {one.background.size[0]}x{one.background.size[1]}, {moving:.0%} of the image moves"])
    print_lines([f"{record}: {len(pinned)} camera{'s' * (len(pinned) > 1)}; later: stadia rig check {out} RECORDINGS"])


@rig.command("check")
def check_pinned(
    context: typer.Context,
    pinned: Annotated[Path, argument("The folder of `stadia rig pin`.", metavar="RIG")],
    recordings: Annotated[Path, argument("New recordings of the cameras, with the same names.", metavar="RECORDINGS")],
    purposes: ForOption = None,
    report: Annotated[Path | None, option("A folder for a page, and a picture of each camera, before and now.")] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check whether fixed cameras moved, zoomed, or are covered, mirrored or exchanged since they were pinned.

    Purposes are points=2px and regions=15px: how far the image may be displaced. Exits with 1 if one does not hold, and
    with 3 if the images do not show it.
    """
    from stadia.io.input_files import check_path_exists, expand_home, replace_nan
    from stadia.io.output_files import check_output_folder
    from stadia.judge.purposes import FIXED_PURPOSES, parse_purpose
    from stadia.judge.rigs.pinned_rig import check_rig, describe_rig, read_rig

    if report is None:
        refuse_options(context, ["force"], found="no effect without --report", expected="a folder of --report")
    pinned, recordings = expand_home(pinned), expand_home(recordings)
    for path in (pinned, recordings):
        check_path_exists(path)
    wanted = [parse_purpose(text, FIXED_PURPOSES) for text in purposes or []]
    if report is not None:
        report = check_output_folder(
            report, "rig-check.json", "check of a rig", inputs=[pinned, recordings], force=force
        )
    with show_progress() as bars:
        verdict = check_rig(read_rig(pinned), recordings, wanted, track=bars.track)
    record = describe_rig(verdict)
    if as_json:
        echo(json.dumps(replace_nan(record), indent=2, allow_nan=False))
    else:
        print_lines(list_rig_lines(pinned, verdict))
    if report is not None:
        for path in _write_report(report, pinned, verdict, record):
            echo(path, err=as_json)
    if code := find_exit_code(verdict.grade, are_asked=bool(wanted)):
        raise typer.Exit(code)


def _write_report(report: Path, pinned: Path, verdict: PinnedRigVerdict, record: dict[str, object]) -> Iterator[Path]:
    """Write record, pictures and page of a verdict into a folder; yield the pictures and the page."""
    from stadia.io.atomic_files import write_json
    from stadia.io.image_io import write_image
    from stadia.io.input_files import replace_nan
    from stadia.judge.rigs.fixed_cameras import draw_change
    from stadia.judge.rigs.pinned_rig import describe_change
    from stadia.report.embedded_images import encode_jpeg
    from stadia.report.reconstruction_page import ShownCause, ShownPurpose
    from stadia.report.rig_page import RigPage, ShownCamera, write_rig_page

    report.mkdir(parents=True, exist_ok=True)
    write_json(report / "rig-check.json", replace_nan(record))
    shown = []
    for number, camera in enumerate(verdict.cameras):
        path = report / f"camera-{number}.png"
        picture = draw_change(*verdict.backgrounds[camera.name], camera.change.homography)[:, :, ::-1]
        write_image(path, picture)
        yield path
        shown.append(
            ShownCamera(
                name=camera.name,
                grade=str(camera.grade),
                causes=[ShownCause(cause.what, cause.fix) for cause in camera.causes],
                measured=describe_change(camera),
                reason="" if camera.causes else camera.change.reason,
                purposes=[ShownPurpose(one.purpose.key, one.holds, one.reason) for one in camera.purposes],
                picture=encode_jpeg(picture, MAX_PICTURE_WIDTH),
            )
        )
    count = len(verdict.cameras)
    finding = f"{count} of {count + len(verdict.missing)} cameras have a new recording."
    if verdict.missing:
        finding += f" Without one: {', '.join(verdict.missing)}."
    title = (pinned if pinned.is_dir() else pinned.parent).absolute().name
    write_rig_page(
        report / "rig-check.html", RigPage(title=title, grade=str(verdict.grade), finding=finding, cameras=shown)
    )
    yield report / "rig-check.html"


def list_rig_lines(pinned: Path, verdict: PinnedRigVerdict) -> Iterator[str]:
    """Yield the lines of a verdict on fixed cameras: each with its change, its causes, and what it is good for."""
    from stadia.judge.rigs.pinned_rig import describe_change

    count = len(verdict.cameras)
    yield f"{pinned} is {verdict.grade}: {count} of {count + len(verdict.missing)} cameras have a new recording"
    for camera in verdict.cameras:
        change = camera.change
        yield f"  {camera.name} is {camera.grade}"
        for cause in camera.causes:
            yield f"    cause: {cause.what}"
            yield f"      fix: {cause.fix}"
        if change.reason:
            if not camera.causes:
                yield f"    not measurable: {change.reason}"
            continue
        for name, text in describe_change(camera).items():
            yield f"    {name + ':':15}{text}"
        yield from (f"  {line}" for line in list_purposes(camera.purposes, width=15))
    if verdict.missing:
        yield f"  without a new recording: {', '.join(verdict.missing)}"


@rig.command("cameras")
def cameras_of_rig(
    data: Annotated[
        Path,
        argument(
            "A dataset with pairs of cameras: KITTI, EuRoC, or `stadia stereo`. With --calibration, a folder of images "
            "for each camera.",
            metavar="DATA",
        ),
    ],
    calibration: Annotated[
        Path | None, option("The cameras of a rig and their poses, such as Kalibr's camchain.yaml.")
    ] = None,
    purposes: ForOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the calibration of cameras that move together, by matches between their images.

    Measures the rotation, the position across the baseline, the focal length and the moment of the second camera of
    each pair, and names the camera of a rig that is off. The purpose is stereo=1px: how far matches are off their
    epipolar lines. Exits with 1 if it does not hold.
    """
    from stadia.judge.purposes import PAIR_PURPOSES, parse_purpose
    from stadia.judge.rigs.camera_pair import describe_pair, judge_recording

    wanted = [parse_purpose(text, PAIR_PURPOSES) for text in purposes or []]
    if calibration is not None:
        _judge_rig(data, calibration, wanted, as_json)
        return
    _judge_recordings(
        data, lambda one: judge_recording(one, wanted), describe_pair, list_pair_lines, as_json, are_asked=bool(wanted)
    )


def _judge_rig(data: Path, calibration: Path, wanted: Sequence[Purpose], as_json: bool) -> None:
    from stadia.io.input_files import check_path_exists, expand_home, replace_nan
    from stadia.judge.rigs.camera_rig import describe_camera_rig, judge_rig, match_rig, read_rig

    data, calibration = expand_home(data), expand_home(calibration)
    for path in (data, calibration):
        check_path_exists(path)
    cameras = read_rig(data, calibration)
    with show_progress() as bars:
        matches = match_rig(cameras, bars.track)
    verdict = judge_rig(data.name, cameras, matches, wanted)
    if as_json:
        echo(json.dumps(replace_nan(describe_camera_rig(verdict)), indent=2, allow_nan=False))
    else:
        print_lines(list_camera_rig_lines(verdict))
    if code := find_exit_code(verdict.grade, are_asked=bool(wanted)):
        raise typer.Exit(code)


def list_camera_rig_lines(verdict: CameraRigVerdict) -> Iterator[str]:
    """Yield the lines of a verdict on a rig: the cameras that are off, and each pair that shares a view."""
    yield f"{verdict.name} is {verdict.grade}: {len(verdict.pairs)} of {verdict.count} pairs of cameras share a view"
    for cause in verdict.causes:
        yield f"  cause: {cause.what}"
        yield f"    fix: {cause.fix}"
    for pair in verdict.pairs:
        error = pair.error
        measured = error.reason
        if error.angle_deg is not None and error.epipolar_px is not None:
            measured = f"rotation {error.angle_deg.show()} degrees, epipolar lines {error.epipolar_px.show()} px"
        names = ", ".join(cause.name for cause in pair.causes)
        yield f"  {pair.name}: {pair.grade}, {measured}" + f" ({names})" * bool(names)


def _judge_recordings(
    data: Path,
    judge: Callable[[Recording], Any],
    describe: Callable[[Any], Mapping[str, object]],
    list_lines: Callable[[Any], Iterator[str]],
    as_json: bool,
    *,
    are_asked: bool,
) -> None:
    """Judge each recording of a dataset, print the verdicts, and exit with the code of the worst one."""
    from stadia.data.open_dataset import open_recordings
    from stadia.io.input_files import check_path_exists, expand_home, replace_nan

    data = expand_home(data)
    check_path_exists(data)
    recordings = open_recordings(str(data))
    with show_progress() as bars:
        verdicts = [judge(one) for one in bars.track(recordings, len(recordings), "recordings")]
    if as_json:
        echo(json.dumps(replace_nan([describe(verdict) for verdict in verdicts]), indent=2, allow_nan=False))
    else:
        for verdict in verdicts:
            print_lines(list_lines(verdict))
    if code := find_worst_code([verdict.grade for verdict in verdicts], are_asked=are_asked):
        raise typer.Exit(code)


def list_pair_lines(verdict: CameraPairVerdict) -> Iterator[str]:
    """Yield the lines of a verdict on two cameras: the causes, the measured error, and what it is good for."""
    error = verdict.error
    yield f"{verdict.name} is {verdict.grade}" + f": {error.matches} matches between the cameras" * bool(error.matches)
    for cause in verdict.causes:
        yield f"  cause: {cause.what}"
        yield f"    fix: {cause.fix}"
    if error.reason:
        yield f"  not measurable: {error.reason}"
        return
    assert error.rotation_deg is not None
    assert error.across_m is not None
    assert error.focal_share is not None
    assert error.epipolar_px is not None
    axes = ", ".join(f"{axis} {turn.show(sign='+')}" for axis, turn in zip("xyz", error.rotation_deg, strict=True))
    yield f"  {'rotation:':17}{axes} degrees"
    yield f"  {'position:':17}{', '.join(one.show(1000, '+') for one in error.across_m)} mm across the baseline"
    yield f"  {'focal length:':17}{error.focal_share.show(100, '+')} % over the first camera's"
    if error.offset_s is not None:
        yield f"  {'moment:':17}{error.offset_s.show(1000, '+')} ms after the first camera's"
    if error.change_deg is not None:
        yield f"  {'change:':17}{error.change_deg.show()} degrees during the recording"
    yield from list_purposes(verdict.purposes)


@rig.command("lidar")
def lidar(
    data: Annotated[Path, argument("A dataset with LiDAR scans: KITTI, nuScenes, DDAD, Waymo.", metavar="DATA")],
    purposes: ForOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the calibration of a LiDAR and a camera, by jumps of the depth and edges of the images.

    Measures rotation, position and moment of the points in the camera's axes. The purpose is fusion=3px: how far points
    are off their place in the image. Exits with 1 if it does not hold, and with 3 if the images do not show it.
    """
    from stadia.judge.purposes import LIDAR_PURPOSES, parse_purpose
    from stadia.judge.rigs.lidar_check import describe_lidar, judge_lidar_recording

    wanted = [parse_purpose(text, LIDAR_PURPOSES) for text in purposes or []]
    _judge_recordings(
        data,
        lambda one: judge_lidar_recording(one, wanted),
        describe_lidar,
        list_lidar_lines,
        as_json,
        are_asked=bool(wanted),
    )


def list_lidar_lines(verdict: LidarVerdict) -> Iterator[str]:
    """Yield the lines of a verdict on LiDAR and camera: the causes, the measured error, and what it is good for."""
    error = verdict.error
    yield f"{verdict.name} is {verdict.grade}" + f": {error.jumps} jumps of the depth" * bool(error.jumps)
    for cause in verdict.causes:
        yield f"  cause: {cause.what}"
        yield f"    fix: {cause.fix}"
    if error.reason:
        yield f"  not measurable: {error.reason}"
        return
    assert error.rotation_deg is not None
    assert error.position_m is not None
    axes = ", ".join(f"{axis} {turn.show(sign='+')}" for axis, turn in zip("xyz", error.rotation_deg, strict=True))
    yield f"  {'rotation:':17}{axes} degrees"
    right, down, ahead = (one.show(100, sign="+") for one in error.position_m)
    yield f"  {'position:':17}right {right}, down {down}, ahead {ahead} cm"
    if error.offset_s is not None:
        yield f"  {'moment:':17}{error.offset_s.show(1000, '+')} ms after the images"
    yield from list_purposes(verdict.purposes)
    yield from (f"  note: {note}" for note in verdict.notes)


@rig.command("imu")
def imu(
    cameras: Annotated[Path, argument("Poses of the camera with times, of any program.", metavar="CAMERA")],
    rates: Annotated[Path, argument("Rates of the gyroscope: rows of a time and three rates.", metavar="GYROSCOPE")],
    calibration: Annotated[
        Path | None, option("The rotation to check, from the gyroscope's axes to the camera's: a matrix or pose.")
    ] = None,
    purposes: ForOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a gyroscope by the rotations of a camera: its axes, unit, clock and bias.

    The purpose is odometry=5ms: the offset of the clocks, and a given rotation within a degree. Exits with 1 if it does
    not hold, or if poses, unit or axes are wrong, and with 3 if the camera turns too little.
    """
    from stadia.io.input_files import check_path_exists, expand_home, replace_nan
    from stadia.io.records.gyroscope import read_gyroscope
    from stadia.io.records.read import read_trajectory
    from stadia.io.records.robot_log import read_rotation
    from stadia.judge.purposes import GYROSCOPE_PURPOSES, parse_purpose
    from stadia.judge.rigs.gyroscope_check import check_gyroscope, describe_gyroscope

    wanted = [parse_purpose(text, GYROSCOPE_PURPOSES) for text in purposes or []]
    for path in (cameras, rates, calibration):
        if path is not None:
            check_path_exists(expand_home(path))
    given = None if calibration is None else read_rotation(expand_home(calibration))
    path_of_camera = read_trajectory(expand_home(cameras), is_reference=True)
    verdict = check_gyroscope(path_of_camera, read_gyroscope(expand_home(rates)), given=given, purposes=wanted)
    if as_json:
        echo(json.dumps(replace_nan(describe_gyroscope(verdict)), indent=2, allow_nan=False))
    else:
        print_lines(list_gyroscope_lines(rates, verdict))
    if code := find_exit_code(verdict.grade, are_asked=bool(wanted)):
        raise typer.Exit(code)


def list_gyroscope_lines(rates: Path, verdict: GyroscopeVerdict) -> Iterator[str]:
    """Yield the lines of a verdict on a gyroscope: the causes, what was measured, and what it is good for."""
    yield f"{rates} is {verdict.grade}"
    for cause in verdict.causes:
        yield f"  cause: {cause.what}"
        yield f"    fix: {cause.fix}"
    if verdict.reason:
        yield f"  not measurable: {verdict.reason}"
        return
    assert verdict.R_camera_gyroscope is not None
    assert verdict.offset_s is not None
    assert verdict.bias_deg is not None
    assert verdict.residual_deg is not None
    rows = "; ".join(" ".join(f"{value:+.4f}" for value in row) for row in verdict.R_camera_gyroscope)
    yield f"  {'rotation:':17}{rows}, ± {verdict.deviation_deg:.2g} degrees"
    if verdict.rotation_deg is not None:
        yield f"  {'calibration:':17}{verdict.rotation_deg.show()} degrees from the measured one"
    yield f"  {'clock:':17}{verdict.offset_s.show(1000, '+')} ms to add to the times of the images"
    yield f"  {'bias:':17}{', '.join(one.show(sign='+') for one in verdict.bias_deg)} degrees a second"
    yield f"  {'residual:':17}{verdict.residual_deg.show()} degrees from image to image"
    yield from list_purposes(verdict.purposes)
