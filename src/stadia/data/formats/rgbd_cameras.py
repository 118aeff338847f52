"""Read depth cameras: TUM RGB-D and Microsoft 7-Scenes.

TUM RGB-D (cvg.cit.tum.de, CC BY 4.0) has SEQUENCE/{rgb.txt, depth.txt, groundtruth.txt, rgb, depth}. The lists have
lines `timestamp filename` and `timestamp tx ty tz qx qy qz qw`. Depth is registered to the color camera, with 5000
integers per metre. 7-Scenes has SCENE/seq-NN/frame-000000.{color.png, depth.png, pose.txt}.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import LEFT, Recording
from stadia.data.config import SourceOptions
from stadia.data.frame_store import ReportProgress
from stadia.data.open_dataset import DatasetFormat
from stadia.data.recordings import ImageRecording
from stadia.geometry.cameras import Intrinsics, make_K, register_depth
from stadia.geometry.poses import invert_pose
from stadia.io.image_files import check_image_size, list_depth_images, list_images, read_rgb
from stadia.io.input_files import read_lines, safe_join
from stadia.io.number_rows import parse_numbers, read_rows
from stadia.io.records.poses import convert_times
from stadia.io.records.read import read_trajectory

UNITS_PER_METRE = 5000
MAX_APART_S = 0.02  # difference of the times of one frame in two lists, as in the dataset's `associate.py`
HEIGHT, WIDTH = 480, 640
FREIBURG_CAMERAS = {  # fx, fy, cx, cy by the folder's name; images of 1 and 2 keep their distortion
    "freiburg1": (517.3, 516.5, 318.6, 255.3),
    "freiburg2": (520.9, 521.0, 325.1, 249.7),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}

ROS_CAMERA = (525.0, 525.0, 319.5, 239.5)  # the driver's default, for other sequences


class TumRgbd(DatasetFormat):
    """The reader of TUM RGB-D. The path is the folder of sequences, or one sequence."""

    layout = "SEQUENCE/rgb.txt with rgb/TIME.png"

    def find_recordings(self, path: Path) -> dict[str, Path]:
        alone = (path / "rgb.txt").is_file()
        folders = [path] if alone else sorted(file.parent for file in path.glob("*/rgb.txt"))
        return {folder.resolve().name: folder for folder in folders}

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        times_s, images = _read_list(folder / "rgb.txt")
        check_image_size(images[0], read_rgb(images[0]), HEIGHT, WIDTH, like="", fix="copy it again")
        K = make_K(folder, *next((k for key, k in FREIBURG_CAMERAS.items() if key in name), ROS_CAMERA))
        depth_files: list[Path | None] = [None] * len(images)
        if (folder / "depth.txt").is_file():
            depth_times_s, files = _read_list(folder / "depth.txt")
            nearest = match_times(times_s, depth_times_s)
            depth_files = [None if index < 0 else files[index] for index in nearest]
        return TumRecording(
            name=f"tum_rgbd/{name}",
            images={LEFT: images},
            intrinsics={LEFT: Intrinsics(K, HEIGHT, WIDTH)},
            times_s=times_s,
            poses=_read_poses(folder / "groundtruth.txt", times_s),
            maps=depth_files,
        )


@dataclass(kw_only=True, eq=False, repr=False)
class TumRecording(ImageRecording):
    """A sequence of TUM RGB-D.

    maps: file of the depth image of each color image, or None if none was taken within 20 ms.
    """

    maps: list[Path | None]

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the depth (H, W) in metres at the pixels of a color image, 0 where unknown; None without a depth
        image.

        index: index of the image in the recording.
        side: "left", the only camera.
        """
        path = self.maps[index]
        return None if path is None else self.read_depth(path, side, units_per_metre=UNITS_PER_METRE)

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        path = self.maps[index]
        return () if path is None else (path,)


def match_times(times_s: NDArray[np.float64], others_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each time of a first list the index of the nearest time of a second list, (N,).

    The index is -1 if the nearest time is more than MAX_APART_S (0.02 s) away.

    times_s: (N,) first list, in seconds.
    others_s: (M,) second list, in seconds.
    """
    order = np.argsort(others_s)
    right = np.clip(np.searchsorted(others_s[order], times_s), 1, max(len(order) - 1, 1))
    candidates = order[np.clip(np.stack([right - 1, right]), 0, len(order) - 1)]
    apart_s = np.abs(others_s[candidates] - times_s)
    nearest = candidates[apart_s.argmin(0), np.arange(len(times_s))]
    return np.where(apart_s.min(0) <= MAX_APART_S, nearest, -1)


def _read_list(path: Path) -> tuple[NDArray[np.float64], list[Path]]:
    times, files = list[str](), list[Path]()
    for number, line in enumerate(read_lines(path, expected="lines `timestamp filename`"), start=1):
        if line.lstrip().startswith("#"):
            continue
        words = line.split()
        if len(words) != 2 or not len(parse_numbers(words[:1])):
            expected, fix = "`timestamp filename`", "copy the official file"
            raise DataError(path, found=f"'{line[:60]}' in line {number}", expected=expected, fix=fix)
        times.append(words[0])
        files.append(safe_join(path.parent, words[1]))
    if not files:
        raise DataError(path, found="no frame", expected="lines `timestamp filename`", fix="copy the official file")
    return convert_times(times)[0], files


def _read_poses(path: Path, times_s: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return (N, 4, 4) camera-to-world of the nearest rows; NaN without a near row. None without the file."""
    if not path.is_file():
        return None
    read = read_trajectory(path, is_reference=True)
    if read.times_s is None:
        fix = "copy the trajectory file again from the dataset"
        raise DataError(path, found="poses without times", expected="rows timestamp tx ty tz qx qy qz qw", fix=fix)
    nearest = match_times(times_s, read.times_s)
    poses = read.T_world_camera[nearest]
    poses[nearest < 0] = np.nan
    return poses


def rotations_from_xyzw(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert quaternions (N, 4) in the order x, y, z, w to rotation matrices (N, 3, 3)."""
    from scipy.spatial.transform import Rotation  # slow to import

    return np.asarray(Rotation.from_quat(quaternions).as_matrix())


DEPTH_K = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
COLOR_K = np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]])
"""Intrinsics (3, 3) of the color camera of 7-Scenes, in pixels (Brachmann et al., ICCV 2021)."""

T_COLOR_DEPTH = np.array([[1.0, 0, 0, -0.025], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
"""Motion (4, 4) from the depth camera to the color camera of 7-Scenes, in metres.

A Kinect's color camera is 25 mm to the right of its depth camera.
"""


class SevenScenes(DatasetFormat):
    """The reader of 7-Scenes; each sequence is a recording. The path is a scene, a folder of scenes, or a sequence."""

    layout = "SCENE/seq-NN with frame-*.color.png"

    def find_recordings(self, path: Path) -> dict[str, Path]:
        alone = path.resolve().name.startswith("seq-")
        folders = [path] if alone else sorted({*path.glob("seq-*"), *path.glob("*/seq-*")})
        return {
            f"{p.resolve().parent.name}/{p.resolve().name}": p for p in folders if next(p.glob("frame-*.color.*"), None)
        }

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        images, intrinsics = list_images(folder, "frame-*.color.*"), {LEFT: Intrinsics(COLOR_K, 480, 640)}
        like, fix = ", the size for the scene's K", "use the original images"
        check_image_size(images[0], read_rgb(images[0]), 480, 640, like=like, fix=fix)
        of_depth = np.stack([_read_pose(_frame_file(image, "pose.txt")) for image in images])
        poses = of_depth @ invert_pose(T_COLOR_DEPTH)
        return SceneRecording(name=f"sevenscenes/{name}", images={LEFT: images}, intrinsics=intrinsics, poses=poses)

    def splits(self, path: Path) -> dict[str, list[str]]:
        """Return the sequences of the official split by "train" and "test", if all scenes have TrainSplit.txt and
        TestSplit.txt.
        """
        parts = {"train": "TrainSplit.txt", "test": "TestSplit.txt"}
        folders = self.find_recordings(path).values() if path.is_dir() else ()
        scenes = sorted({folder.resolve().parent for folder in folders} - {path.resolve().parent})
        if not scenes or not all((scene / file).is_file() for scene in scenes for file in parts.values()):
            return {}
        return {part: [name for scene in scenes for name in _read_split(scene / file)] for part, file in parts.items()}


@dataclass(kw_only=True, eq=False, repr=False)
class SceneRecording(ImageRecording):
    """One sequence of 7-Scenes: color images, with depth and poses converted to the color camera."""

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the depth (H, W) in metres at the pixels of a color image, 0 where unknown; None without a depth file.

        The file has uint16 millimetres; 0 and 65535 mean unknown.

        index: index of the image in the recording.
        side: "left", the only camera.
        """
        path, *_ = self.depth_files(index, side)
        depth_m = self.read_depth(path, side, units_per_metre=1000, invalid=(0, 65535))
        return None if depth_m is None else register_depth(depth_m, DEPTH_K, COLOR_K, T_COLOR_DEPTH)

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        return list_depth_images(_frame_file(self.images[side][index], "depth.png"))


def _frame_file(image: Path, ending: str) -> Path:
    return image.with_name(f"{image.name.split('.')[0]}.{ending}")


def _read_split(path: Path) -> list[str]:
    names, expected = [], "lines like sequence1"
    for line in read_lines(path, expected=expected):
        number = re.fullmatch(r"\s*sequence(\d+)\s*", line)
        if number is None:
            raise DataError(path, found=f"'{line[:60]}'", expected=expected, fix="copy the official file")
        names.append(f"{path.parent.name}/seq-{int(number[1]):02d}")
    return names


def _read_pose(path: Path) -> NDArray[np.float64]:
    """Return (4, 4) camera-to-world; NaN for a frame without a pose."""
    if not path.exists():
        return np.full((4, 4), np.nan)
    rows = read_rows(path, 4, expected := "a 4x4 camera-to-world matrix")
    if rows.shape != (4, 4) or not np.allclose(rows[3], (0, 0, 0, 1)):
        raise DataError(path, found=f"{len(rows)} rows", expected=expected, fix="copy the file again")
    return rows
