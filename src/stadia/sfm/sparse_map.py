"""The result of structure from motion (camera, poses, points, observations) as NumPy arrays."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.core.progress import TrackProgress
from stadia.data.frame_selection import KeyFrames
from stadia.geometry.cameras import focal_px_from_fov
from stadia.geometry.lens import distort
from stadia.sfm.frame_stream import FrameStream, SmallFrame

Array = NDArray[np.float64]


def import_pycolmap() -> Any:
    """Import the package pycolmap, silence its log, and keep the signal handlers of Python; return the module.

    Raises StadiaError if it is not installed.
    """
    is_first = "pycolmap" not in sys.modules
    try:
        import pycolmap
    except ImportError as error:
        expected, fix = "the package pycolmap", "pip install pycolmap"
        raise StadiaError("stadia map", found="no pycolmap", expected=expected, fix=fix) from error
    pycolmap.logging.minloglevel = 3
    if is_first and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):  # pycolmap's handlers print a stack trace and end the program
            if (handler := signal.getsignal(number)) is not None:
                signal.signal(number, handler)
    return pycolmap


@dataclass(frozen=True, slots=True)
class LensCamera:
    """A pinhole camera with square pixels and OpenCV's distortion, for one image size. Pixel centers are at integers.

    focal_px: focal length, pixels.
    center_px: principal point (x, y), pixels.
    distortion: coefficients k1, k2, p1, p2.
    height, width: size of the images, pixels.
    """

    focal_px: float
    center_px: tuple[float, float]
    distortion: tuple[float, float, float, float]
    height: int
    width: int

    @property
    def K(self) -> Array:
        """Return the intrinsics (3, 3), pixels."""
        return np.array([[self.focal_px, 0, self.center_px[0]], [0, self.focal_px, self.center_px[1]], [0, 0, 1]])

    def project(self, points: Array) -> Array:
        """Project points (N, 3) in the camera's axes to pixels (N, 2), with distortion.

        Examples:
            >>> LensCamera(100, (50, 40), (0, 0, 0, 0), 81, 101).project(np.array([[1.0, 0, 2]])).tolist()
            [[100.0, 40.0]]
        """
        distorted = distort(points[:, :2] / points[:, 2:], np.array(self.distortion))
        return self.focal_px * distorted + np.array(self.center_px)

    def undistort(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an image (h, w) as a pinhole camera with the same K would see it; 0 outside the lens's view."""
        import cv2

        return np.asarray(cv2.undistort(image, self.K, np.array(self.distortion)), np.uint8)

    def resized(self, height: int, width: int) -> LensCamera:
        """Return the camera of the same images resized to (height, width), whose aspect ratio is the same within a
        pixel.
        """
        across, down = width / self.width, height / self.height
        center = (self.center_px[0] + 0.5) * across - 0.5, (self.center_px[1] + 0.5) * down - 0.5
        return LensCamera(self.focal_px * math.sqrt(across * down), center, self.distortion, height, width)

    def to_pycolmap(self) -> Any:
        """Convert to a pycolmap.Camera of the model OPENCV; in COLMAP, the center of the first pixel is at one half."""
        camera = import_pycolmap().Camera.create_from_model_name(1, "OPENCV", self.focal_px, self.width, self.height)
        x, y = self.center_px
        camera.params = np.array([self.focal_px, self.focal_px, x + 0.5, y + 0.5, *self.distortion])
        camera.has_prior_focal_length = True
        return camera

    @classmethod
    def from_fov(cls, fov_deg: float, height: int, width: int) -> LensCamera:
        """Create a pinhole camera without distortion, whose principal point is in the middle of the image.

        fov_deg: horizontal field of view, degrees.
        height, width: size of the image, pixels.
        """
        focal_px = focal_px_from_fov(fov_deg, width)
        return cls(focal_px, ((width - 1) / 2, (height - 1) / 2), (0.0, 0.0, 0.0, 0.0), height, width)

    @classmethod
    def from_pycolmap(cls, camera: Any) -> LensCamera:
        """Convert a pycolmap.Camera of the model PINHOLE, SIMPLE_RADIAL, RADIAL or OPENCV."""
        names = [name.strip() for name in camera.params_info.split(",")]
        values: dict[str, float] = dict(zip(names, map(float, camera.params), strict=True))
        k1 = values.get("k", values.get("k1", 0.0))
        distortion = k1, values.get("k2", 0.0), values.get("p1", 0.0), values.get("p2", 0.0)
        center = values["cx"] - 0.5, values["cy"] - 0.5
        return cls(float(camera.mean_focal_length()), center, distortion, camera.height, camera.width)


MAX_ROW_GAP = 15
"""Largest number of video frames between two keyframes whose poses give the camera's speed."""

MIN_DEPTH_SHARE = 0.25
"""Smallest depth of a point in the keyframes before and after, as a share of its depth in the keyframe; a point that
comes nearer leaves the image.
"""


@dataclass(frozen=True, slots=True, eq=False)
class SparseMap:
    """F keyframes and P points in one world, up to scale, with M observations of points in keyframes.

    camera: the camera of the small frames.
    frames: (F,) frame indices of the keyframes, rising.
    T_camera_world: (F, 4, 4) poses of the keyframes, world to camera, at the time of their middle row.
    points: (P, 3) in the world.
    colors: (P, 3) uint8 RGB.
    observed: (M, 2), for each observation the row of its keyframe in `frames` and the row of its point in `points`.
    xy: (M, 2), pixel of each observation.
    readout: time from the readout of the first image row (of a portrait image: column) to the last, in frame intervals;
        0 for a global shutter.
    """

    camera: LensCamera
    frames: NDArray[np.int64]
    T_camera_world: Array
    points: Array
    colors: NDArray[np.uint8]
    observed: NDArray[np.int64]
    xy: Array
    readout: float = 0.0

    def in_camera(self) -> Array:
        """Return (M, 3), for each observation its point in the axes of its keyframe's camera."""
        return self.move_to_cameras(self.observed[:, 0], self.points[self.observed[:, 1]])

    def move_to_cameras(self, rows: NDArray[np.int64], points: Array) -> Array:
        """Return points (N, 3) of the world in the axes of the keyframes `rows` (N,); (N, 3)."""
        T = self.T_camera_world[rows]
        return np.einsum("mij,mj->mi", T[:, :3, :3], points) + T[:, :3, 3]

    def residuals_px(self) -> Array:
        """Return (M, 2), for each observation the projected minus the observed pixel."""
        projected = self.camera.project(self.in_camera())
        if self.readout:
            projected += self.readout * self.differentiate_rows()
        return projected - self.xy

    def differentiate_rows(self) -> Array:
        """Differentiate the projected pixels of the M observations with respect to `readout`; returns (M, 2)."""
        motion = self.measure_motion(self.observed[:, 0], self.points[self.observed[:, 1]])
        return motion * self.find_row_times(self.xy)[:, None]

    def find_row_times(self, xy: Array) -> Array:
        """Return (N,), when pixels (N, 2) are read after the middle of the image, as a share of the readout time.

        A phone that is held upright reads its images by columns.
        """
        size = (self.camera.width, self.camera.height)[self._read_axis]
        return xy[:, self._read_axis] / (size - 1) - 0.5

    @property
    def _read_axis(self) -> int:
        """Return 1 if the rows of the image are read one after the other, or 0 for columns."""
        return int(self.camera.height <= self.camera.width)

    def measure_turn_deg(self) -> float:
        """Return the largest rotation angle between any two keyframes, degrees."""
        R = self.T_camera_world[:, :3, :3]
        cosine = (np.einsum("aij,bij->ab", R, R) - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosine.min(initial=1.0), -1, 1))))

    def measure_motion(self, rows: NDArray[np.int64], points: Array) -> Array:
        """Measure how fast points move in the images, by the poses of the keyframes before and after.

        The motion is 0 without such a keyframe, and for points that leave the view.

        rows: (N,) keyframes, as rows of `frames`.
        points: (N, 3) in the world.

        Returns (N, 2), pixels per frame interval.
        """
        inside = self.move_to_cameras(rows, points)
        is_ahead = inside[:, 2] > 0
        here = self.camera.project(np.where(is_ahead[:, None], inside, 1.0))
        total, weights = np.zeros((len(rows), 2)), np.full((len(rows), 1), 1e-12)
        for side in (-1, 1):
            other = np.clip(rows + side, 0, len(self.frames) - 1)
            gap = self.frames[other] - self.frames[rows]
            moved = self.move_to_cameras(other, points)
            is_known = is_ahead & (gap != 0) & (np.abs(gap) <= MAX_ROW_GAP)
            is_known &= moved[:, 2] > MIN_DEPTH_SHARE * inside[:, 2]
            gap = np.where(is_known, gap, 1)[:, None]
            weight = is_known[:, None] / np.abs(gap)  # The two sides give the slope of a parabola.
            there = self.camera.project(np.where(is_known[:, None], moved, 1.0))
            total += weight * (there - here) / gap
            weights += weight
        return total / weights

    def move_to_rows(self, row: int, points: Array, xy: Array) -> Array:
        """Move pixels of the middle row's time to the place at which a rolling shutter sees them.

        row: the keyframe, as a row of `frames`.
        points: (N, 3) in the world.
        xy: (N, 2) pixels to which the keyframe's pose projects the points.

        Returns (N, 2) pixels.
        """
        if not self.readout:
            return xy
        motion = self.readout * self.measure_motion(np.full(len(points), row), points)
        times = self.find_row_times(xy)
        gained = self.find_row_times(xy + motion) - times  # a point that moves across the rows is read at another time
        return xy + motion * (times / np.maximum(1 - gained, MIN_DEPTH_SHARE))[:, None]

    def measure_noise_px(self) -> float:
        """Return a robust standard deviation of the residuals in x or y, pixels (1.4826 times the median absolute
        residual).
        """
        return float(1.4826 * np.median(np.abs(self.residuals_px())))

    def track_lengths(self) -> NDArray[np.int64]:
        """Return (P,), for each point the number of keyframes that observe it."""
        return np.bincount(self.observed[:, 1], minlength=len(self.points))

    def point_deviations(self) -> tuple[Array, float]:
        """Return the covariances (P, 3, 3) of the points for fixed cameras, and the robust standard deviation of pixels
        used.
        """
        noise_px = max(self.measure_noise_px(), 1e-3)
        inside = self.in_camera()
        z = inside[:, 2]
        J = np.zeros((len(inside), 2, 3))
        J[:, 0, 0] = J[:, 1, 1] = self.camera.focal_px / z
        J[:, 0, 2], J[:, 1, 2] = (
            -self.camera.focal_px * inside[:, 0] / z**2,
            -self.camera.focal_px * inside[:, 1] / z**2,
        )
        J = J @ self.T_camera_world[self.observed[:, 0], :3, :3]
        information = np.zeros((len(self.points), 3, 3))
        np.add.at(information, self.observed[:, 1], np.einsum("mki,mkj->mij", J, J) / noise_px**2)
        scale = np.maximum(np.trace(information, axis1=1, axis2=2), 1e-30)[:, None, None]
        return np.linalg.pinv(information / scale, rcond=1e-12, hermitian=True) / scale, noise_px

    def relative_deviations(self) -> Array:
        """Return (P,), for each point its relative standard deviation of depth.

        This is the largest standard deviation along the ray of a keyframe, over the distance to that keyframe.
        """
        covariance, _ = self.point_deviations()
        centers = -np.einsum("fji,fj->fi", self.T_camera_world[:, :3, :3], self.T_camera_world[:, :3, 3])
        rays = self.points[self.observed[:, 1]] - centers[self.observed[:, 0]]
        distance = np.linalg.norm(rays, axis=1)
        along = (
            np.einsum("mi,mij,mj->m", rays, covariance[self.observed[:, 1]], rays) / np.maximum(distance, 1e-12) ** 4
        )
        relative = np.full(len(self.points), 0.0)
        np.maximum.at(relative, self.observed[:, 1], np.sqrt(np.maximum(along, 0)))
        return relative


def from_reconstruction(model: Any, colors: Mapping[int, NDArray[np.uint8]]) -> SparseMap:
    """Convert a pycolmap.Reconstruction with one camera, whose images are named by frame index, to arrays.

    model: the reconstruction.
    colors: for each keyframe by its index, the colors (N, 3) of its features; points without a color are black.
    """
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    row_of_point = {point_id: row for row, point_id in enumerate(sorted(model.points3D))}
    points = np.array([model.points3D[point_id].xyz for point_id in row_of_point]).reshape(-1, 3)
    shown = np.zeros((len(points), 3), np.uint8)
    observed, xy, poses = list[tuple[int, int]](), list[Array](), list[Array]()
    for row, image in enumerate(images):
        T = np.eye(4)
        T[:3] = image.cam_from_world().matrix()
        poses.append(T)
        of_features = colors.get(int(image.name))
        for place, feature in enumerate(image.points2D):
            if feature.has_point3D() and feature.point3D_id in row_of_point:
                observed.append((row, row_of_point[feature.point3D_id]))
                xy.append(feature.xy)
                if of_features is not None:
                    shown[observed[-1][1]] = of_features[place]
    return SparseMap(
        camera=LensCamera.from_pycolmap(next(iter(model.cameras.values()))),
        frames=np.array([int(image.name) for image in images], np.int64),
        T_camera_world=np.array(poses).reshape(-1, 4, 4),
        points=points,
        colors=shown,
        observed=np.array(observed, np.int64).reshape(-1, 2),
        xy=np.array(xy).reshape(-1, 2) - 0.5,
    )


MIN_SHARED_FRAMES = 3


def join_maps(maps: list[SparseMap]) -> list[SparseMap]:
    """Join maps of successive parts of a video: a map that shares keyframes with the one before is moved onto it.

    Returns the maps that could not be joined with each other; the one with most keyframes comes first.
    """
    joined = [maps[0]]
    for following in maps[1:]:
        shared = np.intersect1d(joined[-1].frames, following.frames)
        if len(shared) < MIN_SHARED_FRAMES:
            joined.append(following)
        else:
            joined[-1] = _join_two(joined[-1], following, shared)
    return sorted(joined, key=lambda part: -len(part.frames))


def _join_two(first: SparseMap, second: SparseMap, shared: NDArray[np.int64]) -> SparseMap:
    """Return both maps in the frame of the first; shared frames keep the first's pose and observations."""
    rows_first, rows_second = np.searchsorted(first.frames, shared), np.searchsorted(second.frames, shared)
    scale, R, t = align_cameras(second.T_camera_world[rows_second], first.T_camera_world[rows_first])
    points = scale * second.points @ R.T + t
    T = second.T_camera_world.copy()
    T[:, :3, :3] = second.T_camera_world[:, :3, :3] @ R.T
    T[:, :3, 3] = scale * second.T_camera_world[:, :3, 3] - np.einsum("fij,j->fi", T[:, :3, :3], t)
    is_new = ~np.isin(second.frames, first.frames)
    observed = second.observed[is_new[second.observed[:, 0]]]
    xy = second.xy[is_new[second.observed[:, 0]]]
    kept, row_of_point = np.unique(observed[:, 1], return_inverse=True)
    row_of_frame = np.cumsum(is_new) - 1 + len(first.frames)
    moved = np.column_stack((row_of_frame[observed[:, 0]], row_of_point.ravel() + len(first.points)))
    return SparseMap(
        camera=first.camera,
        frames=np.concatenate((first.frames, second.frames[is_new])),
        T_camera_world=np.concatenate((first.T_camera_world, T[is_new])),
        points=np.concatenate((first.points, points[kept])),
        colors=np.concatenate((first.colors, second.colors[kept])),
        observed=np.concatenate((first.observed, moved)),
        xy=np.concatenate((first.xy, xy)),
    )


def align_cameras(T_source: Array, T_target: Array) -> tuple[float, Array, Array]:
    """Find the similarity transform (s, R, t) between two worlds with known poses of the same N cameras.

    The rotation is the mean over the cameras, since positions on a straight line do not determine it.

    T_source: (N, 4, 4) poses T_camera_world in the source world.
    T_target: (N, 4, 4) poses T_camera_world in the target world.

    Returns scale s, rotation R (3, 3) and translation t (3,): x_target = s R x_source + t.

    Examples:
        >>> T = np.tile(np.eye(4), (2, 1, 1)); T[1, 2, 3] = -1
        >>> moved = T.copy(); moved[:, :3, 3] *= 2
        >>> round(align_cameras(T, moved)[0], 6)
        2.0
    """
    R_each = np.einsum("nji,njk->nik", T_target[:, :3, :3], T_source[:, :3, :3])
    U, _, Vt = np.linalg.svd(R_each.sum(0))
    R = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    centers = [-np.einsum("nji,nj->ni", T[:, :3, :3], T[:, :3, 3]) for T in (T_source, T_target)]
    turned = centers[0] @ R.T
    middle = turned.mean(0), centers[1].mean(0)
    scale = float(np.sum((turned - middle[0]) * (centers[1] - middle[1])) / np.sum((turned - middle[0]) ** 2))
    return scale, R, middle[1] - scale * middle[0]


MAX_TRACKED = 250
MIN_TRACKED = 20
MAX_BACK_PX = 0.7  # distance of a point that is tracked forward and back
MAX_RESIDUAL_PX = 3.0
MIN_INLIERS = 0.5
PRIOR_SHARE = 0.25
"""Standard deviation of a camera position about the straight line between the two surrounding keyframes, as a share of
the distance between these keyframes.
"""

_WINDOW = (21, 21)


class FrameStatus(StrEnum):
    """How the pose of a video frame was found.

    key: a keyframe; its pose is a variable of the bundle adjustment.
    tracked: from map points that were tracked into this image.
    standing: the camera stands, so the pose of the previous video frame is taken.
    interpolated: between the poses of the surrounding keyframes, since the image itself gives no pose.
    lost: no pose.
    """

    KEY = "key"
    TRACKED = "tracked"
    STANDING = "standing"
    INTERPOLATED = "interpolated"
    LOST = "lost"


@dataclass(frozen=True, slots=True, eq=False)
class PlacedFrame:
    """A video frame with its pose.

    index: number of the frame in the input.
    name: name of the frame in the files.
    time_s: time in the video, seconds; None if unknown.
    status: how the pose was found.
    T_camera_world: (4, 4), world of the map to camera; None if the frame is lost.
    """

    index: int
    name: str
    time_s: float | None
    status: FrameStatus
    T_camera_world: Array | None


@dataclass(slots=True, eq=False)
class _Tracks:
    """Points of the map in the last image.

    gray: (h, w).
    xy: (N, 1, 2) float32, pixels.
    points: (N, 3).
    motion: (N, 1, 2) float32, motion of the pixels since the image before.
    """

    gray: NDArray[np.uint8]
    xy: NDArray[np.float32]
    points: Array
    motion: NDArray[np.float32]

    def follow(self, gray: NDArray[np.uint8]) -> None:
        """Track to the next image; points that do not return are dropped."""
        if len(self.xy):
            moved, there, _ = cv2.calcOpticalFlowPyrLK(self.gray, gray, self.xy, None, winSize=_WINDOW, maxLevel=3)
            back, again, _ = cv2.calcOpticalFlowPyrLK(gray, self.gray, moved, None, winSize=_WINDOW, maxLevel=3)
            kept = (there[:, 0] > 0) & (again[:, 0] > 0)
            kept &= np.linalg.norm((back - self.xy)[:, 0], axis=1) < MAX_BACK_PX
            self.xy, self.points, self.motion = moved[kept], self.points[kept], (moved - self.xy)[kept]
        self.gray = gray


def stack_poses(placed: Sequence[PlacedFrame]) -> Array:
    """Stack the poses of N video frames as T_camera_world (N, 4, 4); all entries of a lost frame are NaN."""
    unknown = np.full((4, 4), np.nan)
    return np.array([unknown if frame.T_camera_world is None else frame.T_camera_world for frame in placed])


def stack_measured_poses(placed: Sequence[PlacedFrame]) -> Array:
    """Stack the poses of N video frames as T_camera_world (N, 4, 4) as `stack_poses` does, but with NaN for frames
    whose pose is interpolated: their images did not take part.
    """
    T = stack_poses(placed)
    T[[frame.status is FrameStatus.INTERPOLATED for frame in placed]] = np.nan
    return T


def count_status(frames: Sequence[PlacedFrame]) -> dict[FrameStatus, int]:
    """Count the frames of each status; a status without frames is absent."""
    statuses = [frame.status for frame in frames]
    return {status: statuses.count(status) for status in FrameStatus if status in statuses}


def place_all_frames(
    stream: FrameStream, keys: KeyFrames, maps: Sequence[SparseMap], track: TrackProgress, *, is_film: bool = True
) -> list[list[PlacedFrame]]:
    """Find the pose of every video frame in the largest map, and in each further map the poses of frames lost before
    it.

    stream: the video frames.
    keys: the keyframes, with the cuts between scenes.
    maps: maps of parts of the input that could not be joined, the largest first; each has a world and a scale of its
        own.
    track: shows progress.
    is_film: whether poses between keyframes are interpolated, if too few points can be tracked.

    Returns a list with one entry per map: first all frames of the input, with their poses in the largest map; then, for
        each further map, only the frames that have a pose in it and are lost in the largest map.
    """
    standing, names = frozenset(keys.standing), stream.stems()
    cuts = [frozenset(keys.cuts) | _list_other_frames(part, maps) for part in maps]
    shown = track(stream, keys.frames - stream.first, "placing frames")
    placed = list(place_frames(shown, maps[0], standing, cuts[0], names, is_film=is_film))
    further = list[list[PlacedFrame]]()
    for part, ends in zip(maps[1:], cuts[1:], strict=True):
        span = range(int(part.frames[0]), int(part.frames[-1]) + 1)
        found = place_frames(stream.select(span), part, standing, ends, names, is_film=is_film)
        further.append(
            [
                frame
                for frame in found
                if frame.T_camera_world is not None and placed[frame.index].status is FrameStatus.LOST
            ]
        )
    return [placed, *further]


def _list_other_frames(part: SparseMap, parts: Sequence[SparseMap]) -> frozenset[int]:
    """Return the keyframes of all other parts, which end a part as a cut does."""
    return frozenset(int(frame) for other in parts if other is not part for frame in other.frames)


def place_frames(
    frames: Iterable[SmallFrame],
    sparse: SparseMap,
    standing: frozenset[int],
    cuts: frozenset[int],
    names: Sequence[str] = (),
    *,
    is_film: bool = True,
) -> Iterator[PlacedFrame]:
    """Yield every video frame with its pose in one map, in order and without gaps; at most two images are in memory.

    frames: the video frames; an index that is missing (a damaged frame) is yielded as lost.
    sparse: the map.
    standing: indices of frames that show no motion against the frame before.
    cuts: indices of frames at which another scene begins; no pose is carried or interpolated across them.
    names: names of all frames of the input, used for the lost ones.
    is_film: whether poses between keyframes are interpolated, if too few points can be tracked.
    """
    row_of = {int(index): row for row, index in enumerate(sparse.frames)}
    camera = sparse.camera.to_pycolmap()
    rows = _observations_by_frame(sparse)
    tracks: _Tracks | None = None
    pose: Array | None = None
    following = 0
    for frame in frames:
        for index in range(following, frame.index):
            yield PlacedFrame(
                index, names[index] if index < len(names) else f"{index:06d}", None, FrameStatus.LOST, None
            )
        following = frame.index + 1
        row = row_of.get(frame.index)
        if row is not None:
            pose = sparse.T_camera_world[row]
            tracks = _start_tracks(frame.gray, sparse, rows[row])
            yield PlacedFrame(frame.index, frame.name, frame.time_s, FrameStatus.KEY, pose)
            continue
        if frame.index in cuts:
            tracks, pose = None, None
        if tracks is not None:
            tracks.follow(frame.gray)
        if pose is not None and frame.index in standing:
            yield PlacedFrame(frame.index, frame.name, frame.time_s, FrameStatus.STANDING, pose)
            continue
        between = _interpolate(sparse, frame.index, cuts) if is_film else None
        found = None if tracks is None else _resect(tracks, camera, sparse, between, pose)
        status = FrameStatus.TRACKED
        if found is None:
            found, status = (between[0], FrameStatus.INTERPOLATED) if between is not None else (None, FrameStatus.LOST)
        pose = found
        yield PlacedFrame(frame.index, frame.name, frame.time_s, status, found)


def _observations_by_frame(sparse: SparseMap) -> list[NDArray[np.intp]]:
    order = np.argsort(sparse.observed[:, 0], kind="stable")
    ends = np.searchsorted(sparse.observed[order, 0], np.arange(len(sparse.frames) + 1))
    return [order[start:stop] for start, stop in pairwise(ends)]


def _start_tracks(gray: NDArray[np.uint8], sparse: SparseMap, rows: NDArray[np.intp]) -> _Tracks:
    lengths = sparse.track_lengths()[sparse.observed[rows, 1]]
    chosen = rows[np.argsort(-lengths, kind="stable")[:MAX_TRACKED]]
    xy = sparse.xy[chosen].astype(np.float32)[:, None]
    return _Tracks(gray, xy, sparse.points[sparse.observed[chosen, 1]], np.zeros_like(xy))


MAX_FRAMES_BETWEEN = 60
"""Poses are interpolated between two keyframes that are at most this many video frames apart."""


def _interpolate(sparse: SparseMap, index: int, cuts: frozenset[int]) -> tuple[Array, float] | None:
    pycolmap = import_pycolmap()
    after = int(np.searchsorted(sparse.frames, index))
    if not 0 < after < len(sparse.frames):
        return None
    first, last = sparse.frames[after - 1], sparse.frames[after]
    if last - first > MAX_FRAMES_BETWEEN or not cuts.isdisjoint(range(first + 1, last + 1)):
        return None
    ends = [pycolmap.Rigid3d(sparse.T_camera_world[row, :3]) for row in (after - 1, after)]
    centers = [end.tgt_origin_in_src() for end in ends]
    share = float((index - first) / (last - first))
    T = np.eye(4)
    T[:3] = pycolmap.interpolate_camera_poses(*ends, share).matrix()
    center = (1 - share) * centers[0] + share * centers[1]
    T[:3, 3] = -T[:3, :3] @ center
    return T, float(np.linalg.norm(centers[1] - centers[0]))


def _resect(
    tracks: _Tracks, camera: Any, sparse: SparseMap, between: tuple[Array, float] | None, before: Array | None
) -> Array | None:
    """Return the pose (4, 4) from tracked points; None if they are too few or disagree."""
    pycolmap = import_pycolmap()
    start = between[0] if between is not None else before
    if start is None or len(tracks.xy) < MIN_TRACKED:
        return None
    options = pycolmap.AbsolutePoseRefinementOptions()
    options.loss_function_scale = 1.0
    if between is not None:
        options.use_position_prior = True
        options.position_prior_in_world = -start[:3, :3].T @ start[:3, 3]
        options.position_prior_covariance = np.eye(3) * max(PRIOR_SHARE * between[1], 1e-6) ** 2
    xy, points = tracks.xy[:, 0].astype(np.float64), tracks.points
    xy -= sparse.readout * tracks.motion[:, 0] * sparse.find_row_times(xy)[:, None]
    inliers = np.ones(len(xy), bool)
    pose = pycolmap.Rigid3d(start[:3])
    for _ in range(2):
        refined = pycolmap.refine_absolute_pose(pose, xy + 0.5, points, inliers, camera, options)
        if refined is None:
            return None
        pose = refined["cam_from_world"]
        inside = points @ pose.rotation.matrix().T + pose.translation
        in_front = inside[:, 2] > 0
        residuals = np.full(len(xy), np.inf)
        residuals[in_front] = np.linalg.norm(sparse.camera.project(inside[in_front]) - xy[in_front], axis=1)
        inliers = residuals < MAX_RESIDUAL_PX
        if inliers.sum() < MIN_TRACKED or inliers.mean() < MIN_INLIERS:
            return None
    T = np.eye(4)
    T[:3] = pose.matrix()
    return T
