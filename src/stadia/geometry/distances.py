"""Measure distances between pixels of a depth map, with their uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import GeometryError

WINDOW_PX = 2
"""Depth spreads within this radius of a pixel, because a pointer is not more exact."""


@dataclass(frozen=True)
class MeasuredDistance:
    """The distance between the points of two pixels, in the unit of depth.

    deviation: standard deviation from the local spread of depth and the relative error.
    depths: z of both points.
    """

    distance: float
    deviation: float
    depths: tuple[float, float]


def measure_distance(
    depth: NDArray[np.floating],
    K: NDArray[np.floating],
    first: tuple[int, int],
    second: tuple[int, int],
    relative_error: float = 0.0,
) -> MeasuredDistance:
    """Return the distance between two pixels. Raises GeometryError for a pixel outside the map or without depth.

    depth: (H, W) z, 0 = none.
    K: (3, 3).
    first, second: (x, y), pixels.
    relative_error: relative standard deviation of depth, shared by all pixels.
    """
    points, gradients = [], []
    for x, y in (first, second):
        points.append(lift_pixel(depth, K, x, y))
    apart = points[1] - points[0]
    distance = float(np.linalg.norm(apart))
    direction = apart / distance if distance > 0 else np.array([0.0, 0.0, 1.0])
    for (x, y), point in zip((first, second), points, strict=True):
        ray = point / point[2]
        gradients.append(float(ray @ direction) * _spread(depth, x, y))
    deviation = math.hypot(*gradients, relative_error * distance)
    return MeasuredDistance(distance, deviation, (float(points[0][2]), float(points[1][2])))


def lift_pixel(depth: NDArray[np.floating], K: NDArray[np.floating], x: int, y: int) -> NDArray[np.float64]:
    """Return the point (3,) of a pixel. Raises GeometryError as `measure_distance`."""
    height, width = depth.shape
    if not (0 <= x < width and 0 <= y < height):
        found, expected = f"pixel {x}, {y}", f"one of an image of {width}x{height}"
        raise GeometryError("distance", found=found, expected=expected, fix="choose a pixel of the image")
    z = float(depth[y, x])
    if not (0 < z < math.inf):
        found = f"no depth at pixel {x}, {y}"
        raise GeometryError("distance", found=found, expected="a pixel with depth", fix="choose one that is no sky")
    return np.array([(x - K[0, 2]) / K[0, 0] * z, (y - K[1, 2]) / K[1, 1] * z, z], dtype=np.float64)


def _spread(depth: NDArray[np.floating], x: int, y: int) -> float:
    rows, columns = (slice(max(at - WINDOW_PX, 0), at + WINDOW_PX + 1) for at in (y, x))
    near = depth[rows, columns]
    return float(np.std(near[near > 0], dtype=np.float64))
