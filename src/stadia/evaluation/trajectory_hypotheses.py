"""Find explanations of a bad path score: pose conventions, camera axes, clocks, units and reversed order.

No correction is applied. Each function returns sentences with the explanation, how much better the score would be, and
the fix.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist

from stadia.core.errors import DataError, GeometryError
from stadia.geometry.align import umeyama
from stadia.geometry.conventions import (
    MISTAKEN_AXES,
    OPENGL,
    QuaternionOrder,
    list_axes,
    mirror_poses,
    reorder_quaternions,
    replace_rotations,
    transpose_rotations,
    turn_translations,
)
from stadia.geometry.poses import hat, invert_pose, so3_log
from stadia.io.records.trajectory import Trajectory, associate_trajectories
from stadia.metrics.trajectory_metrics import PathAlignment, align_path, ate_rmse_m, path_length_m

Array = NDArray[np.float64]
Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]

MIN_ERROR = 0.5  # error of the motion between poses, over the motion, below which nothing is explained
MAX_GAIN = 0.2  # error with a hypothesis over the error as given
TIE = 1.5  # two hypotheses explain equally if their errors differ by less than this factor
TIE_MARGIN = 0.02  # the same, as a difference
MIN_PAIR_ROTATION_DEG = 10.0  # median rotation of a pair of poses from which its axis is known well
MIN_KNOWN_ROTATION_DEG = 1.0  # median rotation below which rotations of pairs are not compared
MIN_TURN_DEG = 10.0  # angle of a constant rotation between the cameras from which it is reported
SNAP = 0.06  # largest difference of an entry from a rotation by right angles
MAX_PAIRS = 400
MAX_ATE_SHARE = 0.5  # ATE with a hypothesis over the ATE as given
MIN_ATE_OF_PATH = 0.003  # ATE over the path length below which clocks and lever arms are not searched
MAX_FIXED_DEG = 0.01  # largest rotation of a file whose rotations are all the same
MAX_OFFSET_S = 30.0
MAX_SAMPLES = 2000  # speeds whose correlation gives the offset of two clocks
MIN_CORRELATION = 0.7
MIN_LEVER_TURN_DEG = 20.0  # rotation of a path from which a lever arm is known
MIN_LEVER_POSES = 20
MAX_JUMPED_SHARE = 0.25  # largest share of the poses that jump; more are no jump
MIN_JUMP = 10.0  # error of a pose that jumps, over the median error of the others
MIN_JUMP_OF_PATH = 0.02  # the same, over the extent of the path
JUMP_ROUNDS = 5
MIN_TURNS = 2.0  # rotation between poses over that of the reference from which rotations are those of another path
MAX_FIT_OF_PATH = 0.01  # ATE over the path length up to which positions fit
MIN_STEP_OF_BREAK = 8.0  # step to the next position, over the median one, where rows of another place may begin
MAX_BLOCKS = 20  # stretches of rows that may have been exchanged
MAX_ROWS_OF_ORDER = 2000  # rows up to which their order is searched: 0.5 s
MIN_CLOCK_RATE = 1.05  # rate of a clock, or its inverse, from which the times of a path are stretched
MAX_MULTIPLIED = 20_000  # poses up to which motions are multiplied: 0.2 s


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A possible explanation of a bad score, as changed poses.

    what: what the file contains.
    fix: what the user can do.
    estimated, reference: (N, 4, 4) poses with the correction.
    """

    what: str
    fix: str
    estimated: Array
    reference: Array


def note_hypotheses(estimated: Trajectory, reference: Trajectory, alignment: PathAlignment) -> list[str]:
    """Return sentences that explain a bad score, with the improvement that each correction gives.

    estimated, reference: trajectories that are associated row by row.
    """
    notes = list[str]()
    P, Q = estimated.T_world_camera, reference.T_world_camera
    if note := note_fixed_rotations(estimated, reference):
        return [note]
    if len(P) >= 3:
        explain = (explain_motion, note_unrelated_rotations)
        notes += list(filter(None, (find(estimated, reference) for find in explain)))[:1]
    return notes + list(_explain_alignment(P, Q, alignment))


def note_fixed_rotations(estimated: Trajectory, reference: Trajectory) -> str | None:
    """Return a sentence if a file has positions only: all its rotations are equal, and the other one turns."""
    turns = [_angles_deg(path.T_world_camera[0, :3, :3].T @ path.T_world_camera[:, :3, :3]).max(initial=0)
             for path in (estimated, reference)]  # fmt: skip
    if min(turns) > MAX_FIXED_DEG or max(turns) < MIN_TURN_DEG:
        return None
    fixed, turned = (estimated, reference) if turns[0] < turns[1] else (reference, estimated)
    turned_by = f"those of {turned.name} turn by {max(turns):.0f} degrees"
    what = "it has positions only, and scores of rotations and of motions between poses mean nothing"
    return f"all rotations of {fixed.name} are equal, and {turned_by}: {what}"


def note_unrelated_rotations(estimated: Trajectory, reference: Trajectory) -> str | None:
    """Return a sentence if the positions of a path fit, and its rotations turn far more than those of the reference."""
    P, Q = estimated.T_world_camera, reference.T_world_camera
    pairs = _choose_pairs(Q)
    turn, true_turn = (float(np.median(_angles_deg(_motions(T, pairs)[0]))) for T in (P, Q))
    if turn < max(MIN_TURN_DEG, MIN_TURNS * true_turn):
        return None
    with suppress(GeometryError):
        if (ate_m := _fit_ate(P, Q)) <= MAX_FIT_OF_PATH * path_length_m(Q):
            fits = f"the positions fit (ATE is {ate_m:.3g} m by sim3), and the rotations do not"
            turns = f"{estimated.name} turns by {turn:.0f} degrees where {reference.name} turns by {true_turn:.0f}"
            look = "look at how its rotations were written: Euler angles in degrees that were read as radians turn so"
            return f"{fits}: {turns}. Fix: {look}"
    return None


def explain_motion(estimated: Trajectory, reference: Trajectory) -> str | None:
    """Return the convention that explains the motion between poses; None if the motion is right or unexplained."""
    P, Q = estimated.T_world_camera, reference.T_world_camera
    pairs = _choose_pairs(Q)
    as_given = measure_motion_error(P, Q, pairs)
    if as_given is None or as_given < MIN_ERROR:
        return None
    tried = list(_list_hypotheses(estimated, reference))
    for inverted in (False, True):
        base = invert_pose(P) if inverted else P
        tried += [] if _explains(tried, as_given, pairs) else _fit_axes(base, Q, pairs, inverted=inverted)
    measured = [(measure_motion_error(h.estimated, h.reference, pairs), h) for h in tried]
    known = [(error, h) for error, h in measured if error is not None]
    best = min((error for error, _ in known), default=as_given)
    if best > MAX_GAIN * as_given:
        return None
    likely = [h for error, h in known if error <= max(TIE * best, best + TIE_MARGIN)]
    causes = ", or ".join([likely[0].what, *(h.what.removeprefix("one of the files ") for h in likely[1:2])])
    changed = "inverted poses" if "world-to-camera poses" in likely[0].what else "the fix"
    gain = f"the motion between poses is off by {as_given:.0%} of its size, by {best:.0%} with {changed}"
    return f"{gain}: {causes}. Fix: {', or '.join(dict.fromkeys(h.fix for h in likely[:2]))}"


def _explains(tried: list[Hypothesis], as_given: float, pairs: Pairs) -> bool:
    errors = (measure_motion_error(h.estimated, h.reference, pairs) for h in tried)
    return any(error is not None and error <= MAX_GAIN * as_given for error in errors)


def _choose_pairs(Q: Array) -> Pairs:
    rows, step = np.arange(len(Q)), 1
    while 4 * step < len(Q):
        turn = _angles_deg(np.swapaxes(Q[rows[:-step], :3, :3], 1, 2) @ Q[rows[step:], :3, :3])
        if np.median(turn) >= MIN_PAIR_ROTATION_DEG:
            break
        step *= 2
    first = rows[: len(Q) - step][:: max((len(Q) - step) // MAX_PAIRS, 1)]
    return first, first + step


def _motions(T: Array, pairs: Pairs) -> tuple[Array, Array]:
    """Return rotations (P, 3, 3) and translations (P, 3) of T_first_second."""
    first, second = pairs
    R_first = np.swapaxes(T[first, :3, :3], 1, 2)
    moved = T[second, :3, 3] - T[first, :3, 3]
    return R_first @ T[second, :3, :3], np.einsum("pij,pj->pi", R_first, moved)


def _angles_deg(R: Array) -> Array:
    return np.degrees(np.arccos(np.clip((np.trace(R, axis1=1, axis2=2) - 1) / 2, -1, 1)))


def measure_motion_error(P: Array, Q: Array, pairs: Pairs) -> float | None:
    """Return the relative error of motions between poses: of translation or of rotation, whichever is larger.

    Each is the median error over the pairs, divided by the median size of the true motion. The result is None if the
    camera does not move.

    P: (N, 4, 4) estimated camera-to-world poses.
    Q: (N, 4, 4) true camera-to-world poses.
    pairs: indices of the first and of the second poses of the pairs between which motions are compared.
    """
    (R_p, t_p), (R_q, t_q) = _motions(P, pairs), _motions(Q, pairs)
    errors = []
    length, true_length = (float(np.median(np.linalg.norm(t, axis=1))) for t in (t_p, t_q))
    if true_length > 0 and length > 0:
        errors.append(float(np.median(np.linalg.norm(t_p * true_length / length - t_q, axis=1))) / true_length)
    turn = float(np.median(_angles_deg(R_q)))
    if turn >= MIN_KNOWN_ROTATION_DEG:
        errors.append(float(np.median(_angles_deg(np.swapaxes(R_p, 1, 2) @ R_q))) / turn)
    return max(errors) if errors else None


def multiply_motions(T: Array) -> Array:
    """Chain motions between consecutive video frames to a trajectory, (N, 4, 4): T[k] = T[k - 1] @ motion[k].

    T: (N, 4, 4) motions.

    Examples:
        >>> T = np.tile(np.eye(4), (3, 1, 1))
        >>> T[:, 0, 3] = 1, 2, 4
        >>> multiply_motions(T)[:, 0, 3].tolist()
        [1.0, 3.0, 7.0]
    """
    path = T.copy()
    for row in range(1, len(T)):
        path[row] = path[row - 1] @ T[row]
    return path


def _list_hypotheses(estimated: Trajectory, reference: Trajectory) -> Iterator[Hypothesis]:
    """Yield changes of convention that need no fit."""
    P, Q = estimated.T_world_camera, reference.T_world_camera
    yield Hypothesis("one of the files has world-to-camera poses", "invert each of its poses", invert_pose(P), Q)
    yield Hypothesis("one of the files is in reverse order", "reverse its rows", P[::-1].copy(), Q)
    for axis, name in enumerate("xyz"):
        what = f"{name} of the world-to-camera translations has the other sign in one of the files"
        yield Hypothesis(what, f"negate {name} of these translations", _flip_translations(P, axis), Q)
        mirrored = P.copy()
        mirrored[:, axis, 3] *= -1
        what = f"{name} of the positions has the other sign in one of the files"
        yield Hypothesis(what, f"negate {name} of the positions", mirrored, Q)
    if len(P) <= MAX_MULTIPLIED:
        for what, motions in (("the motion", P), ("the inverse motion", invert_pose(P))):
            what = f"{estimated.name} has {what} from frame to frame"
            fix = "multiply them, T[k] = T[k - 1] @ motion[k]" + (", each inverted first" if "inverse" in what else "")
            yield Hypothesis(what, fix, multiply_motions(motions), Q)
    for path, option in ((estimated, "--format"), (reference, "--reference-format")):
        for what, fix, change in _list_rotation_mistakes(path, option):
            changed = (change(P), Q) if path is estimated else (P, change(Q))
            yield Hypothesis(f"{path.name} {what}", fix, *changed)


def _flip_translations(T: Array, axis: int) -> Array:
    """Return camera-to-world poses (N, 4, 4) whose world-to-camera translations have another sign along one axis."""
    inverse = invert_pose(T)
    inverse[:, axis, 3] *= -1
    return invert_pose(inverse)


def _list_rotation_mistakes(path: Trajectory, option: str) -> Iterator[tuple[str, str, Callable[[Array], Array]]]:
    """Yield what a file may have, the fix, and the function that applies it."""
    if path.w_first is not True:
        fix = f"pass {option} euroc (w first), or write qx qy qz qw"
        yield "has the w of its quaternions first", fix, partial(reorder_quaternions, meant=QuaternionOrder.WXYZ)
        fix = f"write qx qy qz qw in the file of {option}"
        yield "has its quaternions as qy qz qw qx", fix, partial(reorder_quaternions, meant=QuaternionOrder.XYZW)
        fix = "pass " + option + " euroc (w first), and transpose each rotation"
        yield "has w first and transposed rotations", fix, _conjugate_w_first
    else:
        fix = f"pass {option} tum (w last), or write qw qx qy qz"
        yield "has the w of its quaternions last", fix, partial(reorder_quaternions, meant=QuaternionOrder.XYZW)
    fix = "transpose each rotation, and keep the positions"
    yield "has transposed rotations (conjugate quaternions)", fix, transpose_rotations
    what = "has rotations of camera-to-world and translations of world-to-camera"
    yield what, "write the position of the camera, -R t", turn_translations


def _conjugate_w_first(T: Array) -> Array:
    return transpose_rotations(reorder_quaternions(T, QuaternionOrder.WXYZ))


def _list_axis_rotations() -> Iterator[Array]:
    """Yield the 24 rotations by right angles, named ones first, without the identity."""
    named = [R for axes in MISTAKEN_AXES for R in (axes.R_camera_axes, axes.R_axes_camera)]
    yield from named
    for R in list_axes()[1:]:
        if np.linalg.det(R) > 0 and not any(np.array_equal(R, other) for other in named):
            yield R


def _turn(T: Array, R_camera_other: Array) -> Array:
    return replace_rotations(T, T[:, :3, :3] @ R_camera_other.T)


def _fit_axes(P: Array, Q: Array, pairs: Pairs, *, inverted: bool) -> list[Hypothesis]:
    """Return the constant rotation of the camera that fits best: by right angles, otherwise any; or a mirror."""
    scored = [(measure_motion_error(_turn(P, R), Q, pairs) or 0.0, R) for R in _list_axis_rotations()]
    error, R = min(scored, key=lambda entry: entry[0])
    candidates = [(error, R)]
    if (fitted := _fit_rotation(P, Q, pairs)) is not None and np.abs(fitted - R).max() > SNAP:
        candidates.append((measure_motion_error(_turn(P, fitted), Q, pairs) or 0.0, fitted))
    error, R = min(candidates, key=lambda entry: entry[0])
    prefix = "one of the files has world-to-camera poses, and " if inverted else ""
    angle = float(_angles_deg(R[None])[0])
    hypotheses = []
    if angle >= MIN_TURN_DEG:
        fix = f"multiply each pose of the estimate from the right by {_format(R.T)}"
        fix = f"invert its poses, then {fix}" if inverted else fix
        hypotheses.append(Hypothesis(f"{prefix}{_name_axes(R)}", fix, _turn(P, R), Q))
        mount = None if inverted else _fit_mount(P, Q, pairs)
        if mount is not None and (measure_motion_error(mount.estimated, Q, pairs) or 0.0) <= MAX_GAIN * error:
            hypotheses.append(mount)
    if not inverted and (turned := _turn_rotations(P, Q)) is not None:
        hypotheses.append(turned)
    if not inverted:
        what = "one of the files has a left-handed world (y up, as Unity writes it)"
        hypotheses.append(Hypothesis(what, "mirror y: M T M with M = diag(1, -1, 1, 1)", mirror_poses(P, 1), Q))
    return hypotheses


def _fit_mount(P: Array, Q: Array, pairs: Pairs) -> Hypothesis | None:
    """Return the pose of the reference's sensor on the estimate's: its position, and its rotation by turns alone."""
    if len(P) < MIN_LEVER_POSES:
        return None
    with suppress(GeometryError):
        lever, _ = fit_lever_arm(P, Q)
        (R_p, _), (R_q, _) = _motions(P, pairs), _motions(Q, pairs)
        U, _, Vt = np.linalg.svd(so3_log(R_p).T @ so3_log(R_q))
        R = U @ np.diag([1, 1, np.sign(np.linalg.det(U @ Vt))]) @ Vt
        moved = P.copy()
        moved[:, :3, 3] += P[:, :3, :3] @ lever
        moved[:, :3, :3] = P[:, :3, :3] @ R
        where = ", ".join(f"{value:.3g}" for value in lever)
        angle = float(_angles_deg(R[None])[0])
        what = f"the reference's is turned by {angle:.0f} degrees and at ({where}) m in the axes of the estimate's"
        fix = f"multiply each pose of the estimate from the right by [R t] of this sensor, R = {_format(R)}"
        return Hypothesis(f"the files belong to two sensors of one rig: {what}", fix, moved, Q)
    return None


def _turn_rotations(P: Array, Q: Array) -> Hypothesis | None:
    """Return the constant rotation from the left that fits the rotations to the aligned positions; None if small."""
    with suppress(GeometryError):
        aligned = align_path(P, Q, PathAlignment.SIM3)
        R_world = aligned.T_world_camera[0, :3, :3] @ P[0, :3, :3].T
        U, _, Vt = np.linalg.svd(np.einsum("nij,nkj->ik", R_world.T @ Q[:, :3, :3], P[:, :3, :3]))
        L = U @ np.diag([1, 1, np.sign(np.linalg.det(U @ Vt))]) @ Vt
        if (angle := float(_angles_deg(L[None])[0])) >= MIN_TURN_DEG:
            what = f"one of the files has positions and rotations of two world frames, {angle:.0f} degrees apart"
            fix = f"multiply each rotation of the estimate from the left by {_format(L)}"
            return Hypothesis(what, fix, replace_rotations(P, L @ P[:, :3, :3]), Q)
    return None


def _fit_rotation(P: Array, Q: Array, pairs: Pairs) -> Array | None:
    """Return R_camera_other that fits the motions of P to Q, by directions and axes (Kabsch); None if unknown."""
    (R_p, t_p), (R_q, t_q) = _motions(P, pairs), _motions(Q, pairs)
    vectors = []
    for R, t in ((R_p, t_p), (R_q, t_q)):
        axes = so3_log(R)
        vectors.append(np.concatenate([v / max(float(np.median(np.linalg.norm(v, axis=1))), 1e-9) for v in (axes, t)]))
    U, singular, Vt = np.linalg.svd(vectors[1].T @ vectors[0])
    if singular[1] < 0.05 * singular[0]:
        return None
    return U @ np.diag([1, 1, np.sign(np.linalg.det(U @ Vt))]) @ Vt


def _format(R: Array) -> str:
    return f"[{'; '.join(', '.join(f'{value + 0:.3g}' for value in row) for row in R.round(4))}]"


def _name_axes(R_camera_other: Array) -> str:
    for axes in MISTAKEN_AXES:
        for R, who in ((axes.R_camera_axes, "the estimate"), (axes.R_axes_camera, "the reference")):
            if np.abs(R_camera_other - R).max() < SNAP:
                return f"{'one of the files' if axes is OPENGL else who} has {axes.description}"
    angle = float(_angles_deg(R_camera_other[None])[0])
    return f"the cameras of the two files differ by a constant rotation of {angle:.0f} degrees"


def _explain_alignment(P: Array, Q: Array, alignment: PathAlignment) -> Iterator[str]:
    """Yield what another alignment gains if the world frame or the scale was not aligned."""
    if alignment not in (PathAlignment.NONE, PathAlignment.SCALE) or len(P) < 3:
        return
    with suppress(GeometryError):
        as_given = ate_rmse_m(align_path(P, Q, alignment).T_world_camera, Q)
        kind = PathAlignment.SE3 if alignment is PathAlignment.NONE else PathAlignment.SIM3
        fitted = ate_rmse_m(align_path(P, Q, kind).T_world_camera, Q)
        if as_given > MIN_ATE_OF_PATH * path_length_m(Q) and fitted <= MAX_GAIN * as_given:
            gain = f"with --align {kind}, ATE is {fitted:.3g} m instead of {as_given:.3g}"
            yield f"the two files have different world frames: {gain}"


# -- Clocks and lever arms.


def note_offsets(
    estimated: Trajectory, reference: Trajectory, pair: tuple[Trajectory, Trajectory], max_difference_s: float
) -> list[str]:
    """Return sentences that explain the ATE of a pair of trajectories.

    The explanation is a constant clock offset, or otherwise a lever arm between the sensors.

    pair: associated poses of estimate and reference.
    """
    P, Q = (path.T_world_camera for path in pair)
    if len(P) < MIN_LEVER_POSES:
        return []
    with suppress(GeometryError):
        as_given = _fit_ate(P, Q)
        if as_given <= MIN_ATE_OF_PATH * path_length_m(Q):
            return []
        if note := _find_clock_offset(estimated, reference, as_given, max_difference_s):
            return [note]
        if note := explain_order(P, Q) or explain_jumps(P, Q):
            return [note]
        lever, ate_m = fit_lever_arm(P, Q)
        if ate_m <= MAX_GAIN * as_given:
            where = ", ".join(f"{value:.3g}" for value in lever)
            what = f"with the reference's sensor at ({where}) m in the axes of the estimate's camera"
            return [f"{what}, ATE is {ate_m:.3g} m instead of {as_given:.3g}: they belong to two sensors of one rig. "
                    "Fix: multiply the poses of one file from the right by their extrinsics"]  # fmt: skip
    return []


def note_clock_rate(estimated: Trajectory, reference: Trajectory, max_difference_s: float) -> str | None:
    """Return a sentence if the path fits the whole reference at another rate of its clock, as a time lapse has it.

    estimated, reference: trajectories with times.
    max_difference_s: largest time difference of associated poses, seconds.
    """
    times_s, true_times_s = estimated.times_s, reference.times_s
    if times_s is None or true_times_s is None or min(len(times_s), len(true_times_s)) < MIN_LEVER_POSES:
        return None
    rate = float((true_times_s[-1] - true_times_s[0]) / (times_s[-1] - times_s[0]))
    if 1 / MIN_CLOCK_RATE < rate < MIN_CLOCK_RATE:
        return None
    stretched_s = true_times_s[0] + rate * (times_s - times_s[0])
    stretched = Trajectory(estimated.T_world_camera, stretched_s, estimated.name)
    step_s = float(np.median(np.diff(true_times_s)))
    ates = []
    for path, most_s in ((estimated, max_difference_s), (stretched, max(max_difference_s, step_s / 2))):
        ate_m = np.inf
        with suppress(DataError, GeometryError):
            P, Q = associate_trajectories(path, reference, most_s)
            ate_m = _fit_ate(P.T_world_camera, Q.T_world_camera) if len(P) >= 3 else np.inf
        ates.append((ate_m, len(P)))
    (as_given, _), (ate_m, count) = ates
    if count < MIN_LEVER_POSES or ate_m > min(MAX_GAIN * as_given, MAX_FIT_OF_PATH * path_length_m(Q.T_world_camera)):
        return None
    what = f"the whole of {estimated.name} fits the whole of {reference.name} at another rate of its clock"
    gain = f"with its times multiplied by {rate:.4g}, {count} poses have a partner, and ATE is {ate_m:.3g} m by sim3"
    return f"{what}, as a time lapse or another frame rate has it: {gain}. Fix: multiply its times by {rate:.4g}"


FRAME_RATES = (1, 2, 5, 10, 12, 15, 20, 24, 25, 30, 50, 60, 90, 100, 120)
"""Frames in a second, of videos and cameras, at which the times of a path are compared with rows without times."""

MAX_OFF_FRAME = 0.1
"""Largest distance of a time from that of a frame, as a share of the time between frames."""


MIN_FRAMES = 8
"""Fewest poses whose positions show which frames they are."""


def note_frame_rate(estimated: Trajectory, reference: Trajectory) -> str | None:
    """Return a sentence if the times of a path are those of some frames of the other, which has a row for each frame.

    estimated, reference: trajectories, of which one has times.
    """
    timed, numbered = (reference, estimated) if estimated.times_s is None else (estimated, reference)
    if timed.times_s is None or numbered.times_s is not None or timed.frames is not None:
        return None
    with suppress(DataError, GeometryError):
        P, Q = associate_trajectories(estimated, reference)
        as_rows, found = _fit_ate(P.T_world_camera, Q.T_world_camera), list[tuple[float, int]]()
        for rate in FRAME_RATES:
            frames = np.rint(rate * timed.times_s).astype(np.intp)
            is_frame = (np.abs(rate * timed.times_s - frames) <= MAX_OFF_FRAME).all()
            if not is_frame or not (np.diff(frames) > 0).all() or frames[-1] > numbered.frame_numbers[-1]:
                continue
            common, row, row_numbered = np.intersect1d(frames, numbered.frame_numbers, return_indices=True)
            if len(common) >= MIN_FRAMES:
                ate_m = _fit_ate(timed.T_world_camera[row], numbered.T_world_camera[row_numbered])
                found.append((ate_m, rate))
        ate_m, rate = min(found, default=(np.inf, 0))
        if ate_m <= min(MAX_GAIN * as_rows, MAX_FIT_OF_PATH * path_length_m(numbered.T_world_camera)):
            what = f"the times of {timed.name} are those of some frames of {numbered.name}, {rate} a second"
            gain = f"so ATE is {ate_m:.3g} m by sim3 ({as_rows:.3g} m row by row)"
            return f"{what}: {gain}. Fix: write the time k / {rate} in front of row k of {numbered.name}, as a TUM file"
    return None


def note_bursts(estimated: Trajectory, reference: Trajectory, max_difference_s: float) -> str | None:
    """Return a sentence if the times of a path are those of a delivery in bursts: with even times, the path fits.

    A delivery is late and never early. So the even times are the highest line that is
    later than none of the given ones.

    estimated, reference: trajectories with times.
    max_difference_s: largest time difference of associated poses, seconds.
    """
    found = list[tuple[float, str]]()
    as_given = _measure_timed_ate(estimated, reference, max_difference_s)
    for path in (estimated, reference):
        times_s = path.times_s
        if times_s is None or len(times_s) < MIN_LEVER_POSES:
            continue
        steps = np.diff(times_s)
        mean_s = float((times_s[-1] - times_s[0]) / len(steps))
        is_hasty = steps < HASTY_SHARE * mean_s
        if is_hasty.mean() < MIN_HASTY_STEPS:
            continue
        even_s = _fit_line_below(times_s)
        even = replace(path, times_s=even_s, times_ns=None)
        pair = (even, reference) if path is estimated else (estimated, even)
        ate_m = _measure_timed_ate(*pair, max(max_difference_s, mean_s / 2))
        if ate_m > MAX_GAIN * as_given:
            continue
        longest = f"{int(is_hasty.sum())} of {len(steps)} steps are under a tenth of the mean one, {mean_s:.3g} s"
        what = f"the times of {path.name} are those of a delivery in bursts, not of the images: {longest}"
        gain = f"with even times from the first on, ATE is {ate_m:.3g} m ({as_given:.3g} m now, by sim3)"
        found.append((ate_m, f"{what}; {gain}. Fix: take the times of capture; without them, write even times"))
    return min(found)[1] if found else None


def _fit_line_below(times_s: Array) -> Array:
    """Return the line (N,) through the row numbers that is above none of N times and nearest to them in the mean."""
    rows, start_s = np.arange(len(times_s)), times_s[0]
    line = np.column_stack((rows, np.ones(len(rows))))
    found = linprog(-line.sum(0), A_ub=line, b_ub=times_s - start_s, bounds=(None, None))
    return np.asarray(start_s + line @ found.x)


HASTY_SHARE, MIN_HASTY_STEPS = 0.1, 0.05
"""A step is hasty below this share of the mean step, and times are in bursts from this share of hasty steps on."""


def _measure_timed_ate(estimated: Trajectory, reference: Trajectory, max_difference_s: float) -> float:
    """Return the ATE by sim3 of the poses that have a partner; infinite if there are too few."""
    with suppress(DataError, GeometryError):
        P, Q = associate_trajectories(estimated, reference, max_difference_s)
        if len(P) >= MIN_LEVER_POSES:
            return _fit_ate(P.T_world_camera, Q.T_world_camera)
    return float("inf")


def explain_order(P: Array, Q: Array) -> str | None:
    """Return which rows of a path belong to which frames, if stretches of its rows were exchanged; None otherwise.

    The longest stretch without a break is moved along the reference; its similarity places all rows, and each frame
    gets one row.

    P, Q: (N, 4, 4) estimated and true camera-to-world poses.

    Raises GeometryError if the paths cannot be aligned.
    """
    position, truth = P[:, :3, 3], Q[:, :3, 3]
    steps = np.linalg.norm(np.diff(position, axis=0), axis=1)
    blocks = np.split(np.arange(len(P)), np.flatnonzero(steps > MIN_STEP_OF_BREAK * np.median(steps)) + 1)
    longest = max(blocks, key=len)
    if not 1 < len(blocks) <= MAX_BLOCKS or len(longest) < MIN_LEVER_POSES or len(P) > MAX_ROWS_OF_ORDER:
        return None
    starts = np.arange(len(P) - len(longest) + 1)
    windows = truth[starts[:, None] + np.arange(len(longest))]
    fitted = umeyama(np.broadcast_to(position[longest], windows.shape), windows, "sim3")
    errors = np.linalg.norm(fitted.apply(np.broadcast_to(position[longest], windows.shape)) - windows, axis=2).mean(1)
    start = int(errors.argmin())
    placed = umeyama(position[longest], windows[start], "sim3").apply(position)
    rows, frames = linear_sum_assignment(cdist(placed, truth))
    if (frames == rows).all():
        return None
    as_given, ate_m = _fit_ate(P, Q), _fit_ate(P[np.argsort(frames)], Q)
    if ate_m > MAX_GAIN * as_given:
        return None
    runs = [run for run in np.split(rows, np.flatnonzero(np.diff(frames) != 1) + 1) if frames[run[0]] != run[0]]
    listed = ", ".join(f"{run[0]} to {run[-1]} are {frames[run[0]]} to {frames[run[-1]]}" for run in runs[:MAX_RUNS])
    gain = f"in this order ATE is {ate_m:.3g} m instead of {as_given:.3g} (both by sim3)"
    more = " ..." if len(runs) > MAX_RUNS else ""
    return (
        f"the rows of the estimate are in another order: {listed}{more}; {gain}. Fix: sort them by the names of images"
    )


def explain_jumps(P: Array, Q: Array) -> str | None:
    """Return the poses that carry the error of a path, and ATE without them; None if the error is in all poses.

    Positions of these poses with the other sign are tried, because some programs flip it (openvslam issue 352).

    P, Q: (N, 4, 4) estimated and true camera-to-world poses.

    Raises GeometryError if the paths cannot be aligned.
    """
    position, truth = P[:, :3, 3], Q[:, :3, 3]
    kept = np.ones(len(P), bool)
    errors = np.zeros(len(P))
    fitted = umeyama(position, truth, "sim3")
    for _ in range(JUMP_ROUNDS):
        errors = np.linalg.norm(fitted.apply(position) - truth, axis=1)
        kept = errors <= 3 * np.median(errors)
        fitted = umeyama(position[kept], truth[kept], "sim3")
    errors = np.linalg.norm(fitted.apply(position) - truth, axis=1)
    extent = float(np.linalg.norm(np.ptp(truth, axis=0)))
    least = max(MIN_JUMP * float(np.median(errors)), MIN_JUMP_OF_PATH * extent)
    jumped = errors > least
    if not 0 < jumped.sum() <= MAX_JUMPED_SHARE * len(P):
        return None
    as_given, without = (ate_rmse_m(align_path(P[r], Q[r], PathAlignment.SIM3).T_world_camera, Q[r])
                         for r in (np.ones(len(P), bool), ~jumped))  # fmt: skip
    if without > MAX_GAIN * as_given:
        return None
    rows = np.flatnonzero(jumped)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    listed = ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs[:MAX_RUNS])
    what = f"poses {listed}{' ...' if len(runs) > MAX_RUNS else ''} jump: without these {len(rows)} of {len(P)} poses,"
    what += f" ATE is {without:.3g} m instead of {as_given:.3g} (both by sim3)"
    flipped = np.linalg.norm(fitted.apply(-position[jumped]) - truth[jumped], axis=1)
    if (flipped <= least).all():
        return f"{what}; their positions have the other sign. Fix: negate x, y, z of these poses"
    return f"{what}. Fix: look at the frames there, such as a lost track or a wrong loop"


MAX_RUNS = 5


def _fit_ate(P: Array, Q: Array) -> float:
    """Return ATE after a similarity, so that world frame and scale hide no hypothesis."""
    return ate_rmse_m(align_path(P, Q, PathAlignment.SIM3).T_world_camera, Q)


def _find_clock_offset(
    estimated: Trajectory, reference: Trajectory, as_given: float, max_difference_s: float
) -> str | None:
    offset = find_time_offset(estimated, reference, MAX_OFFSET_S)
    if offset is None or offset == 0:
        return None
    rows = estimated.times_s is None or reference.times_s is None
    step = float(np.median(np.diff(_instants(reference))))
    with suppress(DataError, GeometryError):
        tolerance = 0.25 if rows else max(max_difference_s, step)
        P, Q = associate_trajectories(_shift(estimated, offset), _shift(reference, 0.0), tolerance)
        if len(P) < MIN_LEVER_POSES:
            return None
        ate_m = _fit_ate(P.T_world_camera, Q.T_world_camera)
        if ate_m > MAX_ATE_SHARE * as_given:
            return None
        unit = "frames" if rows else "s"
        what = f"the estimate is {abs(offset):.3g} {unit} {'early' if offset > 0 else 'late'} against the reference"
        gain = f"with {'its rows' if rows else 'its times'} shifted by {offset:+.3g}, ATE is {ate_m:.3g} m instead of"
        return f"{what}: {gain} {as_given:.3g} (both by sim3). Fix: correct the clock of one file"
    return None


def _instants(path: Trajectory) -> Array:
    return np.asarray(path.frame_numbers, np.float64) if path.times_s is None else path.times_s


def _shift(path: Trajectory, offset: float) -> Trajectory:
    return Trajectory(path.T_world_camera, _instants(path) + offset, path.name)


def find_time_offset(estimated: Trajectory, reference: Trajectory, max_offset: float) -> float | None:
    """Return the clock offset of an estimated trajectory that makes its speeds agree best with the reference's.

    The offset is in the unit of the times, seconds or video frames, and None if no offset is clearly the best.

    estimated: estimated trajectory with its times.
    reference: reference trajectory with its times.
    max_offset: largest offset that is tried, in either direction.
    """
    instants = [_instants(path) for path in (estimated, reference)]
    start, end = min(t[0] for t in instants), max(t[-1] for t in instants)
    step = max(float(max(np.median(np.diff(t)) for t in instants)), (end - start) / MAX_SAMPLES)
    if not step > 0 or (end - start) / step < MIN_LEVER_POSES:
        return None
    is_timed = estimated.times_s is not None and reference.times_s is not None
    grid = np.arange(start, end + step / 2, step)
    signals = [_sample_speeds(path, t, grid) for path, t in zip((estimated, reference), instants, strict=True)]
    most = int(min(max_offset / step if is_timed else MAX_OFFSET_S, len(grid) // 2))
    scores = {}
    for lag in range(-most, most + 1):
        a, b = (signals[0][: len(grid) - lag], signals[1][lag:]) if lag >= 0 else (signals[0][-lag:], signals[1][:lag])
        known = np.isfinite(a) & np.isfinite(b)
        if known.sum() >= max(MIN_LEVER_POSES, len(grid) // 4) and a[known].std() > 0 and b[known].std() > 0:
            scores[lag] = float(np.corrcoef(a[known], b[known])[0, 1])
    if not scores or (best := max(scores, key=lambda lag: scores[lag])) == 0 or scores[best] < MIN_CORRELATION:
        return None
    return best * step


def _sample_speeds(path: Trajectory, instants: Array, grid: Array) -> Array:
    step = grid[1] - grid[0]
    position = np.stack([np.interp(grid, instants, path.T_world_camera[:, axis, 3]) for axis in range(3)], 1)
    speeds = np.linalg.norm(np.gradient(position, axis=0), axis=1) / step
    speeds[(grid < instants[0] + step) | (grid > instants[-1] - step)] = np.nan
    return speeds


def fit_lever_arm(P: Array, Q: Array, iterations: int = 8) -> tuple[Array, float]:
    """Find the point, fixed to the estimated camera, that follows the reference trajectory best, and its remaining ATE.

    The point is (3,) in coordinates of the estimated camera. A second sensor of the same rig may be there.

    P: (N, 4, 4) estimated camera-to-world poses.
    Q: (N, 4, 4) true camera-to-world poses.
    iterations: number of rounds; each aligns the trajectories and improves the point.

    Raises GeometryError if the trajectories cannot be aligned.
    """
    lever, moved = np.zeros(3), P.copy()
    for _ in range(iterations):
        aligned = align_path(moved, Q, PathAlignment.SIM3)
        R, position = aligned.T_world_camera[:, :3, :3], aligned.T_world_camera[:, :3, 3]
        centered = position - position.mean(0)
        turned = -hat(centered)
        design = np.concatenate([aligned.scale * R, np.tile(np.eye(3), (len(P), 1, 1)), turned, centered[..., None]], 2)
        spread = np.linalg.svd((R - R.mean(0)).reshape(-1, 3), compute_uv=False)[-1] / np.sqrt(len(P))
        if spread < np.sin(np.radians(MIN_LEVER_TURN_DEG)) / 4:
            raise GeometryError("path", found="too little rotation", expected="a lever arm", fix="none")
        step = np.linalg.lstsq(design.reshape(-1, 10), (Q[:, :3, 3] - position).reshape(-1), rcond=None)[0]
        lever = lever + step[:3]
        moved[:, :3, 3] = P[:, :3, 3] + P[:, :3, :3] @ lever
    return lever, _fit_ate(moved, Q)
