"""Compare and average the depth of neighboring frames by the camera's motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.numpy_camera import NEAR

MAX_DISAGREEMENT = 0.15
"""A neighbor shows another surface if its ln z differs more from the frame's median ratio."""

MIN_SEEN = 0.05
"""A neighbor must show at least this share of a frame."""


@dataclass(frozen=True, slots=True)
class DepthView:
    """A frame's depth z (H, W), 0 = none, and its K (3, 3)."""

    depth: NDArray[np.float32]
    K: NDArray[np.float64]


def warped_log_ratio(
    now: DepthView, following: DepthView, T_following_now: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return ln(depth of the following frame / depth of this frame moved there), at this frame's pixels.

    T_following_now: (4, 4), its translation in the unit of both depths.
    Returns (H, W), 0 if not seen, and (H, W) bool, true if the following frame shows the point.
    """
    height, width = now.depth.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    turned = (following.K @ T_following_now[:3, :3] @ np.linalg.inv(now.K)).astype(np.float32)
    shift = (following.K @ T_following_now[:3, 3]).astype(np.float32)
    u, v, z = (now.depth * (row[0] * x + row[1] * y + row[2]) + moved for row, moved in zip(turned, shift, strict=True))
    in_front = (now.depth > NEAR) & (z > NEAR)
    z = np.where(in_front, z, np.float32(1))
    u, v = u / z, v / z
    rows, columns = following.depth.shape
    inside = in_front & (u >= 0) & (u <= columns - 1) & (v >= 0) & (v <= rows - 1)
    sampled = cv2.remap(following.depth, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = inside & (np.asarray(sampled) > NEAR)
    ratio = np.log(np.where(seen, sampled, 1) / np.where(seen, z, 1)).astype(np.float32)
    return ratio, seen


def measure_flicker(
    now: DepthView, following: DepthView, T_following_now: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Return the medians of |ln ratio| and of ln ratio of two frames; None if they hardly overlap.

    The first is the warped depth error; the second is the error of the frame's scale.
    """
    ratio, seen = warped_log_ratio(now, following, T_following_now)
    if seen.mean() < MIN_SEEN:
        return None
    values = ratio[seen]
    return float(np.median(np.abs(values))), float(np.median(values))


def steady_depth(now: DepthView, neighbors: Sequence[tuple[DepthView, NDArray[np.float64]]]) -> NDArray[np.float32]:
    """Return the mean depth (H, W) of a frame and its neighbors, moved into it, by ln z.

    At pixels that differ more than MAX_DISAGREEMENT, a neighbor counts only with its median ratio.

    neighbors: each with T_neighbor_now (4, 4), its translation in the unit of depth.
    """
    total, count = np.zeros_like(now.depth), 1
    for view, T_neighbor_now in neighbors:
        ratio, seen = warped_log_ratio(now, view, T_neighbor_now)
        if seen.mean() < MIN_SEEN:
            continue
        whole = np.median(ratio[seen])
        agrees = seen & (np.abs(ratio - whole) < MAX_DISAGREEMENT)
        total += np.where(agrees, ratio, whole)
        count += 1
    return np.asarray(now.depth * np.exp(total / count), np.float32)
