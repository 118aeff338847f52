"""Read text files from outside: lines, rows of numbers, JSON, camera-to-world poses (KITTI rows) and times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from stadia.core.errors import DataError
from stadia.core.files import read_json

MAX_TEXT_BYTES = 64 << 20


def read_lines(path: Path, what: str) -> list[str]:
    """Return the nonblank lines of a text file; `what` is its expected content, for messages."""
    try:
        size = path.stat().st_size
        if size > MAX_TEXT_BYTES:
            expected = f"at most {MAX_TEXT_BYTES}"
            raise DataError(path, found=f"{size} bytes", expected=expected, fix="check that this is the right file")
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(path, found="no such file", expected=what, fix="check the path or the download") from error
    except UnicodeDecodeError as error:
        raise DataError(
            path, found="bytes that are not text", expected=what, fix="check that this is the right file"
        ) from error


class FileEntry(BaseModel):
    """An entry of a file from outside, which may hold more keys than are read."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


def make_validation_error(path: object, error: ValidationError, expected: str, fix: str) -> DataError:
    """Return the error that names the first wrong key of a file."""
    problem = error.errors()[0]
    key = ".".join(map(str, problem["loc"])) or "the file"
    return DataError(path, found=f"{key}: {problem['msg']}", expected=expected, fix=fix)


def parse_json(path: Path, kind: Any, *, expected: str, fix: str, max_bytes: int | None = None) -> Any:
    """Read a JSON file as a type. Raises DataError that names the file and the first wrong key."""
    raw = read_json(path) if max_bytes is None else read_json(path, max_bytes=max_bytes)
    try:
        return TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        raise make_validation_error(path, error, expected, fix) from error


def read_rows(path: Path, columns: int, what: str) -> NDArray[np.float64]:
    """Return (N, columns) finite numbers, one row for each line. Raises DataError that names the file and the line."""
    lines = read_lines(path, what)
    rows = np.empty((len(lines), columns))
    for number, line in enumerate(lines):
        try:
            values = [float(word) for word in line.replace(",", " ").split()]
        except ValueError:
            values = []
        if len(values) != columns or not np.isfinite(values).all():
            found = f"'{line[:60]}' in line {number + 1}"
            raise DataError(path, found=found, expected=f"{columns} numbers ({what})", fix="correct the line")
        rows[number] = values
    return rows


def to_homogeneous(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert (N, 12) KITTI rows to (N, 4, 4)."""
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    return poses


def read_kitti_poses(path: Path, frames: int, numbers: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Return (N, 4, 4) camera-to-world from 3x4 rows.

    A file with one row for each image is read in order. An official file of a whole sequence is indexed by the images'
    numbers. Any other number of rows is an error: poses must not be guessed.
    """
    poses = to_homogeneous(read_rows(path, 12, "a 3x4 camera-to-world matrix a row"))
    if len(poses) != frames:
        if numbers is None or len(poses) <= max(numbers):
            found = f"{len(poses)} poses"
            raise DataError(path, found=found, expected=f"{frames}, one an image", fix="use the poses of these images")
        poses = poses[list(numbers)]
    rotation = poses[:, :3, :3]
    off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    if (off > 1e-3).any():
        row = int(np.argmax(off > 1e-3))
        found = f"no rotation in row {row + 1} (R R^T differs from I by {off[row]:.2g})"
        raise DataError(path, found=found, expected="3x4 rows [R | t]", fix="write R row by row")
    return poses


def read_times(path: Path, frames: int, numbers: Sequence[int] | None = None) -> NDArray[np.float64] | None:
    """Return (N,) seconds, or None without the file; rows as in `read_kitti_poses`."""
    if not path.exists():
        return None
    times_s = read_rows(path, 1, "seconds")[:, 0]
    if len(times_s) != frames:
        if numbers is None or len(times_s) <= max(numbers):
            raise DataError(
                path, found=f"{len(times_s)} times", expected=f"{frames}, one an image", fix="use their own times"
            )
        times_s = times_s[list(numbers)]
    return times_s
