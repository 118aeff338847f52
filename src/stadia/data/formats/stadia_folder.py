"""Read the stadia folder layout (docs/reference/stadia-folder.md): dataset.json names the recordings of each split.

A recording has recording.json, left/000000.png, and optionally right/, depth/left/000000.npy, poses.txt, times.txt.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.core.types import LEFT, Recording
from stadia.data.config import Matrix, SourceOptions
from stadia.data.frame_store import ReportProgress
from stadia.data.mask_files import MaskFiles
from stadia.data.open_dataset import DatasetFormat, select_recordings
from stadia.data.recordings import ImageRecording
from stadia.geometry.cameras import Intrinsics, check_K
from stadia.io.array_files import StackedArray, open_npy, read_npy
from stadia.io.image_files import check_depth_map, list_depth_images, list_images
from stadia.io.input_files import safe_join
from stadia.io.number_rows import read_kitti_poses, read_times
from stadia.io.typed_json import FileEntry, read_typed_json

_Row = tuple[float, float, float, float]


class _FolderDatasetFile(FileEntry):
    format: str = Field(pattern="^stadia$")
    version: int = Field(ge=1, le=1)
    splits: dict[str, list[str]]


class _FolderCameraEntry(FileEntry):
    K: Matrix
    height: int = Field(ge=1, le=1 << 16)
    width: int = Field(ge=1, le=1 << 16)


class _RecordingFile(FileEntry):
    cameras: dict[str, _FolderCameraEntry]
    T_right_left: tuple[_Row, _Row, _Row, _Row] | None = None
    frame_rate_hz: float | None = Field(default=None, gt=0)
    camera_height_m: float | None = Field(default=None, gt=0)
    mount: str | None = None


def _parse(model: type[Any], path: Path) -> Any:
    return read_typed_json(path, model, expected="the stadia layout", fix="see docs/reference/stadia-folder.md")


class StadiaFolder(DatasetFormat):
    """The reader of datasets in stadia's own layout. The path is a dataset, or one recording."""

    layout = "dataset.json or recording.json of the stadia layout"

    def recognizes(self, path: Path) -> bool:
        described = (path / "dataset.json").is_file() or (path / "recording.json").is_file()
        return described or bool(self.find_recordings(path))

    def find_recordings(self, path: Path) -> dict[str, Path]:
        return {described.parent.name: described.parent for described in sorted(path.glob("*/recording.json"))}

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        if (path / "recording.json").is_file():
            return [_open_recording(path, path.resolve().name)]
        splits = self.splits(path)
        listed = [name for names in splits.values() for name in names] if splits else list(self.find_recordings(path))
        names = select_recordings(list(dict.fromkeys(listed)), options, path)
        return [_open_recording(safe_join(path, name), f"{path.resolve().name}/{name}") for name in names]

    def splits(self, path: Path) -> dict[str, list[str]]:
        if not (path / "dataset.json").is_file():
            return {}
        dataset: _FolderDatasetFile = _parse(_FolderDatasetFile, path / "dataset.json")
        if not any(dataset.splits.values()):
            expected = "at least one in splits"
            raise DataError(path / "dataset.json", found="no recording", expected=expected, fix="list the recordings")
        return dataset.splits


@dataclass(kw_only=True, eq=False, repr=False)
class FolderRecording(ImageRecording):
    """A recording in stadia's own layout.

    folder: folder of the recording.
    camera_height_m: height of the camera above the road in metres; None if unknown.
    depth_stacks: content of depth/SIDE.npy, (N, H, W) metres, by side; empty if each image has a depth file.
    """

    size_origin: ClassVar[str] = "recording.json"

    folder: Path
    camera_height_m: float | None = None
    depth_stacks: Mapping[str, StackedArray] = field(default_factory=dict)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the depth (H, W) in metres of an image, 0 where unknown; None if the image has no depth.

        It is read from depth/SIDE/STEM.npy (float metres), depth/SIDE/STEM.png (uint16 / 256), or depth/SIDE.npy.

        index: index of the image in the recording.
        side: "left" or "right".
        """
        if (stack := self.depth_stacks.get(side)) is not None:
            depth_m = np.asarray(stack.read(self.number(index)), np.float32)
            return check_depth_map(stack.path, depth_m, *stack.shape[1:])
        path, size = self.depth_files(index, side)[0], self.intrinsics[side]
        if not path.exists():
            return self.read_depth(path.with_suffix(".png"), side, units_per_metre=256)
        depth_m = read_npy(path, shape=(size.height, size.width)).astype(np.float32, copy=False)
        return check_depth_map(path, depth_m, size.height, size.width)

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        if side in self.depth_stacks:
            return (self.depth_stacks[side].path,)
        path = self.folder / "depth" / side / f"{self.images[side][index].stem}.npy"
        return path, *list_depth_images(path.with_suffix(".png"))


def _open_recording(folder: Path, name: str) -> Recording:
    path = folder / "recording.json"
    described: _RecordingFile = _parse(_RecordingFile, path)
    sides = tuple(described.cameras)
    if sides not in (("left",), ("left", "right")):
        found = f"cameras {', '.join(sides)}"
        raise DataError(path, found=found, expected="left, or left and right", fix="rename the cameras")
    if (len(sides) == 2) != (described.T_right_left is not None):
        found = f"{len(sides)} camera(s) and T_right_left {described.T_right_left}"
        raise DataError(path, found=found, expected="T_right_left for a pair", fix="add or remove it")
    images = {side: list_images(folder / side) for side in sides}
    frames = len(images[LEFT])
    poses = folder / "poses.txt"
    times_s = read_times(folder / "times.txt", frames)
    if times_s is None and described.frame_rate_hz:
        times_s = np.arange(frames) / described.frame_rate_hz
    intrinsics = {}
    for side, camera in described.cameras.items():
        K = check_K(f"{path} cameras.{side}", np.array(camera.K, dtype=np.float64))
        intrinsics[side] = Intrinsics(K, camera.height, camera.width)
    height_m = described.camera_height_m
    recording = FolderRecording(
        name=name,
        folder=folder,
        images=images,
        intrinsics=intrinsics,
        T_right_left=None if described.T_right_left is None else np.array(described.T_right_left, dtype=np.float64),
        poses=read_kitti_poses(poses, frames) if poses.exists() else None,
        times_s=times_s,
        camera_height_m=height_m,
        depth_stacks=_open_depth_stacks(folder, frames, intrinsics),
    )
    recording.mask_reader = MaskFiles.open_beside(folder)
    recording.mount = described.mount or ("" if height_m is None else f"{height_m:g} m")
    return recording


def _open_depth_stacks(folder: Path, frames: int, intrinsics: Mapping[str, Intrinsics]) -> dict[str, StackedArray]:
    """Return depth/SIDE.npy by side, if it exists. Raises DataError if it is not (N, H, W) metres."""
    stacks = {}
    for side, size in intrinsics.items():
        path = folder / "depth" / f"{side}.npy"
        if not path.exists():
            continue
        stack, shape = open_npy(path), (frames, size.height, size.width)
        if stack.shape != shape or stack.dtype.kind != "f":
            expected = f"floats of shape {shape}: a map in metres for each image of {side}/"
            found, fix = f"{stack.dtype} of shape {stack.shape}", "write one map per image, at its size"
            raise DataError(path, found=found, expected=expected, fix=fix)
        if (folder / "depth" / side).exists():
            fix = "keep one of the two"
            raise DataError(path, found=f"depth in it and in {side}/", expected="depth in one place", fix=fix)
        stacks[side] = stack
    return stacks
