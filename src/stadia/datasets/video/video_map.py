"""Read what `stadia map` wrote beside a video or a folder of images: camera, path, static parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.datasets.recordings import MAX_FOCAL_PX, Intrinsics
from stadia.datasets.text_files import FileEntry, read_typed_json
from stadia.files.array_files import read_npz
from stadia.files.image_io import decode_image
from stadia.files.input_files import read_bytes

log = logging.getLogger(__name__)

RECORD, POINTS, MASK = "map.json", "points.npz", "static.png"
FORMAT = "stadia-map"
MAX_RECORD_BYTES = 1 << 28
_REMAKE = "make it again: stadia map VIDEO"


class MapCamera(FileEntry):
    """The camera of a map, for the frames as filmed.

    origin: "given", "estimated", "uncertain" where it is not claimed, or "assumed" where the motion determines none.
    distortion: k1, k2, p1, p2 of OpenCV.
    intervals_95: low and high of focal_px, center_x_px, center_y_px, k1, k2; empty where the camera was given.
    """

    origin: str
    focal_px: float
    center_px: tuple[float, float]
    distortion: tuple[float, float, float, float]
    height: int
    width: int
    intervals_95: dict[str, tuple[float, float]] = Field(default_factory=dict)

    @property
    def is_determined(self) -> bool:
        """Return whether the focal length is known, given or by the motion."""
        return self.origin in ("given", "estimated")

    @property
    def corner_shift_px(self) -> float:
        """Return how far the distortion moves the pixel in the corner, pixels."""
        k1, k2, *_ = self.distortion
        squared = (self.width**2 + self.height**2) / 4 / self.focal_px**2
        return float(self.focal_px * squared**0.5 * abs(k1 * squared + k2 * squared**2))

    @property
    def intrinsics(self) -> Intrinsics:
        """Return K of the frames as filmed, without the distortion."""
        x, y = self.center_px
        return Intrinsics(np.array([[self.focal_px, 0, x], [0, self.focal_px, y], [0, 0, 1]]), self.height, self.width)


class _MapFrame(FileEntry):
    index: int
    name: str
    status: str
    time_s: float | None = None
    T_world_camera: list[list[float]] | None = None


class _MapRecord(FileEntry):
    format: str
    camera: MapCamera
    frames: list[_MapFrame]


@dataclass(frozen=True, slots=True, eq=False)
class VideoMapFiles:
    """A map in its folder.

    names: of all frames of the video.  status: of each, see `mapping.frame_poses.FrameStatus`.
    poses: (N, 4, 4) T_world_camera, up to scale; NaN where a frame is lost.
    """

    folder: Path
    camera: MapCamera
    names: tuple[str, ...]
    status: tuple[str, ...]
    poses: NDArray[np.float64]

    def read_points(self) -> dict[str, NDArray[Any]]:
        """Return points (P, 3), relative_deviation (P,), track_length (P,), observed (M, 2), xy (M, 2), frames (F,)."""
        return dict(read_npz(self.folder / POINTS))

    def read_mask(self) -> NDArray[np.bool_] | None:
        """Return (H, W), true on what never moves; None where nothing was found."""
        path = self.folder / MASK
        if not path.is_file():
            return None
        import cv2

        data = read_bytes(path, expected="a mask", max_bytes=1 << 26)
        return decode_image(path, data, cv2.IMREAD_GRAYSCALE, fix=_REMAKE) > 127


def find_map_folder(source: Path) -> Path:
    """Return where the map of a video or of a folder of images lies: drive.map beside drive.mp4.

    Examples:
        >>> find_map_folder(Path("clips/drive.mp4")).as_posix()
        'clips/drive.map'
    """
    return source.with_name(f"{source.resolve().name}.map") if source.is_dir() else source.with_suffix(".map")


def read_map(folder: Path) -> VideoMapFiles:
    """Read a map's record. Raises DataError for any other file, and for poses that are none."""
    path = folder / RECORD
    record: _MapRecord = read_typed_json(
        path, _MapRecord, expected="a map of stadia's", fix=_REMAKE, max_bytes=MAX_RECORD_BYTES
    )
    if record.format != FORMAT:
        raise DataError(path, found=f"format '{record.format[:40]}'", expected=f"'{FORMAT}'", fix=_REMAKE)
    camera = record.camera
    if not 2 <= camera.focal_px <= MAX_FOCAL_PX or min(camera.height, camera.width) < 1:
        found = f"a focal length of {camera.focal_px:g} px, images of {camera.width}x{camera.height}"
        raise DataError(path, found=found, expected="a camera", fix=_REMAKE)
    poses = np.full((len(record.frames), 4, 4), np.nan)
    for row, frame in enumerate(record.frames):
        if frame.T_world_camera is not None:
            values = np.array(frame.T_world_camera, np.float64) if _is_3x4(frame.T_world_camera) else np.empty(0)
            if values.shape != (3, 4) or abs(np.linalg.det(values[:, :3]) - 1) > 1e-3:
                raise DataError(path, found=f"no pose at frame {frame.name[:40]}", expected="3x4 each", fix=_REMAKE)
            poses[row] = np.vstack((values, (0, 0, 0, 1)))
    names, status = (tuple(getattr(frame, key) for frame in record.frames) for key in ("name", "status"))
    return VideoMapFiles(folder, camera, names, status, poses)


def _is_3x4(rows: list[list[float]]) -> bool:
    return len(rows) == 3 and all(len(row) == 4 for row in rows)


def find_map(source: Path) -> VideoMapFiles | None:
    """Return the map beside a video or a folder of images; None without one."""
    folder = find_map_folder(source)
    return read_map(folder) if (folder / RECORD).is_file() else None


def has_mapped_camera(source: Path) -> bool:
    """Return whether a map lies beside a video or a folder of images, and determines its camera."""
    found = find_map(source)
    return found is not None and found.camera.is_determined


MAX_CORNER_SHIFT_PX = 2.0  # of the distortion, above which a pinhole's camera deserves a warning


def read_mapped_camera(source: Path) -> Intrinsics:
    """Return the camera of the map beside a video or a folder of images, without its distortion.

    Raises DataError where there is no map, or its motion does not determine the camera.
    """
    found = find_map(source)
    if found is None:
        expected = f"{find_map_folder(source).name} beside it"
        raise DataError(source, found="no map", expected=expected, fix=f"make it once: stadia map {source}")
    camera = found.camera
    if not camera.is_determined:
        fix = f"give the camera: stadia camera {source} --fov DEGREES"
        what = f"a camera that its motion does not determine ({camera.origin})"
        raise DataError(found.folder, found=what, expected="a path that turns", fix=fix)
    if camera.corner_shift_px > MAX_CORNER_SHIFT_PX:
        message = "%s: the lens moves the corners by %.0f px, which a pinhole does not have: docs/how-to/undistort.md"
        log.warning(message, source, camera.corner_shift_px)
    return camera.intrinsics
