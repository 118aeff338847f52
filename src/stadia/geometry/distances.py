"""Measure the distance between two pixels of a depth map, and its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import GeometryError

WINDOW_PX = 2
"""Radius of the window of a pixel whose spread of depth counts: a pointer is not more exact."""


@dataclass(frozen=True)
class MeasuredDistance:
    """The distance between the points of two pixels, in the unit of depth.

    deviation: one standard deviation, from the spread of depth around both pixels and the relative error.
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
    """Return the distance between the points of two pixels.

    depth: (H, W) z of each pixel, 0 = none.
    K: (3, 3) of these pixels.
    first, second: (x, y), pixels.
    relative_error: standard deviation of depth over depth, shared by all pixels.

    Raises GeometryError if a pixel is outside the map or has no depth.
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
    """Return the point (3,) of a pixel. Raises GeometryError if the pixel is outside or has no depth."""
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
    """Return the standard deviation of depth around a pixel with depth."""
    rows, columns = (slice(max(at - WINDOW_PX, 0), at + WINDOW_PX + 1) for at in (y, x))
    near = depth[rows, columns]
    return float(np.std(near[near > 0], dtype=np.float64))
