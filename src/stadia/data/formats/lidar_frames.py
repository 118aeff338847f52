"""Recordings of driving datasets whose index lists the image, camera, pose and LiDAR scan of each frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import LEFT
from stadia.data.formats.kitti import project_scan
from stadia.data.recordings import ImageRecording
from stadia.geometry.cameras import Intrinsics, check_K
from stadia.geometry.poses import invert_pose
from stadia.io.image_files import check_image_size, read_rgb

Array = NDArray[np.float64]
ReadPoints = Callable[[Path], NDArray[np.float32]]  # reads a scan as (N, 3) points in the scanner's axes, metres
MIN_DEPTH_M = 1.0  # nearer returns hit the car itself


@dataclass(frozen=True, eq=False, kw_only=True)
class LidarFrame:
    """One image of a driving dataset with its camera, pose and LiDAR scan.

    image: file of the image.
    time_s: time of the image in seconds.
    K: (3, 3) intrinsics in pixels.
    T_world_camera: (4, 4) camera-to-world pose at the time of the image, in metres.
    scan: file of the LiDAR scan; None without a scan.
    T_world_scan: (4, 4) motion from the scanner's to the world's coordinate frame at the time of the scan, in metres;
        None without a scan.
    """

    image: Path
    time_s: float
    K: Array
    T_world_camera: Array
    scan: Path | None = None
    T_world_scan: Array | None = None


@dataclass(kw_only=True, eq=False, repr=False)
class LidarRecording(ImageRecording):
    """A drive with LiDAR scans.

    scans: file of the scan of each image, or None.
    T_camera_scan: (4, 4) motion from the scanner's to the camera's coordinate frame for each image, in metres. It
        includes the car's motion between the times of scan and image.
    read_points: function that reads the points (N, 3) of a scan file.
    """

    scans: Sequence[Path | None]
    T_camera_scan: Sequence[Array | None]
    read_points: ReadPoints

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the depth (H, W) in metres of the scan's points in an image, 0 at pixels without a point; None without
        a scan.

        Points nearer than 1 m, which hit the car itself, are left out.

        index: index of the image in the recording.
        side: "left", the only camera.
        """
        scan, T_camera_scan, size = self.scans[index], self.T_camera_scan[index], self.intrinsics[side]
        if scan is None or T_camera_scan is None:
            return None
        projection = size.select_K(index) @ T_camera_scan[:3]
        depth_m = project_scan(self.read_points(scan), projection, size.height, size.width, first_pixel=0)
        depth_m[depth_m < MIN_DEPTH_M] = 0
        return depth_m

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        scan = self.scans[index]
        return () if scan is None else (scan,)


def make_lidar_recording(
    index_file: Path,
    name: str,
    frames: Sequence[LidarFrame],
    *,
    size: tuple[int, int],
    read_points: ReadPoints,
    place: str = "",
) -> LidarRecording:
    """Make a recording of images with LiDAR scans, ordered by time.

    Without scan files, the recording has no depth.

    index_file: file that lists the images, for messages.
    name: name of the recording.
    frames: the images with their cameras, poses and scans.
    size: (height, width) of the images in pixels.
    read_points: function that reads the points (N, 3) of a scan file, in the scanner's coordinate frame and in metres.
    place: name of the place; recordings of one place are not separated into training and validation.

    Raises DataError if no image is found, or a file is missing.
    """
    if not frames:
        raise DataError(index_file, found=f"no frame of {name}", expected="its images", fix="copy the official file")
    frames = sorted(frames, key=lambda frame: frame.time_s)
    if not any(frame.scan is not None and frame.scan.is_file() for frame in frames):
        frames = [replace(frame, scan=None) for frame in frames]
    for frame in frames:
        for file in (frame.image, frame.scan):
            if file is not None and not file.is_file():
                expected, fix = f"a file that {index_file.name} lists", "copy it, or choose others with data.recordings"
                raise DataError(file, found="no such file", expected=expected, fix=fix)
    K = np.stack([check_K(index_file, frame.K) for frame in frames])
    first = frames[0]
    like = f", the size in {index_file.name}"
    check_image_size(first.image, read_rgb(first.image), *size, like=like, fix="copy the official files")
    return LidarRecording(
        name=name,
        images={LEFT: [frame.image for frame in frames]},
        intrinsics={LEFT: Intrinsics(K[0] if (K[0] == K).all() else K, *size)},
        poses=np.stack([frame.T_world_camera for frame in frames]),
        times_s=np.array([frame.time_s for frame in frames]),
        place=place,
        scans=[frame.scan for frame in frames],
        T_camera_scan=[
            None if frame.T_world_scan is None else invert_pose(frame.T_world_camera) @ frame.T_world_scan
            for frame in frames
        ],
        read_points=read_points,
    )
