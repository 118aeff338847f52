"""Measure how well the matches between keyframes agree with a map, and whether the camera really moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import find_centers, hat, invert_pose
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.sparse_map import Array, SparseMap

MAX_ERROR = 0.005
"""Distance between a projected map point and its match, as a share of the longer image side, above which the match
contradicts the map.
"""

MIN_CROSSING = 15
"""Fewest matches between keyframes before and after a place of the trajectory that must fix the scale across it; with
fewer, the scale is undetermined there.
"""

MAX_CONTRADICTING = 0.4
"""Share of contradicting matches, above the usual one, that parts two groups of keyframes: wrong joins in a walk have
.85 to 1, right maps of it and of other videos up to .2.
"""

END_FRAMES = 7
"""Number of last keyframes of a trajectory whose matches are not asked to fix the scale, since the camera moves too
little after them.
"""

SCALE_CHANGE = 1.3
"""A match fixes the scale at a place if it would contradict the map were the trajectory after this place this many
times as long.
"""

MAX_STILL = 0.0015
"""Motion of a match between distant keyframes, as a share of the image width, below which it counts as not moving."""

MIN_MATCHES = 20
MAX_WIDE = 80
"""Most pairs of distant keyframes in the measurement of planes and zoom."""

MOTION_PX = 1.0
"""Largest Sampson distance, pixels, of a match that fits the epipolar geometry of a pair of keyframes."""

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
        known, points = find_points(sparse, row, xy)
        found[known] = np.linalg.norm(_project(sparse, points, other) - xy_other[known], axis=1)
    return np.asarray(np.fmax(*errors))


def find_points(sparse: SparseMap, row: int, xy: Array) -> tuple[NDArray[np.bool_], Array]:
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
    centers = find_centers(sparse.T_camera_world)
    held = [np.empty(0)]
    for pair in select_pairs(sparse, pairs):
        errors = measure_errors(sparse, pair)
        known = ~np.isnan(errors)
        first, second = np.searchsorted(sparse.frames, (pair.first, pair.second))
        fits[first, second] += (errors[known] <= limit).sum()
        misses[first, second] += (errors[known] > limit).sum() + (measure_epipolar(sparse, pair)[~known] > limit).sum()
        crossing[first:second] += known.sum()
        held.append(errors[known & pair.is_held])
        _, points = find_points(sparse, first, pair.xy_first)
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


def _find_motion(sparse: SparseMap, pair: FramePair) -> tuple[Array, Array, Array, NDArray[np.uint8]] | None:
    """Return the normalized ends (N, 2) of a pair's matches, its essential matrix (3, 3), and the inliers (N, 1)."""
    first, second = _normalize(sparse, pair)
    cv2.setRNGSeed(0)
    E, inliers = cv2.findEssentialMat(first, second, np.eye(3), cv2.RANSAC, 0.999, MOTION_PX / sparse.camera.focal_px)
    return None if E is None or E.shape != (3, 3) else (first, second, E, inliers)


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
    """Return at most MAX_WIDE pairs of distant keyframes."""
    gap = np.median([pair.second - pair.first for pair in pairs]) if pairs else 0
    wide = [pair for pair in pairs if pair.second - pair.first >= gap and len(pair.is_held) >= MIN_MATCHES]
    return wide[:: -(-len(wide) // MAX_WIDE) or 1]
