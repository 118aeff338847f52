"""Read KITTI raw and KITTI odometry: rectified images, calibration, poses, and depth from LiDAR or official maps.

KITTI raw (cvlibs.net/datasets/kitti/raw_data.php): DATE/DRIVE_sync/image_02/data, DATE/calib_*.txt; only P_rect fits.
KITTI odometry (cvlibs.net/datasets/kitti): sequences/NN/{image_0..3, calib.txt, times.txt}, poses/NN.txt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import LEFT, RIGHT, Recording
from stadia.data.config import GroundTruth, SourceOptions
from stadia.data.frame_store import ReportProgress
from stadia.data.open_dataset import DatasetFormat
from stadia.data.recordings import ImageRecording
from stadia.geometry.cameras import Intrinsics
from stadia.geometry.poses import invert_pose
from stadia.io.image_files import list_depth_images, list_images, parse_frame_number, read_rgb
from stadia.io.input_files import expand_home, read_bytes
from stadia.io.number_rows import read_kitti_poses, read_rows, read_times
from stadia.io.records.kitti_calibration import KittiCalibration

Array = NDArray[np.float64]

RAW_CAMERAS = {LEFT: "02", RIGHT: "03"}
EARTH_RADIUS_M = 6378137.0
OXTS_COLUMNS = 30  # latitude, longitude (deg), altitude (m), roll, pitch, yaw (rad), and 24 unused ones

_ODOMETRY_PAIRS = {"gray": (0, 1), "color": (2, 3)}
_ODOMETRY_DRIVES = {  # drives of KITTI raw in the sequences, by the benchmark's development kit
    "00": "2011_10_03_drive_0027", "01": "2011_10_03_drive_0042", "02": "2011_10_03_drive_0034",
    "03": "2011_09_26_drive_0067", "04": "2011_09_30_drive_0016", "05": "2011_09_30_drive_0018",
    "06": "2011_09_30_drive_0020", "07": "2011_09_30_drive_0027", "08": "2011_09_30_drive_0028",
    "09": "2011_09_30_drive_0033", "10": "2011_09_30_drive_0034",
}  # fmt: skip
_POINT_VALUES = 4  # x, y, z, reflectance as float32
_MAX_SCAN_BYTES = 64 << 20


class KittiRaw(DatasetFormat):
    """The reader of KITTI raw; each drive is a recording. The path is the folder of dates, one date, or one drive."""

    layout = "DATE/DRIVE_sync/image_02/data with calib_cam_to_cam.txt next to the drives"
    options = frozenset({"ground_truth", "ground_truth_path"})

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        recordings = super().open(path, options, progress)
        if options.ground_truth_path and options.ground_truth == "auto":
            _check_annotated_depth(expand_home(options.ground_truth_path), recordings)
        return recordings

    def find_recordings(self, path: Path) -> dict[str, Path]:
        folders = [path] if (path / "image_02").is_dir() else sorted({*path.glob("*_sync"), *path.glob("*/*_sync")})
        return {
            f"{p.resolve().parent.name}/{p.resolve().name}": p for p in folders if (p / "image_02" / "data").is_dir()
        }

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        images = {
            side: list_images(folder / f"image_{camera}" / "data")
            for side, camera in RAW_CAMERAS.items()
            if (folder / f"image_{camera}" / "data").is_dir()
        }
        ground_truth_path = expand_home(options.ground_truth_path) if options.ground_truth_path else None
        calibration_file = folder.resolve().parent / "calib_cam_to_cam.txt"
        rig = KittiRig.read(
            calibration_file, images, {side: f"P_rect_{camera}" for side, camera in RAW_CAMERAS.items()}
        )
        T_rectified_velo = _read_T_rectified_velo(rig.calibration)
        poses, packets = None, read_oxts_packets(folder / "oxts" / "data", rig.numbers)
        if packets is not None:
            T_velo_imu = KittiCalibration(calibration_file.with_name("calib_imu_to_velo.txt")).rigid()
            if T_rectified_velo is None:
                found, expected = "no calib_velo_to_cam.txt", "the file next to the drives"
                raise DataError(folder / "oxts", found=found, expected=expected, fix="copy it, or remove oxts/")
            poses = compute_camera_poses(packets, rig.T_camera_rectified[LEFT] @ T_rectified_velo @ T_velo_imu)
        return DriveRecording(
            **rig.describe(T_rectified_velo),
            name=f"kitti_raw/{name}",
            poses=poses,
            drive=folder,
            ground_truth=options.ground_truth,
            ground_truth_path=ground_truth_path,
            scan_folder=folder / "velodyne_points" / "data",
        )


class KittiOdometry(DatasetFormat):
    """The reader of KITTI's odometry benchmark. The path is the folder with sequences/, or one sequence's folder."""

    layout = "sequences/NN with calib.txt and image_0 or image_2"
    options = frozenset({"color"})

    def find_recordings(self, path: Path) -> dict[str, Path]:
        if (path / "calib.txt").is_file():
            candidates = [path]
        elif (path / "sequences").is_dir():
            candidates = sorted((path / "sequences").iterdir())
        else:
            candidates = sorted(p.parent for p in path.glob("*/calib.txt"))
        return {p.resolve().name: p for p in candidates if (p / "image_0").is_dir() or (p / "image_2").is_dir()}

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        color = options.color
        if color == "auto":
            color = "color" if (folder / "image_2").is_dir() else "gray"
        left, right = _ODOMETRY_PAIRS[color]
        cameras = {LEFT: left, RIGHT: right} if (folder / f"image_{right}").is_dir() else {LEFT: left}
        images = {side: list_images(folder / f"image_{number}") for side, number in cameras.items()}
        rig = KittiRig.read(folder / "calib.txt", images, {side: f"P{number}" for side, number in cameras.items()})
        poses_file = folder.resolve().parents[1] / "poses" / f"{name}.txt"
        poses = T_rectified_velo = None
        if poses_file.exists():  # The file has the poses of camera 0.
            T_rectified_camera = invert_pose(rig.T_camera_rectified[LEFT])
            poses = read_kitti_poses(poses_file, len(rig.numbers), rig.numbers) @ T_rectified_camera
        if (folder / "velodyne").is_dir() and "Tr" in rig.calibration:
            T_rectified_velo = np.vstack([rig.calibration.matrix("Tr", 3, 4), (0, 0, 0, 1)])
        return SequenceRecording(
            **rig.describe(T_rectified_velo),
            name=f"kitti_odometry/{name}",
            poses=poses,
            times_s=read_times(folder / "times.txt", len(rig.numbers), rig.numbers),
            scan_folder=folder / "velodyne",
        )


@dataclass(kw_only=True, eq=False, repr=False)
class ScannedRecording(ImageRecording):
    """Images that each have a LiDAR scan, a file of the same name with the suffix .bin.

    scan_folder: folder of the scans.
    P_velo: (3, 4) projection from the scanner's coordinate frame to pixels, by side ("left" or "right"); None without
        calibration.
    """

    scan_folder: Path
    P_velo: Mapping[str, Array] | None

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the depth (H, W) in metres of the LiDAR points in an image; None without a scan.

        Pixels without a point are 0.

        index: index of the image in the recording.
        side: "left" or "right".
        """
        return self.read_scan_depth(index, side)

    def read_scan_depth(self, index: int, side: str, *, scanner_depth: bool = False) -> NDArray[np.float32] | None:
        """Project the LiDAR scan of an image and return its depth (H, W) in metres; None without a scan.

        Pixels without a point are 0.

        index: index of the image in the recording.
        side: "left" or "right".
        scanner_depth: return the scanner's x (forward) coordinate instead of the camera's z, as the Eigen protocol
            does.
        """
        path, size = self._scan_file(index, side), self.intrinsics[side]
        if self.P_velo is None or not path.exists():
            return None
        return project_scan(read_scan(path), self.P_velo[side], size.height, size.width, scanner_depth=scanner_depth)

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        return () if self.P_velo is None else (self._scan_file(index, side),)

    def _scan_file(self, index: int, side: str) -> Path:
        return self.scan_folder / f"{self.images[side][index].stem}.bin"


@dataclass(kw_only=True, eq=False, repr=False)
class DriveRecording(ScannedRecording):
    """One drive of KITTI raw.

    Its depth may be of several kinds, scores against which are not comparable.

    drive: folder of the drive.
    ground_truth: the kind of depth to use, or "auto".
    ground_truth_path: folder of the official depth maps (data_depth_annotated), or None if they are in the drive's
        folder.
    """

    drive: Path
    ground_truth: GroundTruth
    ground_truth_path: Path | None

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = self.ground_truth
        folders = [folder / "proj_depth" / kind for folder in self.list_depth_folders()]
        if kind.startswith("lidar"):
            folders = [self.scan_folder]
        if kind not in ("auto", "none") and not any(folder.is_dir() for folder in folders):
            fix = "download it, or set data.ground_truth=auto"
            raise DataError(folders[0], found="no such folder", expected=f"ground truth '{kind}'", fix=fix)

    @property
    def session(self) -> str:
        return self.drive.resolve().name.removesuffix("_sync")

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the depth (H, W) in metres of the chosen kind, 0 where unknown; None if this image has none.

        With ground_truth "auto" it is the first that exists of the improved depth map, the official projection of the
        scan, and the scan.

        index: index of the image in the recording.
        side: "left" or "right".
        """
        found = (self._read_depth(kind, index, side) for kind in self._depth_kinds)
        return next((depth for depth in found if depth is not None), None)

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        found: list[Path] = []
        for kind in self._depth_kinds:
            maps = (file for path in self._list_depth_maps(kind, index, side) for file in list_depth_images(path))
            found += super().depth_files(index, side) if kind.startswith("lidar") else maps
        return tuple(found)

    def depth_kind(self, index: int, side: str = LEFT) -> str:
        return next((kind for kind in self._depth_kinds if self._has_depth(kind, index, side)), "")

    @property
    def _depth_kinds(self) -> tuple[str, ...]:
        kinds = ("groundtruth", "velodyne_raw", "lidar") if self.ground_truth == "auto" else (self.ground_truth,)
        return tuple(kind for kind in kinds if kind != "none")

    def _has_depth(self, kind: str, index: int, side: str) -> bool:
        if kind.startswith("lidar"):
            return self.P_velo is not None and self._scan_file(index, side).exists()
        return any(path.exists() for path in self._list_depth_maps(kind, index, side))

    def _read_depth(self, kind: str, index: int, side: str) -> NDArray[np.float32] | None:
        if kind.startswith("lidar"):
            return self.read_scan_depth(index, side, scanner_depth=kind == "lidar_eigen")
        paths = self._list_depth_maps(kind, index, side)
        found = (self.read_depth(path, side, units_per_metre=256) for path in paths)
        return next((depth for depth in found if depth is not None), None)

    def _list_depth_maps(self, kind: str, index: int, side: str) -> list[Path]:
        if kind.startswith("lidar"):
            return []
        place = Path("proj_depth", kind, f"image_{RAW_CAMERAS[side]}", f"{self.images[side][index].stem}.png")
        return [folder / place for folder in self.list_depth_folders()]

    def list_depth_folders(self) -> list[Path]:
        """Return the folders that may contain proj_depth/: the drive's, or its folders in data_depth_annotated."""
        if self.ground_truth_path is None:
            return [self.drive]
        return [self.ground_truth_path / part / self.drive.resolve().name for part in ("train", "val", "")]


def _check_annotated_depth(folder: Path, recordings: Sequence[Recording]) -> None:
    drives = [recording for recording in recordings if isinstance(recording, DriveRecording)]
    if any((place / "proj_depth").is_dir() for drive in drives for place in drive.list_depth_folders()):
        return
    found = f"no depth of {drives[0].session}" + f" and {len(drives) - 1} more drives" * (len(drives) > 1)
    fix = "set data.ground_truth_path to the folder with train/ and val/, or remove it to use depth next to the images"
    raise DataError(folder, found=found, expected="the folder of KITTI's data_depth_annotated", fix=fix)


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceRecording(ScannedRecording):
    """One sequence of KITTI's odometry benchmark."""

    @property
    def session(self) -> str:
        """Return the drive of KITTI raw that contains the sequence.

        Sequences 00, 04, 05 and 07 belong to drives of Eigen's test split.
        """
        return _ODOMETRY_DRIVES.get(self.name.rpartition("/")[2], self.name)


@dataclass(frozen=True)
class KittiRig:
    """The cameras of a recording of KITTI, each by its side ("left" or "right").

    calibration: the calibration file.
    images: image files of each camera.
    intrinsics: K and image size of each camera.
    T_camera_rectified: (4, 4) motion from the coordinate frame of the rectified camera 0 to each camera's, in metres.
    numbers: numbers of the video frames, from the names of the left images.
    """

    calibration: KittiCalibration
    images: Mapping[str, Sequence[Path]]
    intrinsics: Mapping[str, Intrinsics]
    T_camera_rectified: Mapping[str, Array]
    numbers: Sequence[int]

    @classmethod
    def read(
        cls, calibration_file: Path, images: Mapping[str, Sequence[Path]], entries: Mapping[str, str]
    ) -> "KittiRig":
        """Read the cameras of a recording from a calibration file.

        calibration_file: the file.
        images: image files by side.
        entries: name of the projection matrix in the file, by side.
        """
        numbers = [parse_frame_number(path) for path in images[LEFT]]
        calibration = KittiCalibration(calibration_file)
        intrinsics, T_camera_rectified = {}, {}
        for side, files in images.items():
            K, T_camera_rectified[side] = calibration.projection(entries[side])
            intrinsics[side] = Intrinsics(K, *read_rgb(files[0]).shape[:2])
        return cls(calibration, images, intrinsics, T_camera_rectified, numbers)

    def describe(self, T_rectified_velo: Array | None) -> dict[str, Any]:
        """Return the arguments of a `ScannedRecording` that follow from the calibration, by name.

        T_rectified_velo: (4, 4) motion from the scanner's coordinate frame to the coordinate frame of the rectified
            camera 0, in metres; None without a scanner.
        """
        T, P_velo = self.T_camera_rectified, None
        if T_rectified_velo is not None:
            P_velo = {
                side: intrinsics.K @ (T[side] @ T_rectified_velo)[:3] for side, intrinsics in self.intrinsics.items()
            }
        return {
            "images": self.images,
            "intrinsics": self.intrinsics,
            "numbers": self.numbers,
            "T_right_left": T[RIGHT] @ invert_pose(T[LEFT]) if RIGHT in T else None,
            "P_velo": P_velo,
        }


def read_scan(path: Path, values: int = _POINT_VALUES) -> NDArray[np.float32]:
    """Read the points (N, 3) of a LiDAR scan, in the scanner's coordinate frame and in metres.

    path: a file of float32 values.
    values: number of values per point in the file; the first three are x, y and z.

    Raises DataError for a damaged file.
    """
    fix = "copy the scan again"
    point_bytes = 4 * values
    data = read_bytes(path, expected="a LiDAR scan", max_bytes=_MAX_SCAN_BYTES, fix=fix)
    if not data or len(data) % point_bytes:
        raise DataError(path, found=f"{len(data)} bytes", expected=f"points of {point_bytes} bytes each", fix=fix)
    points = np.frombuffer(data, np.float32).reshape(-1, values)[:, :3]
    if not np.isfinite(points).all():
        raise DataError(path, found="a point that is not finite", expected="finite metres", fix=fix)
    return points


def project_scan(
    points: NDArray[np.float32],
    P_velo: Array,
    height: int,
    width: int,
    *,
    scanner_depth: bool = False,
    first_pixel: int = 1,
) -> NDArray[np.float32]:
    """Project LiDAR points to an image: return the depth (height, width) of the nearest point at each pixel; 0 without
    one.

    points: (N, 3) points in the scanner's coordinate frame, in metres.
    P_velo: (3, 4) projection from that frame to pixels; the column is round(u) - first_pixel, as in KITTI's devkit.
    height, width: size of the image in pixels.
    scanner_depth: store the scanner's x instead of the camera's z, as the Eigen protocol does.
    first_pixel: coordinate of the first pixel's center, which is 1 in KITTI.
    """
    projected = points.astype(np.float64) @ P_velo[:, :3].T + P_velo[:, 3]
    z = projected[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        column, row = (np.round(projected[:, :2] / z[:, None]) - first_pixel).T
    visible = (z > 0) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
    depth = points[visible, 0] if scanner_depth else z[visible]
    nearest_last = np.argsort(-depth, kind="stable")
    depth_m = np.zeros((height, width), np.float32)
    depth_m[row[visible].astype(int)[nearest_last], column[visible].astype(int)[nearest_last]] = depth[nearest_last]
    return depth_m


def _read_T_rectified_velo(calibration: KittiCalibration) -> Array | None:
    """Return the transform from the scanner to the rectified frame of camera 0, as the devkit does."""
    path = calibration.path.with_name("calib_velo_to_cam.txt")
    if not path.exists():
        return None
    R_rect = np.eye(4)
    R_rect[:3, :3] = calibration.matrix("R_rect_00", 3, 3)
    return R_rect @ KittiCalibration(path).rigid()


def read_oxts_packets(folder: Path, numbers: Sequence[int]) -> Array | None:
    """Read the measurements (N, 30) of the GPS and inertial unit for video frames; None if one is missing.

    folder: the folder oxts/data.
    numbers: numbers of the N video frames.
    """
    files = [folder / f"{number:010d}.txt" for number in numbers]
    if not all(file.exists() for file in files):
        return None
    return np.concatenate([read_rows(file, OXTS_COLUMNS, "one OXTS packet")[:1] for file in files])


def compute_imu_poses(packets: Array) -> Array:
    """Compute poses T_world_imu (N, 4, 4), in metres, from GPS and inertial measurements.

    Positions follow the Mercator projection of KITTI's official devkit.

    packets: (N, >= 6) measurements, the result of `read_oxts_packets`.
    """
    from scipy.spatial.transform import Rotation  # slow to import

    latitude, longitude, altitude = packets[:, :3].T
    scale = np.cos(np.radians(latitude[0]))
    poses = np.tile(np.eye(4), (len(packets), 1, 1))
    poses[:, 0, 3] = scale * EARTH_RADIUS_M * np.radians(longitude)
    poses[:, 1, 3] = scale * EARTH_RADIUS_M * np.log(np.tan(np.radians(90 + latitude) / 2))
    poses[:, 2, 3] = altitude
    poses[:, :3, :3] = Rotation.from_euler("xyz", packets[:, 3:6]).as_matrix()
    return poses


def compute_camera_poses(packets: Array, T_camera_imu: Array) -> Array:
    """Compute the poses of the camera (N, 4, 4) as motions from each camera position to the first one, in metres.

    packets: (N, >= 6) GPS and inertial measurements, the result of `read_oxts_packets`.
    T_camera_imu: (4, 4) motion from the inertial unit's coordinate frame to the camera's.
    """
    T_earth_imu = compute_imu_poses(packets)
    T_earth_imu[:, :3, 3] -= T_earth_imu[0, :3, 3].copy()  # millions of metres would cost precision
    T_earth_camera = T_earth_imu @ invert_pose(T_camera_imu)
    return invert_pose(T_earth_camera[0]) @ T_earth_camera
