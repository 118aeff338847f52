"""Compare and average the depth of neighboring frames by the camera's motion. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.numpy_camera import NEAR

MAX_DISAGREEMENT = 0.15
"""Largest difference of ln z, besides that of the whole frame, of a neighbor that counts: beyond, it shows another
surface, or an object that moves.
"""

MIN_SEEN = 0.05
"""Smallest share of a frame that a neighbor must show."""


@dataclass(frozen=True, slots=True)
class DepthView:
    """The depth of a frame.

    depth: (H, W) z, 0 = none.
    K: (3, 3) of that size.
    """

    depth: NDArray[np.float32]
    K: NDArray[np.float64]


def warped_log_ratio(
    now: DepthView, following: DepthView, T_following_now: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return ln of the following frame's depth over that of this frame, moved there, at the pixels of this frame.

    Args:
        now, following: in one unit.
        T_following_now: (4, 4), its translation in that unit.

    Returns:
        (H, W), 0 where not seen; and (H, W) bool, where the following frame shows the point.

    Examples:
        >>> K = np.array([[3.0, 0, 2.5], [0, 3, 1.5], [0, 0, 1]])
        >>> near, far = (DepthView(np.full((4, 6), depth, np.float32), K) for depth in (5, 6))
        >>> ratio, _ = warped_log_ratio(near, far, np.eye(4))
        >>> round(float(np.exp(ratio.mean())), 3)
        1.2
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
    """Return the median of |ln ratio| of two frames, and the median of the ratio's logarithm; None where hardly seen.

    The first is the warped depth error, the second what it owes to the scale of the whole frame.
    """
    ratio, seen = warped_log_ratio(now, following, T_following_now)
    if seen.mean() < MIN_SEEN:
        return None
    values = ratio[seen]
    return float(np.median(np.abs(values))), float(np.median(values))


def steady_depth(now: DepthView, neighbors: Sequence[tuple[DepthView, NDArray[np.float64]]]) -> NDArray[np.float32]:
    """Return depth (H, W) as the mean of ln z over a frame and its neighbors, moved into it.

    A neighbor counts at a pixel where it agrees within MAX_DISAGREEMENT, besides the ratio of the whole frames; where
    not, that ratio counts alone. So the scale of frames is averaged over the window, and so is what they show.

    Args:
        now: the frame.
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
