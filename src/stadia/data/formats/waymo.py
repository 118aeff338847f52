"""Read the Waymo Open Dataset v2 (waymo.com/open): SPLIT/{camera_image, camera_calibration}/SEGMENT.parquet.

A segment is a recording of the FRONT camera at 10 Hz, with poses. Images are undistorted and decoded once into the
cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, summarize_exception
from stadia.core.types import Recording
from stadia.data.config import SourceOptions
from stadia.data.frame_store import ReportProgress
from stadia.data.lens_distortion import DistortedCamera
from stadia.data.open_dataset import DatasetFormat, select_recordings
from stadia.data.recordings import CalibratedRecording
from stadia.data.video.video_camera import UserCamera
from stadia.data.video.video_files import FrameSource, open_frames
from stadia.geometry.cameras import Intrinsics, make_K
from stadia.io.image_io import decode_image
from stadia.io.input_files import PARSER_ERRORS, check_input_file
from stadia.io.records.formats import RADTAN
from stadia.io.video_decoding import VideoFrame, hash_video

Array = NDArray[np.float64]

IMAGES, CALIBRATION = "camera_image", "camera_calibration"
SPLITS = {"training": "train", "validation": "val", "testing": "test"}
FRONT = 1  # number of the front camera in waymo_open_dataset/dataset.proto
SEGMENT, CAMERA, TIME_US = "key.segment_context_name", "key.camera_name", "key.frame_timestamp_micros"
IMAGE, POSE = "[CameraImageComponent].image", "[CameraImageComponent].pose.transform"
_CALIBRATION = "[CameraCalibrationComponent]."
PINHOLE = tuple(f"{_CALIBRATION}intrinsic.{name}" for name in ("f_u", "f_v", "c_u", "c_v"))
DISTORTION = tuple(f"{_CALIBRATION}intrinsic.{name}" for name in ("k1", "k2", "p1", "p2", "k3"))
EXTRINSIC, SIZE = f"{_CALIBRATION}extrinsic.transform", (f"{_CALIBRATION}height", f"{_CALIBRATION}width")

# Waymo's axes are x forward, y left, z up.
T_WAYMO_CAMERA = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
MAX_PARQUET_BYTES = 4 << 30  # five cameras' images of 20 s have about 400 MB
US_PER_S = 1_000_000
MAX_ROTATION_ERROR = 1e-3
_FIX = "copy the official file again"


class Waymo(DatasetFormat):
    """The reader of the Waymo Open Dataset v2; each segment is a recording.

    The path is the folder of the splits, or of one split.
    """

    layout = "training/camera_image/SEGMENT.parquet next to camera_calibration"
    options = frozenset({"stride"})
    opens_slowly = True

    def recognizes(self, path: Path) -> bool:
        return path.is_dir() and bool(_find_images(path) or _find_records(path))

    def find_recordings(self, path: Path) -> dict[str, Path]:
        found = _find_images(path)
        if not found and (records := _find_records(path)):
            expected = "version 2, with parquet files (version 1 needs tensorflow)"
            fix = "download camera_image and camera_calibration of gs://waymo_open_dataset_v_2_0_1"
            raise DataError(records[0], found="a record of version 1", expected=expected, fix=fix)
        return {_name_segment(path, file): file for file in found}

    def splits(self, path: Path) -> dict[str, list[str]]:
        splits: dict[str, list[str]] = {}
        for name in self.find_recordings(path) if path.is_dir() else ():
            folder = name.partition("/")[0]
            if folder in SPLITS:
                splits.setdefault(SPLITS[folder], []).append(name)
        return splits

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        return [_add_poses(open_frames(each, options, progress), each) for each in self._find_segments(path, options)]

    def sample(self, path: Path, options: SourceOptions) -> list[Recording]:
        return [_add_poses(segment.sample(options), segment) for segment in self._find_segments(path, options)]

    def _find_segments(self, path: Path, options: SourceOptions) -> "Iterator[WaymoSegment]":
        found = self.find_recordings(path)
        for name in select_recordings(list(found), options, path):
            yield WaymoSegment(f"waymo/{name}", found[name])


def _find_images(path: Path) -> list[Path]:
    return [file for folder in _list_folders(path) for file in sorted((folder / IMAGES).glob("*.parquet"))]


def _find_records(path: Path) -> list[Path]:
    return [file for folder in _list_folders(path) for file in sorted(folder.glob("*.tfrecord"))]


def _list_folders(path: Path) -> list[Path]:
    return [path, *(path / split for split in SPLITS)]


def _name_segment(path: Path, file: Path) -> str:
    folder = file.parent.parent
    return file.stem if folder == path else f"{folder.name}/{file.stem}"


def _add_poses(recording: CalibratedRecording, segment: "WaymoSegment") -> Recording:
    recording.poses = segment.locate_camera()[[recording.number(index) for index in range(len(recording))]]
    return recording


@dataclass(frozen=True)
class WaymoSegment(FrameSource):
    """The images of one segment's FRONT camera, as a source of video frames. `path` is their parquet file."""

    @cached_property
    def moments(self) -> dict[str, list[Any]]:
        """Return the times (microseconds) and poses of the images, by the names of the columns in the file, ordered by
        time.
        """
        return self._read_ordered(TIME_US, POSE)

    def read_images(self) -> list[bytes]:
        """Return the undecoded JPEG bytes of each image, ordered by time."""
        images: list[bytes] = self._read_ordered(TIME_US, IMAGE)[IMAGE]
        return images

    def _read_ordered(self, *columns: str) -> dict[str, list[Any]]:
        rows = _read_front(self.path, columns)
        order = np.argsort(np.array(rows[TIME_US], np.int64), kind="stable")
        return {name: [column[index] for index in order] for name, column in rows.items()}

    @cached_property
    def calibration(self) -> dict[str, Any]:
        """Return the calibration of the FRONT camera: values by the names of the columns in the calibration file.

        Raises DataError if the file does not have exactly one entry for this camera.
        """
        rows = _read_front(self._calibration_file, (*PINHOLE, *DISTORTION, EXTRINSIC, *SIZE))
        if (count := len(rows[EXTRINSIC])) != 1:
            raise DataError(self._calibration_file, found=f"{count} rows of FRONT", expected="one", fix=_FIX)
        return {name: column[0] for name, column in rows.items()}

    @property
    def _calibration_file(self) -> Path:
        return self.path.parent.parent / CALIBRATION / self.path.name

    def hash_content(self) -> str:
        return hash_video(self.path)

    def stream(self, options: SourceOptions) -> Iterator[VideoFrame]:
        times_us = self.moments[TIME_US]
        for index, data in enumerate(self.read_images()):
            image = decode_image(f"{self.path}, image {index} of FRONT", data, cv2.IMREAD_COLOR)
            rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
            yield VideoFrame(index, (times_us[index] - times_us[0]) / US_PER_S, rgb)

    def estimate_count(self) -> int | None:
        return len(self.moments[TIME_US])

    def describe_lens(self, options: SourceOptions) -> tuple[str, ...]:
        return (self._read_lens().fingerprint(),)

    def read_camera(self, options: SourceOptions, height: int, width: int, frames: int | None = None) -> UserCamera:
        lens = self._read_lens()
        if (lens.height, lens.width) != (height, width):
            expected = f"{lens.width}x{lens.height}, as in {self._calibration_file}"
            raise DataError(self.path, found=f"images of {width}x{height}", expected=expected, fix=_FIX)
        if not lens.coefficients.any():
            return UserCamera(Intrinsics(lens.K, height, width))
        return UserCamera.of_lens(lens, self._calibration_file)

    def _read_lens(self) -> DistortedCamera:
        row = self.calibration
        K = make_K(self._calibration_file, *(float(row[name]) for name in PINHOLE))
        coefficients = np.array([row[name] for name in DISTORTION], np.float64)
        return DistortedCamera(K, RADTAN, coefficients, *(int(row[name]) for name in SIZE))

    def locate_camera(self) -> Array:
        """Return the camera-to-world pose (N, 4, 4) of each image in metres, from the car's pose at the time of the
        image.

        Raises DataError if a pose is not a rigid motion.
        """
        T_world_car = _check_rigid(self.path, self.moments[POSE])
        T_car_camera = _check_rigid(self._calibration_file, [self.calibration[EXTRINSIC]])[0]
        return T_world_car @ T_car_camera @ T_WAYMO_CAMERA


def _check_rigid(path: Path, rows: Sequence[Sequence[float]]) -> Array:
    """Return (N, 4, 4) from rows of 16 numbers. Raises DataError if one is not a rigid motion."""
    matrices = np.array([row if len(row) == 16 else [np.nan] * 16 for row in rows], np.float64).reshape(-1, 4, 4)
    R = matrices[:, :3, :3]
    errors = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    is_rigid = (errors < MAX_ROTATION_ERROR) & np.isfinite(matrices).all((1, 2)) & (np.linalg.det(R) > 0)
    if not is_rigid.all():
        found = f"a pose that is not a rotation and translation in row {int(np.argmin(is_rigid))} of FRONT"
        raise DataError(path, found=found, expected="4x4 matrices, row by row", fix=_FIX)
    return matrices


def _read_front(path: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    expected = "a parquet file of Waymo Open Dataset v2"
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        found, fix = "a file of the Waymo Open Dataset", "pip install 'stadia[waymo]'"
        raise ConfigError(path, found=found, expected="the package pyarrow", fix=fix) from error
    check_input_file(path, expected=expected, max_bytes=MAX_PARQUET_BYTES)
    try:
        with parquet.ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
            if missing := [name for name in (SEGMENT, CAMERA, *columns) if name not in names]:
                raise DataError(path, found=f"no column '{missing[0]}'", expected=expected, fix=_FIX)
        table = parquet.read_table(path, columns=[SEGMENT, *columns], filters=[(CAMERA, "=", FRONT)])
        rows: dict[str, list[Any]] = table.to_pydict()
    except (ArrowException, OSError, *PARSER_ERRORS) as error:
        found = f"a damaged file ({summarize_exception(error)})"
        raise DataError(path, found=found, expected=expected, fix=_FIX) from error
    segments = set(rows.pop(SEGMENT))
    if segments != {path.stem}:
        found = f"rows of the segment {min(map(str, segments))[:60]}" if segments else "no row of FRONT"
        raise DataError(path, found=found, expected=f"rows of {path.stem}", fix=_FIX)
    if empty := next((name for name, column in rows.items() if None in column), None):
        raise DataError(path, found=f"a row of FRONT without {empty}", expected=expected, fix=_FIX)
    return rows
