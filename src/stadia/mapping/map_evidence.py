"""Measure how far the matches of key frames agree with a map, and whether the camera moves."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.mapping.pair_matching import FramePair, list_neighbors
from stadia.mapping.sparse_map import Array, SparseMap

MAX_ERROR = 0.005
"""Distance of a point from a match, as a share of the longer side, from which the match contradicts the map."""

MIN_CROSSING = 15
"""Matches across a place of the path that must show its scale; with fewer, the scale is not determined there."""

END_FRAMES = 7
"""Last key frames of a path, which move too little from each place before them to show its scale."""

SCALE_CHANGE = 1.3
"""A match shows the scale if it contradicts a path that is so much longer from there on."""

MAX_STILL = 0.0015
"""Motion of a match between distant key frames, as a share of the width, below which it stands."""

MIN_MATCHES = 20
MAX_TURNS = 80
"""Pairs of neighbors whose rotation is measured."""

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


def measure_contradictions(sparse: SparseMap, pairs: Sequence[FramePair]) -> tuple[Array, Array]:
    """Return the share of contradicting matches across each place between two key frames (F - 1,), and the held errors.

    The scale of a path goes through the points that both sides see. Where they were joined wrongly, matches across
    the place fall far from each other's points. A share is NaN if too few matches show the scale; errors are pixels.
    The median share of the path is subtracted, since traffic contradicts everywhere.
    """
    limit = MAX_ERROR * max(sparse.camera.height, sparse.camera.width)
    wrong, crossing, showing = np.zeros((3, len(sparse.frames)))
    centers = np.linalg.inv(sparse.T_camera_world)[:, :3, 3]
    held = [np.empty(0)]
    for pair in select_pairs(sparse, pairs):
        errors = measure_errors(sparse, pair)
        known = ~np.isnan(errors)
        first, second = np.searchsorted(sparse.frames, (pair.first, pair.second))
        wrong[first:second] += (errors[known] > limit).sum()
        crossing[first:second] += known.sum()
        held.append(errors[known & pair.is_held])
        _, points = _find_points(sparse, first, pair.xy_first)
        before = _project(sparse, points, second)
        for place in range(first, second):
            moved = (SCALE_CHANGE - 1) * (centers[second] - centers[place])
            shift = np.linalg.norm(_project(sparse, points, second, moved) - before, axis=1)
            showing[place] += (shift > limit).sum()
    shares = np.full(len(crossing), np.nan)
    showing[-END_FRAMES - 1 :] = crossing[-END_FRAMES - 1 :]
    np.divide(wrong, crossing, out=shares, where=(showing >= MIN_CROSSING) & (crossing > 0))
    shares = shares[:-1]
    usual = np.median(shares[~np.isnan(shares)]) if not np.isnan(shares).all() else 0.0
    return np.maximum(shares - usual, 0.0), np.concatenate(held)


def split_map(sparse: SparseMap, end: int) -> list[SparseMap]:
    """Return the map of the frames before row `end`, and that of the others."""
    rows = np.arange(len(sparse.frames))
    return [select_frames(sparse, part) for part in (rows[:end], rows[end:])]


def select_frames(sparse: SparseMap, rows: NDArray[np.int64]) -> SparseMap:
    """Return the map of some of its frames, by row, and the points that at least two of them see."""
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
    lens = np.array(sparse.camera.distortion)
    differences = []
    for pair in found[:: -(-len(found) // MAX_TURNS) or 1]:
        seen = cv2.undistortPoints(pair.xy_first[:, None], sparse.camera.K, lens)[:, 0]
        turned = cv2.undistortPoints(pair.xy_second[:, None], sparse.camera.K, lens)[:, 0]
        cv2.setRNGSeed(0)
        E, inliers = cv2.findEssentialMat(seen, turned, np.eye(3), cv2.RANSAC, 0.999, 1.0 / sparse.camera.focal_px)
        if E is None or E.shape != (3, 3):
            continue
        _, R, _, _ = cv2.recoverPose(E, seen, turned, np.eye(3), mask=inliers)
        first, second = sparse.T_camera_world[np.searchsorted(sparse.frames, (pair.first, pair.second)), :3, :3]
        differences.append(float(np.degrees(np.linalg.norm(cv2.Rodrigues(R @ (second @ first.T).T)[0]))))
    return np.array(differences)


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
    gap = np.median([pair.second - pair.first for pair in pairs]) if pairs else 0
    wide = [pair for pair in pairs if pair.second - pair.first >= gap and len(pair.is_held) >= MIN_MATCHES]
    shares = [0.0]
    for pair in wide[:: -(-len(wide) // MAX_TURNS) or 1]:
        cv2.setRNGSeed(0)
        _, inliers = cv2.findHomography(pair.xy_first, pair.xy_second, cv2.RANSAC, _PLANE_PX)
        shares.append(0.0 if inliers is None else float(inliers.mean()))
    return float(np.median(shares[1:] or shares))


def count_reversing(centers: Array, min_share: float = 0.02) -> tuple[int, int]:
    """Return the steps of a path (N, 3) that reverse the one before, and the steps that count, not the shortest."""
    steps = np.diff(centers, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    steps = steps[lengths > min_share * lengths.max(initial=1e-12)]
    return int(((steps[1:] * steps[:-1]).sum(1) < 0).sum()), len(steps)


def measure_speed_jump(sparse: SparseMap, window: int = 6) -> float:
    """Return the largest change of speed at a key frame: the factor between medians over `window` steps."""
    T = np.linalg.inv(sparse.T_camera_world)
    speeds = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1) / np.diff(sparse.frames)
    if len(speeds) < 2 * window:
        return 1.0
    medians = np.median(np.lib.stride_tricks.sliding_window_view(np.maximum(speeds, 1e-9), window), axis=1)
    ratios = np.abs(np.log(medians[window:] / medians[:-window]))
    return float(np.exp(ratios.max()))
