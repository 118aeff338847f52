"""Motion, points and parallax of a map for the frames of a recording, in one unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MEDIAN_DEPTH = 10.0
"""Typical distance in the unit of the geometry, near which a network for one camera starts: the median of the points
from the key frames that observe them, or so many heights of the camera ahead on a road.
"""

MIN_PARALLAX = 0.003
"""Median displacement of points by the motion alone, over the image's width, from which two frames make a pair."""

MAX_STEPS = 8  # frames between the two of a pair
MIN_SEEN = 10  # points that show the parallax
MAX_FOCAL_DIFFERENCE = 0.03  # of the map's focal length from that of the data


@dataclass(frozen=True, slots=True, eq=False)
class StandingPoints:
    """Points of a frame that stand.

    xy: (M, 2) pixels of the frame's image.  z: (M,) in one unit for all frames.
    road: (4,) plane of the road in the camera's axes, normal and height in that unit; None where it is not known.
    """

    xy: Array
    z: Array
    road: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MapGeometry:
    """A map as the frames of a recording see it.

    poses: (N, 4, 4) T_world_camera of the frames, NaN where a frame is lost.
    points: (P, 3), in the world of the poses.
    seen: for each frame the rows of the points that the key frames before and after it observe.
    focal: focal length over the image's width.
    road: (4,) plane in each camera's axes, normal and height; None where the map has none.
    row_of_name: row of each frame by its name.
    road_deviation: relative standard deviation of the camera's height over the road, in the unit of the map.
    """

    poses: Array
    points: Array
    seen: tuple[NDArray[np.int64], ...]
    focal: float
    road: Array | None
    row_of_name: Mapping[str, int] = field(default_factory=dict)
    road_deviation: float = 0.0

    def select_frames(self, kept: Sequence[int]) -> MapGeometry:
        """Return the geometry of some of the frames."""
        new_row = {row: new for new, row in enumerate(kept)}
        return replace(
            self,
            poses=self.poses[list(kept)],
            seen=tuple(self.seen[index] for index in kept),
            row_of_name={name: new_row[row] for name, row in self.row_of_name.items() if row in new_row},
        )

    def scale(self, factor: float) -> MapGeometry:
        """Return the geometry with all lengths multiplied by a factor."""
        poses, road = self.poses.copy(), None if self.road is None else self.road.copy()
        poses[:, :3, 3] *= factor
        if road is not None:
            road[3] *= factor
        return replace(self, poses=poses, points=self.points * factor, road=road)

    def points_in_camera(self, index: int) -> Array:
        """Return (M, 3), the points that a frame sees in the axes of its camera; empty where it is lost."""
        if not np.isfinite(self.poses[index]).all():
            return np.empty((0, 3))
        T = np.linalg.inv(self.poses[index])
        inside = self.points[self.seen[index]] @ T[:3, :3].T + T[:3, 3]
        return inside[inside[:, 2] > 1e-6]

    def find_points(self, name: str, focal: float, K: Array) -> StandingPoints | None:
        """Return the points of a frame in pixels of an image with this K; None for a frame or a camera of others.

        focal: fx of the whole frame over its width.
        """
        row = self.row_of_name.get(name)
        if row is None or abs(focal / self.focal - 1) > MAX_FOCAL_DIFFERENCE:
            return None
        inside = self.points_in_camera(row)
        xy = inside[:, :2] / inside[:, 2:] * (K[0, 0], K[1, 1]) + K[:2, 2]
        return StandingPoints(xy, inside[:, 2], self.road)

    def find_road_normal(self, focal: float) -> Array | None:
        """Return the road's normal (3,), towards the camera, for a camera with this fx / width; None without a road.

        The horizon stays on the same pixels.

        Examples:
            >>> geometry = MapGeometry(np.eye(4)[None], np.empty((0, 3)), (), 1.0, np.array([0, -0.8, 0.6, 1.5]))
            >>> geometry.find_road_normal(1.0).round(6).tolist()
            [0.0, -0.8, 0.6]
        """
        if self.road is None:
            return None
        turned = self.road[:3] * (focal / self.focal, focal / self.focal, 1)
        return np.asarray(turned / np.linalg.norm(turned))

    def measure_parallax(self, first: int, second: int) -> float | None:
        """Return the median displacement of points by the motion without the rotation, over the image's width.

        None where a frame is lost or sees too few points.
        """
        inside = self.points_in_camera(first)
        if len(inside) < MIN_SEEN or not np.isfinite(self.poses[second]).all():
            return None
        T = np.linalg.inv(self.poses[second]) @ self.poses[first]
        turned = inside @ T[:3, :3].T
        moved = turned + T[:3, 3]
        is_ahead = (turned[:, 2] > 1e-6) & (moved[:, 2] > 1e-6)
        if is_ahead.sum() < MIN_SEEN:
            return None
        shift = moved[is_ahead, :2] / moved[is_ahead, 2:] - turned[is_ahead, :2] / turned[is_ahead, 2:]
        return self.focal * float(np.median(np.linalg.norm(shift, axis=1)))

    def find_neighbor(self, index: int, offset: int) -> int | None:
        """Return the frame that makes a pair with another: the first one with enough parallax, before or after it.

        offset: -1 or 1 is the first such frame before or after, 2 the one that is as far again.  None where there is
        none within MAX_STEPS frames.
        """
        way, at = (1 if offset > 0 else -1), index
        for _ in range(abs(offset)):
            for step in range(1, MAX_STEPS + 1):
                following = at + way * step
                if not 0 <= following < len(self.poses):
                    return None
                parallax = self.measure_parallax(at, following)
                if parallax is not None and parallax >= MIN_PARALLAX:
                    at = following
                    break
            else:
                return None
        return at
