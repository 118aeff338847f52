"""The geometry of two images of one camera: motion by matches, epipolar distances, parallax and points."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import hat

# Points are (N, 2) float64 pixels, K is (3, 3), and T_b_a takes points of camera a to camera b.

Array = NDArray[np.float64]

ESSENTIAL_PX = 1.0  # distance from the epipolar line of a match that agrees

POINTS_PX = 1.5  # the same from the projected point

EPIPOLAR_CONFIDENCE, EPIPOLAR_ROUNDS = 0.999, 2000
"""Confidence and most rounds of the search for a fundamental matrix. 500 rounds find the same matches of 200 pairs."""

PLANE_SHARE = 0.9  # share of matches that one homography explains: planes .97 to 1, scenes at most .77


def pixel_rays(pixels: Array, K: Array) -> Array:
    """Map (N, 2) pixels to (N, 3) directions with z = 1."""
    return np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(K).T


def angle_deg(first: Array, second: Array) -> float:
    """Return the angle in degrees between two vectors (3,); 90 for a zero vector."""
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.degrees(np.arccos(np.clip(first @ second / lengths, -1, 1)))) if lengths > 0 else 90.0


def rotation_vector_deg(R: Array) -> Array:
    """Convert a (3, 3) rotation to its axis times its angle in degrees."""
    return np.degrees(cv2.Rodrigues(R)[0].ravel())


def rotation_deg(R: Array) -> float:
    """Return the angle of a (3, 3) rotation."""
    return float(np.linalg.norm(rotation_vector_deg(R)))


def epipolar_distance_px(
    first_px: Array, second_px: Array, K_first: Array, K_second: Array, T_second_first: Array
) -> Array:
    """Compute the sizes of `signed_epipolar_distance_px` (..., N), pixels.

    first_px, second_px: (N, 2) matched pixels (x, y) in the two images.
    K_first, K_second: (3, 3) intrinsics of the two images, pixels.
    T_second_first: (..., 4, 4) motions from the first to the second camera.

    Examples:
        >>> K, T = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]), np.eye(4)
        >>> T[0, 3] = -0.5  # a rectified pair
        >>> first_px, second_px = np.array([[60.0, 40.0]]), np.array([[55.0, 41.0]])
        >>> epipolar_distance_px(first_px, second_px, K, K, T).round(2).tolist()
        [0.71]
    """
    return np.abs(signed_epipolar_distance_px(first_px, second_px, K_first, K_second, T_second_first))


def signed_epipolar_distance_px(
    first_px: Array, second_px: Array, K_first: Array, K_second: Array, T_second_first: Array
) -> Array:
    """Compute the Sampson distances (..., N) of matches to epipolar geometries, with the sign of the side of the lines.

    first_px, second_px: (N, 2) matched pixels (x, y) in the two images.
    K_first, K_second: (3, 3) intrinsics of the two images, pixels.
    T_second_first: (..., 4, 4) motions from the first to the second camera.

    Source: Hartley and Zisserman, Multiple View Geometry, 2nd ed., 11.4.3.
    """
    E = hat(T_second_first[..., :3, 3]) @ T_second_first[..., :3, :3]
    F = np.linalg.inv(K_second).T @ E @ np.linalg.inv(K_first)
    first = np.column_stack([first_px, np.ones(len(first_px))])
    second = np.column_stack([second_px, np.ones(len(second_px))])
    lines_second, lines_first = first @ F.swapaxes(-1, -2), second @ F
    gradient = np.sqrt((lines_second[..., :2] ** 2).sum(-1) + (lines_first[..., :2] ** 2).sum(-1))
    return np.asarray((second * lines_second).sum(-1) / np.maximum(gradient, 1e-12))


def find_epipolar_inliers(first_px: NDArray, second_px: NDArray, max_error_px: float) -> NDArray[np.bool_]:
    """Return which matches (N,) fit the fundamental matrix that fits most of them; none if there are fewer than 8.

    first_px, second_px: (N, 2) matched pixels of two images.
    max_error_px: largest distance from an epipolar line, pixels.

    Source: MAGSAC++ (Barath et al., CVPR 2020) in OpenCV, whose random numbers are the same at each call.
    """
    if len(first_px) < 8:
        return np.zeros(len(first_px), bool)
    first, second = (np.ascontiguousarray(xy, np.float32) for xy in (first_px, second_px))
    try:
        _, found = cv2.findFundamentalMat(
            first, second, cv2.USAC_MAGSAC, max_error_px, EPIPOLAR_CONFIDENCE, EPIPOLAR_ROUNDS
        )
    except cv2.error:  # OpenCV raises an assertion if every sample is degenerate
        return np.zeros(len(first_px), bool)
    return np.zeros(len(first_px), bool) if found is None else found.ravel() > 0


def triangulate(
    first_px: Array, second_px: Array, K_first: Array, K_second: Array, T_second_first: Array
) -> tuple[Array, Array]:
    """Return the depth z (N,) of matches in both cameras, by least squares; negative behind a camera.

    first_px, second_px: (N, 2) matched pixels.
    K_first, K_second: (3, 3) intrinsics.
    T_second_first: (4, 4) motion, in whose unit the depth is.
    """
    rotated, rays_second = pixel_rays(first_px, K_first) @ T_second_first[:3, :3].T, pixel_rays(second_px, K_second)
    across, offset = np.cross(rays_second, rotated), np.cross(rays_second, T_second_first[:3, 3])
    z_first = -(across * offset).sum(1) / np.maximum((across**2).sum(1), 1e-18)
    return z_first, z_first * rotated[:, 2] + T_second_first[2, 3]


def triangulate_inverse_depth(
    first_px: Array, second_px: Array, K_first: Array, K_second: Array, T_second_first: Array
) -> Array:
    """Compute the inverse depth 1 / z (N,) of matches in the first camera by least squares.

    It is 0 for a point at infinity, and negative for rays that diverge.

    first_px, second_px: (N, 2) matched pixels (x, y) in the two images.
    K_first, K_second: (3, 3) intrinsics of the two images, pixels.
    T_second_first: (4, 4) motion from the first to the second camera; the result has the inverse of its unit.

    Examples:
        >>> K, T = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]), np.eye(4)
        >>> T[0, 3] = -0.5
        >>> first_px, second_px = np.array([[60.0, 40.0]]), np.array([[55.0, 40.0]])
        >>> triangulate_inverse_depth(first_px, second_px, K, K, T).round(4).tolist()  # f b / d = 10 m
        [0.1]
    """
    rotated, rays_second = pixel_rays(first_px, K_first) @ T_second_first[:3, :3].T, pixel_rays(second_px, K_second)
    across, offset = np.cross(rays_second, rotated), np.cross(rays_second, T_second_first[:3, 3])
    return np.asarray(-(across * offset).sum(1) / np.maximum((offset**2).sum(1), 1e-18))


@dataclass(frozen=True, slots=True, eq=False)
class TwoViewMotion:
    """Camera motion between two frames by matches.

    R: (3, 3), t: (3,) of T_second_first; t has length 1 unless `metric`.
    inliers: (M,) matches that agree.
    parallax_px: median displacement that is not rotation.
    planar: whether all of them are on one plane, which two motions explain.
    """

    R: Array
    t: Array
    metric: bool
    inliers: NDArray[np.bool_]
    parallax_px: float
    planar: bool = False


def parallax_px(first_px: Array, second_px: Array, K: Array, R: Array) -> float:
    """Return the median displacement in pixels that remains after a rotation is removed; 0 without matches.

    first_px, second_px: (N, 2) matched pixels.
    K: (3, 3) intrinsics.
    R: (3, 3) rotation.
    """
    return float(np.median(rotation_residuals_px(first_px, second_px, K, R))) if len(first_px) else 0.0


def rotation_residuals_px(first_px: Array, second_px: Array, K: Array, R: Array) -> Array:
    """Return (M,) displacements of matches beyond a rotation."""
    turned = pixel_rays(first_px, K) @ R.T @ K.T
    return np.asarray(np.linalg.norm(turned[:, :2] / turned[:, 2:] - second_px, axis=1), dtype=np.float64)


def is_planar(first_px: Array, second_px: Array, grain_px: float) -> bool:
    """Return whether one homography explains the matches; then two essential matrices fit (Longuet-Higgins, 1986)."""
    H, mask = cv2.findHomography(first_px, second_px, cv2.RANSAC, ESSENTIAL_PX * grain_px)
    return H is not None and float(mask.mean()) >= PLANE_SHARE


def estimate_motion(first_px: Array, second_px: Array, K: Array, *, grain_px: float = 1.0) -> TwoViewMotion | None:
    """Estimate rotation and direction by the essential matrix (Nister, RANSAC); None if few matches agree."""
    if len(first_px) < 30:
        return None
    E, mask = cv2.findEssentialMat(
        first_px, second_px, K, method=cv2.RANSAC, prob=0.999, threshold=ESSENTIAL_PX * grain_px
    )
    if E is None or E.shape != (3, 3) or int(mask.sum()) < 20:
        return None
    agreeing = mask.ravel() > 0
    pixels = first_px[agreeing], second_px[agreeing]
    _, R, t, _ = cv2.recoverPose(E, *pixels, K)
    return TwoViewMotion(R, t.ravel(), False, agreeing, parallax_px(*pixels, K, R), is_planar(*pixels, grain_px))


def estimate_metric_motion(
    first_px: Array, second_px: Array, depth: Array, K_first: Array, K_second: Array, *, grain_px: float = 1.0
) -> TwoViewMotion | None:
    """Estimate rotation and translation by perspective-n-points in RANSAC, then refine; None if few matches agree.

    depth: (M,) z of the matches in the first camera, 0 = unknown.
    grain_px: precision of the matches, which scales tolerances.
    """
    known = depth > 0
    if int(known.sum()) < 20:
        return None
    unit = float(np.median(depth[known]))  # depth is scaled to about 1, so that any unit converges
    points, pixels = pixel_rays(first_px[known], K_first) * depth[known, None] / unit, second_px[known]
    ransac: dict[str, Any] = {"iterationsCount": 500, "reprojectionError": POINTS_PX * grain_px}
    found, rotation, t, chosen = cv2.solvePnPRansac(points, pixels, K_second, None, flags=cv2.SOLVEPNP_AP3P, **ransac)
    if not found or chosen is None or len(chosen) < 15:
        return None
    rows = chosen.ravel()
    rotation, t = cv2.solvePnPRefineLM(points[rows], pixels[rows], K_second, None, rotation, t)
    projected, _ = cv2.projectPoints(points, rotation, t, K_second, None)
    agreeing = np.zeros(len(depth), bool)
    agreeing[known] = np.linalg.norm(projected[:, 0] - pixels, axis=1) < POINTS_PX * grain_px
    R = cv2.Rodrigues(rotation)[0]
    parallax = parallax_px(first_px[agreeing], second_px[agreeing], K_first, R)
    return TwoViewMotion(R, t.ravel() * unit, True, agreeing, parallax)
