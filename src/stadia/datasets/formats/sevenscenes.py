"""Read Microsoft 7-Scenes: SCENE/seq-NN/frame-000000.{color.png, depth.png, pose.txt}."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import LEFT, Recording
from stadia.datasets.config import SourceOptions
from stadia.datasets.frame_store import ReportProgress
from stadia.datasets.image_files import check_image_size, list_depth_images, list_images, read_rgb
from stadia.datasets.open_dataset import DatasetFormat
from stadia.datasets.recordings import ImageRecording, Intrinsics
from stadia.datasets.text_files import read_rows
from stadia.files.input_files import read_lines
from stadia.geometry.numpy_camera import register_depth

DEPTH_K = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
COLOR_K = np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]])
"""Of the color camera (Brachmann et al., On the Limits of Pseudo Ground Truth, ICCV 2021)."""

T_COLOR_DEPTH = np.array([[1.0, 0, 0, -0.025], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
"""A Kinect's color camera is 25 mm to the right of its depth camera."""


class SevenScenes(DatasetFormat):
    """Sequences of one scene, of several, or one sequence's folder."""

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
        poses = of_depth @ np.linalg.inv(T_COLOR_DEPTH)
        return SceneRecording(name=f"sevenscenes/{name}", images={LEFT: images}, intrinsics=intrinsics, poses=poses)

    def splits(self, path: Path) -> dict[str, list[str]]:
        """Return TrainSplit.txt and TestSplit.txt (lines `sequence1`) if all scenes have them; empty for a sequence."""
        parts = {"train": "TrainSplit.txt", "test": "TestSplit.txt"}
        folders = self.find_recordings(path).values() if path.is_dir() else ()
        scenes = sorted({folder.resolve().parent for folder in folders} - {path.resolve().parent})
        if not scenes or not all((scene / file).is_file() for scene in scenes for file in parts.values()):
            return {}
        return {part: [name for scene in scenes for name in _read_split(scene / file)] for part, file in parts.items()}


@dataclass(kw_only=True, eq=False, repr=False)
class SceneRecording(ImageRecording):
    """One sequence of color images; depth and pose of the depth camera are converted to the color camera."""

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return depth from uint16 millimetres (0 and 65535 are none) at the pixels of the color image."""
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
