"""Measure how far the matches of key frames agree with a map, and whether the camera moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.sfm.pair_matching import FramePair, list_neighbors
from stadia.sfm.road_sweep import find_travel_direction
from stadia.sfm.sparse_map import Array, SparseMap

MAX_ERROR = 0.005
"""Distance of a point from a match, as a share of the longer side, from which the match contradicts the map."""

MIN_CROSSING = 15
"""Matches across a place of the path that must show its scale; with fewer, the scale is not determined there."""

END_FRAMES = 7
"""Last key frames of a path, which move too little from each place before them to show its scale."""

MIN_GROUP = 3
"""Key frames of a group that is a wrong join; fewer are single frames with a wrong pose."""

SCALE_CHANGE = 1.3
"""A match shows the scale if it contradicts a path that is so much longer from there on."""

MAX_STILL = 0.0015
"""Motion of a match between distant key frames, as a share of the width, below which it stands."""

MIN_MATCHES = 20
MAX_TURNS = 80
"""Pairs of neighbors whose rotation is measured."""

MOTION_PX = 1.0
"""Distance of a match from the motion between two frames that it fits."""

FAR_ERROR = 0.1
"""Of the longer side: a point so far from its match is another one."""

MIN_ZOOM, MAX_ZOOM_TURN = 0.02, 0.01
"""Change of size, in logarithms, and turn in radians between two frames of a zoom."""

_PLANE_PX, _BEHIND_PX = 2.0, 1e6
_SUB_PIXELS = 64  # steps of a pixel in which features are compared


def measure_errors(sparse: SparseMap, pair: FramePair) -> Array:
    """Return (N,), how far the points of a pair's matches fall from the other image, pixels; NaN without a point."""
    rows = np.searchsorted(sparse.frames, (pair.first, pair.second))
    ends = ((rows[0], pair.xy_first, rows[1], pair.xy_second), (rows[1], pair.xy_second, rows[0], pair.xy_first))
    errors = [np.full(len(pair.xy_first), np.nan) for _ in range(2)]
    for found, (row, xy, other, xy_other) in zip(errors, ends, strict=True):
        known, points = _find_points(sparse, row, xy)
        found[known] = np.linalg.norm(_project(sparse, points, other) - xy_other[known], axis=1)
    return np.asarray(np.fmax(*errors))


def _find_points(sparse: SparseMap, row: int, xy: Array) -> tuple[NDArray[np.bool_], Array]:
    """Return which features (N, 2) of a key frame have a point, and these points (K, 3)."""
    observed = np.flatnonzero(sparse.observed[:, 0] == row)
    if not len(observed):
        return np.zeros(len(xy), bool), np.empty((0, 3))
    keys, wanted = _encode(sparse.xy[observed]), _encode(xy)
    order = np.argsort(keys)
    at = order[np.searchsorted(keys[order], wanted).clip(0, len(keys) - 1)]
    known = keys[at] == wanted
    return known, sparse.points[sparse.observed[observed[at[known]], 1]]


def _project(sparse: SparseMap, points: Array, row: int, moved: float | Array = 0.0) -> Array:
    """Return pixels (N, 2) of points in a key frame whose center is moved by (3,); far off behind it."""
    T = sparse.T_camera_world[row]
    inside = (points - moved) @ T[:3, :3].T + T[:3, 3]
    pixels = np.full((len(points), 2), _BEHIND_PX)
    ahead = inside[:, 2] > 0
    pixels[ahead] = sparse.camera.project(inside[ahead])
    return pixels


def _encode(xy: Array) -> NDArray[np.int64]:
    x, y = np.rint(xy * _SUB_PIXELS).astype(np.int64).T
    return np.asarray((x << 32) + y)


def select_pairs(sparse: SparseMap, pairs: Sequence[FramePair]) -> list[FramePair]:
    """Return the pairs whose frames are both key frames of the map."""
    placed = set(sparse.frames.tolist())
    return [pair for pair in pairs if pair.first in placed and pair.second in placed]


def measure_epipolar(sparse: SparseMap, pair: FramePair) -> Array:
    """Return (N,), the Sampson distance of a pair's matches from the motion between its frames, pixels."""
    first, second = sparse.T_camera_world[np.searchsorted(sparse.frames, (pair.first, pair.second))]
    T = second @ np.linalg.inv(first)
    x, y, z = T[:3, 3] / max(float(np.linalg.norm(T[:3, 3])), 1e-12)
    E = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ T[:3, :3]
    return sparse.camera.focal_px * _measure_sampson(*_normalize(sparse, pair), E)


def _normalize(sparse: SparseMap, pair: FramePair) -> tuple[Array, Array]:
    """Return both ends (N, 2) of a pair's matches at a focal length of 1, without distortion."""
    lens = np.array(sparse.camera.distortion)
    first, second = (
        cv2.undistortPoints(xy[:, None], sparse.camera.K, lens)[:, 0] for xy in (pair.xy_first, pair.xy_second)
    )
    return first, second


def _measure_sampson(first: Array, second: Array, E: Array) -> Array:
    seen, moved = (np.column_stack((xy, np.ones(len(xy)))) for xy in (first, second))
    lines, back = seen @ E.T, moved @ E
    slope = np.sqrt((lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
    return np.asarray(np.abs((moved * lines).sum(1)) / np.maximum(slope, 1e-12))


@dataclass(frozen=True, slots=True, eq=False)
class MatchAgreement:
    """How the matches of key frames agree with a map.

    fits, misses: (F, F), matches between two key frames that agree with the map, and that contradict it.
    showing: (F,), matches across the place after a key frame that show the scale of the path there.
    held: errors of the matches that are held out, pixels.
    """

    fits: Array
    misses: Array
    showing: Array
    held: Array

    def usual(self) -> float:
        """Return the share of contradicting matches of the median pair: traffic contradicts everywhere."""
        total = self.fits + self.misses
        return float(np.median((self.misses / np.maximum(total, 1))[total > 0])) if total.any() else 0.0

    def shares(self) -> Array:
        """Return (F - 1,), the share of contradicting matches across each place between two key frames.

        It is above the median share of the path, and NaN if too few matches show the scale.
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
    """Return how the matches agree with a map.

    The scale of a path goes through the points that both sides see. Where they were joined wrongly, matches across
    the place fall far from each other's points, or lost their points and contradict the rotation.
    """
    limit = MAX_ERROR * max(sparse.camera.height, sparse.camera.width)
    count = len(sparse.frames)
    fits, misses = np.zeros((2, count, count))
    crossing, showing = np.zeros((2, count))
    centers = np.linalg.inv(sparse.T_camera_world)[:, :3, 3]
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
    """Return groups of key frames, each as rows (G,), that matches hold together; the largest group comes first.

    Groups join while at least MIN_CROSSING matches agree, and at most `max_share` of all contradict. A group may lie
    between the frames of another, whose loops pass it, so that no place of the path shows the fault.
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
        joined[first] = joined[:, first] = list_joined(first)  # only these change
        joined[first, first] = -1.0
        members[first] += members[second]
        members[second] = []
    return sorted((np.sort(rows) for rows in members if rows), key=len, reverse=True)


def find_contradiction(agreement: MatchAgreement, max_share: float) -> tuple[float, int]:
    """Return the largest share of contradicting matches, across a place or around a group, and the key frame's row."""
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
    """Return the map of only some of its frames, and of the points that at least two of these frames see.

    rows: (K,) rows of the frames to keep.
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
    """Return (N,), degrees between the rotation of neighboring key frames in the map and that of their matches."""
    neighbors = set(list_neighbors(sparse.frames.tolist(), 1))
    found = [pair for pair in pairs if (pair.first, pair.second) in neighbors and len(pair.is_held) >= MIN_MATCHES]
    differences = []
    for pair in found[:: -(-len(found) // MAX_TURNS) or 1]:
        if (motion := _find_motion(sparse, pair)) is None:
            continue
        seen, turned, E, inliers = motion
        _, R, _, _ = cv2.recoverPose(E, seen, turned, np.eye(3), mask=inliers)
        first, second = sparse.T_camera_world[np.searchsorted(sparse.frames, (pair.first, pair.second)), :3, :3]
        differences.append(float(np.degrees(np.linalg.norm(cv2.Rodrigues(R @ (second @ first.T).T)[0]))))
    return np.array(differences)


def _find_motion(sparse: SparseMap, pair: FramePair) -> tuple[Array, Array, Array, NDArray[np.uint8]] | None:
    """Return the normalized ends (N, 2) of a pair's matches, its essential matrix (3, 3), and the inliers (N, 1)."""
    first, second = _normalize(sparse, pair)
    cv2.setRNGSeed(0)
    E, inliers = cv2.findEssentialMat(first, second, np.eye(3), cv2.RANSAC, 0.999, MOTION_PX / sparse.camera.focal_px)
    return None if E is None or E.shape != (3, 3) else (first, second, E, inliers)


def measure_unexplained(sparse: SparseMap, pairs: Sequence[FramePair]) -> Array:
    """Return (N,), the share of the matches of distant key frames that only the motion by matches fits, in order.

    A turn and a motion to the side move distant points alike. So a path that traffic pulls aside can fit the rotations
    of neighbors and its own points, which have a wrong depth. The motion between two of its frames does not fit. Two
    places that look alike, so that most points fall far away, are left out.
    """
    shares, far = [], FAR_ERROR * max(sparse.camera.height, sparse.camera.width)
    for pair in _select_wide(select_pairs(sparse, pairs)):
        if (measure_errors(sparse, pair) > far).mean() < 0.5 and (motion := _find_motion(sparse, pair)) is not None:
            by_matches = _measure_sampson(*motion[:3]) * sparse.camera.focal_px
            shares.append((by_matches < MOTION_PX).mean() - (measure_epipolar(sparse, pair) < MOTION_PX).mean())
    return np.array(shares)


def find_worst_place(values: Array, window: int = 7) -> float:
    """Return the largest median of `window` neighboring values; 0 if there are fewer values.

    values: (N,) values in the order of the path.
    """
    if len(values) < window:
        return 0.0
    return float(np.median(np.lib.stride_tricks.sliding_window_view(values, window), axis=1).max())


def measure_standing(pairs: Sequence[FramePair], width: int) -> float:
    """Return the median share of matches that do not move between distant key frames; 0 without any."""
    shares = [0.0]
    gap = np.median([pair.second - pair.first for pair in pairs]) if pairs else 0
    for pair in pairs:
        if pair.second - pair.first >= gap and len(pair.is_held) >= MIN_MATCHES:
            moved = np.linalg.norm(pair.xy_second - pair.xy_first, axis=1)
            shares.append(float((moved < MAX_STILL * width).mean()))
    return float(np.median(shares[1:] or shares))


def measure_plane(pairs: Sequence[FramePair]) -> float:
    """Return the median share of matches of distant key frames that one plane, or a turn, explains; 0 without any."""
    shares = [0.0]
    for pair in _select_wide(pairs):
        cv2.setRNGSeed(0)
        _, inliers = cv2.findHomography(pair.xy_first, pair.xy_second, cv2.RANSAC, _PLANE_PX)
        shares.append(0.0 if inliers is None else float(inliers.mean()))
    return float(np.median(shares[1:] or shares))


def measure_zoom(pairs: Sequence[FramePair]) -> float:
    """Return the median share of matches of distant key frames that a change of focal length alone explains.

    It scales the image about a point without a turn. Parallax of a camera that moves forward does not fit.
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
    """Return at most MAX_TURNS pairs of distant key frames."""
    gap = np.median([pair.second - pair.first for pair in pairs]) if pairs else 0
    wide = [pair for pair in pairs if pair.second - pair.first >= gap and len(pair.is_held) >= MIN_MATCHES]
    return wide[:: -(-len(wide) // MAX_TURNS) or 1]


def count_reversing(centers: Array, min_share: float = 0.02) -> tuple[int, int]:
    """Return the steps of a path (N, 3) that reverse the one before, and the steps that count, not the shortest."""
    steps = np.diff(centers, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    steps = steps[lengths > min_share * lengths.max(initial=1e-12)]
    return int(((steps[1:] * steps[:-1]).sum(1) < 0).sum()), len(steps)


STANDING_PX = 1.0
"""Median movement of the points between two key frames, of a camera that stands."""


def measure_speed_jump(sparse: SparseMap, window: int = 6) -> float:
    """Return the largest change of speed at a key frame: the factor between medians over `window` steps.

    Steps of a camera that stands in the images are left out: people stop, and start again.
    """
    T = np.linalg.inv(sparse.T_camera_world)
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


class MapGrade(StrEnum):
    """usable: nothing found.  doubtful: part of the frames or one sign is missing.  unusable: nothing uses it."""

    USABLE = "usable"
    DOUBTFUL = "doubtful"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class MapEvidence:
    """What the images show about a map.

    placed: share of the frames with a pose.
    held_out_px: median error of held-out matches, of the small frames.  held_out_within: share within MAX_ERROR.
    contradicted: largest share of matches that contradict, across one place of the path or around a group of frames.
    contradicted_frame: the key frame before that place.
    turn_deg: upper quartile of the rotations of neighbors against those by their matches.
    unexplained: share of matches of distant key frames that fit their motion but not the path's, where it is worst.
    reversing: share of the steps of a camera that drives forward which reverse; 0 for other cameras.
    speed_jump: largest factor between the speeds before and after a key frame.
    standing: share of matches of distant key frames that do not move.
    planar: share of them that one plane explains.
    zoomed: share of them that a change of focal length alone explains.
    has_camera: whether the camera was given.
    road_drift: factor by which the camera's height over the road changes along the path.
    """

    placed: float
    held_out_px: float
    held_out_within: float
    contradicted: float
    contradicted_frame: int
    turn_deg: float
    reversing: float
    speed_jump: float
    standing: float
    planar: float
    zoomed: float
    has_camera: bool
    road_drift: float = 1.0
    unexplained: float = 0.0


@dataclass(frozen=True, slots=True)
class MapReason:
    """A field of the evidence beyond its limit, and the resulting grade."""

    field: str
    value: float
    limit: float
    grade: MapGrade


@dataclass(frozen=True, slots=True)
class MapVerdict:
    """The grade of a map with its reasons and the evidence."""

    grade: MapGrade
    reasons: tuple[MapReason, ...]
    evidence: MapEvidence


MIN_PLACED, MIN_PLACED_AT_ALL = 0.5, 0.1
MIN_HELD_OUT, MIN_HELD_OUT_AT_ALL = 0.8, 0.5
MAX_CONTRADICTED = 0.4
"""Wrong joins of `walk` have .85 to 1; right maps of it and of other videos up to .2."""

MAX_TURN_ERROR_DEG = 3.0
"""Right maps of `walk` have up to 1.5; a drive whose path points 39 degrees past its view has 3.7."""

MAX_UNEXPLAINED = 0.5
"""Right maps have up to .1, with a focal length 1 % off .46; drives that traffic pulls 20 to 50 degrees aside .62."""

MAX_REVERSING = 0.1
MAX_SPEED_JUMP = 12.0
MAX_STANDING = 0.5
MAX_ZOOMED = 0.9
MAX_PLANAR = 0.95
"""If one plane explains the images, it does not determine an unknown camera."""

MAX_ROAD_DRIFT = 1.15
"""KITTI 06 has 1.01; a lens that zooms by 1.5 on a straight drive has 1.3, and fits its matches by .4 px."""


def judge_map(evidence: MapEvidence) -> MapVerdict:
    """Return the verdict on a map. The worst reason decides."""
    found = evidence
    unusable, doubtful = MapGrade.UNUSABLE, MapGrade.DOUBTFUL
    planar = 0.0 if found.has_camera else found.planar
    drift = max(found.road_drift, 1 / found.road_drift)
    zoomed = doubtful if found.has_camera else unusable  # a camera that rises over flat ground zooms in appearance
    checks = (
        (found.standing > MAX_STANDING, MapReason("standing", found.standing, MAX_STANDING, unusable)),
        (
            found.contradicted > MAX_CONTRADICTED,
            MapReason("contradicted", found.contradicted, MAX_CONTRADICTED, unusable),
        ),
        (
            found.held_out_within < MIN_HELD_OUT_AT_ALL,
            MapReason("held_out_within", found.held_out_within, MIN_HELD_OUT_AT_ALL, unusable),
        ),
        (found.turn_deg > MAX_TURN_ERROR_DEG, MapReason("turn_deg", found.turn_deg, MAX_TURN_ERROR_DEG, unusable)),
        (found.unexplained > MAX_UNEXPLAINED, MapReason("unexplained", found.unexplained, MAX_UNEXPLAINED, unusable)),
        (found.zoomed > MAX_ZOOMED, MapReason("zoomed", found.zoomed, MAX_ZOOMED, zoomed)),
        (math.isnan(found.held_out_px), MapReason("held_out_px", 0.0, 0.0, doubtful)),
        (found.reversing > MAX_REVERSING, MapReason("reversing", found.reversing, MAX_REVERSING, unusable)),
        (found.placed < MIN_PLACED_AT_ALL, MapReason("placed", found.placed, MIN_PLACED_AT_ALL, unusable)),
        (
            found.held_out_within < MIN_HELD_OUT,
            MapReason("held_out_within", found.held_out_within, MIN_HELD_OUT, doubtful),
        ),
        (found.speed_jump > MAX_SPEED_JUMP, MapReason("speed_jump", found.speed_jump, MAX_SPEED_JUMP, doubtful)),
        (drift > MAX_ROAD_DRIFT, MapReason("road_drift", drift, MAX_ROAD_DRIFT, doubtful)),
        (planar > MAX_PLANAR, MapReason("planar", planar, MAX_PLANAR, doubtful)),
        (found.placed < MIN_PLACED, MapReason("placed", found.placed, MIN_PLACED, doubtful)),
    )
    reasons = {reason.field: reason for failed, reason in reversed(checks) if failed}
    grades = [reason.grade for reason in reasons.values()]
    grade = next((grade for grade in (unusable, doubtful) if grade in grades), MapGrade.USABLE)
    return MapVerdict(grade, tuple(sorted(reasons.values(), key=lambda reason: reason.grade != unusable)), evidence)


def measure_evidence(
    sparse: SparseMap, pairs: Sequence[FramePair], T_world_camera: Array, *, has_camera: bool, road_drift: float = 1.0
) -> MapEvidence:
    """Return the evidence on a map by the matches of its key frames.

    T_world_camera: (N, 4, 4) of all frames of the video, NaN for lost ones.
    """
    agreement = measure_agreement(sparse, pairs)
    contradicted, worst = find_contradiction(agreement, MAX_CONTRADICTED)
    held = agreement.held
    turns = measure_turns(sparse, pairs)
    placed = np.isfinite(T_world_camera).all((1, 2))
    reversing, steps = count_reversing(T_world_camera[placed, :3, 3])
    drives = find_travel_direction(T_world_camera) is not None
    limit = MAX_ERROR * max(sparse.camera.height, sparse.camera.width)
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
        planar=measure_plane(pairs),
        zoomed=measure_zoom(pairs),
        has_camera=has_camera,
        road_drift=road_drift,
        unexplained=find_worst_place(measure_unexplained(sparse, pairs)),
    )
