"""Read rows of numbers: a fixed count in each line, and lines that belong to the images of a recording."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.io.input_files import read_lines

_KEYED_ROW = re.compile(r"\s*[A-Za-z_]\w*\s*:")


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def parse_number(text: str) -> float:
    """Return the number in a plain decimal text such as 1.5, -3 or 1e6.

    Python's own `float` also reads 1_5 (as 15), nan, and digits of other scripts.

    Raises ValueError for anything else.

    Examples:
        >>> parse_number("1.5")
        1.5
    """
    if re.fullmatch(_NUMBER, text, re.ASCII) is None:
        raise ValueError(f"'{text}' is not a plain decimal number")
    return float(text)


def parse_numbers(words: Sequence[str]) -> NDArray[np.float64]:
    """Convert words to numbers (N,). The result is empty if one of the words is not a finite number."""
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError:
        return np.empty(0)
    return numbers if np.isfinite(numbers).all() else np.empty(0)


def read_rows(path: Path, columns: int, expected: str) -> NDArray[np.float64]:
    """Read a text file with the same number of finite numbers in each line, as (N, columns). Lines with # are comments.

    path: the file.
    columns: numbers per line.
    expected: description of a line, for messages.

    Raises DataError with the file and the line.
    """
    lines = [line for line in read_lines(path, expected=expected) if not line.lstrip().startswith("#")]
    rows = np.empty((len(lines), columns))
    for number, line in enumerate(lines):
        values = parse_numbers(line.replace(",", " ").split())
        if len(values) != columns:
            found, fix = f"'{line[:60]}' in line {number + 1}", None
            if columns == 3 and _KEYED_ROW.match(line):  # a dataset's calibration instead of K
                fix = "convert it: stadia camera INPUT --calibration FILE"
            raise DataError(path, found=found, expected=f"{columns} numbers ({expected})", fix=fix)
        rows[number] = values
    return rows


def read_kitti_poses(path: Path, frames: int, numbers: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Read camera-to-world poses (N, 4, 4) from a file with one 3x4 matrix [R | t], 12 numbers, per line.

    path: the file.
    frames: number N of images.
    numbers: line of each image, from 0, if the file has more lines than images; None for one line per image.

    Raises DataError for a damaged file, missing lines, or matrices R that are not rotations.
    """
    rows = _select_rows(path, read_rows(path, 12, "a 3x4 camera-to-world matrix per row"), frames, numbers, "poses")
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    rotation = poses[:, :3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    wrong = ~(off <= 1e-3)  # The comparison also catches NaN after an overflow.
    if wrong.any():
        row = int(np.argmax(wrong))
        found = f"no rotation in row {row + 1} (R R^T differs from I by {off[row]:.2g})"
        raise DataError(path, found=found, expected="3x4 rows [R | t]", fix="write R row by row")
    return poses


def read_times(path: Path, frames: int, numbers: Sequence[int] | None = None) -> NDArray[np.float64] | None:
    """Read times (N,) in seconds from a file with one number per line; None if the file does not exist.

    Takes the same arguments and raises the same exceptions as `read_kitti_poses`.
    """
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
