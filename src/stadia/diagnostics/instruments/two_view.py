"""Two-view geometry from matches: epipolar distance, triangulation, and motion with or without known depth.

Points are (N, 2) float64 pixels, K is (3, 3), T_b_a takes points of camera a to camera b (metres, or whatever unit it
carries).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rays(pixels: Array, K: Array) -> Array:
    """Map (N, 2) pixels to (N, 3) directions with z = 1."""
    homogeneous = np.column_stack([pixels, np.ones(len(pixels))])
    return homogeneous @ np.linalg.inv(K).T


def angle_deg(first: Array, second: Array) -> float:
    """Return the angle between two 3-vectors; 90 where one of them is zero, which has no direction."""
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.degrees(np.arccos(np.clip(first @ second / lengths, -1, 1)))) if lengths > 0 else 90.0


def rotation_vector_deg(R: Array) -> Array:
    """Convert a (3, 3) rotation to its axis times its angle in degrees."""
    return np.degrees(cv2.Rodrigues(R)[0].ravel())


def epipolar_distance_px(
    first_px: Array, second_px: Array, K_first: Array, K_second: Array, T_second_first: Array
) -> Array:
    """Return (N,) Sampson distances of matches to the epipolar geometry (Hartley and Zisserman, 2nd ed., 11.4.3)."""
    x, y, z = T_second_first[:3, 3]
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    F = np.linalg.inv(K_second).T @ cross @ T_second_first[:3, :3] @ np.linalg.inv(K_first)
    first = np.column_stack([first_px, np.ones(len(first_px))])
    second = np.column_stack([second_px, np.ones(len(second_px))])
    lines_second, lines_first = first @ F.T, second @ F
    gradient = np.sqrt((lines_second[:, :2] ** 2).sum(1) + (lines_first[:, :2] ** 2).sum(1))
    return np.abs((second * lines_second).sum(1)) / np.maximum(gradient, 1e-12)


def triangulate(
    first_px: Array, second_px: Array, K_first: Array, K_second: Array, T_second_first: Array
) -> tuple[Array, Array]:
    """Return depth z of matches in the first and in the second camera; negative where a point is behind a camera.

    z_second ray_second = z_first R ray_first + t, solved for z_first by least squares.
    """
    rotated = rays(first_px, K_first) @ T_second_first[:3, :3].T
    seen = rays(second_px, K_second)
    across, offset = np.cross(seen, rotated), np.cross(seen, T_second_first[:3, 3])
    z_first = -(across * offset).sum(1) / np.maximum((across**2).sum(1), 1e-18)
    return z_first, z_first * rotated[:, 2] + T_second_first[2, 3]


def inverse_depth(first_px: Array, second_px: Array, K_first: Array, K_second: Array, T_second_first: Array) -> Array:
    """Return (N,) 1 / z of matches in the first camera: 0 at infinity, where `triangulate` has no solution, and
    negative beyond.

    seen x (rotated + t / z) = 0, solved for 1 / z by least squares.
    """
    rotated, seen = rays(first_px, K_first) @ T_second_first[:3, :3].T, rays(second_px, K_second)
    across, offset = np.cross(seen, rotated), np.cross(seen, T_second_first[:3, 3])
    return np.asarray(-(across * offset).sum(1) / np.maximum((offset**2).sum(1), 1e-18))


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Camera motion between two frames, estimated from matches.

    R: (3, 3), t: (3,) of T_second_first; t has length 1 where `metric` is False, else the unit of the depth.
    inliers: (M,) matches that agree.  parallax_px: median displacement that is not rotation.
    planar: whether all of them lie on one plane. Two motions explain a plane unless its depth is given; this is one of
        them.
    """

    R: Array
    t: Array
    metric: bool
    inliers: NDArray[np.bool_]
    parallax_px: float
    planar: bool = False


def parallax_px(first_px: Array, second_px: Array, K: Array, R: Array) -> float:
    """Return the median displacement of matches beyond a rotation; 0 without matches."""
    if not len(first_px):
        return 0.0
    turned = rays(first_px, K) @ R.T @ K.T
    return float(np.median(np.linalg.norm(turned[:, :2] / turned[:, 2:] - second_px, axis=1)))


ESSENTIAL_PX, POINTS_PX = 1.0, 1.5
"""Distances within which a match agrees with a motion: to the epipolar line, and to the projected point."""

PLANE_SHARE = 0.9
"""Of the matches that agree, explained by one homography within ESSENTIAL_PX: 0.97 to 1 of flat ground seen from above
or of a wall, at most 0.77 in RoadWorld, KITTI and 7-Scenes.
"""


def on_one_plane(first_px: Array, second_px: Array, *, grain_px: float = 1.0) -> bool:
    """Return whether one homography explains the matches of an essential matrix: two such matrices fit a plane.

    Longuet-Higgins, The reconstruction of a plane surface from two perspective projections, Proc. R. Soc. B 227, 1986.
    """
    H, mask = cv2.findHomography(first_px, second_px, cv2.RANSAC, ESSENTIAL_PX * grain_px)
    return H is not None and float(mask.mean()) >= PLANE_SHARE


def motion_up_to_scale(first_px: Array, second_px: Array, K: Array, *, grain_px: float = 1.0) -> Motion | None:
    """Estimate rotation and direction from the essential matrix (Nister's five points in RANSAC); None for too few
    inliers.
    """
    if len(first_px) < 30:
        return None
    E, mask = cv2.findEssentialMat(
        first_px, second_px, K, method=cv2.RANSAC, prob=0.999, threshold=ESSENTIAL_PX * grain_px
    )
    if E is None or E.shape != (3, 3) or int(mask.sum()) < 20:
        return None
    agreeing = mask.ravel() > 0
    _, R, t, _ = cv2.recoverPose(E, first_px[agreeing], second_px[agreeing], K)
    ways = first_px[agreeing], second_px[agreeing]
    return Motion(
        R, t.ravel(), False, agreeing, parallax_px(*ways, K, R), planar=on_one_plane(*ways, grain_px=grain_px)
    )


def motion_from_depth(
    first_px: Array, second_px: Array, depth: Array, K_first: Array, K_second: Array, *, grain_px: float = 1.0
) -> Motion | None:
    """Rotation and translation, in the unit of `depth`, by perspective-n-points in RANSAC, then refined. None where too
    few agree.

    Args:
        depth: (M,) z of the matches in the first camera; 0 = unknown.
        grain_px: what the matches are exact to, in pixels; tolerances grow with it.
    """
    known = depth > 0
    if int(known.sum()) < 20:
        return None
    points = rays(first_px[known], K_first) * depth[known, None]
    unit = float(np.median(depth[known]))  # solved at a scale near 1, so that kilometres and millimetres converge alike
    found, rotation, translation, chosen = cv2.solvePnPRansac(
        points / unit,
        second_px[known],
        K_second,
        None,
        iterationsCount=500,
        reprojectionError=POINTS_PX * grain_px,
        flags=cv2.SOLVEPNP_AP3P,
    )
    if not found or chosen is None or len(chosen) < 15:
        return None
    rows = chosen.ravel()
    rotation, translation = cv2.solvePnPRefineLM(
        points[rows] / unit, second_px[known][rows], K_second, None, rotation, translation
    )
    projected, _ = cv2.projectPoints(points / unit, rotation, translation, K_second, None)
    agreeing = np.zeros(len(depth), bool)
    agreeing[known] = np.linalg.norm(projected[:, 0] - second_px[known], axis=1) < POINTS_PX * grain_px
    R = cv2.Rodrigues(rotation)[0]
    return Motion(
        R, translation.ravel() * unit, True, agreeing, parallax_px(first_px[agreeing], second_px[agreeing], K_first, R)
    )
