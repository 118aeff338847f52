"""Fit the height of the camera above the road from its ground-truth depth."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.diagnostics.instruments.two_view import Array
from stadia.geometry.ground import fit_plane_robust, height_above

MIN_POINTS = 200
MAX_TILT_DEG = 15.0
TOLERANCE, MIN_SHARE = 0.03, 0.35
"""A point is on the road within this share of the camera's height; of the points that are looked at so many must be."""


def camera_height(depth: NDArray[np.float32], K: Array) -> float | None:
    """Return the distance of the camera from the plane in the middle of the lower 40 % of the image, in units of depth.

    None where there is no level plane, as always in 7-Scenes (a hand-held camera indoors, tilted by 30 degrees).
    KITTI's LiDAR gives 1.62 to 1.69 m with at least 41 % of the points on the plane, RoadWorld 1.60 to 1.72 m with 75
    %.

    Args:
        depth: (H, W), 0 = none.
        K: (3, 3).
    """
    height, width = depth.shape
    top, left = int(0.6 * height), width // 4
    rows, columns = np.nonzero(depth[top:, left : width - left] > 0)
    if len(rows) < MIN_POINTS:
        return None
    y, x = rows + top, columns + left
    z = depth[y, x].astype(np.float64)
    points = torch.from_numpy(np.stack([(x - K[0, 2]) / K[0, 0] * z, (y - K[1, 2]) / K[1, 1] * z, z], 1))
    plane = fit_plane_robust(points, tolerance=TOLERANCE)
    share = float((height_above(plane, points).abs() < TOLERANCE * plane[3]).double().mean())
    level = -float(plane[1]) > np.cos(np.radians(MAX_TILT_DEG))  # the normal points up, which is -y
    return float(plane[3]) if level and share >= MIN_SHARE else None
