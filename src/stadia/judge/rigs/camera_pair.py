"""Measure how the given pose of one camera in another differs from what matches of their images show.

Matches of one instant must be on epipolar lines. Where they are not, the rotation, the direction of the baseline, the
focal length or the moment of the second camera differs from the calibration. The length of the baseline changes no
epipolar line, and is not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import LEFT, RIGHT, Recording
from stadia.core.verdict import Verdict
from stadia.geometry.image_features import SiftFeatures, detect_features, match_features
from stadia.geometry.poses import from_rotation_translation, invert_pose, se3_exp, se3_log, so3_exp
from stadia.geometry.two_views import (
    estimate_metric_motion,
    find_epipolar_inliers,
    signed_epipolar_distance_px,
    triangulate,
)
from stadia.judge.error import Measured, describe_measured
from stadia.judge.purposes import PAIR_PURPOSES, Purpose, PurposeVerdict, judge_limits
from stadia.judge.rigs.fixed_cameras import VIEW_CELLS
from stadia.judge.rigs.rig_cause import RigCause, grade_calibration

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

MAX_INSTANTS = 16
"""Most instants of a recording that are measured, drawn evenly."""

MAX_PAIR_MATCHES = 200
"""About the most matches of an instant that are used."""

MIN_INSTANT_MATCHES, CHANCE_SHARE = 16, 0.02
"""Fewest matches of one instant on epipolar lines, and the share of all candidates that is added: cameras that share no
view have 9 to 14 of 30 to 55, since epipolar geometry fits any eight.
"""

MIN_SHARED_MATCHES = 60
"""Fewest matches of all instants that measure a pair of cameras."""

LEAST_RIG_DEG, LEAST_RIG_M, LEAST_FOCAL_SHARE, LEAST_SYNC_S = 0.04, 0.002, 0.004, 0.001
"""Least error of a rotation, of a position across the baseline, of a focal length, and of a moment that is named."""

RIG_SIGMA = 4.0
"""Least size of an error in deviations that is named."""

MAX_FOCAL_SHARE = 0.15
"""Error of a focal length from which K belongs to images of another size."""

MIN_AHEAD = 0.5
"""Share of the points that must be in front of both cameras; below it, the cameras are exchanged."""

DRAWN_STEP = 1e-6

MAX_STEP = np.array([0.3, 0.3, 0.3, 1.0, 1.0, 0.5, 0.2])
"""Largest step of a rotation, of a position in metres, of the logarithm of a focal length, which is also its largest
error, and of a time: few matches of a narrow strip leave some of them open.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Instant:
    """Images of two cameras at one instant, and the next image of the first camera.

    first_px, second_px: (N, 2) matches between both cameras.
    before_px, after_px: (M, 2) matches from this to the next image of the first camera; None without a next one.
    next_s: seconds until the next image; NaN if unknown.
    """

    first_px: Array
    second_px: Array
    before_px: Array | None = None
    after_px: Array | None = None
    next_s: float = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class CameraPairError:
    """The error of the calibration of two cameras; None for what is not measured.

    reason: why nothing is measured; "" otherwise.
    rotation_deg: given less measured rotation of the second camera about its axes x, y and z, degrees.
    angle_deg: size of this rotation.
    across_m: given less measured position of the first camera in the second one, across the baseline: two directions
        of `across`.
    across: (2, 3) directions, in the axes of the second camera.
    focal_share: given over measured focal length of the second camera, relative to the first one's, less 1.
    offset_s: seconds by which the second camera is later than the first; None without motion.
    epipolar_px: how far the given calibration moves matches off their epipolar lines, pixels.
    change_deg: change of the rotation from the first to the second half of the recording.
    is_exchanged: whether the first camera is the second one.
    matches: number of matches.
    T_second_first: (4, 4) measured pose, with the given length of the baseline.
    """

    reason: str = ""
    rotation_deg: tuple[Measured, Measured, Measured] | None = None
    angle_deg: Measured | None = None
    across_m: tuple[Measured, Measured] | None = None
    across: Array | None = None
    focal_share: Measured | None = None
    offset_s: Measured | None = None
    epipolar_px: Measured | None = None
    change_deg: Measured | None = None
    is_exchanged: bool = False
    matches: int = 0
    T_second_first: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CameraPairVerdict:
    """The verdict on the calibration of two cameras.

    name: their name.
    error: the measured error.
    causes: what is wrong.
    purposes: what the calibration is good for.
    are_asked: whether the user asked for these purposes.
    """

    name: str
    error: CameraPairError
    causes: tuple[RigCause, ...] = ()
    purposes: tuple[PurposeVerdict, ...] = ()
    are_asked: bool = False

    @property
    def grade(self) -> Verdict:
        """Return the grade of the purposes; unusable with a fault."""
        return grade_calibration(self.causes, self.error.reason, self.purposes, are_asked=self.are_asked)


def match_instants(
    detect: Callable[[int, str], SiftFeatures],
    sides: tuple[str, str],
    count: int,
    times_s: Sequence[float] | None,
    *,
    side_px: int,
) -> list[Instant]:
    """Match the images of two cameras at instants that are spread over a recording.

    detect: returns the features of the image of a frame and a side, in pixels of a pinhole.
    sides: names of the first and of the second camera.
    count: number of frames.
    times_s: time of each frame; None if unknown.
    side_px: longer side of the images.
    """
    instants = []
    for index in np.unique(np.linspace(0, max(count - 2, 0), MAX_INSTANTS).astype(int)).tolist():
        first, second = (detect(index, side) for side in sides)
        between = _match(first, second, side_px)
        if index + 1 >= count:
            instants.append(Instant(*between))
            continue
        following = _match(first, detect(index + 1, sides[0]), side_px)
        next_s = float("nan") if times_s is None else float(times_s[index + 1] - times_s[index])
        instants.append(Instant(*between, *following, next_s))
    return instants


def _match(first: SiftFeatures, second: SiftFeatures, side_px: int) -> tuple[Array, Array]:
    found = match_features(first, second)
    inside = find_epipolar_inliers(found.first_px, found.second_px, max(side_px / 640, 1.0))
    least = MIN_INSTANT_MATCHES + CHANCE_SHARE * len(found)
    rows = np.flatnonzero(inside if inside.sum() >= least else np.zeros_like(inside))
    rows = rows[:: max(len(rows) // MAX_PAIR_MATCHES, 1)]
    return found.first_px[rows], found.second_px[rows]


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """Matches of all instants, and the calibration that is adjusted.

    motions: for each instant, the twist (6,) of the first camera in a second; None without a motion.
    """

    instants: Sequence[Instant]
    K_first: Array
    K_second: Array
    T: Array
    across: Array
    motions: Sequence[Array | None]

    def find_pose(self, numbers: Array) -> Array:
        """Return T_second_first for (rotation, two lengths across the baseline, logarithm of focal length, time)."""
        R, t = self.T[:3, :3], self.T[:3, 3]
        return from_rotation_translation(
            so3_exp(numbers[:3]) @ R, so3_exp(numbers[:3]) @ (t + numbers[3:5] @ self.across)
        )

    def find_residuals(self, numbers: Array) -> Array:
        """Return the signed distances (N,) of all matches from their epipolar lines, pixels (Sampson)."""
        T, K = self.find_pose(numbers), self.K_second.copy()
        K[:2, :2] *= np.exp(numbers[5])
        found = []
        for instant, motion in zip(self.instants, self.motions, strict=True):
            moved = T if motion is None or numbers[6] == 0 else T @ se3_exp(numbers[6] * motion)
            found.append(signed_epipolar_distance_px(instant.first_px, instant.second_px, self.K_first, K, moved))
        return np.concatenate(found)


def measure_pair(
    instants: Sequence[Instant], K_first: Array, K_second: Array, T_second_first: Array
) -> CameraPairError:
    """Measure the error of the calibration of two cameras.

    instants: matches at some instants.
    K_first, K_second: (3, 3) given intrinsics.
    T_second_first: (4, 4) given pose of the first camera in the second, metres.
    """
    count = sum(len(instant.first_px) for instant in instants)
    baseline_m = float(np.linalg.norm(T_second_first[:3, 3]))
    if count < MIN_SHARED_MATCHES:
        return CameraPairError(reason=f"the cameras share {count} matches, at least {MIN_SHARED_MATCHES} are needed")
    if not baseline_m > 0:
        return CameraPairError(reason="the baseline is 0")
    size, is_exchanged, problem = _find_view(instants, K_first, K_second, T_second_first)
    free = _choose_free(problem, baseline_m)
    numbers, covariance = _solve(problem, [*free, False])
    motions = _find_motions(problem, numbers)
    offset_s = None
    if any(motion is not None for motion in motions):
        timed = replace(problem, motions=motions)
        timed_free = [*[True] * 5, free[5]]  # an even motion looks like another place
        with_time, of_time = _solve(timed, [*timed_free, True], numbers)
        of_time[6, 6] += (MOTION_SHARE * with_time[6]) ** 2
        measured = Measured(float(with_time[6]), float(np.sqrt(of_time[6, 6])))
        if measured.deviation < MAX_SYNC_DEVIATION_S:
            offset_s = measured
            if measured.is_above(LEAST_SYNC_S, RIG_SIGMA):
                numbers, covariance, problem, free = with_time, of_time, timed, timed_free
    halves = [instants[: len(instants) // 2], instants[len(instants) // 2 :]]
    deviations = np.sqrt(np.diag(covariance))
    turn = [Measured(-float(np.degrees(numbers[i])), float(np.degrees(deviations[i]))) for i in range(3)]
    if (open_deg := max(one.deviation for one in turn)) > MAX_TURN_DEVIATION_DEG:
        return CameraPairError(
            reason=f"{count} matches leave the rotation open: {_describe_open(open_deg)}", matches=count
        )
    angle = float(np.linalg.norm(numbers[:3]))
    direction = numbers[:3] / angle if angle > 0 else np.array([1.0, 0, 0])
    spread = float(np.sqrt((direction @ covariance[:3, :3] @ direction).clip(0)))
    still = numbers.copy()
    still[6] = 0
    moved = problem.find_residuals(np.zeros(7)) - problem.find_residuals(still)
    left = np.abs(problem.find_residuals(numbers))
    fits = left < OUTLIER_SIGMA * max(1.4826 * float(np.median(left)), 1e-3)
    off_px = float(np.sqrt((moved[fits] ** 2).mean()))
    J = _find_jacobian(problem, numbers)[fits][:, :6]
    noise_px = float(np.sqrt(np.einsum("np,pq,nq->n", J, covariance[:6, :6], J).mean()))
    deviations[3:6] = np.where(free[3:], deviations[3:6], [baseline_m, baseline_m, 1.0])
    focal = float(size * np.exp(-numbers[5]) - 1)
    return CameraPairError(
        rotation_deg=(turn[0], turn[1], turn[2]),
        angle_deg=Measured(float(np.degrees(angle)), float(np.degrees(spread))),
        across_m=(
            Measured(-float(numbers[3]), float(deviations[3])),
            Measured(-float(numbers[4]), float(deviations[4])),
        ),
        across=problem.across,
        focal_share=Measured(focal, float(deviations[5])),
        offset_s=offset_s,
        epipolar_px=Measured(off_px, noise_px),
        change_deg=_measure_change(problem, halves, numbers),
        is_exchanged=is_exchanged,
        matches=count,
        T_second_first=problem.find_pose(numbers),
    )


MAX_TURN_DEVIATION_DEG = 5.0
"""Largest deviation of a turn that is stated: beyond it, the linear deviations of a solution mean nothing."""


def _describe_open(degrees: float) -> str:
    """Return how large a deviation is.

    Examples:
        >>> _describe_open(12.3), _describe_open(443494)
        ('± 12 degrees', 'any is possible')
    """
    return f"± {degrees:.0f} degrees" if degrees < 90 else "any is possible"


MAX_ACROSS_SHARE, MAX_FOCAL_DEVIATION = 0.6, 0.05
"""Largest error of a position across the baseline that is measured, over the length of the baseline, and largest
deviation of a focal length: cameras that share a narrow strip of far things leave both open.
"""


def _choose_free(problem: _Problem, baseline_m: float) -> list[bool]:
    """Return which of rotation (3), position (2) and focal length the matches determine."""
    numbers, covariance = _solve(problem, [True] * 6 + [False])
    has_focal = float(np.sqrt(covariance[5, 5])) < MAX_FOCAL_DEVIATION
    if not has_focal or abs(numbers[5]) > MAX_FOCAL_SHARE:
        fixed, _ = _solve(problem, [True] * 5 + [False] * 2)
        left, left_fixed = (float(np.median(np.abs(problem.find_residuals(one)))) for one in (numbers, fixed))
        has_focal = has_focal and left_fixed > MIN_SIZE_FALL * left
        numbers = numbers if has_focal else fixed
    has_position = float(np.linalg.norm(numbers[3:5])) < MAX_ACROSS_SHARE * baseline_m
    return [True, True, True, has_position, has_position, has_focal]


OUTLIER_SIGMA = 4.0
"""Distance from an epipolar line, in deviations of all matches, from which a match counts as a wrong one."""

SIZES = (1.0, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, 4 / 3, 1.5, 2.0, 3.0, 4.0)
"""Sizes of images whose K may be given for the second camera, over the right one."""

MIN_SIZE_FALL = 3.0
"""Factor by which residuals fall if K has another size."""


def _find_view(
    instants: Sequence[Instant], K_first: Array, K_second: Array, T_second_first: Array
) -> tuple[float, bool, _Problem]:
    """Return the size of the images that K of the second camera is for, whether the cameras are exchanged, and the
    calibration without both.
    """
    tried, poses = list[float](), list[Array]()
    for size in SIZES:
        K = K_second.copy()
        K[:2] /= size
        across = np.linalg.svd(T_second_first[:3, 3][None])[2][1:]
        problem = _Problem(instants, K_first, K, T_second_first, across, [None] * len(instants))
        numbers, _ = _solve(problem, [True] * 5 + [False] * 2, rounds=10)
        if float(np.linalg.norm(numbers[3:5])) > MAX_ACROSS_SHARE * float(np.linalg.norm(T_second_first[:3, 3])):
            numbers, _ = _solve(problem, [True] * 3 + [False] * 4, rounds=10)
        tried.append(float(np.median(np.abs(problem.find_residuals(numbers)))))
        poses.append(problem.find_pose(numbers))
        if size == 1 and tried[0] < max(float(K_first[0, 2]) * 2 / 640, 0.5):
            break
    best = int(np.argmin(tried))
    best = best if tried[best] * MIN_SIZE_FALL < tried[0] else 0
    size = SIZES[best]
    K = K_second.copy()
    K[:2] /= size
    # by the adjusted pose: a wrong rotation moves far points behind the cameras
    is_exchanged = _find_ahead(instants, K_first, K, poses[best]) < MIN_AHEAD
    if is_exchanged:  # far things are behind the cameras by a little noise, and then the other way does not fit
        there, back = (
            _Problem(instants, K_first, K, T, np.zeros((2, 3)), [None] * len(instants)).find_residuals(np.zeros(7))
            for T in (T_second_first, invert_pose(T_second_first))
        )
        least_px = max(float(np.median(np.abs(there))), float(K_first[0, 2]) * 2 / 640)
        is_exchanged = float(np.median(np.abs(back))) < MIN_SIZE_FALL * least_px
    given = invert_pose(T_second_first) if is_exchanged else T_second_first
    across = np.linalg.svd(given[:3, 3][None])[2][1:]
    return size, is_exchanged, _Problem(instants, K_first, K, given, across, [None] * len(instants))


MOTION_SHARE = 0.06
"""Relative deviation of motions by the depth of a pair, which scales a moment: rendered drives have .02 to .1."""

MAX_SYNC_DEVIATION_S = 0.05
"""Deviation above which the motion of a recording shows no moment."""

HALF_MATCHES = 3 * MIN_SHARED_MATCHES


def _measure_change(problem: _Problem, halves: Sequence[Sequence[Instant]], numbers: Array) -> Measured | None:
    """Return the angle between the rotations of both halves of a recording."""
    found = []
    start = 0
    for half in halves:
        if sum(len(instant.first_px) for instant in half) < HALF_MATCHES:
            return None
        motions = problem.motions[start : start + len(half)]
        start += len(half)
        found.append(_solve(replace(problem, instants=half, motions=motions), [True] * 3 + [False] * 4, numbers))
    difference = found[1][0][:3] - found[0][0][:3]
    both = found[0][1][:3, :3] + found[1][1][:3, :3]
    size = float(np.linalg.norm(difference))
    direction = difference / size if size > 0 else np.array([1.0, 0, 0])
    return Measured(float(np.degrees(size)), float(np.degrees(np.sqrt((direction @ both @ direction).clip(0)))))


def _find_ahead(instants: Sequence[Instant], K_first: Array, K_second: Array, T: Array) -> float:
    """Return the share of the points that are in front of both cameras."""
    ahead = []
    for instant in instants:
        z_first, z_second = triangulate(instant.first_px, instant.second_px, K_first, K_second, T)
        ahead.append((z_first > 0) & (z_second > 0))
    return float(np.concatenate(ahead).mean())


def _find_jacobian(problem: _Problem, numbers: Array) -> Array:
    columns = []
    for place in range(7):
        step = np.zeros(7)
        step[place] = DRAWN_STEP
        columns.append(
            (problem.find_residuals(numbers + step) - problem.find_residuals(numbers - step)) / (2 * DRAWN_STEP)
        )
    return np.column_stack(columns)


def _solve(
    problem: _Problem, is_free: Sequence[bool], start: Array | None = None, rounds: int = 30
) -> tuple[Array, Array]:
    """Return the seven numbers that fit the matches (robust least squares), and their covariance (7, 7).

    Errors that matches of a cell of the image share count once (sandwich covariance), and lenses leave a smooth field
    of displacements open.
    """
    free = np.flatnonzero(is_free)
    numbers = np.zeros(7) if start is None else start.copy()
    J, weights, residuals = np.zeros((0, 0)), np.zeros(0), np.zeros(0)
    inverse = np.eye(len(free))
    for round_number in range(rounds):
        residuals = problem.find_residuals(numbers)
        sigma = max(1.4826 * float(np.median(np.abs(residuals))), 1e-3)
        weights = 1 / (1 + (residuals / (2 * sigma)) ** 2)
        J = _find_jacobian(problem, numbers)[:, free]
        A = J.T @ (weights[:, None] * J)
        unit = 1 / np.sqrt(np.maximum(np.diag(A), 1e-12))
        inverse = np.linalg.pinv(A * np.outer(unit, unit), rcond=1e-14) * np.outer(unit, unit)
        step = -inverse @ (J.T @ (weights * residuals))
        step /= max(float(np.abs(step / MAX_STEP[free]).max()), 1.0)
        numbers[free] += step
        numbers[5] = np.clip(numbers[5], -MAX_STEP[5], MAX_STEP[5])
        if round_number > 3 and float(step @ A @ step) < 1e-8:
            break
    first_px = np.concatenate([instant.first_px for instant in problem.instants])
    span = np.ptp(first_px, axis=0) + 1e-9
    place = ((first_px - first_px.min(0)) / span * (np.array(VIEW_CELLS[::-1]) - 1e-6)).astype(int)
    cell = place[:, 1] * VIEW_CELLS[1] + place[:, 0]
    count = VIEW_CELLS[0] * VIEW_CELLS[1]
    scores, slopes = np.zeros((count, len(free))), np.zeros((count, len(free)))
    np.add.at(scores, cell, J * (weights * residuals)[:, None])
    np.add.at(slopes, cell, J * weights[:, None])
    cells = len(np.unique(cell))
    found = inverse @ scores.T @ scores @ inverse * cells / max(cells - len(free), 1)
    found += inverse @ slopes.T @ (_find_lens_px(problem.K_first) ** 2 * _correlate_cells()) @ slopes @ inverse
    covariance = np.zeros((7, 7))
    covariance[np.ix_(free, free)] = found
    return numbers, covariance


LENS_PX, LENS_LENGTH = 0.3, 0.25
"""What calibrations of lenses leave open: a smooth field of displacements with this deviation, pixels of images of 640,
and this correlation length, as a share of the image. Calibrations with a target leave .1 to .3 pixels.
"""


def _find_lens_px(K: Array) -> float:
    """Return what lenses leave open in the middle of an image, pixels."""
    return LENS_PX * max(float(K[0, 2]) * 2 / 640, 0.2)


def _correlate_cells() -> Array:
    """Return the correlation (C, C) of what lenses leave open in the cells of an image."""
    rows, columns = np.meshgrid(np.arange(VIEW_CELLS[0]), np.arange(VIEW_CELLS[1]), indexing="ij")
    places = np.column_stack([rows.ravel() / VIEW_CELLS[0], columns.ravel() / VIEW_CELLS[1]])
    squared = ((places[:, None] - places[None]) ** 2).sum(2)
    return np.asarray(np.exp(-squared / (2 * LENS_LENGTH**2)), np.float64)


def _find_motions(problem: _Problem, numbers: Array) -> list[Array | None]:
    """Return the motion of the first camera at each instant as a twist (6,) in a second, metres by the baseline."""
    T, K_second = problem.find_pose(numbers), problem.K_second.copy()
    K_second[:2, :2] *= np.exp(numbers[5])
    found = list[Array | None]()
    for instant in problem.instants:
        if instant.before_px is None or instant.after_px is None or not instant.next_s > 0:
            found.append(None)
            continue
        depth, _ = triangulate(instant.first_px, instant.second_px, problem.K_first, K_second, T)
        of_pixel = {tuple(pixel): z for pixel, z in zip(instant.first_px.tolist(), depth.tolist(), strict=True)}
        z = np.array([of_pixel.get(tuple(pixel), 0.0) for pixel in instant.before_px.tolist()])
        z = np.where(z < FAR_BASELINES * np.linalg.norm(T[:3, 3]), z, 0.0)
        motion = estimate_metric_motion(instant.before_px, instant.after_px, z, problem.K_first, problem.K_first)
        if motion is None:
            found.append(None)
            continue
        found.append(np.asarray(se3_log(from_rotation_translation(motion.R, motion.t)) / instant.next_s, np.float64))
    return found


FAR_BASELINES = 80.0
"""Depth over baseline beyond which a point gives no motion in metres."""


def judge_pair(name: str, error: CameraPairError, purposes: Sequence[Purpose] = ()) -> CameraPairVerdict:
    """Name what is wrong with the calibration of two cameras, and judge what it is good for.

    name: name of the recording, for messages.
    error: the measured error.
    purposes: what it is to be good for; empty for all of PAIR_PURPOSES.
    """
    verdict = CameraPairVerdict(name, error, are_asked=bool(purposes))
    if error.reason:
        return verdict
    found = {"epipolar_px": error.epipolar_px}
    judged = tuple(judge_limits(purpose, found.get) for purpose in list(purposes) or list(PAIR_PURPOSES.values()))
    return replace(verdict, causes=tuple(_list_causes(error)), purposes=judged)


def judge_recording(recording: Recording, purposes: Sequence[Purpose] = ()) -> CameraPairVerdict:
    """Judge the calibration of the two cameras of a recording.

    recording: a recording; of one camera it is not judged.
    purposes: what the calibration is to be good for; empty for all of PAIR_PURPOSES.
    """
    if RIGHT not in recording.sides or recording.T_right_left is None:
        return CameraPairVerdict(recording.name, CameraPairError(reason="the recording has one camera"))
    times_s = [recording.timestamp_s(index) for index in range(len(recording))]
    known = [time_s for time_s in times_s if time_s is not None]
    cameras = [recording.camera(0, side) for side in (LEFT, RIGHT)]
    instants = match_instants(
        lambda index, side: detect_features(recording.image(index, side)),
        (LEFT, RIGHT),
        len(recording),
        known if len(known) == len(times_s) else None,
        side_px=max(cameras[0].height, cameras[0].width),
    )
    K_first, K_second = (np.asarray(camera.K, np.float64) for camera in cameras)
    error = measure_pair(instants, K_first, K_second, np.asarray(recording.T_right_left, np.float64))
    return judge_pair(recording.name, error, purposes)


def _list_causes(error: CameraPairError) -> Iterator[RigCause]:
    angle, across, focal, offset = error.angle_deg, error.across_m, error.focal_share, error.offset_s
    assert angle is not None
    assert across is not None
    assert focal is not None
    if error.is_exchanged:
        yield RigCause("exchanged", "the images of the two cameras are exchanged", "exchange them")
    if abs(focal.value) > MAX_FOCAL_SHARE and focal.is_above(MAX_FOCAL_SHARE, 1.0):
        what = f"K of the second camera is of images {1 + focal.value:.3g} times as large"
        yield RigCause("size-of-k", what, f"multiply it by {1 / (1 + focal.value):.4g}", size=focal, unit="share")
    elif focal.is_above(LEAST_FOCAL_SHARE, RIG_SIGMA):
        side = "long" if focal.value > 0 else "short"
        what = (
            f"the focal length of the second camera is {focal._replace(value=abs(focal.value)).show(100)} % too {side}"
        )
        yield RigCause("focal-length", what, "calibrate it again", size=focal, unit="share", is_fault=False)
    if offset is not None and offset.is_above(LEAST_SYNC_S, RIG_SIGMA):
        side = "later" if offset.value > 0 else "earlier"
        shown = offset._replace(value=abs(offset.value)).show(1000)
        what = f"the second camera is {shown} ms {side} than the first"
        yield RigCause("not-synchronized", what, "trigger both together", size=offset, unit="seconds", is_fault=False)
    if angle.is_above(LEAST_RIG_DEG, RIG_SIGMA):
        what = f"the rotation of the second camera is off by {angle.show()} degrees"
        yield RigCause("rotation", what, "use the measured rotation", size=angle, unit="degrees", is_fault=False)
    for length in across:
        if length.is_above(LEAST_RIG_M, RIG_SIGMA):
            what = f"the second camera is off by {length.show(1000)} mm across the baseline"
            yield RigCause("position", what, "use the measured position", size=length, unit="metres", is_fault=False)
    change = error.change_deg
    if change is not None and change.is_above(2 * LEAST_RIG_DEG, RIG_SIGMA):
        what = f"the cameras turned against each other by {change.show()} degrees during the recording"
        yield RigCause("loose", what, "tighten the mount", size=change, unit="degrees")


def describe_pair(verdict: CameraPairVerdict) -> dict[str, Any]:
    """Return all fields of a verdict for JSON."""
    error = verdict.error
    return {
        "name": verdict.name,
        "grade": verdict.grade,
        "not_measurable": error.reason or None,
        "rotation_deg": None if error.rotation_deg is None else [describe_measured(one) for one in error.rotation_deg],
        "angle_deg": describe_measured(error.angle_deg),
        "across_m": None if error.across_m is None else [describe_measured(one) for one in error.across_m],
        "focal_share": describe_measured(error.focal_share),
        "offset_s": describe_measured(error.offset_s),
        "epipolar_px": describe_measured(error.epipolar_px),
        "change_deg": describe_measured(error.change_deg),
        "is_exchanged": error.is_exchanged,
        "matches": error.matches,
        "T_second_first": None if error.T_second_first is None else error.T_second_first.tolist(),
        "causes": [cause.to_json() for cause in verdict.causes],
        "purposes": [one.to_json() for one in verdict.purposes],
    }
