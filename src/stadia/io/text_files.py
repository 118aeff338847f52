"""Read rows of numbers, typed JSON, camera-to-world poses (KITTI rows) and times."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from stadia.core.errors import DataError
from stadia.io.input_files import MAX_TEXT_BYTES, read_lines
from stadia.io.json_files import read_json

_KEYED_ROW = re.compile(r"\s*[A-Za-z_]\w*\s*:")


class FileEntry(BaseModel):
    """An entry of a file that other programs write. Unknown keys are allowed."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


def validate_content(path: object, content: Any, kind: Any, *, expected: str, fix: str) -> Any:
    """Return the content of a file, converted to a type. Raises DataError with the file and the first wrong key."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))[:100] or "the file"
        raise DataError(path, found=f"{key}: {problem['msg']}", expected=expected, fix=fix) from error


def read_typed_json(path: Path, kind: Any, *, expected: str, fix: str, max_bytes: int = MAX_TEXT_BYTES) -> Any:
    """Read a JSON file and convert it to a type. Raises DataError with the file and the first wrong key."""
    return validate_content(path, read_json(path, max_bytes=max_bytes), kind, expected=expected, fix=fix)


def parse_numbers(words: Sequence[str]) -> NDArray[np.float64]:
    """Return the words as numbers (N,). The result is empty if one of them is not a finite number."""
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError:
        return np.empty(0)
    return numbers if np.isfinite(numbers).all() else np.empty(0)


def read_rows(path: Path, columns: int, expected: str) -> NDArray[np.float64]:
    """Return finite numbers (N, columns), one row per line. Raises DataError with the file and the line.

    expected: description of a row, for messages.
    """
    lines = [line for line in read_lines(path, expected=expected) if not line.lstrip().startswith("#")]
    rows = np.empty((len(lines), columns))
    for number, line in enumerate(lines):
        values = parse_numbers(line.replace(",", " ").split())
        if len(values) != columns:
            found, fix = f"'{line[:60]}' in line {number + 1}", None
            if columns == 3 and _KEYED_ROW.match(line):  # a data set's calibration instead of K
                fix = "convert it: stadia camera INPUT --calibration FILE"
            raise DataError(path, found=found, expected=f"{columns} numbers ({expected})", fix=fix)
        rows[number] = values
    return rows


def read_kitti_poses(path: Path, frames: int, numbers: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Return camera-to-world poses (N, 4, 4) of a file with 3x4 rows.

    frames: number N of images.
    numbers: row of each image; None for one row per image.

    Raises DataError for a damaged file or missing rows.
    """
    rows = _select_rows(path, read_rows(path, 12, "a 3x4 camera-to-world matrix per row"), frames, numbers, "poses")
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    rotation = poses[:, :3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    wrong = ~(off <= 1e-3)  # also NaN after an overflow
    if wrong.any():
        row = int(np.argmax(wrong))
        found = f"no rotation in row {row + 1} (R R^T differs from I by {off[row]:.2g})"
        raise DataError(path, found=found, expected="3x4 rows [R | t]", fix="write R row by row")
    return poses


def read_times(path: Path, frames: int, numbers: Sequence[int] | None = None) -> NDArray[np.float64] | None:
    """Return the times (N,) in seconds; None without the file. Rows are selected as in `read_kitti_poses`."""
    if not path.exists():
        return None
    return _select_rows(path, read_rows(path, 1, "seconds")[:, 0], frames, numbers, "times")


def _select_rows(
    path: Path, rows: NDArray[np.float64], frames: int, numbers: Sequence[int] | None, what: str
) -> NDArray[np.float64]:
    """Return the rows of these frames: all if there is one per frame, else by the frames' numbers."""
    if len(rows) == frames:
        return rows
    if numbers is None or len(rows) <= max(numbers):
        expected = f"{frames}, one per image"
        raise DataError(path, found=f"{len(rows)} {what}", expected=expected, fix=f"use the {what} of these images")
    return rows[list(numbers)]
