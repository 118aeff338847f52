"""Camera poses, 3-D points and parallax of a map (from `stadia map`) for the video frames of a recording."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import invert_pose
from stadia.io.array_files import StackedArray

Array = NDArray[np.float64]

MEDIAN_DEPTH = 10.0
"""Median depth after the unit of a map is scaled; depth networks start near this depth.

On a road the height of the camera gives the unit; otherwise the median distance of the map's points.
"""

MIN_PARALLAX = 0.003  # smallest median displacement by translation, divided by the image width, of a pair of frames
MAX_STEPS = 8  # frames between the two of a pair
MIN_SEEN = 10  # points for a parallax
MAX_FOCAL_DIFFERENCE = 0.03  # relative, between map and data
REGION, HELD_OUT = 0.1, 5  # edge of a region of points, in median distances, and one in so many that trains nothing


@dataclass(frozen=True, slots=True, eq=False)
class StandingPoints:
    """Map points that do not move in the world, as one video frame sees them.

    xy: (M, 2) positions in pixels.
    z: (M,) depth in the map's unit, which is the same for all frames.
    road: (4,) plane of the road in the camera's coordinate frame: unit normal, and height of the camera in the map's
        unit; None if unknown.
    """

    xy: Array
    z: Array
    road: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MapGeometry:
    """A map (camera poses and 3-D points) as the N video frames of a recording see it.

    poses: (N, 4, 4) T_world_camera in the map's unit; NaN for frames without a pose.
    points: (P, 3) points in the world's coordinate frame.
    seen: for each frame the indices of the points that it sees.
    focal: focal length divided by the image width.
    road: (4,) plane of the road in the coordinate frame of each camera: unit normal, and height of the camera; None if
        unknown.
    row_of_name: index of each frame by its name.
    road_deviation: relative standard deviation of the camera height in the unit of the map.
    movable: one bit for each pixel that can move, for all frames of the video by number; None without masks.
    stored_unit: length, in the unit of `poses` and `points`, of one unit of the map's files.
    """

    poses: Array
    points: Array
    seen: tuple[NDArray[np.int64], ...]
    focal: float
    road: Array | None
    row_of_name: Mapping[str, int] = field(default_factory=dict)
    road_deviation: float = 0.0
    movable: StackedArray | None = None
    stored_unit: float = 1.0

    def select_frames(self, kept: Sequence[int]) -> "MapGeometry":
        """Return the map as only the frames with these indices see it, in this order."""
        new_row = {row: new for new, row in enumerate(kept)}
        return replace(
            self,
            poses=self.poses[list(kept)],
            seen=tuple(self.seen[index] for index in kept),
            row_of_name={name: new_row[row] for name, row in self.row_of_name.items() if row in new_row},
        )

    def scale(self, factor: float) -> "MapGeometry":
        """Return the map in a different unit: all lengths are multiplied by a factor."""
        poses, road = self.poses.copy(), None if self.road is None else self.road.copy()
        poses[:, :3, 3] *= factor
        if road is not None:
            road[3] *= factor
        return replace(self, poses=poses, points=self.points * factor, road=road, stored_unit=self.stored_unit * factor)

    def select_points(self, *, is_held_out: bool) -> "MapGeometry":
        """Return the map with only the held-out points, about a fifth, or with only the remaining ones.

        No training uses the held-out points.

        Whole regions are held out, because a network that learns a point also learns its neighbors. The choice does not
        depend on the unit.

        is_held_out: true selects the held-out points, false the remaining ones.
        """
        centered = self.points - np.median(self.points, axis=0) if len(self.points) else self.points
        edge = REGION * float(np.median(np.linalg.norm(centered, axis=1))) if len(self.points) else 1.0
        regions = np.floor(centered / max(edge, 1e-12)).astype(np.int64)
        chosen = ((regions * (73856093, 19349663, 83492791)).sum(1) % HELD_OUT == 0) == is_held_out
        return replace(self, seen=tuple(rows[chosen[rows]] for rows in self.seen))

    def points_in_camera(self, index: int) -> Array:
        """Return the points (M, 3) that a video frame sees, in its camera's coordinate frame.

        A frame without a pose has no points.
        """
        if not np.isfinite(self.poses[index]).all():
            return np.empty((0, 3))
        T = invert_pose(self.poses[index])
        inside = self.points[self.seen[index]] @ T[:3, :3].T + T[:3, 3]
        return inside[inside[:, 2] > 1e-6]

    def find_points(self, name: str, focal: float, K: Array) -> StandingPoints | None:
        """Return the static points that a video frame sees, in pixels and depth.

        The result is None for an unknown frame, or if the focal length differs from the map's by more than 3 %.

        name: name of the frame.
        focal: focal length divided by image width, fx / width, of the camera.
        K: (3, 3) intrinsics that belong to the pixels.
        """
        row = self.row_of_name.get(name)
        if row is None or abs(focal / self.focal - 1) > MAX_FOCAL_DIFFERENCE:
            return None
        inside = self.points_in_camera(row)
        xy = inside[:, :2] / inside[:, 2:] * (K[0, 0], K[1, 1]) + K[:2, 2]
        return StandingPoints(xy, inside[:, 2], self.road)

    def find_road_normal(self, focal: float) -> Array | None:
        """Return the unit normal (3,) of the road in the camera's coordinate frame; None if it is unknown.

        It points towards the camera.

        focal: focal length divided by image width, fx / width, of the camera, which may differ from the map's.
        """
        if self.road is None:
            return None
        turned = self.road[:3] * (focal / self.focal, focal / self.focal, 1)
        return np.asarray(turned / np.linalg.norm(turned))

    def measure_parallax(self, first: int, second: int) -> float | None:
        """Return the median displacement between two video frames that translation causes.

        It is a share of the image width.

        The displacement by rotation is removed. The result is None if a pose is unknown or too few points are seen.

        first, second: indices of the two frames.
        """
        inside = self.points_in_camera(first)
        if len(inside) < MIN_SEEN or not np.isfinite(self.poses[second]).all():
            return None
        T = invert_pose(self.poses[second]) @ self.poses[first]
        turned = inside @ T[:3, :3].T
        moved = turned + T[:3, 3]
        is_ahead = (turned[:, 2] > 1e-6) & (moved[:, 2] > 1e-6)
        if is_ahead.sum() < MIN_SEEN:
            return None
        shift = moved[is_ahead, :2] / moved[is_ahead, 2:] - turned[is_ahead, :2] / turned[is_ahead, 2:]
        return self.focal * float(np.median(np.linalg.norm(shift, axis=1)))

    def find_neighbor(self, index: int, offset: int) -> int | None:
        """Return the index of the nearest video frame with enough parallax to a given one, or None.

        index: index of the given frame.
        offset: -1 searches before the frame and 1 after it; with 2 the search continues from the frame found.
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
