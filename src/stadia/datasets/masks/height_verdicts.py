"""Read which objects `stadia camera-height` rejected, so that a training leaves them out from its first step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from stadia.core.errors import DataError
from stadia.datasets.text_files import FileEntry, read_typed_json
from stadia.files.paths import expand_home

REJECTED = ("disagrees with the others", "stands above the horizon")
"""Verdicts that a training follows; it judges by itself what touches the border, is small or hidden."""


class _Object(FileEntry):
    """An object of an estimate by the horizon."""

    frame: str
    number: int = 0
    verdict: str


class _Measured(FileEntry):
    """An object of an estimate by depth."""

    number: int = 0
    metres_over_unit: float | None = None
    accepted: bool


class _Frame(FileEntry):
    recording: str
    frame: str
    objects: list[_Measured]


class _HeightFile(FileEntry):
    """camera_height.json."""

    format: str = Field(pattern="^stadia-camera-height$")
    each: list[_Object] = Field(default_factory=list)
    frames: list[_Frame] | int = 0


@lru_cache(maxsize=4)
def read_rejected_objects(path: str) -> Mapping[str, frozenset[int]]:
    """Return the numbers of rejected objects by "RECORDING/STEM" of their image.

    path: camera_height.json of `stadia camera-height --out`.

    Raises DataError where it is another file, or none of its objects has a number, as those of KITTI's boxes.
    """
    file = expand_home(path)
    read: _HeightFile = read_typed_json(
        file,
        _HeightFile,
        expected="camera_height.json of `stadia camera-height --out`",
        fix="pass that file as road.verdicts",
    )
    rejected: dict[str, set[int]] = {}
    judged = [(one.frame, one.number, one.verdict in REJECTED) for one in read.each]
    for frame in read.frames if isinstance(read.frames, list) else []:
        name = f"{frame.recording}/{Path(frame.frame).name}"
        judged += [(name, one.number, not one.accepted and one.metres_over_unit is not None) for one in frame.objects]
    if judged and not any(number for _, number, _ in judged):
        fix = "make masks (stadia prepare --masks), and estimate with them"
        raise DataError(file, found="objects without numbers", expected="those of masks", fix=fix)
    for name, number, is_rejected in judged:
        if is_rejected and number:
            rejected.setdefault(name, set()).add(number)
    return {name: frozenset(numbers) for name, numbers in rejected.items()}
