"""Take the path of a map (`stadia map`), with the scale of predicted depth, and its motion where the map is lost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.geometry.align import umeyama

Array = NDArray[np.float64]

MIN_POINTS = 20
"""Points of a key frame that must lie in its image for a ratio of depths."""


@dataclass(frozen=True, slots=True)
class PathDifference:
    """How far two paths differ.

    rms_share: root mean square of the distances after Sim(3) alignment, over the length of the first path.
    reversing: steps of the second path that go against the step before, where those of the first do not.
    """

    rms_share: float
    reversing: int


def measure_scale(inverse_depth: Array, K: Array, points: Array) -> float:
    """Return predicted over mapped depth of a key frame: the median over its points; NaN with fewer than MIN_POINTS.

    inverse_depth: (h, w) of the network.  K: (3, 3) of that size.
    points: (N, 3) of the map in the axes of the camera, up to scale.

    Examples:
        >>> points = np.column_stack((np.zeros(30), np.zeros(30), np.linspace(1, 2, 30)))
        >>> measure_scale(np.full((5, 5), 0.5), np.array([[5.0, 0, 2], [0, 5, 2], [0, 0, 1]]), points[:1].repeat(30, 0))
        2.0
    """
    points = points[points[:, 2] > 0]
    x, y = (np.rint(K[row, row] * points[:, row] / points[:, 2] + K[row, 2]).astype(np.int64) for row in (0, 1))
    height, width = inverse_depth.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if inside.sum() < MIN_POINTS:
        return math.nan
    return float(np.median(1 / (inverse_depth[y[inside], x[inside]] * points[inside, 2])))


def follow_map(estimated: Array, mapped: Array, scale: float) -> Array:
    """Return T_world_camera (N, 4, 4): the map's path times `scale`, and the estimated motion where it has no pose.

    estimated: (N, 4, 4), in the unit of the predicted depth.  mapped: (N, 4, 4), NaN where a frame is lost.
    The first frame is the world. Raises ValueError where the map places no frame.
    """
    known = np.asarray(np.isfinite(mapped).all(axis=(1, 2)), bool)
    if not known.any():
        raise ValueError("the map places none of the frames")
    scaled = mapped.copy()
    scaled[:, :3, 3] *= scale
    path = np.empty_like(estimated)
    first = int(known.argmax())
    path[first] = scaled[first]
    for row in range(first + 1, len(path)):
        motion = np.linalg.inv(estimated[row - 1]) @ estimated[row]
        path[row] = scaled[row] if known[row] else path[row - 1] @ motion
    for row in range(first - 1, -1, -1):
        path[row] = path[row + 1] @ np.linalg.inv(estimated[row + 1]) @ estimated[row]
    return np.asarray(np.linalg.inv(path[0]) @ path)


def compare_paths(first: Array, second: Array) -> PathDifference:
    """Return how far the second path (N, 4, 4) differs from the first one, N at least 3."""
    source, target = (torch.from_numpy(T[:, :3, 3].copy()) for T in (second, first))
    length = float((target[1:] - target[:-1]).norm(dim=-1).sum())
    distance = umeyama(source, target, "sim3").apply(source) - target
    rms = float(distance.square().sum(-1).mean().sqrt())
    turned = count_reversing(second) & ~count_reversing(first)
    return PathDifference(rms / length if length else math.nan, int(turned.sum()))


def count_reversing(T_world_camera: Array) -> NDArray[np.bool_]:
    """Return (N - 2,), whether each step goes against the one before: by more than 90 degrees.

    Examples:
        >>> T = np.tile(np.eye(4), (4, 1, 1)); T[:, 2, 3] = (0, 1, 2, 1.5)
        >>> count_reversing(T).tolist()
        [False, True]
    """
    steps = np.diff(T_world_camera[:, :3, 3], axis=0)
    return np.asarray((steps[1:] * steps[:-1]).sum(1) < 0)
