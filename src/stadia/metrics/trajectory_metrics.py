"""Trajectory errors (KITTI's t_err and r_err, ATE, RPE) and the agreement of predicted motions.

Trajectories are (N, 4, 4) float64 camera-to-world poses, metres, at the same instants. Errors between poses are
E = (Q_i^-1 Q_j)^-1 (P_i^-1 P_j) with the reference Q and the estimate P.

Examples:
    >>> reference = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
    >>> reference[:, 0, 3] = torch.tensor([0.0, 1.0, 2.0, 3.0])
    >>> reference[:, 2, 3] = torch.tensor([0.0, 1.0, 0.0, 1.0])
    >>> round(path_length_m(reference), 4)
    4.2426
    >>> half = reference.clone()
    >>> half[:, :3, 3] /= 2  # half of the true scale
    >>> round(length_ratio(half, reference), 6), round(align_path(half, reference, PathAlignment.SIM3).scale, 6)
    (0.5, 2.0)
    >>> lower = reference.clone()
    >>> lower[:, 1, 3] = 0.5  # half a metre too low
    >>> ate_rmse_m(lower, reference), rpe_trans_m(lower, reference), rpe_rot_deg(lower, reference)
    (0.5, 0.0, 0.0)
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import torch
from torch import Tensor

from stadia.core.errors import GeometryError
from stadia.geometry.align import fit_scale_least_squares, umeyama
from stadia.geometry.se3 import compose, inverse, rotation_angle_deg, so3_log

SEGMENT_LENGTHS_M = (100, 200, 300, 400, 500, 600, 700, 800)
SEGMENT_STEP = 10  # a segment starts at every tenth frame, one a second in KITTI

LENGTH_SHARE, MAX_LENGTH_M = 0.1, 100.0
"""Segments of `length_ratio` have this share of the reference's path length, but at most this length."""

MIN_STRAIGHTNESS = 0.3
"""A length ratio needs segments whose straight distances add up to more than this share of the path length.

The noise of a standing camera has less.
"""

MAX_INTERVAL_ERROR, INTERVAL_ROUNDING = 0.1, 1e-3
"""Largest relative errors of the interval between two poses, and of an interval that ends at the last pose."""


class PathAlignment(StrEnum):
    """The kind of transform that aligns an estimated path with the reference before the two are compared."""

    NONE = "none"
    SCALE = "scale"
    SE3 = "se3"
    SIM3 = "sim3"


@dataclass(frozen=True, slots=True)
class AlignedPath:
    """An estimated path, aligned with the reference.

    T_world_camera: (N, 4, 4) poses in the reference's frame.
    scale: factor by which the translations were multiplied.
    """

    T_world_camera: Tensor
    scale: float


def _fit_scale(estimated: Tensor, reference: Tensor) -> AlignedPath:
    """Scale translations about the estimate's first position by the factor with the least ATE."""
    start = estimated[0, :3, 3]
    moved, target = estimated[:, :3, 3] - start, reference[:, :3, 3] - start
    scale = float(fit_scale_least_squares(moved.flatten(), target.flatten()))
    if not scale > 0:  # NaN if the estimate stands still
        found, expected = f"a best scale of {scale:.3g}", "a path that moves as the reference does"
        fix = "check its axes and the direction of its poses (camera-to-world), or align by se3 or sim3"
        raise GeometryError("trajectory", found=found, expected=expected, fix=fix)
    scaled = estimated.clone()
    scaled[:, :3, 3] = start + scale * moved
    return AlignedPath(scaled, scale)


def align_path(estimated: Tensor, reference: Tensor, alignment: PathAlignment) -> AlignedPath:
    """Align the estimated poses (N, 4, 4) with the reference poses (N, 4, 4).

    alignment: "none" changes nothing. "scale" fits one factor about the first position. "se3" and "sim3" fit the rigid
        or similarity transform with the least ATE (Umeyama, PAMI 1991).

    Raises GeometryError if the path stands still or has fewer than three poses.
    """
    if alignment is PathAlignment.NONE:
        return AlignedPath(estimated, 1.0)
    if alignment is PathAlignment.SCALE:
        return _fit_scale(estimated, reference)
    kind: Literal["se3", "sim3"] = "se3" if alignment is PathAlignment.SE3 else "sim3"
    similarity = umeyama(estimated[:, :3, 3], reference[:, :3, 3], kind)
    return AlignedPath(similarity.transform_poses(estimated), float(similarity.scale))


def path_length_m(T_world_camera: Tensor) -> float:
    """Return the length in metres of the path of poses (N, 4, 4)."""
    return float(_distances_m(T_world_camera)[-1])


def length_ratio(estimated: Tensor, reference: Tensor) -> float | None:
    """Return the length of the estimated path divided by the reference's; None if the reference stands still.

    estimated, reference: (N, 4, 4) poses.

    Both lengths are sums of straight distances over the same segments, because noise lengthens the steps between
    neighboring poses.
    """
    distance = _distances_m(reference)
    length = (LENGTH_SHARE * distance[-1]).clamp(max=MAX_LENGTH_M)
    if not length > 0:
        return None
    last = torch.searchsorted(distance, distance + length)
    reached = last < len(reference)
    covered, true = ((T[last[reached], :3, 3] - T[reached, :3, 3]).norm(dim=-1).sum() for T in (estimated, reference))
    along = (distance[last[reached]] - distance[reached]).sum()
    return float(covered / true) if true > MIN_STRAIGHTNESS * along else None


def ate_rmse_m(estimated: Tensor, reference: Tensor) -> float:
    """Return the absolute trajectory error: the root mean square distance of aligned positions in metres.

    estimated, reference: (N, 4, 4) poses.

    Source: Sturm et al., IROS 2012.
    """
    return float((estimated[:, :3, 3] - reference[:, :3, 3]).square().sum(-1).mean().sqrt())


def _motion_errors(estimated: Tensor, reference: Tensor, first: Tensor, last: Tensor) -> Tensor:
    true = compose(inverse(reference[first]), reference[last])
    return compose(inverse(true), compose(inverse(estimated[first]), estimated[last]))


def pose_pairs_at_interval(times_s: Tensor, interval_s: float) -> tuple[Tensor, Tensor]:
    """Return the indices (P,) of the first and of the second pose of all pairs that are interval_s apart.

    Each pose is paired with the pose nearest to interval_s later. A pair is left out if its interval is wrong by more
    than MAX_INTERVAL_ERROR, or would end after the last pose.

    times_s: (N,) rising times of the poses in seconds.

    Source: `evaluate_rpe.py --fixed_delta` of the TUM RGB-D benchmark, which has no limit at gaps.

    Examples:
        >>> first, second = pose_pairs_at_interval(torch.tensor([0.0, 0.5, 1.0, 1.5, 9.0]), 1.0)
        >>> first.tolist(), second.tolist()
        ([0, 1], [2, 3])
    """
    wanted = times_s + interval_s
    after = torch.searchsorted(times_s, wanted).clamp(max=len(times_s) - 1)
    before = (after - 1).clamp(min=0)
    second = torch.where((times_s[before] - wanted).abs() <= (times_s[after] - wanted).abs(), before, after)
    first = torch.arange(len(times_s))
    fits = (times_s[second] - wanted).abs() <= MAX_INTERVAL_ERROR * interval_s
    fits &= wanted <= times_s[-1] + INTERVAL_ROUNDING * interval_s
    return first[fits], second[fits]


def relative_pose_errors(
    estimated: Tensor, reference: Tensor, first: Tensor, second: Tensor
) -> tuple[float, float] | None:
    """Return the root mean square errors of relative motions in metres and degrees, or None without pairs.

    estimated, reference: (N, 4, 4) poses.
    first, second: (P,) indices of the poses of each pair.

    Source: Sturm et al., IROS 2012.
    """
    errors = _motion_errors(estimated, reference, first, second)
    if not len(errors):
        return None
    translation_m = float(errors[:, :3, 3].square().sum(-1).mean().sqrt())
    return translation_m, float(rotation_angle_deg(errors[:, :3, :3]).square().mean().sqrt())


def _frame_errors(estimated: Tensor, reference: Tensor) -> tuple[float, float] | None:
    rows = torch.arange(len(reference))
    return relative_pose_errors(estimated, reference, rows[:-1], rows[1:])


def rpe_trans_m(estimated: Tensor, reference: Tensor) -> float | None:
    """Return the relative pose error between neighboring poses: root mean square translation in metres.

    estimated, reference: (N, 4, 4) poses. The result is None for fewer than two.
    """
    errors = _frame_errors(estimated, reference)
    return None if errors is None else errors[0]


def rpe_rot_deg(estimated: Tensor, reference: Tensor) -> float | None:
    """Return the relative pose error between neighboring poses: root mean square rotation in degrees.

    estimated, reference: (N, 4, 4) poses. The result is None for fewer than two.
    """
    errors = _frame_errors(estimated, reference)
    return None if errors is None else errors[1]


def _distances_m(T_world_camera: Tensor) -> Tensor:
    steps = T_world_camera[:, :3, 3].diff(dim=0).norm(dim=-1)
    return torch.cat([steps.new_zeros(1), steps.cumsum(0)])


def kitti_segments(reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the segments of KITTI's odometry metric: first frames, last frames, and lengths in metres, (S,) each.

    Segments begin at every tenth frame and are 100, 200, ..., 800 m long on the reference path (Geiger et al., CVPR
    2012, evaluate_odometry.cpp). There are none if the path is shorter than 100 m.

    reference: (N, 4, 4) poses.
    """
    distance = _distances_m(reference)
    first = torch.arange(0, len(reference), SEGMENT_STEP).repeat_interleave(len(SEGMENT_LENGTHS_M))
    length = torch.tensor(SEGMENT_LENGTHS_M, dtype=distance.dtype).repeat(len(first) // len(SEGMENT_LENGTHS_M))
    last = torch.searchsorted(distance, distance[first] + length, right=True)
    reached = last < len(reference)
    return first[reached], last[reached], length[reached]


def t_err_percent(estimated: Tensor, reference: Tensor) -> float | None:
    """Return KITTI's translation error in percent: the mean over segments of translation error / length.

    estimated, reference: (N, 4, 4) poses. The result is None if the path is shorter than 100 m.
    """
    first, last, length = kitti_segments(reference)
    errors = _motion_errors(estimated, reference, first, last)
    return 100 * float((errors[:, :3, 3].norm(dim=-1) / length).mean()) if len(length) else None


def r_err_deg_per_100m(estimated: Tensor, reference: Tensor) -> float | None:
    """Return KITTI's rotation error in degrees per 100 m: the mean over segments of rotation angle / length.

    estimated, reference: (N, 4, 4) poses. The result is None if the path is shorter than 100 m.
    """
    first, last, length = kitti_segments(reference)
    errors = _motion_errors(estimated, reference, first, last)
    return 100 * float((rotation_angle_deg(errors[:, :3, :3]) / length).mean()) if len(length) else None


# -- predicted motion compared with the truth, axis by axis

AXES = ("tx", "ty", "tz", "rx", "ry", "rz")
MIN_SPREAD = 1e-6
"""An axis is evaluated only if the true motion along it spreads more, in the unit of translation or in degrees."""

MIN_LENGTH_SHARE, LENGTH_QUANTILE = 0.1, 0.9
"""A frame counts as standing if its motion is shorter than this share of this quantile of all lengths."""


def motion_components(T_b_a: Tensor) -> Tensor:
    """Convert motions (..., 4, 4) to components (..., 6) in the order of AXES: translation, and rotation in degrees.

    The rotation is a rotation vector.

    Examples:
        >>> motion_components(torch.eye(4)[None]).tolist()
        [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    return torch.cat([T_b_a[..., :3, 3], torch.rad2deg(so3_log(T_b_a[..., :3, :3]))], dim=-1)


def median_length_ratio(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the factor, a scalar, from predicted to true translations by their median lengths; 1 if undefined.

    predicted, true: (N, 6) motion components.

    Examples:
        >>> true = torch.tensor([[0.0, 0, -1, 0, 0, 0], [0, 0, -2, 0, 0, 0]])
        >>> median_length_ratio(0.5 * true, true).item()
        2.0
    """
    true_m, predicted_m = (motions[:, :3].norm(dim=-1).median() for motions in (true, predicted))
    factor = true_m / predicted_m
    return torch.where(factor.isfinite(), factor, torch.ones_like(factor))


def median_translation_ratio(predicted: Tensor, true: Tensor) -> float | None:
    """Return the median projection of predicted translations on the true ones, as a share of the true lengths.

    The right value is 1. A prediction of no motion gives 0, and the inverse motion gives -1. Standing frames are left
    out. The result is None if the true camera stands still.

    predicted, true: (N, 6) motion components.

    Examples:
        >>> true = torch.tensor([[0.0, 0, -1, 0, 0, 0], [0, 0, -2, 0, 0, 0]])
        >>> median_translation_ratio(-true, true)  # inverted motion
        -1.0
    """
    predicted, true = predicted[:, :3], true[:, :3]
    length = true.norm(dim=-1)
    if not (length > MIN_SPREAD).any():
        return None
    moves = (length > MIN_SPREAD) & (length > MIN_LENGTH_SHARE * length.quantile(LENGTH_QUANTILE))
    return float(((predicted * true).sum(-1) / (true * true).sum(-1))[moves].quantile(0.5))


def fit_motion_axes(predicted: Tensor, true: Tensor) -> dict[str, tuple[float, float]]:
    """Return slope and correlation of predicted and true motion for each axis. Axes without true motion are left out.

    The slope is 1 for the right size of motion, and 0 for a constant prediction. The correlation is Pearson's; it is 0
    for a constant prediction.

    predicted, true: (N, 6) motion components.
    """
    x, y = true - true.mean(0), predicted - predicted.mean(0)
    spread_x, spread_y, both = (x * x).mean(0), (y * y).mean(0), (x * y).mean(0)
    correlation = torch.where(spread_y > MIN_SPREAD**2, both / (spread_x * spread_y).sqrt(), 0)
    moving = [i for i in range(len(AXES)) if spread_x[i] > MIN_SPREAD**2 and len(true) > 2]
    return {AXES[i]: (float(both[i] / spread_x[i]), float(correlation[i])) for i in moving}
