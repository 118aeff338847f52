"""Read KITTI odometry: sequences/NN/{image_0..3, calib.txt, times.txt}, poses/NN.txt (cvlibs.net/datasets/kitti)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.recording import LEFT, RIGHT, Recording
from stadia.datasets.config import SourceOptions
from stadia.datasets.frame_store import ReportProgress
from stadia.datasets.image_files import list_images, parse_frame_number, read_rgb
from stadia.datasets.kitti.lidar import KittiCalibration, LidarScans
from stadia.datasets.open_dataset import select_folders
from stadia.datasets.recordings import ImageRecording, Intrinsics
from stadia.datasets.text_files import read_kitti_poses, read_times

_PAIRS = {"gray": (0, 1), "color": (2, 3)}

_DRIVES = {  # the drives of KITTI raw that hold the sequences (development kit of the benchmark)
    "00": "2011_10_03_drive_0027",
    "01": "2011_10_03_drive_0042",
    "02": "2011_10_03_drive_0034",
    "03": "2011_09_26_drive_0067",
    "04": "2011_09_30_drive_0016",
    "05": "2011_09_30_drive_0018",
    "06": "2011_09_30_drive_0020",
    "07": "2011_09_30_drive_0027",
    "08": "2011_09_30_drive_0028",
    "09": "2011_09_30_drive_0033",
    "10": "2011_09_30_drive_0034",
}


class KittiOdometry:
    """Sequences of the odometry benchmark, whole or in part; the path may also be one sequence's folder."""

    layout = "sequences/NN with calib.txt and image_0 or image_2"
    options: frozenset[str] = frozenset({"color"})

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        return bool(_find_sequences(path))

    @classmethod
    def open(cls, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        chosen = select_folders(_find_sequences(path), options.recordings, path, cls.layout)
        return [_open_sequence(folder, options) for folder in chosen.values()]

    @classmethod
    def splits(cls, path: Path) -> dict[str, list[str]]:
        return {}


def _find_sequences(path: Path) -> dict[str, Path]:
    """Return the folder of every sequence at the path, by name."""
    if not path.is_dir():
        return {}
    if (path / "calib.txt").is_file():
        candidates = [path]
    elif (path / "sequences").is_dir():
        candidates = sorted((path / "sequences").iterdir())
    else:  # the folder of sequences; other KITTI layouts have image_2 too, but no calib.txt beside it
        candidates = sorted(p.parent for p in path.glob("*/calib.txt"))
    return {p.resolve().name: p for p in candidates if (p / "image_0").is_dir() or (p / "image_2").is_dir()}


def _open_sequence(folder: Path, options: SourceOptions) -> Recording:
    name = folder.resolve().name
    color = options.color
    if color == "auto":
        color = "color" if (folder / "image_2").is_dir() else "gray"
    left, right = _PAIRS[color]
    cameras = {LEFT: left, RIGHT: right} if (folder / f"image_{right}").is_dir() else {LEFT: left}

    images = {side: list_images(folder / f"image_{number}") for side, number in cameras.items()}
    numbers = [parse_frame_number(p) for p in images[LEFT]]
    calibration = KittiCalibration(folder / "calib.txt")
    intrinsics, T_camera_rectified = {}, {}
    for side, number in cameras.items():
        K, T_camera_rectified[side] = calibration.projection(f"P{number}")
        height, width = read_rgb(images[side][0]).shape[:2]
        intrinsics[side] = Intrinsics(K, height, width)

    poses_file = folder.resolve().parents[1] / "poses" / f"{name}.txt"
    poses = None
    if poses_file.exists():  # poses of camera 0 relative to the first frame
        T_rectified_camera = np.linalg.inv(T_camera_rectified[LEFT])
        poses = read_kitti_poses(poses_file, len(numbers), numbers) @ T_rectified_camera
    scanner = None
    if (folder / "velodyne").is_dir() and "Tr" in calibration:
        T_rectified_velo = np.vstack([calibration.matrix("Tr", 3, 4), (0, 0, 0, 1)])
        scanner = LidarScans.calibrated(folder / "velodyne", intrinsics, T_camera_rectified, T_rectified_velo)
    return SequenceRecording(
        name=f"kitti_odometry/{name}",
        images=images,
        intrinsics=intrinsics,
        T_right_left=T_camera_rectified[RIGHT] @ np.linalg.inv(T_camera_rectified[LEFT]) if RIGHT in cameras else None,
        numbers=numbers,
        poses=poses,
        times_s=read_times(folder / "times.txt", len(numbers), numbers),
        scanner=scanner,
    )


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceRecording(ImageRecording):
    """One sequence. scanner: None without velodyne/ and its calibration."""

    scanner: LidarScans | None

    @property
    def session(self) -> str:
        """The drive of KITTI raw: 00, 04, 05 and 07 are among Eigen's test drives."""
        return _DRIVES.get(self.name.rpartition("/")[2], self.name)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return (H, W) from the frame's scan, if there is one."""
        size = self.intrinsics[side]
        if self.scanner is None:
            return None
        return self.scanner.depth_m(self.images[side][index].stem, side, size.height, size.width)
