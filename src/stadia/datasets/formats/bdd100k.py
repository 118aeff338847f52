"""Read videos of BDD100K: ROOT/videos/100k/SPLIT/ID.mov, with GPS in ROOT/info/100k/SPLIT/ID.json.

Videos of one ride share a place. Poses follow speed and course of the phone's GPS. The cameras have no calibration, so
`data.camera` must give the field of view. Source: bdd-data.berkeley.edu (its own licence).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.datasets.recordings import CalibratedRecording
from stadia.datasets.text_files import FileEntry, read_typed_json
from stadia.datasets.video.video_list import VideoEntry, VideoList
from stadia.files.paths import natural_sort_key

Array = NDArray[np.float64]

VIDEO_PLACES = ("videos/100k/*/*.mov", "videos/*/*.mov")
MS_PER_S = 1000
MAX_FIX_GAP_S = 2.5  # between a frame and the nearest fix: fixes come once a second, and some are missing
MAX_CLOCK_ERROR_S = 5.0  # between the fixes and the video's start and end
_EXPECTED, _FIX = "GPS of BDD100K: rideID, startTime, endTime, locations", "copy the official file"


class _Location(FileEntry):
    timestamp: float
    speed: float = -1.0
    course: float = -1.0


class _InfoFile(FileEntry):
    rideID: Annotated[str, Field(min_length=1)]
    startTime: float
    endTime: float
    locations: list[_Location]


class Bdd100k(VideoList):
    """Videos of BDD100K by split, with the poses of their GPS."""

    layout = "videos/100k/SPLIT/ID.mov"

    def recognizes(self, path: Path) -> bool:
        if not path.is_dir():
            return False
        is_named = (path / "videos" / "100k").is_dir() or (path / "info").is_dir()
        return is_named and any(next(path.glob(place), None) for place in VIDEO_PLACES)

    def list_entries(self, path: Path) -> list[VideoEntry]:
        """Return an entry for each video of the data set."""
        videos = next((found for place in VIDEO_PLACES if (found := list(path.glob(place)))), [])
        if not videos:
            raise DataError(path, found="no video", expected=self.layout, fix="pass the folder that holds it")
        return [
            VideoEntry(name=f"{video.parent.name}/{video.stem}", path=video, split=video.parent.name, rig="bdd100k")
            for video in sorted(videos, key=lambda file: natural_sort_key(file, whole=True))
        ]

    def splits(self, path: Path) -> dict[str, list[str]]:
        splits: dict[str, list[str]] = {}
        for entry in self.list_entries(path) if self.recognizes(path) else ():
            splits.setdefault(entry.split, []).append(entry.name)
        return splits

    def complete(self, recording: Recording, entry: VideoEntry) -> Recording:
        info_file = _find_info_file(entry.path)
        if info_file is None or not isinstance(recording, CalibratedRecording):
            return recording
        info = _read_info(info_file)
        recording.place = f"bdd100k/{info.rideID}"
        if recording.times_s is not None:
            fixes = np.array([(fix.timestamp, fix.speed, fix.course) for fix in info.locations]).reshape(-1, 3)
            fixes[:, 0] = (fixes[:, 0] - info.startTime) / MS_PER_S
            recording.poses = compute_gps_poses(recording.times_s, fixes)
        return recording


def _find_info_file(video: Path) -> Path | None:
    parts = list(video.parts)
    parts[len(parts) - 1 - parts[::-1].index("videos")] = "info"
    path = Path(*parts).with_suffix(".json")
    return path if path.parent.is_dir() else None


def _read_info(path: Path) -> _InfoFile:
    info: _InfoFile = read_typed_json(path, _InfoFile, expected=_EXPECTED, fix=_FIX)
    apart_s = max(
        ((max(info.startTime - fix.timestamp, fix.timestamp - info.endTime)) / MS_PER_S for fix in info.locations),
        default=0.0,
    )
    if apart_s > MAX_CLOCK_ERROR_S:
        found = f"a location {apart_s:.0f} s before or after the video"
        raise DataError(path, found=found, expected="locations from startTime to endTime", fix=_FIX)
    return info


def compute_gps_poses(times_s: Array, fixes: Array) -> Array | None:
    """Return (N, 4, 4) camera-to-world of a camera that points ahead; x east, y down, z north, from the first fix.

    The path is the integral of speed along the course, because Doppler speeds are more exact than positions. The world
    is level. NaN without a fix nearby; None without any speed or course.

    Args:
        times_s: (N,) of the frames.
        fixes: (M, 3) time in s, speed in m/s, course in degrees from north to east; negative if unknown.
    """
    fixes = fixes[np.argsort(fixes[:, 0], kind="stable")]
    fixes = fixes[fixes[:, 1] >= 0]
    courses = fixes[fixes[:, 2] >= 0]
    if not len(courses):
        return None
    grid_s = np.unique(np.concatenate([fixes[:, 0], times_s]))
    speed = np.interp(grid_s, fixes[:, 0], fixes[:, 1])
    course = np.interp(grid_s, courses[:, 0], np.unwrap(np.radians(courses[:, 2])))
    ahead = np.stack([np.sin(course), np.zeros_like(course), np.cos(course)], 1)
    velocity = speed[:, None] * ahead
    steps = 0.5 * (velocity[1:] + velocity[:-1]) * np.diff(grid_s)[:, None]
    path = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, 0)])
    path -= path[np.searchsorted(grid_s, fixes[0, 0])]
    index = np.searchsorted(grid_s, times_s)
    poses = np.tile(np.eye(4), (len(times_s), 1, 1))
    poses[:, :3, 0] = np.stack([np.cos(course), np.zeros_like(course), -np.sin(course)], 1)[index]
    poses[:, :3, 2] = ahead[index]
    poses[:, :3, 3] = path[index]
    nearest_s = np.abs(times_s[:, None] - fixes[None, :, 0]).min(1)
    poses[nearest_s > MAX_FIX_GAP_S] = np.nan
    return poses
