"""Find key frames that show the same place, and measure the motion between them from matched features.

A pair is proposed by its descriptors (VLAD: Jegou et al., CVPR 2010), and measured from both sides by points of one
image in the other (PnP with the predicted depth). It closes a loop if it is no larger than the drift that a path may
have, and another pair nearby measures the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.geometry.image_features import FrameFeatures, match_sift_features
from stadia.geometry.se3 import hat

Array = NDArray[np.float64]

WORDS = 32  # of the visual vocabulary
WORD_SAMPLES = 20_000  # descriptors that the vocabulary is learned from
MIN_GAP = 15  # key frames between the two of a loop: three windows
CANDIDATES = 3  # most similar key frames that are tried for each one
MIN_INLIERS = 25
MAX_ERROR_PX = 2.0  # of a point of one image in the other
MAX_TURN_DEG = 5.0  # between the motions from both sides, and between neighboring loops
MAX_SHIFT = 0.1  # the same for translations, as a share of the depth of the points, or of the path between neighbors
MAX_DRIFT = 0.2  # of a path: larger closing errors, as a share of its length, are two places of one appearance
NEIGHBORS = 10  # key frames within which two loops must agree
FLOOR_SHIFT, FLOOR_TURN_RAD, FLOOR_SCALE = 0.02, 0.003, 0.02  # smallest standard deviations; the first of the length


@dataclass(frozen=True, slots=True, eq=False)
class KeyframeView:
    """Features of a key frame with depth: points (N, 3) in its camera; K: (3, 3)."""

    features: FrameFeatures
    points: Array
    K: Array


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredMotion:
    """Motion of a second camera in the axes of a first one.

    T_first_second: (4, 4), in the unit of the first depth.  scale: unit of the second depth over that of the first.
    information: (7, 7), as in `PoseEdges`.  depth: median of the points' depth, in the unit of the first.
    """

    T_first_second: Array
    scale: float
    information: Array
    depth: float


@dataclass(slots=True, eq=False)
class Loop:
    """Two key frames, by their rows, that show the same place; refused: why it does not count, "" where it does."""

    first: int
    second: int
    motion: MeasuredMotion
    refused: str = ""


def lift_features(features: FrameFeatures, K: Array, depth: NDArray[np.float32], depth_K: Array) -> KeyframeView:
    """Return the features that have a depth. K: of their pixels.  depth: (h, w) with depth_K, 0 or NaN = none."""
    rays = np.column_stack((features.xy.astype(np.float64), np.ones(len(features.xy)))) @ np.linalg.inv(K).T
    column, row = np.rint(rays @ depth_K.T)[:, :2].astype(int).T
    z = depth[row.clip(0, depth.shape[0] - 1), column.clip(0, depth.shape[1] - 1)].astype(np.float64)
    known = np.isfinite(z) & (z > 0)
    return KeyframeView(features.select(known), rays[known] * z[known, None], K)


def describe_places(views: Sequence[KeyframeView]) -> Array:
    """Return (N, WORDS * 128) unit vectors (VLAD) by a vocabulary of these key frames' own descriptors."""
    every = np.concatenate([view.features.descriptors for view in views]).astype(np.float32)
    if len(every) < WORDS:
        return np.zeros((len(views), WORDS * 128))
    sample = every[np.random.default_rng(0).permutation(len(every))[:WORD_SAMPLES]]
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0.0)
    _, _, words = cv2.kmeans(sample, WORDS, None, criteria, 1, cv2.KMEANS_PP_CENTERS)
    places = np.zeros((len(views), WORDS, 128))
    for row, view in enumerate(views):
        descriptors = view.features.descriptors.astype(np.float32)
        word = ((words * words).sum(1) - 2 * descriptors @ words.T).argmin(1)
        np.add.at(places[row], word, descriptors - words[word])
    flat = (np.sign(places) * np.sqrt(np.abs(places))).reshape(len(views), -1)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12))


def propose_pairs(places: Array) -> list[tuple[int, int]]:
    """Return for each key frame the most similar ones, MIN_GAP or more before it. places: (N, D) unit vectors."""
    pairs = []
    for second in range(MIN_GAP, len(places)):
        similarity = places[: second - MIN_GAP + 1] @ places[second]
        pairs += [(int(first), second) for first in np.argsort(-similarity, kind="stable")[:CANDIDATES]]
    return pairs


def measure_motion(first: KeyframeView, second: KeyframeView) -> MeasuredMotion | None:
    """Return the motion between two views by their matches; None where matches are few or the two sides disagree."""
    rows = match_sift_features(first.features, second.features)
    forward = _solve_pnp(first, second, rows)
    backward = _solve_pnp(second, first, rows[:, ::-1])
    if forward is None or backward is None:
        return None
    (T_second_first, inliers), (T_first_second, _) = forward, backward
    a, b = rows[inliers].T
    moved = first.points[a] @ T_second_first[:3, :3].T + T_second_first[:3, 3]
    ratios = moved[:, 2] / second.points[b, 2]
    scale, depth = float(np.median(ratios)), float(np.median(first.points[a, 2]))
    T = _invert(T_second_first)
    shift = np.linalg.norm(T[:3, 3] - scale * T_first_second[:3, 3])
    if shift > MAX_SHIFT * depth or _turn_deg(T, T_first_second) > MAX_TURN_DEG:
        return None
    covariance = np.zeros((7, 7))
    covariance[:6, :6] = _covariance(moved, second.features.xy[b], second.K)
    spread = 1.4826 * float(np.median(np.abs(ratios / scale - 1)))
    covariance[6, 6] = spread**2 / len(a)
    covariance += _floor(float(np.linalg.norm(T[:3, 3])) + 0.1 * depth)
    return MeasuredMotion(T, scale, _invert(covariance), depth)


def _invert(matrix: Array) -> Array:
    return np.asarray(np.linalg.inv(matrix), np.float64)


def _floor(length: float) -> Array:
    """Return the smallest covariance (7, 7) of a motion of this length: depth has errors that all points share."""
    return np.diag(np.array([(FLOOR_SHIFT * length) ** 2] * 3 + [FLOOR_TURN_RAD**2] * 3 + [FLOOR_SCALE**2], np.float64))


def weigh_step(first: KeyframeView, second: KeyframeView, T_first_second: Array) -> Array:
    """Return the information (7, 7) of a known motion between neighbors, by how well their matches fit it."""
    length = float(np.linalg.norm(T_first_second[:3, 3]))
    covariance = _floor(max(length, 1e-6))
    rows = match_sift_features(first.features, second.features)
    T = np.linalg.inv(T_first_second)
    moved = first.points[rows[:, 0]] @ T[:3, :3].T + T[:3, 3]
    is_ahead = moved[:, 2] > 0
    xy = second.features.xy[rows[is_ahead, 1]]
    if len(xy) < MIN_INLIERS:
        return _invert(9 * covariance)
    covariance[:6, :6] += _covariance(moved[is_ahead], xy, second.K)
    return _invert(covariance)


def _solve_pnp(first: KeyframeView, second: KeyframeView, rows: NDArray[np.int64]) -> tuple[Array, Array] | None:
    """Return T_second_first and the inliers among `rows`; None with too few."""
    if len(rows) < MIN_INLIERS:
        return None
    points, xy = first.points[rows[:, 0]], second.features.xy[rows[:, 1]].astype(np.float64)
    is_found, turn, shift, inliers = cv2.solvePnPRansac(
        points, xy, second.K, None, iterationsCount=300, reprojectionError=MAX_ERROR_PX, flags=cv2.SOLVEPNP_SQPNP
    )
    if not is_found or inliers is None or len(inliers) < MIN_INLIERS:
        return None
    inliers = inliers[:, 0]
    turn, shift = cv2.solvePnPRefineLM(points[inliers], xy[inliers], second.K, None, turn, shift)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    return (T, inliers) if np.isfinite(T).all() else None


def _covariance(points: Array, xy: NDArray[np.float32], K: Array) -> Array:
    """Return (6, 6) of a motion T_first_second Exp(d), d of translation and rotation.

    points: (M, 3) in the second camera by this motion.  xy: (M, 2) where they appear.
    """
    x, y, z = points.T
    projected = np.column_stack((K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]))
    error = np.abs(projected - xy)
    variance = max((1.4826 * float(np.median(error))) ** 2, 0.25)
    kept = error.max(1) < 3 * variance**0.5
    zero, (fx, fy) = np.zeros_like(z), (K[0, 0], K[1, 1])
    rows = (np.stack([fx / z, zero, -fx * x / z**2], 1), np.stack([zero, fy / z, -fy * y / z**2], 1))
    of_point = np.stack(rows, 1)
    of_motion = np.concatenate([-np.tile(np.eye(3), (len(z), 1, 1)), hat(torch.from_numpy(points)).numpy()], 2)
    jacobian = (of_point @ of_motion)[kept].reshape(-1, 6)
    information = jacobian.T @ jacobian / variance
    return _invert(information + 1e-9 * np.trace(information) * np.eye(6))


def _turn_deg(first: Array, second: Array) -> float:
    cosine = (np.trace(first[:3, :3].T @ second[:3, :3]) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def find_loops(views: Sequence[KeyframeView], T_world_camera: Array) -> list[Loop]:
    """Return the pairs of key frames that show one place by their matches, those that do not count with the reason.

    views, T_world_camera: (N, 4, 4), of the key frames in order.
    """
    if len(views) <= MIN_GAP:
        return []
    measured = [
        Loop(first, second, motion)
        for first, second in propose_pairs(describe_places(views))
        if (motion := measure_motion(views[first], views[second])) is not None
    ]
    return judge_loops(measured, T_world_camera)


def judge_loops(loops: Sequence[Loop], T_world_camera: Array) -> list[Loop]:
    """Return the loops with `refused`: those beyond the drift of a path, and those without a neighbor that agrees."""
    steps = np.linalg.norm(np.diff(T_world_camera[:, :3, 3], axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    near: list[Loop] = []
    for loop in loops:
        by_path = np.linalg.inv(T_world_camera[loop.first]) @ T_world_camera[loop.second]
        length = along[loop.second] - along[loop.first]
        error = float(np.linalg.norm(by_path[:3, 3] - loop.motion.T_first_second[:3, 3]))
        if error > MAX_DRIFT * length:
            loop.refused = f"it would move the path by {error / max(length, 1e-12):.0%} of its length"
        else:
            near.append(loop)
    for loop in near:
        if not any(_agree(loop, other, T_world_camera, along) for other in near if other is not loop):
            loop.refused = "no other pair nearby measures the same"
    return list(loops)


def _agree(loop: Loop, other: Loop, T: Array, along: Array) -> bool:
    """Return whether a loop equals another one with the short pieces of path between their ends."""
    if max(abs(loop.first - other.first), abs(loop.second - other.second)) > NEIGHBORS:
        return False
    before = np.linalg.inv(T[loop.first]) @ T[other.first]
    after = np.linalg.inv(T[other.second]) @ T[loop.second]
    expected = before @ other.motion.T_first_second @ after
    pieces = abs(along[loop.first] - along[other.first]) + abs(along[loop.second] - along[other.second])
    shift = float(np.linalg.norm(expected[:3, 3] - loop.motion.T_first_second[:3, 3]))
    is_near = shift <= MAX_SHIFT * (pieces + loop.motion.depth)
    return is_near and _turn_deg(expected, loop.motion.T_first_second) <= MAX_TURN_DEG
