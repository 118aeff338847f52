"""Use the trajectory of a map (`stadia map`) for odometry, in the unit of the predicted depth."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import DepthScale
from stadia.data.frame_preparation import Frame, PredictedFrame
from stadia.data.frame_selection import spread_indices
from stadia.data.video.map_geometry import MAX_FOCAL_DIFFERENCE
from stadia.data.video.video_map import StoredMap, find_reliable, find_usable_map
from stadia.geometry.align import umeyama
from stadia.geometry.poses import invert_pose
from stadia.geometry.scale_fit import HEIGHT_DEVIATION
from stadia.sfm.odometry.camera_path import CameraPath

Array = NDArray[np.float64]

PredictDepth = Callable[[Frame], tuple[NDArray[np.floating], Array]]
"""A function that returns the inverse depth (h, w) of a frame, and K (3, 3) in pixels for that size."""

MIN_POINTS = 20  # points of a keyframe in its image that a ratio of depths needs
MEASURED_FRAMES = 20  # keyframes whose predicted depth is compared with the map

MAX_DIFFERENCE = 0.05
"""RMS distance between the map's trajectory and the one from predicted depth, as a share of the length, above which the
one with more reversing steps is dropped.
"""

MIN_PLACED = 0.5  # share of the path's frames that a map must place

ROAD_AHEAD = 6.0, 20.0
"""Part of the road whose predicted depth is compared with the map, in heights of the camera: in reach of cameras with
fields of view of 35 to 120 degrees. Points of a drive are compared up to its end, because networks see far things too
near.
"""

NETWORK_DEVIATION = 0.2
"""Relative standard deviation of the metres of predicted depth. The length of a path has this error even if all 
keyframes agree: 13 to 36 % was measured for `base`.
"""

MAX_LENGTH_DEVIATION = 0.4
"""Relative standard deviation of the unit of a map above which a path has no length in metres."""


@dataclass(frozen=True, slots=True)
class MapUnit:
    """Length of a map's unit in the unit of predicted depth. Every command uses this measurement.

    size: units of predicted depth (metres for a network in metres) per unit of the map.
    deviation: relative standard deviation of `size`.
    by_points, by_road: the size by the depth at the map's points, and on its road; None if it was not measured.
    """

    size: float
    deviation: float
    by_points: float | None = None
    by_road: float | None = None

    @property
    def is_known(self) -> bool:
        """Return whether lengths in this unit mean something: the deviation is at most MAX_LENGTH_DEVIATION."""
        return self.deviation <= MAX_LENGTH_DEVIATION


def fuse_units(by_points: Sequence[float], by_road: Sequence[float]) -> MapUnit | None:
    """Fuse the sizes of a map's unit that keyframes gave by predicted depth.

    by_points: predicted depth over depth in the map at the points of each keyframe.
    by_road: the same on the road ahead.

    Returns the geometric mean of both medians, whose deviation contains half their difference, the scatter between
    keyframes and NETWORK_DEVIATION; None without a measurement.

    Examples:
        >>> unit = fuse_units([2.0, 2.0], [8.0])
        >>> round(unit.size, 6), unit.is_known
        (4.0, False)
    """
    measured = [np.log(np.array(sizes)) for sizes in (by_points, by_road) if len(sizes)]
    if not measured:
        return None
    middles = np.array([np.median(sizes) for sizes in measured])
    scatter = max(1.4826 * float(np.median(np.abs(sizes - np.median(sizes)))) for sizes in measured)
    deviation = math.hypot(scatter, float(np.ptp(middles)) / 2, NETWORK_DEVIATION)
    points, road = (float(np.median(sizes)) if len(sizes) else None for sizes in (by_points, by_road))
    return MapUnit(float(np.exp(middles.mean())), deviation, points, road)


@dataclass(eq=False)
class MapFollower:
    """Follow the poses of a map; while the map has none, continue by the motion from predicted depth.

    The world is the camera of the first frame.

    T_world_map: (4, 4), world of the map to this world; None until the first frame with a pose in the map.
    before: poses (4, 4) of the last frame whose motion depth gave: the returned one, and the one by depth alone.
    """

    T_world_map: Array | None = None
    before: tuple[Array, Array] | None = None

    def place(self, estimated: Array | None, mapped: Array) -> Array | None:
        """Return the pose T_world_camera (4, 4) of the next frame.

        estimated: its pose (4, 4) by predicted depth; None if unknown.
        mapped: its pose (4, 4) in the map; NaN if the map has none.

        Returns None if both are unknown.
        """
        is_known = bool(np.isfinite(mapped).all())
        if estimated is None and not is_known:
            return None
        pose: Array = np.eye(4)
        if estimated is not None and self.before is not None:
            pose = self.before[0] @ invert_pose(self.before[1]) @ estimated
        if is_known:
            if self.T_world_map is None:
                self.T_world_map = np.asarray(pose @ invert_pose(mapped))
            pose = self.T_world_map @ mapped
        if estimated is not None:
            self.before = (pose, estimated)
        return pose


def follow_map(estimated: Array, mapped: Array, scale: float) -> Array:
    """Return the trajectory T_world_camera (N, 4, 4) of a map, and the motion by predicted depth at frames without a
    pose in the map.

    estimated: (N, 4, 4) poses by predicted depth.
    mapped: (N, 4, 4) poses of the map, NaN where missing.
    scale: units of predicted depth per unit of the map.
    """
    follower = MapFollower()
    return np.array([follower.place(*poses) for poses in zip(estimated, scale_poses(mapped, scale), strict=True)])


def scale_poses(poses: Array, scale: float) -> Array:
    """Return poses (N, 4, 4) whose translations are multiplied by `scale`."""
    scaled = poses.copy()
    scaled[:, :3, 3] *= scale
    return scaled


@dataclass(eq=False)
class MappedPath:
    """The trajectory of a map in the unit of predicted depth, collected next to the trajectory that this depth gives.

    mapped: the map as stored.
    height_m: height of the camera over the road, metres, or None. With the height of the road in the map, it gives the
        scale.
    scales: predicted depth over depth in the map at its points, one value per compared keyframe.
    road_scales: the same on the road ahead, if the map has a road.
    mismatch: how the camera of the frames differs from the map's camera; "" if it does not.
    places: positions (3,) of all frames so far that have a pose.
    by_depth: positions (3,) by predicted depth alone, of the frames that depth and map both give.
    by_map: positions (3,) of the same frames by the map.
    """

    mapped: StoredMap
    height_m: float | None = None
    scales: list[float] = field(default_factory=list)
    road_scales: list[float] = field(default_factory=list)
    mismatch: str = ""
    places: list[Array] = field(default_factory=list)
    by_depth: list[Array] = field(default_factory=list)
    by_map: list[Array] = field(default_factory=list)

    @classmethod
    def find(cls, source: Path, depth_scale: DepthScale, height_m: float | None = None) -> "MappedPath | None":
        """Find the map next to a video or a folder of images.

        source: the video or folder.
        depth_scale: kind of scale of the predicted depth.
        height_m: height of the camera over the road, metres, or None.

        Returns None without a usable map, and for inverse depth up to scale and shift (which gives no scale).
        """
        found = None if depth_scale.is_affine else find_usable_map(source)
        return None if found is None else cls(found, height_m)

    @property
    def has_road_scale(self) -> bool:
        """Return whether the camera's height over the road gives the scale (both the height and the map's road are
        known).
        """
        return self.height_m is not None and self.mapped.road is not None

    @property
    def unit(self) -> MapUnit | None:
        """Return the unit of the map, by the camera's height over the road or else by predicted depth; None if neither
        gives it.
        """
        road = self.mapped.road
        if self.height_m is not None and road is not None:
            return MapUnit(
                self.height_m / road.height, math.hypot(road.height_deviation / road.height, HEIGHT_DEVIATION)
            )
        return fuse_units(self.scales, self.road_scales)

    @property
    def scale(self) -> float | None:
        """Return units of predicted depth per unit of the map; None if neither the road nor a keyframe gives the
        scale.
        """
        return None if self.unit is None else self.unit.size

    def compare_camera(self, frame: Frame) -> str:
        """Compare the focal length of a frame with the map's; return and store the difference in words as `mismatch`,
        or "".
        """
        ratio = float(frame.K[0, 0]) / frame.image.shape[1] / self.mapped.camera.relative_focal
        is_same = abs(ratio - 1) <= MAX_FOCAL_DIFFERENCE
        again = "map again with this camera"
        self.mismatch = "" if is_same else f"its focal length is {1 / ratio:.2f} times the depth's; {again}"
        return self.mismatch

    def observe(self, predict_depth: PredictDepth, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the frames unchanged, and compare the predicted depth of some keyframes with the map points they show.

        predict_depth: predicts the inverse depth of a frame.
        frames: the video frames.
        """
        points = self.mapped.read_points()
        keys: list[int] = np.asarray(points["frames"]).tolist()
        row_of_name = {self.mapped.names[key]: keys.index(key) for key in self.list_measured(keys)}
        for number, frame in enumerate(frames):
            if number == 0:
                self.compare_camera(frame)
            if frame.name in row_of_name:
                self._measure(predict_depth, frame, points, row_of_name[frame.name])
            yield frame

    def list_measured(self, keys: Sequence[int] | None = None) -> list[int]:
        """Return the numbers of at most MEASURED_FRAMES keyframes whose predicted depth is compared with the map.

        keys: numbers of all keyframes; None reads them.
        """
        keys = np.asarray(self.mapped.read_points()["frames"]).tolist() if keys is None else keys
        rows = spread_indices(len(keys), MEASURED_FRAMES)
        return [keys[row] for row in rows if keys[row] < len(self.mapped.names)]

    def _measure(self, predict_depth: PredictDepth, frame: Frame, points: dict[str, Any], row: int) -> None:
        inverse_depth, K = predict_depth(frame)
        of_frame = points["observed"][points["observed"][:, 0] == row, 1]
        seen = points["points"][of_frame[find_reliable(points)[of_frame]]].astype(np.float64)
        T = invert_pose(self.mapped.select_poses([frame.name])[0])
        inside, grids = seen @ T[:3, :3].T + T[:3, 3], [self.scales]
        compared = [inside]
        if (road := self.mapped.road) is not None:
            compared = [
                inside[inside[:, 2] < ROAD_AHEAD[1] * road.height],
                spread_road(np.array([*road.normal, road.height])),
            ]
            grids.append(self.road_scales)
        for points_ahead, scales in zip(compared, grids, strict=True):
            scale = measure_scale(inverse_depth.astype(np.float64), K, points_ahead)
            if np.isfinite(scale) and scale > 0:
                scales.append(scale)

    def follow(self, frames: Iterable[PredictedFrame]) -> Iterator[PredictedFrame]:
        """Yield predicted frames with the poses of the map; the motion by predicted depth continues it at frames
        without a pose.

        If the motion by depth ends before the map begins, nothing connects the two, and a new trajectory starts with
        the map.
        """
        follower, row_of_name = MapFollower(), {name: row for row, name in enumerate(self.mapped.names)}
        scaled = scale_poses(self.mapped.poses, math.nan if self.scale is None else self.scale)
        lost = np.full((4, 4), np.nan)
        for frame in frames:
            estimated, row = frame.T_world_camera, row_of_name.get(frame.frame.name)
            mapped = lost if row is None else scaled[row]
            is_placed = bool(np.isfinite(mapped).all())
            starts_path = is_placed and estimated is None and follower.T_world_map is None
            pose = follower.place(estimated, mapped)
            if pose is None:
                yield frame
                continue
            if starts_path:
                self.places, self.by_depth, self.by_map = [], [], []
            self.places.append(pose[:3, 3].copy())
            if estimated is not None:
                self.by_depth.append(estimated[:3, 3].copy())
                self.by_map.append(pose[:3, 3].copy())
            is_aligned = None if is_placed else frame.is_aligned
            yield replace(frame, T_world_camera=pose, is_aligned=is_aligned, starts_path=starts_path)

    def replace_path(self, path: CameraPath) -> CameraPath:
        """Replace a trajectory by the map's in the unit of the depth, unless the map does not fit; notes name it and
        the reason.

        path: the trajectory by predicted depth.
        """
        mapped, scale = self.mapped.select_poses(path.names), self.scale
        known = np.asarray(np.isfinite(mapped).all((1, 2)), bool)
        why = self.mismatch
        if not why and (len(path.names) < 3 or known.mean() < MIN_PLACED):
            why = "it places less than half of the frames"
        if why or scale is None:
            why = why or "no keyframe gives its scale"
            return path.add_notes(f"the map of the video was not used: {why}")
        T = follow_map(path.T_world_camera, mapped, scale)
        difference, steps = compare_paths(T, path.T_world_camera), len(path.names) - 2
        is_placed = known[:-2] & known[1:-1] & known[2:]  # a lost frame moves as the depth does
        by_depth, by_map = (int((count_reversing(poses) & is_placed).sum()) for poses in (path.T_world_camera, T))
        if by_map > by_depth and difference > MAX_DIFFERENCE:
            return path.add_notes(
                f"the map of the video was not used: it differs from the path by depth by {difference:.1%} of its"
                f" length and reverses in {by_map} of {steps} steps (by depth: {by_depth})"
            )
        note = (
            f"the map gives the path. The path by depth differs by {difference:.1%} of its length and reverses in"
            f" {by_depth} of {steps} steps (the map: {by_map}); {self._describe_scale(scale)}"
        )
        lost = int((~known).sum())
        of_lost = [f"{lost} frames without a pose in the map follow the depth's motion"] if lost else []
        return replace(path, T_world_camera=T).add_notes(note, *of_lost)

    def _describe_scale(self, scale: float) -> str:
        if self.has_road_scale:
            return f"the height of {self.height_m:g} m over its road gives the scale"
        deviation = 0.0 if self.unit is None else self.unit.deviation
        return f"the depth gives the scale, +- {1.96 * deviation:.0%} (95 %)"

    def describe_origin(self) -> str:
        """Return words for the map's folder and what gives its scale."""
        by = f"the height of {self.height_m:g} m over its road" if self.has_road_scale else "the predicted depth"
        return f"from {self.mapped.folder.name}, scaled by {by}"

    def lines(self, depth_scale: DepthScale) -> list[str]:
        """Return a line about the length of the trajectory, and how long the one by predicted depth is; empty without
        poses.

        depth_scale: kind of scale of the predicted depth, which determines the unit.
        """
        if len(self.places) < 2:
            return []
        name = " m" if depth_scale is DepthScale.METRES else ""
        line = f"path: {self.describe_origin()}: {_length(self.places):.4g}{name}"
        if (unit := self.unit) is not None and unit.is_known:
            line += f", +- {1.96 * unit.deviation:.0%} (95 %)"
        elif unit is not None:
            line = f"path: from {self.mapped.folder.name}; its length is unknown, because {describe_conflict(unit)}"
        by_map, by_depth = _length(self.by_map), _length(self.by_depth)
        if not by_map:
            return [line]
        return [f"{line}; by the predicted depth it is {by_depth / by_map:.2f} times as long"]


def _length(places: list[Array]) -> float:
    return float(np.linalg.norm(np.diff(np.reshape(places, (-1, 3)), axis=0), axis=1).sum())


def describe_conflict(unit: MapUnit) -> str:
    """Return words for why a map's unit by predicted depth is unknown."""
    if unit.by_points is None or unit.by_road is None:
        return "the predicted depth of its keyframes differs"
    times = max(unit.by_points / unit.by_road, unit.by_road / unit.by_points)
    return f"the predicted depth at its points and on its road differ by a factor of {times:.1f}"


def spread_road(road: Array) -> Array:
    """Return a grid of points (N, 3) on the lane ahead, in the camera's axes and the unit of the plane.

    road: (4,) normal n and height h in the camera's axes: n X + h = 0 on the road.

    Examples:
        >>> road = np.array([0, -1, 0, 1.5])
        >>> bool(np.allclose(spread_road(road) @ road[:3], -1.5))
        True
    """
    ahead, aside = np.meshgrid(np.linspace(*ROAD_AHEAD, 24), np.linspace(-1, 1, 9), indexing="ij")
    z, x = ahead.ravel() * road[3], aside.ravel() * road[3]
    return np.column_stack((x, -(road[3] + road[0] * x + road[2] * z) / road[1], z))


def measure_scale(inverse_depth: Array, K: Array, points: Array) -> float:
    """Return predicted depth over depth in the map at a keyframe: the median over its map points.

    inverse_depth: (h, w) predicted by the network.
    K: (3, 3) for that size, pixels.
    points: (N, 3) map points in the axes of the keyframe's camera, in the map's unit.

    Returns NaN if fewer than MIN_POINTS points are inside the image.
    """
    points = points[points[:, 2] > 0]
    x, y = (np.rint(K[row, row] * points[:, row] / points[:, 2] + K[row, 2]).astype(np.int64) for row in (0, 1))
    height, width = inverse_depth.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if inside.sum() < MIN_POINTS:
        return math.nan
    return float(np.median(1 / (inverse_depth[y[inside], x[inside]] * points[inside, 2])))


def compare_paths(first: Array, second: Array) -> float:
    """Return the RMS distance between two trajectories (N, 4, 4), over the length of the first.

    The second is first aligned to the first by a similarity transform, Sim(3). NaN if the length is 0.
    """
    source, target = second[:, :3, 3], first[:, :3, 3]
    length = float(np.linalg.norm(np.diff(target, axis=0), axis=-1).sum())
    distance = umeyama(source, target, "sim3").apply(source) - target
    rms = float(np.sqrt(np.square(distance).sum(-1).mean()))
    return rms / length if length else math.nan


def count_reversing(T_world_camera: Array) -> NDArray[np.bool_]:
    """Return (N - 2,) flags: whether each step between poses goes back (by more than 90 degrees) against the step
    before.
    """
    steps = np.diff(T_world_camera[:, :3, 3], axis=0)
    return np.asarray((steps[1:] * steps[:-1]).sum(1) < 0)
