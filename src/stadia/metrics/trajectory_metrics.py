"""Compute trajectory errors (KITTI's t_err and r_err, ATE, RPE) and compare predicted with true camera motions.

A trajectory is a float64 array (N, 4, 4) of camera-to-world poses in metres. The estimated and the reference
trajectory have a pose at the same N instants. With the reference poses Q and the estimated poses P, the error of the
relative motion between the poses i and j is E = (Q_i^-1 Q_j)^-1 (P_i^-1 P_j), a 4 x 4 motion that is the identity
without error.

Examples:
    >>> reference = np.tile(np.eye(4), (4, 1, 1))
    >>> reference[:, 0, 3] = 0.0, 1.0, 2.0, 3.0
    >>> reference[:, 2, 3] = 0.0, 1.0, 0.0, 1.0
    >>> round(path_length_m(reference), 4)
    4.2426
    >>> half = reference.copy()
    >>> half[:, :3, 3] /= 2  # half of the true scale
    >>> round(length_ratio(half, reference), 6), round(align_path(half, reference, PathAlignment.SIM3).scale, 6)
    (0.5, 2.0)
    >>> lower = reference.copy()
    >>> lower[:, 1, 3] = 0.5  # half a metre too low
    >>> ate_rmse_m(lower, reference), rpe_trans_m(lower, reference), rpe_rot_deg(lower, reference)
    (0.5, 0.0, 0.0)
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.geometry.align import fit_scale_least_squares, umeyama
from stadia.geometry.poses import compose, invert_pose, rotation_angle_deg, so3_log

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

SEGMENT_LENGTHS_M = (100, 200, 300, 400, 500, 600, 700, 800)
SEGMENT_STEP = 10  # a segment starts at every tenth frame, one a second in KITTI

LENGTH_SHARE, MAX_LENGTH_M = 0.1, 100.0
"""`length_ratio` compares trajectory segments of this share of the reference trajectory's length, at most this many
metres.
"""

MIN_STRAIGHTNESS = 0.3
"""Smallest share of straight distance in the distance traveled that `length_ratio` accepts.

The straight distances between the ends of the reference's segments are summed and divided by the summed lengths along
the reference trajectory. The noisy positions of a standing camera give a smaller share, and then the ratio is None.
"""

MAX_INTERVAL_ERROR, INTERVAL_ROUNDING = 0.1, 1e-3
"""Tolerances of `pose_pairs_at_interval`, as shares of the wanted time interval between the two poses of a pair.

MAX_INTERVAL_ERROR: the actual interval may differ from the wanted one by this share.
INTERVAL_ROUNDING: the wanted time of the second pose may be later than the last pose by this share, for rounding.
"""


class PathAlignment(StrEnum):
    """Select the transform that aligns an estimated trajectory with the reference trajectory before they are compared.

    NONE ("none"): no alignment.
    SCALE ("scale"): one factor of all translations, about the estimate's first position.
    SE3 ("se3"): a rotation and a translation of the whole trajectory.
    SIM3 ("sim3"): a rotation, a translation and one factor of the whole trajectory.
    """

    NONE = "none"
    SCALE = "scale"
    SE3 = "se3"
    SIM3 = "sim3"


@dataclass(frozen=True, slots=True)
class AlignedPath:
    """Hold an estimated trajectory after its alignment with the reference trajectory.

    T_world_camera: (N, 4, 4) aligned camera-to-world poses, in the world coordinates of the reference.
    scale: factor of the estimated translations in the alignment; 1 without a fitted factor.
    """

    T_world_camera: Array
    scale: float


def _fit_scale(estimated: Array, reference: Array) -> AlignedPath:
    """Scale translations about the estimate's first position by the factor with the least ATE."""
    start = estimated[0, :3, 3]
    moved, target = estimated[:, :3, 3] - start, reference[:, :3, 3] - start
    scale = float(fit_scale_least_squares(moved.ravel(), target.ravel())) if moved.any() else 0.0
    if not scale > 0:
        found, expected = f"a best scale of {scale:.3g}", "a path that moves as the reference does"
        fix = "check its axes and the direction of its poses (camera-to-world), or align by se3 or sim3"
        raise GeometryError("trajectory", found=found, expected=expected, fix=fix)
    scaled = estimated.copy()
    scaled[:, :3, 3] = start + scale * moved
    return AlignedPath(scaled, scale)


def align_path(estimated: Array, reference: Array, alignment: PathAlignment) -> AlignedPath:
    """Transform an estimated trajectory so that its positions match a reference trajectory's.

    estimated: (N, 4, 4) estimated camera-to-world poses.
    reference: (N, 4, 4) reference camera-to-world poses at the same instants.
    alignment: "none" leaves the estimate unchanged. "scale" multiplies translations by one factor about the
        estimate's first position. "se3" applies a rigid transform and "sim3" a similarity transform to the whole
        trajectory. The factor or transform is the one with the least absolute trajectory error (Umeyama, PAMI 1991).

    Raises GeometryError if the estimated camera stands still or moves against the reference, so that no positive
    factor fits, and for "se3" and "sim3" with fewer than three poses.
    """
    if alignment is PathAlignment.NONE:
        return AlignedPath(estimated, 1.0)
    if alignment is PathAlignment.SCALE:
        return _fit_scale(estimated, reference)
    kind: Literal["se3", "sim3"] = "se3" if alignment is PathAlignment.SE3 else "sim3"
    similarity = umeyama(estimated[:, :3, 3], reference[:, :3, 3], kind)
    return AlignedPath(similarity.transform_poses(estimated), float(similarity.scale))


JUMP = 10
"""Least length of a step that counts as a jump, in median steps of the path."""


def find_jumps(positions: NDArray[np.float64]) -> list[int]:
    """Return the rows after which a path jumps, as it does where a video was cut or lost frames.

    positions: (N, 3) camera positions.

    Examples:
        >>> find_jumps(np.array([[0, 0, 0.0], [0, 0, 1], [0, 0, 2], [0, 0, 30], [0, 0, 31]]))
        [2]
    """
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    moving = steps[steps > 0]
    return np.flatnonzero(steps > JUMP * np.median(moving)).tolist() if len(moving) else []


def path_length_m(T_world_camera: Array) -> float:
    """Return the length of a trajectory in metres: the sum of the distances between consecutive camera positions.

    T_world_camera: (N, 4, 4) camera-to-world poses in metres.
    """
    return float(_distances_m(T_world_camera)[-1])


def length_ratio(estimated: Array, reference: Array) -> float | None:
    """Return the length of an estimated trajectory divided by the reference's length; 1 for the right scale.

    Both lengths are sums of the straight distances between the ends of the same long, overlapping segments. Sums of
    the steps between consecutive poses would be too long, because noise lengthens each step.

    estimated: (N, 4, 4) estimated camera-to-world poses.
    reference: (N, 4, 4) reference camera-to-world poses at the same instants.

    The result is None if the reference camera stands still, or moves back and forth so that its segments are hardly
    longer than noise.
    """
    distance = _distances_m(reference)
    length = min(LENGTH_SHARE * distance[-1], MAX_LENGTH_M)
    if not length > 0:
        return None
    last = np.searchsorted(distance, distance + length)
    reached = last < len(reference)
    covered, true = (_lengths(T[last[reached], :3, 3] - T[reached, :3, 3]).sum() for T in (estimated, reference))
    along = (distance[last[reached]] - distance[reached]).sum()
    return float(covered / true) if true > MIN_STRAIGHTNESS * along else None


def ate_rmse_m(estimated: Array, reference: Array) -> float:
    """Return the absolute trajectory error (ATE) in metres: the root mean square distance between camera positions.

    The distance at each instant is between the estimated and the reference position. This function aligns nothing;
    call `align_path` before.

    estimated: (N, 4, 4) estimated camera-to-world poses, already aligned with the reference.
    reference: (N, 4, 4) reference camera-to-world poses at the same instants.

    Source: Sturm et al., IROS 2012.
    """
    return _root_mean_square(_lengths(estimated[:, :3, 3] - reference[:, :3, 3]))


def _lengths(vectors: Array) -> Array:
    return np.asarray(np.linalg.norm(vectors, axis=-1))


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _motion_errors(estimated: Array, reference: Array, first: Indices, last: Indices) -> Array:
    true = compose(invert_pose(reference[first]), reference[last])
    return compose(invert_pose(true), compose(invert_pose(estimated[first]), estimated[last]))


def pose_pairs_at_interval(times_s: Array, interval_s: float) -> tuple[Indices, Indices]:
    """Return the indices of first and of second poses, (P,) each, of all pairs that are interval_s apart in time.

    Each pose is paired with the pose whose time is nearest to interval_s later. A pair is left out if its actual
    interval differs from interval_s by more than the share MAX_INTERVAL_ERROR, or if the trajectory ends before
    interval_s has passed.

    times_s: (N,) increasing times of the poses in seconds.
    interval_s: wanted time between the two poses of a pair, in seconds.

    Source: `evaluate_rpe.py --fixed_delta` of the TUM RGB-D benchmark, which also keeps pairs whose actual interval
        is wrong because poses are missing between them.

    Examples:
        >>> first, second = pose_pairs_at_interval(np.array([0.0, 0.5, 1.0, 1.5, 9.0]), 1.0)
        >>> first.tolist(), second.tolist()
        ([0, 1], [2, 3])
    """
    wanted = times_s + interval_s
    after = np.searchsorted(times_s, wanted).clip(max=len(times_s) - 1)
    before = (after - 1).clip(min=0)
    second = np.where(np.abs(times_s[before] - wanted) <= np.abs(times_s[after] - wanted), before, after)
    first = np.arange(len(times_s))
    fits = np.abs(times_s[second] - wanted) <= MAX_INTERVAL_ERROR * interval_s
    fits &= wanted <= times_s[-1] + INTERVAL_ROUNDING * interval_s
    return first[fits], second[fits]


def relative_pose_errors(
    estimated: Array, reference: Array, first: Indices, second: Indices
) -> tuple[float, float] | None:
    """Return the root mean square errors of relative motions between poses: translation in metres, rotation in degrees.

    Each pair of poses has an estimated and a reference motion from its first to its second pose. The error of a pair
    is the motion between these two motions. The result is None without pairs.

    estimated: (N, 4, 4) estimated camera-to-world poses.
    reference: (N, 4, 4) reference camera-to-world poses at the same instants.
    first: (P,) index of the first pose of each pair.
    second: (P,) index of the second pose of each pair.

    Source: Sturm et al., IROS 2012.
    """
    errors = _motion_errors(estimated, reference, first, second)
    if not len(errors):
        return None
    return _root_mean_square(_lengths(errors[:, :3, 3])), _root_mean_square(rotation_angle_deg(errors[:, :3, :3]))


def _frame_errors(estimated: Array, reference: Array) -> tuple[float, float] | None:
    rows = np.arange(len(reference))
    return relative_pose_errors(estimated, reference, rows[:-1], rows[1:])


def rpe_trans_m(estimated: Array, reference: Array) -> float | None:
    """Return the translational relative pose error (RPE) in metres: the root mean square over consecutive poses.

    estimated: (N, 4, 4) estimated camera-to-world poses.
    reference: (N, 4, 4) reference camera-to-world poses at the same instants.

    The result is None for fewer than two poses.
    """
    errors = _frame_errors(estimated, reference)
    return None if errors is None else errors[0]


def rpe_rot_deg(estimated: Array, reference: Array) -> float | None:
    """Return the rotational relative pose error (RPE) in degrees: the root mean square over consecutive poses.

    estimated: (N, 4, 4) estimated camera-to-world poses.
    reference: (N, 4, 4) reference camera-to-world poses at the same instants.

    The result is None for fewer than two poses.
    """
    errors = _frame_errors(estimated, reference)
    return None if errors is None else errors[1]


def _distances_m(T_world_camera: Array) -> Array:
    return np.concatenate([[0.0], _lengths(np.diff(T_world_camera[:, :3, 3], axis=0)).cumsum()])


def kitti_segments(reference: Array) -> tuple[Indices, Indices, Array]:
    """Return the segments of KITTI's odometry benchmark: indices of first and last poses, and lengths, (S,) each.

    A segment begins at every tenth pose for each of the lengths 100, 200, ..., 800 m, measured along the reference
    trajectory (Geiger et al., CVPR 2012, evaluate_odometry.cpp). Segments that would end after the last pose are left
    out, so S is 0 for a trajectory shorter than 100 m. The lengths are in metres.

    reference: (N, 4, 4) reference camera-to-world poses in metres.
    """
    distance = _distances_m(reference)
    first = np.arange(0, len(reference), SEGMENT_STEP).repeat(len(SEGMENT_LENGTHS_M))
    length = np.tile(np.array(SEGMENT_LENGTHS_M, np.float64), len(first) // len(SEGMENT_LENGTHS_M))
    last = np.searchsorted(distance, distance[first] + length, side="right")
    reached = last < len(reference)
    return first[reached], last[reached], length[reached]


def t_err_percent(estimated: Array, reference: Array) -> float | None:
    """Return KITTI's translation error in percent: the error at a segment's end / its length, mean over segments.

    The segments come from `kitti_segments`, of 100 to 800 m.

    estimated: (N, 4, 4) estimated camera-to-world poses.
    reference: (N, 4, 4) reference camera-to-world poses at the same instants.

    The result is None if the reference trajectory is shorter than 100 m.
    """
    first, last, length = kitti_segments(reference)
    errors = _motion_errors(estimated, reference, first, last)
    return 100 * float((_lengths(errors[:, :3, 3]) / length).mean()) if len(length) else None


def r_err_deg_per_100m(estimated: Array, reference: Array) -> float | None:
    """Return KITTI's rotation error in degrees per 100 m: the error at a segment's end / its length, segment mean.

    The segments come from `kitti_segments`, of 100 to 800 m.

    estimated: (N, 4, 4) estimated camera-to-world poses.
    reference: (N, 4, 4) reference camera-to-world poses at the same instants.

    The result is None if the reference trajectory is shorter than 100 m.
    """
    first, last, length = kitti_segments(reference)
    errors = _motion_errors(estimated, reference, first, last)
    return 100 * float((rotation_angle_deg(errors[:, :3, :3]) / length).mean()) if len(length) else None


# -- predicted motion compared with the truth, axis by axis

AXES = ("tx", "ty", "tz", "rx", "ry", "rz")
MIN_SPREAD = 1e-6
"""Smallest spread of true motion along an axis with which `fit_motion_axes` evaluates that axis.

The spread is the standard deviation over the motions, in the unit of translation or in degrees.
`median_translation_ratio` also takes shorter true translations for no motion.
"""

MIN_FITTED_MOTIONS = 3  # a line through two motions always fits

MIN_LENGTH_SHARE, LENGTH_QUANTILE = 0.1, 0.9
"""The camera counts as standing in a motion whose translation is shorter than MIN_LENGTH_SHARE of a typical large one.

The typical large translation is the quantile LENGTH_QUANTILE of the lengths of all true translations.
"""


def motion_components(T_b_a: Array) -> Array:
    """Convert 4 x 4 motions to six numbers each: translation along x, y, z, and rotation vector in degrees.

    The result is (..., 6), in the order of AXES. The translation keeps its unit.

    T_b_a: (..., 4, 4) motions, which map points from the camera coordinates of video frame a to the camera coordinates
        of video frame b.

    Examples:
        >>> motion_components(np.eye(4)[None]).tolist()
        [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    return np.concatenate([T_b_a[..., :3, 3], np.degrees(so3_log(T_b_a[..., :3, :3]))], axis=-1)


def median_length_ratio(predicted: Array, true: Array) -> float:
    """Return the median length of true translations divided by the median length of predicted ones.

    Predicted translations must be multiplied by this factor to have the true size. It is 1 if the predicted camera
    stands still, because the division is undefined then.

    predicted: (N, 6) components of the predicted motions, as `motion_components` returns them.
    true: (N, 6) components of the true motions.

    Examples:
        >>> true = np.array([[0.0, 0, -1, 0, 0, 0], [0, 0, -2, 0, 0, 0]])
        >>> median_length_ratio(0.5 * true, true)
        2.0
    """
    true_m, predicted_m = (
        float(np.quantile(_lengths(motions[:, :3]), 0.5, method="lower")) for motions in (true, predicted)
    )
    factor = true_m / predicted_m if predicted_m else math.inf
    return factor if math.isfinite(factor) else 1.0


def median_translation_ratio(predicted: Array, true: Array) -> float | None:
    """Return how far predicted translations go in the true direction, as a share of the true length (median).

    Each predicted translation is projected on the true translation, and divided by the length of the true one. The
    right value is 1. A prediction of no motion gives 0, and the inverse motion gives -1. Motions of a stationary true
    camera (see MIN_LENGTH_SHARE) are left out. The result is None if it always stands still.

    predicted: (N, 6) components of the predicted motions, as `motion_components` returns them.
    true: (N, 6) components of the true motions.

    Examples:
        >>> true = np.array([[0.0, 0, -1, 0, 0, 0], [0, 0, -2, 0, 0, 0]])
        >>> median_translation_ratio(-true, true)  # inverted motion
        -1.0
    """
    predicted, true = predicted[:, :3], true[:, :3]
    length = _lengths(true)
    if not (length > MIN_SPREAD).any():
        return None
    moves = (length > MIN_SPREAD) & (length > MIN_LENGTH_SHARE * np.quantile(length, LENGTH_QUANTILE))
    return float(np.median((predicted[moves] * true[moves]).sum(-1) / length[moves] ** 2))


def fit_motion_axes(predicted: Array, true: Array) -> dict[str, tuple[float, float]]:
    """Return (slope, correlation) of a line of predicted against true motion, by the name of the axis (one of AXES).

    The slope of the line is 1 if predicted motions have the right size, and 0 for a constant prediction. The
    correlation is Pearson's; it is 0 for a constant prediction. An axis along which the true motion does not vary is
    left out, and so are all axes for fewer than three motions.

    predicted: (N, 6) components of the predicted motions, as `motion_components` returns them.
    true: (N, 6) components of the true motions.
    """
    if len(true) < MIN_FITTED_MOTIONS:
        return {}
    x, y = true - true.mean(0), predicted - predicted.mean(0)
    spread_x, spread_y, both = (x * x).mean(0), (y * y).mean(0), (x * y).mean(0)
    found = {}
    for i, axis in enumerate(AXES):
        if spread_x[i] > MIN_SPREAD**2:
            correlation = both[i] / np.sqrt(spread_x[i] * spread_y[i]) if spread_y[i] > MIN_SPREAD**2 else 0.0
            found[axis] = float(both[i] / spread_x[i]), float(correlation)
    return found
