"""Read Cityscapes sequences (cityscapes-dataset.com): leftImg8bit_sequence/SPLIT/CITY/*_leftImg8bit.png and camera/.

A snippet of 30 frames is a recording, a rectified pair if rightImg8bit_sequence exists.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from stadia.core.errors import DataError
from stadia.core.recording import LEFT, RIGHT, Recording
from stadia.datasets.config import SourceOptions
from stadia.datasets.frame_store import ReportProgress
from stadia.datasets.image_files import read_rgb
from stadia.datasets.open_dataset import DatasetFormat
from stadia.datasets.recordings import ImageRecording, Intrinsics, make_K
from stadia.datasets.text_files import FileEntry, read_typed_json

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
    """A snippet; the names of a pair differ."""

    pairs_by_name = False


class Cityscapes(DatasetFormat):
    """Snippets of Cityscapes by split, city and number."""

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
