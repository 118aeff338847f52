"""Measure how well the matches between keyframes agree with a map, and whether the camera really moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import hat, invert_pose
from stadia.judge.limits import MAP_CAMERA_LIMITS, MAP_LIMITS
from stadia.judge.map_verdict import MapEvidence
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.road_sweep import find_kink, find_travel_direction
from stadia.sfm.sparse_map import Array, SparseMap

MAX_ERROR = 0.005
"""Distance between a projected map point and its match, as a share of the longer image side, above which the match
contradicts the map.
"""

MIN_CROSSING = 15
"""Fewest matches between keyframes before and after a place of the trajectory that must fix the scale across it; with
fewer, the scale is undetermined there.
"""

END_FRAMES = 7
"""Number of last keyframes of a trajectory whose matches are not asked to fix the scale, since the camera moves too
little after them.
"""

MIN_GROUP = 3
"""Fewest keyframes of a group that can be a wrongly joined part; fewer are single keyframes with a wrong pose."""

SCALE_CHANGE = 1.3
"""A match fixes the scale at a place if it would contradict the map were the trajectory after this place this many
times as long.
"""

MAX_STILL = 0.0015
"""Motion of a match between distant keyframes, as a share of the image width, below which it counts as not moving."""

MIN_MATCHES = 20
MAX_TURNS = 80
"""Most pairs of keyframes in the measurement of rotations, planes and zoom."""

MOTION_PX = 1.0
"""Largest Sampson distance, pixels, of a match that fits the epipolar geometry of a pair of keyframes."""

FAR_ERROR = 0.1
"""Distance of a projected map point from its match, as a share of the longer image side, above which the match is taken
for another place of similar appearance.
"""

MIN_ZOOM, MAX_ZOOM_TURN = 0.02, 0.01
"""A pair of images is a zoom if its size changes by more than MIN_ZOOM (natural logarithm), and it turns in the image
plane by less than MAX_ZOOM_TURN radians.
"""

EXPANSION, MIN_EXPANDING = 0.3, 10
"""Least expansion of a pair of images, over the median motion of its matches, with which the images show the direction
of motion (MIN_EXPANDING: fewest such pairs of a map).
"""

ASIDE_DEG, ASIDE_GAIN = 25.0, 0.05
"""Smallest angle, degrees, between the path and the motion that a pair of images shows, if the path contradicts it, and
the least gain in the share of matches that this motion explains: a direction that is open fits equally.
"""

EXPANSION_ROUNDS, _SMALL_FLOW = 10, 1e-4
_PLANE_PX, _BEHIND_PX = 2.0, 1e6
_SUB_PIXELS = 64  # steps of a pixel in which features are compared


def measure_errors(sparse: SparseMap, pair: FramePair) -> Array:
    """Measure how far the map points of a pair's matches project from the matched pixels.

    sparse: the map.
    pair: matches between two of its keyframes.

    Returns (N,) distances in pixels, the larger of both directions; NaN for a match without a map point.
    """
    rows = np.searchsorted(sparse.frames, (pair.first, pair.second))
    ends = ((rows[0], pair.xy_first, rows[1], pair.xy_second), (rows[1], pair.xy_second, rows[0], pair.xy_first))
    errors = [np.full(len(pair.xy_first), np.nan) for _ in range(2)]
    for found, (row, xy, other, xy_other) in zip(errors, ends, strict=True):
        known, points = _find_points(sparse, row, xy)
        found[known] = np.linalg.norm(_project(sparse, points, other) - xy_other[known], axis=1)
    return np.asarray(np.fmax(*errors))


def _find_points(sparse: SparseMap, row: int, xy: Array) -> tuple[NDArray[np.bool_], Array]:
    """Return which features (N, 2) of a keyframe have a point, and these points (K, 3)."""
    observed = np.flatnonzero(sparse.observed[:, 0] == row)
    if not len(observed):
        return np.zeros(len(xy), bool), np.empty((0, 3))
    keys, wanted = _encode(sparse.xy[observed]), _encode(xy)
    order = np.argsort(keys)
    at = order[np.searchsorted(keys[order], wanted).clip(0, len(keys) - 1)]
    known = keys[at] == wanted
    return known, sparse.points[sparse.observed[observed[at[known]], 1]]


def _project(sparse: SparseMap, points: Array, row: int, moved: float | Array = 0.0) -> Array:
    """Return pixels (N, 2) of points in a keyframe whose center is moved by (3,); far off behind it."""
    T = sparse.T_camera_world[row]
    points = points - moved
    inside = points @ T[:3, :3].T + T[:3, 3]
    pixels = np.full((len(points), 2), _BEHIND_PX)
    ahead = inside[:, 2] > 0
    pixels[ahead] = sparse.move_to_rows(row, points[ahead], sparse.camera.project(inside[ahead]))
    return pixels


def _encode(xy: Array) -> NDArray[np.int64]:
    x, y = np.rint(xy * _SUB_PIXELS).astype(np.int64).T
    return np.asarray((x << 32) + y)


def select_pairs(sparse: SparseMap, pairs: Sequence[FramePair]) -> list[FramePair]:
    """Return the pairs of matched keyframes that both have a pose in the map."""
    placed = set(sparse.frames.tolist())
    return [pair for pair in pairs if pair.first in placed and pair.second in placed]


def measure_epipolar(sparse: SparseMap, pair: FramePair) -> Array:
    """Return (N,), the Sampson distances in pixels of a pair's matches from the epipolar geometry of the map's two
    poses.
    """
    first, second = sparse.T_camera_world[np.searchsorted(sparse.frames, (pair.first, pair.second))]
    T = second @ invert_pose(first)
    E = hat(T[:3, 3] / max(float(np.linalg.norm(T[:3, 3])), 1e-12)) @ T[:3, :3]
    return sparse.camera.focal_px * measure_sampson(*_normalize(sparse, pair), E)


def _normalize(sparse: SparseMap, pair: FramePair) -> tuple[Array, Array]:
    """Return both ends (N, 2) of a pair's matches at a focal length of 1, without distortion."""
    lens = np.array(sparse.camera.distortion)
    first, second = (
        cv2.undistortPoints(xy[:, None], sparse.camera.K, lens)[:, 0] for xy in (pair.xy_first, pair.xy_second)
    )
    return first, second


def measure_sampson(first: Array, second: Array, E: Array) -> Array:
    """Return the Sampson distances (N,) of matches (N, 2) at a focal length of 1 from an essential matrix (3, 3)."""
    seen, moved = (np.column_stack((xy, np.ones(len(xy)))) for xy in (first, second))
    lines, back = seen @ E.T, moved @ E
    slope = np.sqrt((lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
    return np.asarray(np.abs((moved * lines).sum(1)) / np.maximum(slope, 1e-12))


@dataclass(frozen=True, slots=True, eq=False)
class MatchAgreement:
    """How many matches between F keyframes agree with a map or contradict it.

    fits: (F, F), number of matches between keyframe i and keyframe j (row i, column j, i < j) that agree with the
        map.
    misses: (F, F), number of those that contradict the map.
    showing: (F,), number of matches across the place after each keyframe that fix the scale of the trajectory there.
    held: errors in pixels of the matches that were held out, that is not used to compute the map.
    """

    fits: Array
    misses: Array
    showing: Array = field(default_factory=lambda: np.empty(0))
    held: Array = field(default_factory=lambda: np.empty(0))

    def usual(self) -> float:
        """Return the median over pairs of keyframes of the share of contradicting matches.

        Moving traffic contradicts the map everywhere, so only a share above this one is a sign of a fault.
        """
        total = self.fits + self.misses
        return float(np.median((self.misses / np.maximum(total, 1))[total > 0])) if total.any() else 0.0

    def shares(self) -> Array:
        """Return (F - 1,), how contradicting the matches across each place between two successive keyframes are.

        The value is the share of contradicting matches minus the median of these shares over the trajectory, at least
        0; NaN where too few matches fix the scale.
        """
        count = len(self.showing)
        wrong, crossing = (
            np.array([counts[: place + 1, place + 1 :].sum() for place in range(count - 1)])
            for counts in (self.misses, self.fits + self.misses)
        )
        shares = np.full(count - 1, np.nan)
        np.divide(wrong, crossing, out=shares, where=(self.showing[:-1] >= MIN_CROSSING) & (crossing > 0))
        usual = np.median(shares[~np.isnan(shares)]) if not np.isnan(shares).all() else 0.0
        return np.maximum(shares - usual, 0.0)


def measure_agreement(sparse: SparseMap, pairs: Sequence[FramePair]) -> MatchAgreement:
    """Count the matches between keyframes that agree with a map, and those that contradict it.

    The scale of the trajectory is carried by points that keyframes on both sides of a place see. If two parts were
    joined wrongly, matches across the place fall far from each other's points, or lost their points and contradict the
    rotation.

    sparse: the map.
    pairs: matches of pairs of keyframes.
    """
    limit = MAX_ERROR * max(sparse.camera.height, sparse.camera.width)
    count = len(sparse.frames)
    fits, misses = np.zeros((2, count, count))
    crossing, showing = np.zeros((2, count))
    centers = invert_pose(sparse.T_camera_world)[:, :3, 3]
    held = [np.empty(0)]
    for pair in select_pairs(sparse, pairs):
        errors = measure_errors(sparse, pair)
        known = ~np.isnan(errors)
        first, second = np.searchsorted(sparse.frames, (pair.first, pair.second))
        fits[first, second] += (errors[known] <= limit).sum()
        misses[first, second] += (errors[known] > limit).sum() + (measure_epipolar(sparse, pair)[~known] > limit).sum()
        crossing[first:second] += known.sum()
        held.append(errors[known & pair.is_held])
        _, points = _find_points(sparse, first, pair.xy_first)
        before = _project(sparse, points, second)
        for place in range(first, second):
            moved = (SCALE_CHANGE - 1) * (centers[second] - centers[place])
            shift = np.linalg.norm(_project(sparse, points, second, moved) - before, axis=1)
            showing[place] += (shift > limit).sum()
    showing[-END_FRAMES - 1 :] = crossing[-END_FRAMES - 1 :]
    return MatchAgreement(fits, misses, showing, np.concatenate(held))


def group_frames(agreement: MatchAgreement, max_share: float) -> list[NDArray[np.int64]]:
    """Group the keyframes of a map that matches hold together.

    Two groups are joined while at least MIN_CROSSING matches between them agree with the map, and the share of
    contradicting matches is at most `max_share` above the usual one. A group may be located between the frames of
    another group, whose loops pass it, so that no single place of the trajectory shows the fault.

    agreement: agreement of the map, from `measure_agreement`.
    max_share: largest allowed share of contradicting matches, above the usual one.

    Returns the rows (G,) of the keyframes of each group; the largest group comes first.
    """
    fits, misses = (counts + counts.T for counts in (agreement.fits, agreement.misses))
    members = [[row] for row in range(len(fits))]
    allowed = max_share + agreement.usual()

    def list_joined(rows: int | np.integer | slice) -> NDArray[np.float64]:
        is_joined = (fits[rows] >= MIN_CROSSING) & (misses[rows] <= allowed * (fits[rows] + misses[rows]))
        return np.where(is_joined, fits[rows], -1.0)

    joined = list_joined(slice(None))
    np.fill_diagonal(joined, -1.0)
    while joined.size and joined.max() >= 0:
        first, second = np.unravel_index(joined.argmax(), fits.shape)
        for counts in (fits, misses):
            counts[first] += counts[second]
            counts[:, first] += counts[:, second]
            counts[second] = counts[:, second] = 0
        joined[second] = joined[:, second] = -1.0
        joined[first] = joined[:, first] = list_joined(first)  # Only these entries change.
        joined[first, first] = -1.0
        members[first] += members[second]
        members[second] = []
    return sorted((np.sort(rows) for rows in members if rows), key=len, reverse=True)


def find_contradiction(agreement: MatchAgreement, max_share: float) -> tuple[float, int]:
    """Find the place or the group of keyframes across which the largest share of matches contradicts the map.

    agreement: agreement of the map, from `measure_agreement`.
    max_share: as for `group_frames`.

    Returns that share (0 to 1), and the row of the keyframe before the place or group.
    """
    shares = np.nan_to_num(agreement.shares(), nan=1.0)
    found = [(float(share), row) for row, share in enumerate(shares)] or [(0.0, 0)]
    for group in group_frames(agreement, max_share)[1:]:
        if len(group) < MIN_GROUP:
            continue
        inside = np.isin(np.arange(len(agreement.fits)), group)
        across = inside[:, None] != inside
        fits, misses = agreement.fits[across].sum(), agreement.misses[across].sum()
        share = misses / (fits + misses) - agreement.usual() if fits >= MIN_CROSSING else 1.0
        found.append((float(share), max(int(group[0]) - 1, 0)))
    return max(found, key=lambda fault: fault[0])


def select_frames(sparse: SparseMap, rows: NDArray[np.int64]) -> SparseMap:
    """Reduce a map to some of its keyframes, and to the points that at least two of these see.

    sparse: the map.
    rows: (K,) rows of the keyframes to keep.
    """
    kept = np.isin(sparse.observed[:, 0], rows)
    counts = np.bincount(sparse.observed[kept, 1], minlength=len(sparse.points))
    kept &= counts[sparse.observed[:, 1]] >= 2
    points, row_of_point = np.unique(sparse.observed[kept, 1], return_inverse=True)
    return SparseMap(
        camera=sparse.camera,
        frames=sparse.frames[rows],
        T_camera_world=sparse.T_camera_world[rows],
        points=sparse.points[points],
        colors=sparse.colors[points],
        observed=np.column_stack((np.searchsorted(rows, sparse.observed[kept, 0]), row_of_point.ravel())),
        xy=sparse.xy[kept],
    )


def measure_turns(sparse: SparseMap, pairs: Sequence[FramePair]) -> Array:
    """Compare the rotation between keyframes in the map with the rotation from their matches alone.

    Each keyframe is compared with the one that it shares the most matches with: in a video the one before or after it.
    An essential matrix leaves two rotations, half a turn apart. Which one puts the points in front of both cameras is
    uncertain for a plane, so the nearer one counts. An error of half a turn about the direction of motion is not seen.

    sparse: the map.
    pairs: matches of pairs of keyframes.

    Returns (N,) angles between both rotations, degrees.
    """
    strongest = dict[int, FramePair]()
    for pair in sorted(select_pairs(sparse, pairs), key=lambda pair: len(pair.is_held)):
        strongest[pair.first] = strongest[pair.second] = pair
    unique = {(pair.first, pair.second): pair for pair in strongest.values() if len(pair.is_held) >= MIN_MATCHES}
    found, differences = [unique[ends] for ends in sorted(unique)], []
    for pair in found[:: -(-len(found) // MAX_TURNS) or 1]:
        if (motion := _find_motion(sparse, pair)) is None:
            continue
        _, _, E, _ = motion
        first, second = sparse.T_camera_world[np.searchsorted(sparse.frames, (pair.first, pair.second)), :3, :3]
        angles = [np.linalg.norm(cv2.Rodrigues(R @ first @ second.T)[0]) for R in cv2.decomposeEssentialMat(E)[:2]]
        differences.append(float(np.degrees(min(angles))))
    return np.array(differences)


def _find_motion(sparse: SparseMap, pair: FramePair) -> tuple[Array, Array, Array, NDArray[np.uint8]] | None:
    """Return the normalized ends (N, 2) of a pair's matches, its essential matrix (3, 3), and the inliers (N, 1)."""
    first, second = _normalize(sparse, pair)
    cv2.setRNGSeed(0)
    E, inliers = cv2.findEssentialMat(first, second, np.eye(3), cv2.RANSAC, 0.999, MOTION_PX / sparse.camera.focal_px)
    return None if E is None or E.shape != (3, 3) else (first, second, E, inliers)


def measure_unexplained(sparse: SparseMap, pairs: Sequence[FramePair]) -> Array:
    """Measure, for pairs of distant keyframes, how many matches fit an essential matrix of their own but not the map's
    poses.

    A rotation and a sideways motion shift distant points equally. So a trajectory that traffic pulls aside can fit the
    rotations between successive keyframes and its own points, whose depth is then wrong; but it does not fit the
    epipolar geometry of distant keyframes. Pairs whose points mostly fall far away are left out: these are two places
    of similar appearance.

    sparse: the map.
    pairs: matches of pairs of keyframes.

    Returns (N,) differences between the share of matches that fit the essential matrix and the share that fit the map,
    in order of the trajectory.
    """
    shares, far = [], FAR_ERROR * max(sparse.camera.height, sparse.camera.width)
    for pair in _select_wide(select_pairs(sparse, pairs)):
        if (measure_errors(sparse, pair) > far).mean() < 0.5 and (motion := _find_motion(sparse, pair)) is not None:
            by_matches = measure_sampson(*motion[:3]) * sparse.camera.focal_px
            shares.append((by_matches < MOTION_PX).mean() - (measure_epipolar(sparse, pair) < MOTION_PX).mean())
    return np.array(shares)


def measure_aside(sparse: SparseMap, pairs: Sequence[FramePair]) -> float:
    """Measure how many expanding images show another direction of motion than the path.

    If images expand about a point, the camera moves towards it: a drive, or a walk. That fixes the direction of motion
    against the view, which rotations and sideways motion of a narrow image leave open; so matches of traffic, or of
    figures that move, can bend a path by up to 90 degrees and yet fit it.

    sparse: the map.
    pairs: matches of pairs of keyframes.

    Returns the share of expanding pairs that contradict the map. The essential matrix of such a pair moves at more than
    ASIDE_DEG from the map's motion, regardless of the sign of both, and explains more of the matches by ASIDE_GAIN. 0
    for fewer than MIN_EXPANDING pairs that expand.
    """
    is_aside = list[bool]()
    for pair in _select_wide(select_pairs(sparse, pairs)):
        if (motion := _find_motion(sparse, pair)) is None or _measure_expansion(*motion[:2]) < EXPANSION:
            continue
        seen, moved, E, inliers = motion
        by_matches = measure_sampson(seen, moved, E) * sparse.camera.focal_px
        gain = (by_matches < MOTION_PX).mean() - (measure_epipolar(sparse, pair) < MOTION_PX).mean()
        _, R, t, _ = cv2.recoverPose(E, seen, moved, np.eye(3), mask=inliers)
        first, second = sparse.T_camera_world[np.searchsorted(sparse.frames, (pair.first, pair.second))]
        mapped = (first @ invert_pose(second))[:3, 3]
        cosine = abs(float((R.T @ t)[:, 0] @ mapped)) / max(float(np.linalg.norm(mapped)), 1e-12)
        is_aside.append(bool(cosine < math.cos(math.radians(ASIDE_DEG)) and gain > ASIDE_GAIN))
    return float(np.mean(is_aside)) if len(is_aside) >= MIN_EXPANDING else 0.0


def _measure_expansion(first: Array, second: Array) -> float:
    """Return how fast an image expands between matches (N, 2) at a focal length of 1, over their median motion.

    Pure motion along the view has about 3, motion at 45 degrees to it 1, sideways motion 0.
    """
    middle, flow = (first + second) / 2, second - first
    A = np.column_stack((middle, np.ones(len(middle))))
    weight = np.ones((len(middle), 1))
    affine: Array = np.zeros((3, 2))
    for _ in range(EXPANSION_ROUNDS):  # least absolute differences
        affine = np.asarray(np.linalg.lstsq(A * weight, flow * weight, rcond=None)[0], np.float64)
        weight = 1 / np.sqrt(np.maximum(np.linalg.norm(flow - A @ affine, axis=1, keepdims=True), _SMALL_FLOW))
    return float((affine[0, 0] + affine[1, 1]) / 2 / max(np.median(np.linalg.norm(flow, axis=1)), _SMALL_FLOW))


def is_expanding(sparse: SparseMap, pairs: Sequence[FramePair]) -> bool:
    """Return whether the images of distant keyframes expand, which a camera that only turns cannot show.

    sparse: the map.
    pairs: matches of pairs of keyframes.
    """
    wide = _select_wide(select_pairs(sparse, pairs))
    return bool(wide) and float(np.median([_measure_expansion(*_normalize(sparse, pair)) for pair in wide])) > EXPANSION


def find_worst_place(values: Array, window: int = 7) -> float:
    """Return the largest median over `window` successive values; 0 if there are fewer than `window` values.

    values: (N,) values in the order of the trajectory.
    """
    if len(values) < window:
        return 0.0
    return float(np.median(np.lib.stride_tricks.sliding_window_view(values, window), axis=1).max())


def measure_standing(pairs: Sequence[FramePair], width: int) -> float:
    """Return the share of matches that do not move between distant keyframes (median over the pairs); 0 without such
    pairs.

    pairs: matches of pairs of keyframes.
    width: width of the images, pixels.
    """
    shares = [0.0]
    gap = np.median([pair.second - pair.first for pair in pairs]) if pairs else 0
    for pair in pairs:
        if pair.second - pair.first >= gap and len(pair.is_held) >= MIN_MATCHES:
            moved = np.linalg.norm(pair.xy_second - pair.xy_first, axis=1)
            shares.append(float((moved < MAX_STILL * width).mean()))
    return float(np.median(shares[1:] or shares))


def measure_plane(pairs: Sequence[FramePair]) -> float:
    """Return the share of matches of distant keyframes that one homography (a plane or a pure rotation) explains.

    The median over the pairs; 0 without such pairs.
    """
    shares = [0.0]
    for pair in _select_wide(pairs):
        cv2.setRNGSeed(0)
        _, inliers = cv2.findHomography(pair.xy_first, pair.xy_second, cv2.RANSAC, _PLANE_PX)
        shares.append(0.0 if inliers is None else float(inliers.mean()))
    return float(np.median(shares[1:] or shares))


def measure_zoom(pairs: Sequence[FramePair]) -> float:
    """Return the share of matches of distant keyframes that a change of focal length alone explains (median over the
    pairs).

    Such a change scales the image about a point without rotation; parallax of a camera that moves forward does not fit.
    """
    shares = [0.0]
    for pair in _select_wide(pairs):
        cv2.setRNGSeed(0)
        A, inliers = cv2.estimateAffinePartial2D(pair.xy_first, pair.xy_second, None, cv2.RANSAC, _PLANE_PX)
        scale, turn = (0.0, 0.0) if A is None else (float(np.hypot(A[0, 0], A[1, 0])), float(abs(A[1, 0])))
        is_zoom = abs(np.log(max(scale, 1e-9))) > MIN_ZOOM and turn < MAX_ZOOM_TURN * scale
        shares.append(float(inliers.mean()) if is_zoom else 0.0)
    return float(np.median(shares[1:] or shares))


def _select_wide(pairs: Sequence[FramePair]) -> list[FramePair]:
    """Return at most MAX_TURNS pairs of distant keyframes."""
    gap = np.median([pair.second - pair.first for pair in pairs]) if pairs else 0
    wide = [pair for pair in pairs if pair.second - pair.first >= gap and len(pair.is_held) >= MIN_MATCHES]
    return wide[:: -(-len(wide) // MAX_TURNS) or 1]


def count_reversing(centers: Array, min_share: float = 0.02) -> tuple[int, int]:
    """Count the steps of a trajectory that go back against the step before.

    centers: (N, 3) camera positions in order.
    min_share: steps shorter than this share of the longest step are ignored.

    Returns the number of reversing steps, and the number of steps that were not ignored.
    """
    steps = np.diff(centers, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    steps = steps[lengths > min_share * lengths.max(initial=1e-12)]
    return int(((steps[1:] * steps[:-1]).sum(1) < 0).sum()), len(steps)


STANDING_PX = 1.0
"""Largest median motion of the map points between two keyframes of a stationary camera, pixels."""


def measure_speed_jump(sparse: SparseMap, window: int = 6) -> float:
    """Return the largest change of the camera's speed at a keyframe, as a factor.

    The speeds before and after are medians over `window` steps between keyframes. Steps of a stationary camera are
    left out, because people stop and start again. 1 for a trajectory that is too short.
    """
    T = invert_pose(sparse.T_camera_world)
    speeds = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1) / np.diff(sparse.frames)
    pixels = [dict[int, Array]() for _ in sparse.frames]
    for (frame, point), xy in zip(sparse.observed.tolist(), sparse.xy, strict=True):
        pixels[frame][point] = xy
    moved = [
        np.median([np.linalg.norm(second[point] - first[point]) for point in common])
        if (common := first.keys() & second.keys())
        else np.inf
        for first, second in pairwise(pixels)
    ]
    speeds = speeds[np.array(moved) > STANDING_PX]
    if len(speeds) < 2 * window:
        return 1.0
    speeds = np.maximum(speeds, max(1e-3 * speeds.max(), 1e-12))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(speeds, window), axis=1)
    ratios = np.abs(np.log(medians[window:] / medians[:-window]))
    return float(np.exp(ratios.max()))


def measure_evidence(
    sparse: SparseMap,
    pairs: Sequence[FramePair],
    T_world_camera: Array,
    *,
    has_camera: bool,
    road_drift: float = 1.0,
    is_camera_determined: bool = True,
    is_ordered: bool = True,
    focal_deviation: float = 0.0,
    in_other_parts: int = 0,
    first: int = 0,
) -> MapEvidence:
    """Measure, by the matches of its keyframes, what speaks for or against a map.

    sparse: the map.
    pairs: all matches of pairs of keyframes, with the held-out ones.
    T_world_camera: (N, 4, 4) poses of all video frames, NaN for those that are lost or interpolated.
    has_camera: whether the user gave the camera.
    road_drift: change of the camera's height over the road along the trajectory, as a factor; 1 without a road.
    is_camera_determined: whether the images determine a camera that the user did not give.
    is_ordered: whether the images are in the order of the path.
    focal_deviation: standard deviation of the focal length as its share; 0 for a given camera, 1 for an assumed one.
    in_other_parts: number of frames that have a pose in other parts of the video.
    first: index of the first of these frames in the video.
    """
    agreement = measure_agreement(sparse, pairs)
    contradicted, worst = find_contradiction(agreement, MAP_LIMITS["contradicted"].unusable)
    held = agreement.held
    turns = measure_turns(sparse, pairs)
    placed = np.isfinite(T_world_camera).all((1, 2))
    reversing, steps = count_reversing(T_world_camera[placed, :3, 3])
    drives = find_travel_direction(T_world_camera) is not None
    kink_deg, kink_frame = find_kink(T_world_camera)
    limit = MAX_ERROR * max(sparse.camera.height, sparse.camera.width)
    planar = measure_plane(pairs)
    is_flat = planar > MAP_CAMERA_LIMITS["planar"].doubtful
    return MapEvidence(
        placed=float(placed.mean()),
        held_out_px=float(np.median(held)) if len(held) else float("nan"),
        held_out_within=float((held < limit).mean()) if len(held) else 1.0,
        contradicted=contradicted,
        contradicted_frame=int(sparse.frames[worst]),
        turn_deg=float(np.quantile(turns, 0.75)) if len(turns) else 0.0,
        reversing=reversing / max(steps, 1) if drives else 0.0,
        speed_jump=measure_speed_jump(sparse),
        standing=measure_standing(pairs, sparse.camera.width),
        planar=planar,
        covered=min((np.count_nonzero(placed) + in_other_parts) / np.size(placed), 1.0),
        open_focal=focal_deviation if is_flat and not is_expanding(sparse, pairs) else 0.0,
        zoomed=measure_zoom(pairs),
        has_camera=has_camera,
        road_drift=road_drift,
        unexplained=find_worst_place(measure_unexplained(sparse, pairs)),
        is_camera_determined=is_camera_determined,
        is_ordered=is_ordered,
        view_turn_deg=sparse.measure_turn_deg(),
        aside=measure_aside(sparse, pairs),
        kink_deg=kink_deg,
        kink_frame=first + kink_frame,
    )
