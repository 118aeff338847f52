"""Read KITTI raw: DATE/DRIVE_sync/image_02/data, DATE/calib_*.txt (cvlibs.net/datasets/kitti/raw_data.php).

`*_sync` images are rectified and use P_rect only. K_0x, D_0x, R_0x and T_0x describe the raw 1392x512 images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.core.errors import DataError
from stadia.core.recording import LEFT, RIGHT, Recording
from stadia.datasets.config import GroundTruth, SourceOptions
from stadia.datasets.frame_store import ReportProgress
from stadia.datasets.image_files import (
    check_depth_map,
    list_images,
    parse_frame_number,
    read_depth_png,
    read_rgb,
    refuse_jpeg_depth,
)
from stadia.datasets.kitti.lidar import KittiCalibration, LidarScans
from stadia.datasets.open_dataset import select_folders
from stadia.datasets.recordings import ImageRecording, Intrinsics
from stadia.datasets.text_files import read_rows

CAMERAS = {LEFT: "02", RIGHT: "03"}


class KittiRaw:
    """Drives of KITTI raw; the path is the folder of dates, one date, or one drive."""

    layout = "DATE/DRIVE_sync/image_02/data with calib_cam_to_cam.txt beside the drives"
    options: frozenset[str] = frozenset({"ground_truth", "ground_truth_path"})

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        return bool(_find_drives(path))

    @classmethod
    def open(cls, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        chosen = select_folders(_find_drives(path), options.recordings, path, cls.layout)
        return [_open_drive(name, drive, options) for name, drive in chosen.items()]

    @classmethod
    def splits(cls, path: Path) -> dict[str, list[str]]:
        return {}


def _find_drives(path: Path) -> dict[str, Path]:
    """Return the folder of every drive at the path, by `DATE/DRIVE`."""
    folders = (
        [path]
        if (path / "image_02").is_dir()
        else sorted(p for depth in ("*", "*/*") for p in path.glob(f"{depth}_sync"))
    )
    return {f"{p.resolve().parent.name}/{p.resolve().name}": p for p in folders if (p / "image_02" / "data").is_dir()}


def _open_drive(name: str, drive: Path, options: SourceOptions) -> Recording:
    calibration = KittiCalibration(drive.resolve().parent / "calib_cam_to_cam.txt")
    sides = [side for side, camera in CAMERAS.items() if (drive / f"image_{camera}" / "data").is_dir()]
    images = {side: list_images(drive / f"image_{CAMERAS[side]}" / "data") for side in sides}
    numbers = [parse_frame_number(p) for p in images[LEFT]]
    intrinsics, T_camera_rectified = {}, {}
    for side in sides:
        K, T_camera_rectified[side] = calibration.projection(f"P_rect_{CAMERAS[side]}")
        height, width = read_rgb(images[side][0]).shape[:2]
        intrinsics[side] = Intrinsics(K, height, width)

    T_rectified_velo = _read_T_rectified_velo(calibration)
    poses = None
    packets = read_oxts_packets(drive / "oxts" / "data", numbers)
    if packets is not None:
        T_velo_imu = KittiCalibration(calibration.path.with_name("calib_imu_to_velo.txt")).rigid()
        if T_rectified_velo is None:
            found = "no calib_velo_to_cam.txt"
            expected = "the file beside the drives"
            raise DataError(drive / "oxts", found=found, expected=expected, fix="copy it, or remove oxts/")
        poses = compute_camera_poses(packets, T_camera_rectified[LEFT] @ T_rectified_velo @ T_velo_imu)
    scanner = None
    if T_rectified_velo is not None:
        scanner = LidarScans.calibrated(
            drive / "velodyne_points" / "data", intrinsics, T_camera_rectified, T_rectified_velo
        )
    return DriveRecording(
        name=f"kitti_raw/{name}",
        images=images,
        intrinsics=intrinsics,
        T_right_left=T_camera_rectified[RIGHT] @ np.linalg.inv(T_camera_rectified[LEFT]) if RIGHT in sides else None,
        numbers=numbers,
        poses=poses,
        drive=drive,
        ground_truth=options.ground_truth,
        ground_truth_path=Path(options.ground_truth_path).expanduser() if options.ground_truth_path else None,
        scanner=scanner,
    )


def _read_T_rectified_velo(calibration: KittiCalibration) -> NDArray[np.float64] | None:
    """Return scanner to rectified frame of camera 0, by R_rect_00 for every camera, as the devkit does."""
    path = calibration.path.with_name("calib_velo_to_cam.txt")
    if not path.exists():
        return None
    R_rect = np.eye(4)
    R_rect[:3, :3] = calibration.matrix("R_rect_00", 3, 3)
    return R_rect @ KittiCalibration(path).rigid()


@dataclass(kw_only=True, eq=False, repr=False)
class DriveRecording(ImageRecording):
    """One drive. Depth is of the chosen kind; scores of different kinds are not comparable.

    scanner: None without calib_velo_to_cam.txt.
    """

    drive: Path
    ground_truth: GroundTruth
    ground_truth_path: Path | None
    scanner: LidarScans | None

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = self.ground_truth
        if kind.startswith("lidar"):
            folders = [self.drive / "velodyne_points" / "data"]
        else:
            folders = [folder / "proj_depth" / kind for folder in self._depth_folders()]
        if kind not in ("auto", "none") and not any(folder.is_dir() for folder in folders):
            fix = "download it, or data.ground_truth=auto"
            raise DataError(folders[0], found="no such folder", expected=f"ground truth '{kind}'", fix=fix)

    @property
    def session(self) -> str:
        """The drive, as 2011_09_26_drive_0001."""
        return self.drive.resolve().name.removesuffix("_sync")

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return (H, W) of the chosen kind; "auto" tries improved map, official projection, scan."""
        kinds = ("groundtruth", "velodyne_raw", "lidar") if self.ground_truth == "auto" else (self.ground_truth,)
        found = (self._read_depth(kind, index, side) for kind in kinds if kind != "none")
        return next((depth for depth in found if depth is not None), None)

    def _read_depth(self, kind: str, index: int, side: str) -> NDArray[np.float32] | None:
        size, stem = self.intrinsics[side], self.images[side][index].stem
        if kind.startswith("lidar"):
            if self.scanner is None:
                return None
            return self.scanner.depth_m(stem, side, size.height, size.width, scanner_depth=kind == "lidar_eigen")
        for folder in self._depth_folders():
            path = folder / "proj_depth" / kind / f"image_{CAMERAS[side]}" / f"{stem}.png"
            if path.exists():
                return check_depth_map(path, read_depth_png(path, units_per_metre=256), size.height, size.width)
            refuse_jpeg_depth(path)
        return None

    def _depth_folders(self) -> list[Path]:
        """Return folders that may hold proj_depth/: the drive, or a data_depth_annotated folder (train/ or val/)."""
        if self.ground_truth_path is None:
            return [self.drive]
        return [self.ground_truth_path / part / self.drive.resolve().name for part in ("train", "val", "")]


# -- Compute camera poses from KITTI raw's GPS and inertial unit (oxts/), as the official devkit does.

EARTH_RADIUS_M = 6378137.0
OXTS_COLUMNS = 30  # latitude, longitude (deg), altitude (m), roll, pitch, yaw (rad), and 24 that are not used here


def compute_imu_poses(packets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, 4, 4) T_world_imu from (N, >= 6) packets.

    Positions are a Mercator projection with the scale of the first latitude; rotations are Rz(yaw) Ry(pitch) Rx(roll).
    """
    latitude, longitude, altitude = packets[:, :3].T
    scale = np.cos(np.radians(latitude[0]))
    poses = np.tile(np.eye(4), (len(packets), 1, 1))
    poses[:, 0, 3] = scale * EARTH_RADIUS_M * np.radians(longitude)
    poses[:, 1, 3] = scale * EARTH_RADIUS_M * np.log(np.tan(np.radians(90 + latitude) / 2))
    poses[:, 2, 3] = altitude
    poses[:, :3, :3] = Rotation.from_euler("xyz", packets[:, 3:6]).as_matrix()
    return poses


def compute_camera_poses(packets: NDArray[np.float64], T_camera_imu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, 4, 4) camera-to-world, relative to the first camera."""
    T_earth_camera = compute_imu_poses(packets) @ np.linalg.inv(T_camera_imu)
    return np.linalg.inv(T_earth_camera[0]) @ T_earth_camera


def read_oxts_packets(folder: Path, numbers: Sequence[int]) -> NDArray[np.float64] | None:
    """Return (N, 30) packets of these frame numbers from oxts/data; None where any is missing."""
    files = [folder / f"{number:010d}.txt" for number in numbers]
    if not all(file.exists() for file in files):
        return None
    return np.concatenate([read_rows(file, OXTS_COLUMNS, "one OXTS packet")[:1] for file in files])
