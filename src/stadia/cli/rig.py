"""Check calibrations between sensors: `stadia rig`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stadia.cli.options import ForceOption, JsonOption, argument, option
from stadia.cli.output import echo, print_lines
from stadia.cli.results import STOPPED

if TYPE_CHECKING:
    from stadia.core.verdict import Verdict
    from stadia.judge.rigs.check_hand_eye import HandEyeVerdict

NOT_MEASURABLE = 3
"""Exit code if an error cannot be measured."""

rig = typer.Typer(help="Check calibrations between cameras, robots and other sensors.", no_args_is_help=True)

ForOption = Annotated[
    list[str] | None,
    typer.Option("--for", help="What the calibration is to be good for; repeatable.", show_default=False),
]


@rig.command("hand-eye")
def hand_eye(
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

    given = [expand_home(path) for path in (cameras, log, calibration) if path is not None]
    for path in given:
        check_path_exists(path)
    wanted = [parse_purpose(text, RIG_PURPOSES) for text in purposes or []]
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
    if fix is not None and verdict.T_base_hand is not None and verdict.images is not None:
        used = [row for row, image in enumerate(verdict.images) if image not in verdict.wrong]
        images = verdict.images[used]
        times = None if verdict.times_s is None else verdict.times_s[images]
        write_robot_log(fix, verdict.T_base_hand[used], [verdict.names[image] for image in images], times)
        echo(f"{fix}: {len(used)} poses of the hand in its base, metres", err=as_json)
    elif fix is not None:
        echo("Nothing is written: the log is not understood", err=True)
    if out is not None and verdict.T_hand_camera is not None:
        write_json(out, record)
        echo(out, err=as_json)
    if code := find_exit_code(verdict.grade, are_asked=verdict.are_asked):
        raise typer.Exit(code)


def find_exit_code(grade: Verdict, *, are_asked: bool) -> int:
    """Return 0 if a calibration holds, 1 if it does not, and 3 if this cannot be measured."""
    if grade == "unusable":
        return STOPPED
    return NOT_MEASURABLE if grade == "not judged" or (are_asked and grade == "doubtful") else 0


def list_hand_eye_lines(log: Path, verdict: HandEyeVerdict) -> Iterator[str]:
    """Yield the lines of a verdict: the grade, causes, the measured error, and what the calibration is good for."""
    place = "hand" if verdict.is_on_hand else "base"
    count = 0 if verdict.images is None else len(verdict.images)
    yield f"{log} is {verdict.grade}: {count} of {len(verdict.names)} images have a pose of the robot"
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
    for holds, words in ((True, "good for"), (False, "not good for"), (None, "open")):
        for purpose in verdict.purposes:
            if purpose.holds is holds:
                yield f"  {words + ':':17}{purpose.purpose.key} ({purpose.reason})"
    yield from (f"  note: {note}" for note in verdict.notes)
