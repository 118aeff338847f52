"""Compare images by their photometric residual: a plane sweep of a stereo pair, and a warp by depth and motion."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.two_views import pixel_rays

Array = NDArray[np.float64]

SSIM_C1 = 0.01**2  # constants of Wang et al., IEEE TIP 13(4), 2004, for gray values in [0, 1]
SSIM_C2 = 0.03**2  # the second one
SSIM_WINDOW = (7, 7)  # pixels over which means and variances are taken

MAX_DISPARITY_SHARE = 0.2  # largest disparity that a plane sweep tries, over the width

DISPARITIES = 24  # disparities that a plane sweep tries

MAX_WARPED_POINTS = 20_000  # pixels that are warped, spread over the image


def compute_gray_residual(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (H, W) 0.85 (1 - SSIM) / 2 + 0.15 L1 of two gray images, SSIM over 7x7 windows."""
    a, b = first.astype(np.float32) / 255, second.astype(np.float32) / 255
    mean_a, mean_b = cv2.blur(a, SSIM_WINDOW), cv2.blur(b, SSIM_WINDOW)
    variance_a, variance_b = cv2.blur(a * a, SSIM_WINDOW) - mean_a**2, cv2.blur(b * b, SSIM_WINDOW) - mean_b**2
    covariance = cv2.blur(a * b, SSIM_WINDOW) - mean_a * mean_b
    ssim = (2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)
    ssim /= (mean_a**2 + mean_b**2 + SSIM_C1) * (np.maximum(variance_a + variance_b, 0) + SSIM_C2)
    return np.asarray(0.85 * np.clip((1 - ssim) / 2, 0, 1) + 0.15 * np.abs(a - b), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class PlaneSweep:
    """Both images and the right one warped to the left one, (h, w) gray; `residual` is between left and warped."""

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    warped: NDArray[np.uint8]
    residual: float


def plane_sweep(left: NDArray[np.uint8], right: NDArray[np.uint8], sign: int) -> PlaneSweep:
    """Warp the right image (H, W) to the left one by the best of many planes.

    sign: 1, or -1 if swapped.
    """
    scale = min(1.0, 640 / left.shape[1])
    if scale < 1:
        left, right = (cv2.resize(p, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for p in (left, right))
    most = max(2.0, MAX_DISPARITY_SHARE * left.shape[1])
    shifts = np.unique(np.geomspace(1, most, DISPARITIES).round().astype(int))
    interior = slice(int(shifts[-1]), left.shape[1] - int(shifts[-1]))
    least = np.full(left[:, interior].shape, np.inf, np.float32)
    warped = np.zeros(least.shape, np.uint8)
    for d in shifts:
        shifted = np.roll(right, sign * int(d), axis=1)
        here = compute_gray_residual(left, shifted)[:, interior]
        better = here < least
        least[better], warped[better] = here[better], shifted[:, interior][better]
    return PlaneSweep(left[:, interior], right[:, interior], warped, float(least.mean()))


def warp_identity_ratio(
    target: NDArray[np.uint8],
    source: NDArray[np.uint8],
    depth: NDArray[np.float32],
    K_target: Array,
    K_source: Array,
    T_source_target: Array,
) -> float | None:
    """Return mean |target - warped source| over mean |target - source|, at pixels with depth; None for few pixels.

    target, source: (H, W) gray images.
    depth: (H, W) depth of the target; 0 means unknown.
    K_target, K_source: (3, 3) intrinsics.
    T_source_target: (4, 4) motion in the unit of depth.
    """
    y, x = np.nonzero(depth > 0)
    if len(x) < 200:
        return None
    chosen = np.linspace(0, len(x) - 1, min(len(x), MAX_WARPED_POINTS)).astype(int)
    y, x = y[chosen], x[chosen]
    pixels = np.column_stack([x, y]).astype(np.float64)
    points = pixel_rays(pixels, K_target) * depth[y, x, None].astype(np.float64)
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
