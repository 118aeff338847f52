"""Judge a calibration of hand and eye: its error with a deviation, the mistake of the log, and what it is good for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.verdict import Verdict
from stadia.geometry.poses import invert_pose, so3_log
from stadia.io.records.read import read_reconstruction
from stadia.io.records.reconstruction import find_image_number
from stadia.io.records.robot_log import RobotLog, read_robot_log, read_target_poses
from stadia.judge.error import Measured, describe_measured
from stadia.judge.purposes import RIG_PURPOSES, Purpose, PurposeVerdict, judge_limits
from stadia.judge.reconstructions.check_reconstruction import OWN_SCALE
from stadia.judge.rigs.hand_eye import (
    MIN_POSES,
    Array,
    HandEyeFit,
    explain_motion,
    find_correlation,
    find_jacobian,
    find_residuals,
    scale_positions,
    solve_hand_eye,
)
from stadia.judge.rigs.pose_log_mistakes import (
    IN_HAND,
    INVERSE,
    TRANSPOSED_ROTATION,
    LogPairing,
    MistakeSearch,
    PoseMistake,
    find_extent,
    search_mistakes,
)
from stadia.judge.rigs.rig_cause import RigCause, grade_calibration

MIN_OFFSET_S = 0.002
"""Least offset of two clocks that is named: a thirtieth of the time between two images of a video."""

HARMLESS_OFFSET_S = 0.05
"""Largest offset of two clocks that is no fault: chosen, a frame and a half of a video."""

MAX_TIMED = 400
"""Most images by which an offset of clocks is measured."""

MAX_REACH_M, MAX_REACH_CM = 10.0, 150.0
"""Largest distances of a hand from its base, metres and centimetres: beyond, positions have the next smaller unit."""

MAX_OFFSET_M = 20.0
"""Largest distance of a camera from the hand, metres: a larger one is in millimetres."""

UNITS_M = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001}

MAX_UNIT_ERROR = 0.15
"""Largest difference of the logarithm of the ratio of two units from that of UNITS_M."""

MIN_SCALE_SHARE, SURELY_NAMED = 0.002, 3.0
"""Least error of the scale that is named, and its least size in deviations."""

HARMLESS_SCALE_SHARE = 0.02
"""Largest error of the scale that is no fault: chosen, 1 cm at half a metre; a page that is fit to paper has 3 to 6 %.
"""

MIN_PATH_M, MAX_SCALE_DEVIATION = 0.01, 0.1
"""Least extent of the paths of hand and camera, metres, and largest relative deviation of their ratio, with which the
ratio of their lengths is measured.
"""

POINT_M = 0.5
"""Distance of the point whose error is judged: that of a gripper's camera from what it grasps."""

MAX_SHARE, MAX_DEG = 0.1, 5.0
"""Residuals, as a share of the extent and in degrees, beyond which log and images are of two motions."""


@dataclass(frozen=True, slots=True, eq=False)
class HandEyeVerdict:
    """The verdict of `judge_hand_eye`.

    is_on_hand: whether the camera is on the hand; otherwise it is fixed next to the robot.
    reason: why nothing is measured; "" otherwise.
    T_hand_camera: (4, 4) measured pose of the camera in the hand (or in the base), metres; None if not measured. If
        one file has inverse poses and it is open which (`reason`), with those of the log inverted.
    T_base_world: (4, 4) measured pose of the world in the base (or in the hand), metres.
    calibration_deg, calibration_m: error of the given calibration after its mistake was undone. Without one, 0 with
        the deviation of the measured one.
    rotation_deg, position_m: difference of the camera's pose by the robot and by the images, root mean square.
    scale: metres of the log over metres of the camera poses; None if the camera poses have no unit.
    has_given: whether a calibration was given.
    causes: the mistakes that were found; each was undone before the rest was measured.
    purposes: whether it is good for each purpose.
    are_asked: whether the user asked for these purposes.
    T_base_hand: (M, 4, 4) corrected poses of the robot, metres, and of which image each of them is.
    images: (M,) indices of the images.
    names: names of all images.
    times_s: (N,) times of the images on the clock of the log, or None.
    wrong: indices of images whose pair of poses does not fit.
    search: the mistakes that were tried.
    notes: sentences for the user.
    """

    is_on_hand: bool
    names: tuple[str, ...]
    reason: str = ""
    T_hand_camera: Array | None = None
    T_base_world: Array | None = None
    calibration_deg: Measured | None = None
    calibration_m: Measured | None = None
    rotation_deg: Measured | None = None
    position_m: Measured | None = None
    scale: Measured | None = None
    has_given: bool = False
    causes: tuple[RigCause, ...] = ()
    purposes: tuple[PurposeVerdict, ...] = ()
    are_asked: bool = False
    T_base_hand: Array | None = None
    images: NDArray[np.intp] | None = None
    times_s: Array | None = None
    wrong: tuple[int, ...] = ()
    search: MistakeSearch | None = None
    notes: tuple[str, ...] = ()

    @property
    def grade(self) -> Verdict:
        """Return unusable with a mistake of all poses, and otherwise the grade of the purposes."""
        return grade_calibration(self.causes, self.reason, self.purposes, are_asked=self.are_asked)


def read_pairing(cameras: Path, log: Path | None) -> tuple[LogPairing, bool, tuple[str, ...]]:
    """Read the poses of a camera and of a robot, and pair them by times, names, numbers of images, or their order.

    cameras: camera poses of any format of `stadia.io.records.read`; or a file that has both (OpenCV, MoveIt).
    log: the log of the robot; None if `cameras` has both.

    Returns the pairing, whether the positions of the camera have a unit, and notes.

    Raises DataError for files that cannot be read, and for logs of another length without times and numbers.
    """
    targets = read_target_poses(cameras)
    if targets is not None:
        robot = read_robot_log(log or cameras)
        names = tuple(f"pose {row}" for row in range(len(targets)))
        return pair_rows(robot, targets, names, path=cameras), True, robot.notes
    if log is None:
        fix = "pass the log of the robot too, or OpenCV's R_gripper2base, t_gripper2base, R_target2cam, t_target2cam"
        raise DataError(cameras, found="poses of a camera alone", expected="poses of a camera and a robot", fix=fix)
    robot = read_robot_log(log)
    read = read_reconstruction(cameras)
    known = np.flatnonzero(np.isfinite(read.T_camera_world).all(axis=(1, 2)))
    read = read.rows(known)
    names = tuple(name or f"pose {row}" for row, name in zip(known, read.names, strict=True))
    T = read.T_world_camera
    if read.times_s is not None and robot.times_s is not None:
        order = np.argsort(read.times_s, kind="stable")
        times = read.times_s[order]
        named = tuple(names[row] for row in order)
        pairing = LogPairing(robot, T[order], named, times, np.zeros(len(T), np.intp))
    else:
        pairing = pair_rows(robot, T, names, path=cameras)
    return pairing, read.format not in OWN_SCALE, (*read.notes, *robot.notes)


def pair_rows(robot: RobotLog, T_world_camera: Array, names: Sequence[str], *, path: Path) -> LogPairing:
    """Pair camera poses with rows of a log by the names of the images, by their numbers, or by their order.

    Images whose name is not in a log with names, such as one of `--fix`, have no pose of the robot.

    Raises DataError if the counts differ and no numbers help.
    """
    rows = np.arange(len(names))
    place = {name: row for row, name in enumerate(robot.names)}
    named = [image for image, name in enumerate(names) if name in place]
    if len(named) >= MIN_POSES:
        rows = np.array([place[names[image]] for image in named], np.intp)
        T_world_camera, names = T_world_camera[named], [names[image] for image in named]
    elif len(names) != len(robot):
        numbers = [find_image_number(name) for name in names]
        known = [number for number in numbers if number is not None]
        first = min(known, default=0)
        if len(known) != len(names) or len(set(known)) != len(known) or max(known) - min(first, 1) >= len(robot):
            found, expected = f"{len(names)} camera poses", f"{len(robot)}, one for each row of {robot.path.name}"
            fix = "give both files times, or name the images in the log"
            raise DataError(path, found=found, expected=expected, fix=fix)
        rows = np.array(known, np.intp) - min(first, 1)
    return LogPairing(robot, T_world_camera, tuple(names), None, rows)


def judge_hand_eye(
    pairing: LogPairing,
    *,
    is_on_hand: bool = True,
    has_unit: bool = True,
    given: Array | None = None,
    purposes: Sequence[Purpose] = (),
    notes: Sequence[str] = (),
    tries_inverse: bool = True,
) -> HandEyeVerdict:
    """Judge the log of a robot, and the calibration of hand and eye, by poses of the camera.

    pairing: poses of the camera and the log.
    is_on_hand: whether the camera is on the hand; otherwise it is fixed, and its poses are in a target on the hand.
    has_unit: whether the positions of the camera are metres or millimetres.
    given: (4, 4) T_hand_camera (or T_base_camera) to check; None measures it.
    purposes: what it is to be good for; empty for all of RIG_PURPOSES.
    notes: sentences for the user.
    tries_inverse: whether inverse camera poses are tried too where those of the log seem inverse.
    """
    verdict = HandEyeVerdict(is_on_hand, pairing.names, has_given=given is not None, notes=tuple(notes))
    if reason := explain_motion(pairing.T_world_camera, 0.0):
        return replace(verdict, reason=reason)
    view = pairing if is_on_hand else _turn_log(pairing)
    search = search_mistakes(view)
    mistake, offset_s = search.found, None
    A, images = _pair_all(view, mistake)
    verdict = replace(verdict, search=search)
    if len(A) < MIN_POSES:
        return replace(verdict, reason="the times of the images are outside of the log")
    if view.times_s is not None:
        offset_s = measure_offset(view, mistake)
        is_off = offset_s.is_above(MIN_OFFSET_S, SURELY_NAMED)
        mistake = replace(mistake, offset_s=offset_s.value if is_off else 0.0)
        A, images = view.pair(mistake)
    B = pairing.T_world_camera[images]
    fit = _solve(A, B, None)
    if is_open := _is_scale_open(pairing, fit):
        if not has_unit:
            return replace(verdict, reason="the hand turns and hardly moves, which shows no lengths; move it by 10 cm")
        unit_m, unit_causes = _find_unit_m(pairing.log.positions), list[RigCause]()
        factor: float | None = unit_m / _find_unit_m(pairing.T_world_camera[:, :3, 3])
    else:
        unit_m, unit_causes, factor = _find_units(pairing, fit, has_unit=has_unit)
    if factor is not None:
        fit = _solve(A, B, factor)
    causes = [*_describe_mistake(mistake, pairing, offset_s), *unit_causes]
    metres = unit_m / fit.factor if fit.factor > 0 else float("nan")  # of a unit of the camera poses
    if reason := _explain_misfit(fit, B, metres if has_unit else None):
        return replace(verdict, reason=reason, causes=(_MISFIT,))
    if reason := explain_motion(B, fit.rotation_sigma):
        return replace(verdict, reason=reason)
    wrong = tuple(int(images[row]) for row in np.flatnonzero(~fit.is_used))
    if wrong:
        causes.append(_describe_wrong(wrong, pairing, fit, A, B, images))
    X, Z = (scale_positions(T, metres) for T in (fit.T_hand_camera, fit.T_base_world))
    rotation, position = (np.linalg.norm(one[fit.is_used], axis=1) for one in (fit.rotations, fit.positions))
    measured = replace(
        verdict,
        T_hand_camera=X,
        T_base_world=Z,
        rotation_deg=_measure_rms(np.degrees(rotation)),
        position_m=_measure_rms(metres * position),
        calibration_deg=Measured(0.0, fit.deviation_deg),
        calibration_m=Measured(0.0, metres * fit.deviation),
        scale=Measured(fit.factor, fit.factor_deviation) if has_unit and not is_open else None,
        T_base_hand=scale_positions(A, unit_m) if is_on_hand else invert_pose(scale_positions(A, unit_m)),
        images=images,
        times_s=pairing.times_s,
        wrong=wrong,
    )
    if given is not None:
        measured, cause = _compare_given(measured, fit, given, metres)
        causes += cause
    if mistake.direction == INVERSE and tries_inverse:
        other = judge_hand_eye(
            replace(pairing, T_world_camera=invert_pose(pairing.T_world_camera)),
            is_on_hand=is_on_hand,
            has_unit=has_unit,
            given=given,
            purposes=purposes,
            notes=notes,
            tries_inverse=False,
        )
        preferred = _prefer_inverse(replace(measured, causes=tuple(causes)), other)
        if preferred is not None:
            return preferred
    wanted = list(purposes) or list(RIG_PURPOSES.values())
    found = {"point_m": _measure_point(measured), "residual_m": measured.position_m}
    judged = tuple(judge_limits(purpose, found.get) for purpose in wanted)
    notes = (*measured.notes, *_note_both_inverse(measured))
    return replace(measured, causes=tuple(causes), purposes=judged, are_asked=bool(purposes), notes=notes)


MAX_ARM_M = 0.4
"""Distance of a camera from the hand, metres, beyond which both files may have inverse poses; chosen: cameras on robots
are nearer than that to the flange.
"""


def _note_both_inverse(verdict: HandEyeVerdict) -> list[str]:
    """Return a note if the camera is far from the hand, and much nearer to it if both files have inverse poses.

    A X = Z B is A^-1 Z = X B^-1, so that both explain the poses equally well, and X and Z change places.
    """
    X, Z = verdict.T_hand_camera, verdict.T_base_world
    if not verdict.is_on_hand or verdict.has_given or X is None or Z is None:
        return []
    arm, other_arm = (float(np.linalg.norm(T[:3, 3])) for T in (X, Z))
    if not (arm > MAX_ARM_M and other_arm < arm / 2):
        return []
    place = ", ".join(f"{1000 * number:.0f}" for number in Z[:3, 3])
    return [
        f"the camera would be {1000 * arm:.0f} mm from the hand; if both files have inverse poses (the base in the "
        f"hand, and the target in the camera), it is at {place} mm in the hand, and fits as well: invert both"
    ]


FAR_TIMES = 4.0
"""Least ratio of the errors of a given calibration with which one explanation of the poses is preferred to another."""


def _find_total_deg(verdict: HandEyeVerdict) -> float:
    """Return the error of the given calibration, as the angle at which a point POINT_M ahead is seen wrong."""
    angle, length = verdict.calibration_deg, verdict.calibration_m
    return np.inf if angle is None or length is None else angle.value + float(np.degrees(length.value / POINT_M))


def _prefer_inverse(log: HandEyeVerdict, cameras: HandEyeVerdict) -> HandEyeVerdict | None:
    """Return the verdict on poses of which one file has inverse ones; None if these are the log's.

    log: the verdict with the poses of the log inverted.
    cameras: the verdict with the poses of the camera inverted.
    """
    log_deg, cameras_deg = _find_total_deg(log), _find_total_deg(cameras)
    if not log.has_given or (log_deg < FAR_TIMES * cameras_deg and cameras_deg < FAR_TIMES * log_deg):
        both = _describe_open_inverse(log, cameras)
        return replace(
            log,
            reason="one of both files has inverse poses, and their motion does not show which",
            causes=tuple(both if cause.name == "inverse" else cause for cause in log.causes),
        )
    if cameras_deg < log_deg:
        what = "the camera file has poses of the target in the camera (they are inverse)"
        return replace(cameras, causes=(RigCause("inverse-cameras", what, "invert them"), *cameras.causes))
    return None


def _describe_open_inverse(log: HandEyeVerdict, cameras: HandEyeVerdict) -> RigCause:
    """Return the cause of poses of which either the log's or the camera's are inverse: both fit equally well.

    log: the verdict with the poses of the log inverted.
    cameras: the verdict with the poses of the camera inverted.
    """
    place, other_place = ("hand", "base") if log.is_on_hand else ("base", "hand")
    places = [
        ", ".join(f"{1000 * number:.0f}" for number in one.T_hand_camera[:3, 3])
        for one in (log, cameras)
        if one.T_hand_camera is not None
    ]
    what = "the log has poses of the base in the hand, or the camera file those of the target in the camera"
    fix = (
        f"look at which of them is inverse, and invert it: the camera in the {place} is then at "
        f"{' mm (log) or '.join(places)} mm (camera file), and --calibration FILE tells them apart; or the camera is on"
        f" the {other_place}: pass --camera-on {other_place}"
    )
    return RigCause("inverse", what, fix)


MISFIT = "the robot and the camera do not move as one"

_MISFIT = RigCause(
    "two-motions", MISFIT, "check that both files are of one recording, and that camera and target are fixed firmly"
)


def _turn_log(pairing: LogPairing) -> LogPairing:
    """Return the pairing with poses of the base in the hand, for a camera next to the robot."""
    return InvertedPairing(pairing.log, pairing.T_world_camera, pairing.names, pairing.times_s, pairing.rows)


class InvertedPairing(LogPairing):
    """A pairing whose poses of the robot are inverted after a mistake is undone."""

    def turn(self, A: Array) -> Array:
        """Return T_hand_base (N, 4, 4) of poses of the robot."""
        return invert_pose(A)

    def pair(self, mistake: PoseMistake) -> tuple[Array, NDArray[np.intp]]:
        """Return T_hand_base (M, 4, 4) without a mistake, and the camera poses that they belong to."""
        A, images = LogPairing.pair(self, mistake)
        return self.turn(A), images

    def thin(self, most: int) -> LogPairing:
        """Return the pairing of at most `most` camera poses."""
        return _turn_log(LogPairing.thin(self, most))


def _pair_all(view: LogPairing, mistake: PoseMistake) -> tuple[Array, NDArray[np.intp]]:
    """Return the pairs of poses; of a long shuffled log those that the search used."""
    return (view.thin(len(mistake.rows)) if mistake.rows else view).pair(mistake)


def _solve(A: Array, B: Array, factor: float | None) -> HandEyeFit:
    """Return the calibration with a covariance that counts errors of neighbors in a video once."""
    fit = solve_hand_eye(A, B, factor=factor)
    residuals = np.hstack([fit.rotations / fit.rotation_sigma, fit.positions / fit.position_sigma])[fit.is_used]
    return replace(fit, covariance=fit.covariance * find_correlation(residuals))


OFFSET_ROUNDS, DIFFERENCE_S = 4, 0.002


def measure_offset(view: LogPairing, mistake: PoseMistake) -> Measured:
    """Return the seconds to add to the times of the images, with a deviation, by least squares with the calibration.

    view: poses with times.
    mistake: the mistake of the log; its offset is where the search starts.
    """
    view = view.thin(MAX_TIMED)
    offset_s, deviation = mistake.offset_s, np.inf
    for _ in range(OFFSET_ROUNDS):
        (before, first), (A, images), (after, last) = (
            view.pair(replace(mistake, offset_s=offset_s + step)) for step in (-DIFFERENCE_S, 0.0, DIFFERENCE_S)
        )
        shared = sorted(set(first) & set(images) & set(last))
        if len(shared) < MIN_POSES:
            return Measured(mistake.offset_s, np.inf)
        rows = [np.searchsorted(one, shared) for one in (first, images, last)]
        A, B = A[rows[1]], view.T_world_camera[shared]
        fit = _solve(A, B, None)
        moved = [
            np.hstack(find_residuals(T[chosen], B, fit.T_hand_camera, fit.T_base_world, fit.factor))
            for T, chosen in ((before, rows[0]), (after, rows[2]))
        ]
        sigma = np.repeat([fit.rotation_sigma, fit.position_sigma], 3)
        slope = ((moved[1] - moved[0]) / (2 * DIFFERENCE_S) / sigma)[fit.is_used]
        J = find_jacobian(A, B, fit.T_hand_camera, fit.positions)[fit.is_used] / sigma[:, None]
        J = np.concatenate([J, slope[:, :, None]], axis=2).reshape(-1, 14)
        residuals = (np.hstack([fit.rotations, fit.positions]) / sigma)[fit.is_used]
        unit = np.maximum(np.linalg.norm(J, axis=0), 1e-12)
        inverse = np.linalg.pinv((J / unit).T @ (J / unit))
        step = -(inverse @ ((J / unit).T @ residuals.ravel()))[13] / unit[13]
        deviation = float(np.sqrt(max(inverse[13, 13], 0) * find_correlation(residuals)) / unit[13])
        offset_s += float(np.clip(step, -0.1, 0.1))
        if abs(step) < 0.1 * deviation:
            break
    return Measured(offset_s, deviation)


def find_unit_m(reach: float) -> float:
    """Return metres in the unit of a length of at most the reach of a robot.

    Examples:
        >>> find_unit_m(0.8), find_unit_m(80.0), find_unit_m(800.0)
        (1.0, 0.01, 0.001)
    """
    return 1.0 if reach <= MAX_REACH_M else 0.01 if reach <= MAX_REACH_CM else 0.001


def _find_unit_m(positions: Array) -> float:
    """Return metres in the unit of positions (N, 3) within the reach of a robot."""
    return find_unit_m(float(np.median(np.linalg.norm(positions, axis=1))))


def _is_scale_open(pairing: LogPairing, fit: HandEyeFit) -> bool:
    """Return whether the ratio of the lengths of both files is not measured: hand or camera turn in one place."""
    positions = (pairing.log.positions, pairing.T_world_camera[:, :3, 3])
    extents_m = [_find_unit_m(one) * float(np.sqrt(one.var(axis=0).sum())) for one in positions]
    return min(extents_m) < MIN_PATH_M or not 0 <= fit.factor_deviation < MAX_SCALE_DEVIATION * fit.factor


def _find_units(pairing: LogPairing, fit: HandEyeFit, *, has_unit: bool) -> tuple[float, list[RigCause], float | None]:
    """Return metres in a unit of the log, causes of wrong units, and the factor to use; None uses the measured one."""
    unit_m = _find_unit_m(pairing.log.positions)
    if not has_unit or not fit.factor > 0:
        return unit_m, [], None
    for log_name, log_m in sorted(UNITS_M.items(), key=lambda unit: unit[1] != unit_m):
        for camera_name, camera_m in UNITS_M.items():
            ratio = log_m / camera_m
            if ratio != 1 and abs(np.log(fit.factor / ratio)) < MAX_UNIT_ERROR:
                what = f"positions of the log are {log_name}, and those of the camera are {camera_name}"
                cause = RigCause("units", what, "multiply the log's by " + f"{ratio:g}", is_fault=True)
                rest = abs(fit.factor / ratio - 1)
                kept = ratio if rest < SURELY_NAMED * fit.factor_deviation / ratio else None
                return log_m, [cause], kept
    size = Measured(fit.factor - 1, fit.factor_deviation)
    if not size.is_above(MIN_SCALE_SHARE, SURELY_NAMED):
        return unit_m, [], 1.0
    side = "longer" if size.value > 0 else "shorter"
    what = f"the camera's path is {size._replace(value=abs(size.value)).show(100)} % {side} than the robot's"
    is_fault = abs(size.value) > HARMLESS_SCALE_SHARE
    fix = f"measure the squares of the target again: they are {1 / fit.factor:.4f} times as large as given"
    return unit_m, [RigCause("scale", what, fix, size=size, unit="share", is_fault=is_fault)], None


def _measure_rms(values: Array) -> Measured:
    rms = float(np.sqrt((values**2).mean()))
    return Measured(rms, rms / np.sqrt(6 * len(values)))


def _explain_misfit(fit: HandEyeFit, B: Array, metres: float | None) -> str:
    """Return why log and images are of two motions; "" if they are not.

    metres: metres in a unit of the camera poses; None if unknown.
    """
    rotation = float(np.degrees(np.median(np.linalg.norm(fit.rotations, axis=1))))
    position = float(np.median(np.linalg.norm(fit.positions, axis=1)))
    share = position / find_extent(B)
    is_near = share <= MAX_SHARE or (metres is not None and position * metres < MIN_PATH_M)
    if rotation <= MAX_DEG and is_near and fit.factor > 0:
        return ""
    return (
        f"{MISFIT}: they differ by {rotation:.1f} degrees and {share:.0%} of the extent of the path, half of the time"
    )


def _measure_point(verdict: HandEyeVerdict) -> Measured | None:
    """Return the error of a point POINT_M ahead of the camera by the calibration."""
    angle, length = verdict.calibration_deg, verdict.calibration_m
    assert angle is not None
    assert length is not None
    lever = np.radians(1) * POINT_M
    return Measured(
        float(np.hypot(length.value, lever * angle.value)), float(np.hypot(length.deviation, lever * angle.deviation))
    )


def _compare_given(
    verdict: HandEyeVerdict, fit: HandEyeFit, given: Array, metres: float
) -> tuple[HandEyeVerdict, list[RigCause]]:
    """Return the verdict with the error of a given calibration, and the mistake of it."""
    X = verdict.T_hand_camera
    assert X is not None
    unit = 0.001 if np.linalg.norm(given[:3, 3]) > MAX_OFFSET_M else 1.0
    given = scale_positions(given, unit)
    flipped = np.diag([1.0, -1, -1, 1])
    hypotheses = {"": given, "inverse": invert_pose(given), "axes": given @ flipped}
    errors = {name: _find_error(T, X) for name, T in hypotheses.items()}
    total = {name: angle + np.degrees(length / POINT_M) for name, (angle, length) in errors.items()}
    best = min(total, key=total.__getitem__)
    causes, right = list[RigCause](), ""
    if unit != 1:
        causes.append(RigCause("calibration-units", "the given calibration is in millimetres", "multiply it by 0.001"))
    if best and total[best] < total[""] / 4:
        words = {
            "inverse": ("the given calibration is the pose of the hand in the camera", "invert it"),
            "axes": ("the given calibration has the camera axes of OpenGL", "turn it by 180 degrees about x"),
        }
        causes.append(RigCause(f"calibration-{best}", *words[best]))
        right = best
    angle, length = errors[right]  # after the fixes
    measured = replace(
        verdict,
        calibration_deg=Measured(angle, fit.deviation_deg),
        calibration_m=Measured(length, metres * fit.deviation),
    )
    return measured, causes


def _find_error(T: Array, X: Array) -> tuple[float, float]:
    E = invert_pose(X) @ T
    return float(np.degrees(np.linalg.norm(so3_log(E[:3, :3])))), float(np.linalg.norm(E[:3, 3]))


# -- words

CAUSE_OF_DIRECTION: Mapping[str, tuple[str, str, str]] = {
    INVERSE: ("inverse", "the log has poses of the base in the hand (they are inverse)", "invert them"),
    TRANSPOSED_ROTATION: (
        "transposed",
        "rotations of the log are inverse, and its positions are not",
        "transpose its rotations",
    ),
    IN_HAND: ("base-against-tool", "positions of the log have the axes of the hand, not of the base", "turn them by R"),
}


def _describe_mistake(mistake: PoseMistake, pairing: LogPairing, offset_s: Measured | None) -> list[RigCause]:
    """Return the causes of a mistake of the log."""
    log = pairing.log
    causes = []
    if mistake.reading is not None:
        before, after = log.reading, mistake.reading
        if before.kind == after.kind and before.order == after.order:
            name = "degrees"
        elif before.kind == "quaternion":
            name = "quaternion-order"
        else:
            name = "euler-order" if before.kind == after.kind else "rotation-kind"
        what = f"rotations of the log are {after.describe()}, not {before.describe()}"
        causes.append(RigCause(name, what, "read them so"))
    if mistake.direction:
        causes.append(RigCause(*CAUSE_OF_DIRECTION[mistake.direction]))
    if mistake.negated is not None:
        what = f"number {mistake.negated + 1} of the rotations of the log has the wrong sign"
        causes.append(RigCause("mirrored-axis", what, "negate it"))
    if mistake.mirrored:
        what = f"{mistake.mirrored} of the positions of the log has the wrong sign"
        if mistake.mirrored == "all":
            what = "the log has left-handed coordinates, as Unity"
        causes.append(RigCause("mirrored-axis", what, "negate it" if mistake.mirrored != "all" else "mirror one axis"))
    if mistake.order == "shift":
        row = f"{abs(mistake.shift)} row{'s' * (abs(mistake.shift) > 1)}"
        side = "later" if mistake.shift > 0 else "earlier"
        causes.append(RigCause("shifted", f"the pose of each image is {row} {side} in the log", f"shift it by {row}"))
    elif mistake.order == "text":
        what = "images are paired in the order of numbers, but the log has the order of names as text (1, 10, 2)"
        causes.append(RigCause("shuffled", what, "sort the log by the numbers"))
    elif mistake.order == "reversed":
        causes.append(RigCause("shuffled", "the log begins with the last image", "reverse it"))
    elif mistake.rows:
        moved = tuple(
            pairing.thin(len(mistake.rows)).names[image] for image, row in enumerate(mistake.rows) if image != row
        )
        causes.append(RigCause("shuffled", "the rows of the log belong to other images", "sort them", items=moved))
    if mistake.offset_s and offset_s is not None:
        side = "ahead of" if mistake.offset_s > 0 else "behind"
        shown = offset_s._replace(value=abs(offset_s.value)).show(1000)
        what = f"the clock of the log is {shown} ms {side} that of the images"
        fix = f"add {mistake.offset_s:+.4f} s to the times of the images"
        is_fault = abs(mistake.offset_s) > HARMLESS_OFFSET_S
        causes.append(RigCause("clock-offset", what, fix, size=offset_s, unit="seconds", is_fault=is_fault))
    return causes


def _describe_wrong(
    wrong: Sequence[int], pairing: LogPairing, fit: HandEyeFit, A: Array, B: Array, images: NDArray[np.intp]
) -> RigCause:
    """Return the cause of pairs of poses that do not fit: exchanged with others, or wrong by themselves."""
    names = tuple(pairing.names[image] for image in wrong)
    rows = np.flatnonzero(~fit.is_used)
    exchanged = 0
    for row in rows:
        tried = np.repeat(B[row][None], len(A), axis=0)
        misses = find_residuals(A, tried, fit.T_hand_camera, fit.T_base_world, fit.factor)
        lengths = [np.linalg.norm(one, axis=1) for one in misses]
        size = lengths[0] / fit.rotation_sigma + lengths[1] / fit.position_sigma
        exchanged += int(size.min() < 10 and int(size.argmin()) != row)
    count = f"{len(wrong)} of {len(images)} images"
    if pairing.times_s is None and exchanged and exchanged >= len(wrong) / 2:
        return RigCause("wrong-pairs", f"{count} have the robot's pose of another one", "pair them again", items=names)
    return RigCause("wrong-pairs", f"{count} have a pose that does not fit the others", "leave them out", items=names,
                    is_fault=len(wrong) > len(images) / 4)  # fmt: skip


def describe_hand_eye(verdict: HandEyeVerdict) -> dict[str, Any]:
    """Return all fields of a verdict for JSON."""
    X, Z = verdict.T_hand_camera, verdict.T_base_world
    return {
        "format": "stadia-hand-eye",
        "grade": verdict.grade,
        "not_measurable": verdict.reason or None,
        "camera_on": "hand" if verdict.is_on_hand else "base",
        "calibration": None if X is None or verdict.reason else X.tolist(),
        "world": None if Z is None or verdict.reason else Z.tolist(),
        "calibration_deg": describe_measured(verdict.calibration_deg),
        "calibration_m": describe_measured(verdict.calibration_m),
        "rotation_deg": describe_measured(verdict.rotation_deg),
        "position_m": describe_measured(verdict.position_m),
        "scale": describe_measured(verdict.scale),
        "causes": [cause.to_json() for cause in verdict.causes],
        "purposes": [one.to_json() for one in verdict.purposes],
        "wrong_images": [verdict.names[image] for image in verdict.wrong],
        "notes": list(verdict.notes),
    }
