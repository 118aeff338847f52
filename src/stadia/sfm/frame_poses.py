"""Place the frames between the key frames by tracked points of the map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.types import TrackProgress
from stadia.sfm.frame_stream import FrameStream, SmallFrame
from stadia.sfm.key_frames import KeyFrames
from stadia.sfm.sparse_map import Array, SparseMap, import_pycolmap

MAX_TRACKED = 250
MIN_TRACKED = 20
MAX_BACK_PX = 0.7  # distance of a point that is tracked forward and back
MAX_RESIDUAL_PX = 3.0
MIN_INLIERS = 0.5
PRIOR_SHARE = 0.25
"""Deviation of a position from the line between two key frames, as a share of their distance."""

_WINDOW = (21, 21)


class FrameStatus(StrEnum):
    """How the pose of a frame was found.

    key: in the bundle adjustment.  tracked: from tracked points.  standing: like the frame before.
    interpolated: between its key frames, since its image gives no pose.  lost: no pose.
    """

    KEY = "key"
    TRACKED = "tracked"
    STANDING = "standing"
    INTERPOLATED = "interpolated"
    LOST = "lost"


@dataclass(frozen=True, slots=True, eq=False)
class PlacedFrame:
    """A frame with its pose T_camera_world (4, 4); None if it is lost."""

    index: int
    name: str
    time_s: float | None
    status: FrameStatus
    T_camera_world: Array | None


@dataclass(slots=True, eq=False)
class _Tracks:
    """Points of the map in the last image. gray: (h, w).  xy: (N, 1, 2) float32, pixels.  points: (N, 3)."""

    gray: NDArray[np.uint8]
    xy: NDArray[np.float32]
    points: Array

    def follow(self, gray: NDArray[np.uint8]) -> None:
        """Track to the next image; points that do not return are dropped."""
        if len(self.xy):
            moved, there, _ = cv2.calcOpticalFlowPyrLK(self.gray, gray, self.xy, None, winSize=_WINDOW, maxLevel=3)
            back, again, _ = cv2.calcOpticalFlowPyrLK(gray, self.gray, moved, None, winSize=_WINDOW, maxLevel=3)
            kept = (there[:, 0] > 0) & (again[:, 0] > 0)
            kept &= np.linalg.norm((back - self.xy)[:, 0], axis=1) < MAX_BACK_PX
            self.xy, self.points = moved[kept], self.points[kept]
        self.gray = gray


def stack_poses(placed: Sequence[PlacedFrame]) -> Array:
    """Return T_camera_world (N, 4, 4) of frames, NaN for lost ones."""
    unknown = np.full((4, 4), np.nan)
    return np.array([unknown if frame.T_camera_world is None else frame.T_camera_world for frame in placed])


def count_status(frames: Sequence[PlacedFrame]) -> dict[FrameStatus, int]:
    """Return the number of frames of each status."""
    statuses = [frame.status for frame in frames]
    return {status: statuses.count(status) for status in FrameStatus if status in statuses}


def place_all_frames(
    stream: FrameStream, keys: KeyFrames, maps: Sequence[SparseMap], track: TrackProgress
) -> list[list[PlacedFrame]]:
    """Return every frame of the input in the largest map, and the frames of each further map that are lost there.

    keys: with its cuts.
    maps: parts of the input, the largest first.
    """
    standing, names = frozenset(keys.standing), stream.stems()
    cuts = [frozenset(keys.cuts) | _list_other_frames(part, maps) for part in maps]
    shown = track(stream, keys.frames - stream.first, "placing frames")
    placed = list(place_frames(shown, maps[0], standing, cuts[0], names))
    further = list[list[PlacedFrame]]()
    for part, ends in zip(maps[1:], cuts[1:], strict=True):
        span = range(int(part.frames[0]), int(part.frames[-1]) + 1)
        found = place_frames(stream.select(span), part, standing, ends, names)
        further.append(
            [
                frame
                for frame in found
                if frame.T_camera_world is not None and placed[frame.index].status is FrameStatus.LOST
            ]
        )
    return [placed, *further]


def _list_other_frames(part: SparseMap, parts: Sequence[SparseMap]) -> frozenset[int]:
    """Return the key frames of all other parts, which end a part as a cut does."""
    return frozenset(int(frame) for other in parts if other is not part for frame in other.frames)


def place_frames(
    frames: Iterable[SmallFrame],
    sparse: SparseMap,
    standing: frozenset[int],
    cuts: frozenset[int],
    names: Sequence[str] = (),
) -> Iterator[PlacedFrame]:
    """Yield every frame with its pose, in order and without a gap; two images are in memory.

    frames: all of the video; missing (damaged) ones are lost.
    standing: indices of frames without motion since the frame before.  cuts: first frames of another scene.
    names: of all frames of the input, for lost ones.
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
        between = _interpolate(sparse, frame.index, cuts)
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
    return _Tracks(gray, xy, sparse.points[sparse.observed[chosen, 1]])


MAX_FRAMES_BETWEEN = 60
"""Poses are interpolated between key frames at most this far apart."""


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
