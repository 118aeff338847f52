"""Photometric residuals between gray images, and how much a warp reduces them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.diagnostics.instruments.two_view import Array, rays

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
WINDOW = (7, 7)


def residual(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) 0.85 (1 - SSIM) / 2 + 0.15 L1 of two gray images in [0, 1] (Monodepth2, arXiv:1806.01260, eq. 3), on a 7 x
    7 window.
    """
    a, b = first.astype(np.float32) / 255, second.astype(np.float32) / 255
    mean_a, mean_b = cv2.blur(a, WINDOW), cv2.blur(b, WINDOW)
    variance_a, variance_b = cv2.blur(a * a, WINDOW) - mean_a**2, cv2.blur(b * b, WINDOW) - mean_b**2
    covariance = cv2.blur(a * b, WINDOW) - mean_a * mean_b
    ssim = (2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)
    ssim /= (mean_a**2 + mean_b**2 + SSIM_C1) * (np.maximum(variance_a + variance_b, 0) + SSIM_C2)
    total = 0.85 * np.clip((1 - ssim) / 2, 0, 1) + 0.15 * np.abs(a - b)
    return np.asarray(total, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """left, right, warped: (h, w) gray, both images and the right one warped onto the left one, without the margins
    that a shift empties.

    residual: mean of `residual` between left and warped.
    """

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    warped: NDArray[np.uint8]
    residual: float


def plane_sweep(
    left: NDArray[np.uint8], right: NDArray[np.uint8], sign: int, *, most_share: float = 0.2, steps: int = 24
) -> Sweep:
    """Warp the right image to the left one by the best of many planes, pixel for pixel.

    A plane of disparity d px shows right pixel x - d at left pixel x. Both signs try the same d, so they differ by
    geometry alone.

    Args:
        left, right: (H, W) gray; reduced to at most 640 pixels of width.
        sign: 1 where the right image is the right one, -1 where it is the left one.
        most_share: largest disparity, of the width.
        steps: number of disparities, growing geometrically from 1 px.
    """
    scale = min(1.0, 640 / left.shape[1])
    if scale < 1:
        left, right = (cv2.resize(p, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for p in (left, right))
    most = max(2.0, most_share * left.shape[1])
    shifts = np.unique(np.geomspace(1, most, steps).round().astype(int))
    interior = slice(int(shifts[-1]), left.shape[1] - int(shifts[-1]))
    least = np.full(left[:, interior].shape, np.inf, np.float32)
    warped = np.zeros(least.shape, np.uint8)
    for d in shifts:
        shifted = np.roll(right, sign * int(d), axis=1)
        here = residual(left, shifted)[:, interior]
        better = here < least
        least[better], warped[better] = here[better], shifted[:, interior][better]
    return Sweep(left[:, interior], right[:, interior], warped, float(least.mean()))


def warp_identity_ratio(
    target: NDArray[np.uint8],
    source: NDArray[np.uint8],
    depth: NDArray[np.float32],
    K_target: Array,
    K_source: Array,
    T_source_target: Array,
    *,
    most_points: int = 20_000,
) -> float | None:
    """WIR: mean |target - warped source| over mean |target - source|, where depth is known and lands inside both.

    Well below 1 where depth, cameras and motion fit each other; near 1 or above where any of them is wrong.
    Measured point by point, so that sparse depth (projected LiDAR) serves as well as dense. None where too little can
    be seen.
    """
    y, x = np.nonzero(depth > 0)
    if len(x) < 200:
        return None
    chosen = np.linspace(0, len(x) - 1, min(len(x), most_points)).astype(int)
    y, x = y[chosen], x[chosen]
    pixels = np.column_stack([x, y]).astype(np.float64)
    points = rays(pixels, K_target) * depth[y, x, None].astype(np.float64)
    moved = (points @ T_source_target[:3, :3].T + T_source_target[:3, 3]) @ K_source.T
    ahead = moved[:, 2] > 1e-9
    landed = moved[:, :2] / np.where(ahead, moved[:, 2], 1)[:, None]
    height, width = source.shape
    inside = ahead & (landed >= 0).all(1) & (landed[:, 0] <= width - 1) & (landed[:, 1] <= height - 1)
    if inside.mean() < 0.1 or inside.sum() < 100:
        return None
    target_soft, source_soft = (cv2.GaussianBlur(image.astype(np.float32), (3, 3), 0) for image in (target, source))
    here = target_soft[y[inside], x[inside]]
    spot = landed[inside].astype(np.float32)
    warped = cv2.remap(source_soft, spot[:, 0:1], spot[:, 1:2], cv2.INTER_LINEAR).ravel()
    unwarped = np.abs(here - source_soft[y[inside], x[inside]]).mean()
    return float(np.abs(here - warped).mean() / unwarped) if unwarped > 0.5 else None
