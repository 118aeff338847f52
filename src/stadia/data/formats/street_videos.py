"""Read videos of streets: Cityscapes sequences and BDD100K.

Cityscapes (cityscapes-dataset.com) has leftImg8bit_sequence/SPLIT/CITY/*_leftImg8bit.png and camera/. A snippet of 30
frames is a recording; it is a rectified pair if rightImg8bit_sequence exists. BDD100K (bdd-data.berkeley.edu) has
ROOT/videos/100k/SPLIT/ID.mov with GPS in ROOT/info/100k/SPLIT/ID.json. Videos of one ride share a place, and poses
follow the phone's GPS. `data.camera` must give the field of view.
"""

import re
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.core.types import LEFT, RIGHT, Recording
from stadia.data.config import SourceOptions
from stadia.data.frame_store import ReportProgress
from stadia.data.open_dataset import DatasetFormat
from stadia.data.recordings import CalibratedRecording, ImageRecording
from stadia.data.video.video_list import VideoEntry, VideoList
from stadia.geometry.cameras import Intrinsics, make_K
from stadia.io.image_files import read_rgb
from stadia.io.input_files import natural_sort_key
from stadia.io.typed_json import FileEntry, read_typed_json

RATE_HZ = 17.0
_NAME = re.compile(r"(?P<city>[A-Za-z-]+)_(?P<snippet>\d{6})_(?P<frame>\d{6})_leftImg8bit\.png")
_Positive = Annotated[float, Field(gt=0)]


class _Intrinsic(FileEntry):
    fx: _Positive
    fy: _Positive
    u0: float
    v0: float


class _Extrinsic(FileEntry):
    baseline: _Positive


class _CameraFile(FileEntry):
    intrinsic: _Intrinsic
    extrinsic: _Extrinsic


class CityscapesRecording(ImageRecording):
    """A snippet of Cityscapes, 30 video frames. The left and the right image of a stereo pair have different file
    names.
    """

    pairs_by_name = False


class Cityscapes(DatasetFormat):
    """The reader of Cityscapes sequences; each snippet of 30 video frames is a recording.

    A recording is named by split, city and number.
    """

    layout = "leftImg8bit_sequence/SPLIT/CITY/*_leftImg8bit.png with camera/SPLIT/CITY"

    def find_recordings(self, path: Path) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for file in sorted(path.glob("leftImg8bit_sequence/*/*/*_leftImg8bit.png")):
            if match := _NAME.fullmatch(file.name):
                split = file.parent.parent.name
                found.setdefault(f"{split}/{match['city']}_{match['snippet']}", file.parent)
        return found

    def splits(self, path: Path) -> dict[str, list[str]]:
        splits: dict[str, list[str]] = {}
        for name in self.find_recordings(path) if path.is_dir() else ():
            splits.setdefault(name.partition("/")[0], []).append(name)
        return splits

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        split, _, snippet = name.partition("/")
        root, city = folder.parents[2], folder.name
        left = sorted(folder.glob(f"{snippet}_*_leftImg8bit.png"))
        cameras = sorted((root / "camera" / split / city).glob(f"{snippet}_*_camera.json"))
        if not cameras:
            where, fix = root / "camera" / split / city, "download camera_trainvaltest.zip next to the images"
            raise DataError(where, found=f"no camera of {snippet}", expected=f"{snippet}_*_camera.json", fix=fix)
        expected, fix = "intrinsic and extrinsic of Cityscapes", "copy the official file"
        camera: _CameraFile = read_typed_json(cameras[0], _CameraFile, expected=expected, fix=fix)
        inner = camera.intrinsic
        K = make_K(cameras[0], inner.fx, inner.fy, inner.u0, inner.v0)
        height, width = read_rgb(left[0]).shape[:2]
        images, rig = {LEFT: left}, None
        right_folder = root / "rightImg8bit_sequence" / split / city
        if right_folder.is_dir():
            images[RIGHT] = [right_folder / file.name.replace("leftImg8bit", "rightImg8bit") for file in left]
            if missing := next((file for file in images[RIGHT] if not file.is_file()), None):
                raise DataError(missing, found="no such image", expected="one for each left image", fix="copy it")
            rig = np.eye(4)
            rig[0, 3] = -camera.extrinsic.baseline
        numbers = [int(match["frame"]) for file in left if (match := _NAME.fullmatch(file.name))]
        recording = CityscapesRecording(
            name=f"cityscapes/{name}",
            images=images,
            intrinsics={side: Intrinsics(K, height, width) for side in images},
            T_right_left=rig,
            numbers=numbers,
            times_s=np.array(numbers) / RATE_HZ,
            place=f"cityscapes/{city}",
        )
        recording.mount = "cityscapes"
        return recording


Array = NDArray[np.float64]

VIDEO_PLACES = ("videos/100k/*/*.mov", "videos/*/*.mov")
MS_PER_S = 1000
MAX_FIX_GAP_S = 2.5  # time between a frame and the nearest fix: fixes come once a second, and some are missing
MAX_CLOCK_ERROR_S = 5.0  # time between the fixes and the video's start and end
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
    """The reader of BDD100K; each video is a recording, named by its split and ID, with poses from GPS."""

    layout = "videos/100k/SPLIT/ID.mov"

    def recognizes(self, path: Path) -> bool:
        if not path.is_dir():
            return False
        is_named = (path / "videos" / "100k").is_dir() or (path / "info").is_dir()
        return is_named and any(next(path.glob(place), None) for place in VIDEO_PLACES)

    def list_entries(self, path: Path) -> list[VideoEntry]:
        """Return the videos of the dataset with their names and splits.

        Raises DataError if no video is found.
        """
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
    """Compute the poses of a forward-looking camera from GPS speeds and courses; None without any speed or course.

    Returns camera-to-world poses (N, 4, 4) in a world with x east, y down and z north, in metres. The trajectory starts
    at the first GPS measurement. It is the integral of the speed along the course, because Doppler speeds are more
    exact than positions, and it stays level. A pose is NaN if no GPS measurement is within MAX_FIX_GAP_S (2.5 s).

    times_s: (N,) times of the video frames in seconds.
    fixes: (M, 3) GPS measurements: time in seconds, speed in m/s, and course in degrees from north to east; a negative
        speed or course means unknown.
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
