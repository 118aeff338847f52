"""Read .npy and .npz files that others wrote. Headers are checked before data are read."""

from __future__ import annotations

import math
import os
import struct
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stadia.core.errors import DataError
from stadia.io.input_files import COPY_AGAIN, make_size_error, name_parser_errors, open_input

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from stadia.io.input_files import MAX_TEXT_BYTES, natural_sort_key, read_json, read_lines, read_text

MAX_ARRAY_BYTES = 1 << 30
MAX_ARRAYS = 1000

_DIRECTORY_BYTES = 1 << 20  # largest list of members of a zip archive


def read_npy(
    path: Path, *, shape: tuple[int, ...] | None = None, max_bytes: int = MAX_ARRAY_BYTES
) -> NDArray[np.generic]:
    """Read the array of an .npy file that others wrote; it may have any shape.

    path: the file.
    shape: required shape; None accepts any.
    max_bytes: largest accepted size in bytes.

    Raises DataError for a damaged file, values that are not numbers, or a shape that differs from the required one.
    """
    expected = "an .npy array of numbers"
    with open_input(path, expected=expected, max_bytes=max_bytes + (1 << 16)) as stream:
        size = os.fstat(stream.fileno()).st_size
        with name_parser_errors(path, expected=expected):
            return _read_array(path, stream, size, shape)


def _read_array(path: object, stream: Any, size: int, shape: tuple[int, ...] | None) -> NDArray[np.generic]:
    import numpy as np  # imported late: reading JSON and text needs no numpy

    found, is_fortran, dtype, data_bytes = _read_header(path, stream, size, shape)
    buffer = np.empty(data_bytes, np.uint8)
    at = stream.readinto(buffer)
    if at < data_bytes:
        raise ValueError(f"cut off after {at} of {data_bytes} bytes of data")
    return buffer.view(dtype).reshape(found, order="F" if is_fortran else "C")


WRITE_MAPS = (
    'python -c \'import numpy as np; x = np.load(FILE, allow_pickle=True); x = x[x.files[0]] if hasattr(x, "files")'
    ' else x; [np.save(f"{k:06d}.npy", m) for k, m in enumerate(x)]\''
)
"""Command that splits an array of objects into files."""


def _read_header(
    path: object, stream: Any, size: int, shape: tuple[int, ...] | None = None
) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return shape, whether the order is Fortran's, type and size in bytes; the stream is then at the data."""
    import numpy as np

    version = np.lib.format.read_magic(stream)
    if version != (1, 0):  # version 2 is for records, and its header may have 4 GB
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    found, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        fix = "store float32, float64 or integers"
        what = f"values of type {dtype}"
        if dtype.kind == "O":
            what += ", such as maps of several sizes"
            fix = "it is a pickle and may run code; if you trust it, write one .npy a map: " + WRITE_MAPS
        raise DataError(path, found=what, expected="booleans, integers or floats", fix=fix)
    if shape is not None and found != shape:
        fix = "write one value per image pixel: register depth from another camera or size to the images"
        raise DataError(path, found=f"shape {found}", expected=f"shape {shape}", fix=fix)
    data_bytes, left = math.prod(found) * dtype.itemsize, size - stream.tell()
    if min(found, default=0) < 0 or data_bytes > left:
        claimed = f"a header that claims shape {found} ({data_bytes} bytes), but {left} bytes of data"
        raise DataError(path, found=claimed, expected="a complete file", fix=COPY_AGAIN)
    return found, is_fortran, dtype, data_bytes


MAX_STACK_BYTES = 1 << 38


@dataclass(frozen=True, slots=True)
class StackedArray:
    """An array (N, ...) in a file. Indexing it reads one element (...) at a time.

    The file is not memory-mapped, because a truncated mapped file would kill the process.

    path: the file.
    shape: shape of the whole array.
    dtype: type of its numbers.
    start: offset of the numbers in the file, in bytes.
    values: the whole array if it is compressed or in Fortran order; otherwise None.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int = 0
    values: NDArray[np.generic] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, index: int) -> NDArray[np.generic]:
        """Return the element with this index along the first axis. Raises DataError if the file is truncated."""
        import numpy as np

        if self.values is not None:
            return self.values[index]
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        with open_input(self.path, expected="an array", max_bytes=MAX_STACK_BYTES) as stream:
            stream.seek(self.start + index * size)
            data = stream.read(size)
        if len(data) < size:
            found = f"{len(data)} of {size} bytes of part {index}"
            raise DataError(self.path, found=found, expected="a complete file", fix=COPY_AGAIN)
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:])


def open_npy(path: Path) -> StackedArray:
    """Open an .npy file to read one element along its first axis at a time.

    Raises DataError for a damaged file, and for values that are not numbers.
    """
    expected = "an .npy array of numbers"
    with (
        open_input(path, expected=expected, max_bytes=MAX_STACK_BYTES) as stream,
        name_parser_errors(path, expected=expected),
    ):
        shape, is_fortran, dtype, _ = _read_header(path, stream, os.fstat(stream.fileno()).st_size)
        start = stream.tell()
    if is_fortran and len(shape) > 1:
        return StackedArray(path, shape, dtype, values=read_npy(path))
    return StackedArray(path, shape, dtype, start)


def open_npz(path: Path, name: str) -> StackedArray:
    """Open one array of an .npz archive to read one element along its first axis at a time.

    A compressed array is unpacked.

    path: the archive.
    name: name of the array.

    Raises DataError for a damaged file.
    """
    with _open_npz(path, MAX_STACK_BYTES) as (archive, members), archive.open(members[name]) as stream:
        member = members[name]
        shape, is_fortran, dtype, data_bytes = _read_header(f"{path}, array '{name}'", stream, member.file_size)
        header_bytes = stream.tell()
    if member.compress_type != zipfile.ZIP_STORED or is_fortran:
        if data_bytes > MAX_ARRAY_BYTES:
            fix = "write it with numpy.save, which does not compress"
            expected = f"at most {MAX_ARRAY_BYTES} bytes if compressed"
            raise DataError(path, found=f"array '{name}' of {data_bytes} bytes", expected=expected, fix=fix)
        values = read_npz(path, only=(name,), max_bytes=MAX_STACK_BYTES)[name]
        return StackedArray(path, shape, dtype, values=values)
    with open_input(path, expected="an .npz archive", max_bytes=MAX_STACK_BYTES) as file:
        file.seek(member.header_offset + _ZIP_NAME_SIZES)
        before = member.header_offset + _ZIP_NAME_SIZES + 4 + sum(struct.unpack("<HH", file.read(4).ljust(4, b"\0")))
    return StackedArray(path, shape, dtype, before + header_bytes)


_ZIP_NAME_SIZES = 26  # offset of the lengths of name and extra field in a zip member's header


def list_npz_arrays(path: Path, *, max_bytes: int = MAX_ARRAY_BYTES) -> tuple[str, ...]:
    """Return the names of the arrays in an .npz archive. Raises DataError for a damaged file.

    max_bytes: largest accepted size of the file.
    """
    with _open_npz(path, max_bytes) as (_, members):
        return tuple(members)


def read_npz_shape(path: Path, name: str) -> tuple[int, ...]:
    """Return the shape of one array in an .npz archive, without reading its numbers.

    path: the archive.
    name: name of the array.

    Raises DataError for a damaged file.
    """
    with _open_npz(path, MAX_STACK_BYTES) as (archive, members), archive.open(members[name]) as stream:
        return _read_header(f"{path}, array '{name}'", stream, members[name].file_size)[0]


def read_npz(
    path: Path, *, only: Collection[str] | None = None, max_bytes: int = MAX_ARRAY_BYTES
) -> dict[str, NDArray[np.generic]]:
    """Read the arrays of an .npz archive that others wrote; return them by name.

    path: the archive.
    only: names of the arrays to read; None reads all.
    max_bytes: largest accepted size of the file.

    Raises DataError for a damaged file.
    """
    with _open_npz(path, max_bytes) as (archive, members):
        arrays = {}
        for name, member in members.items():
            if only is None or name in only:
                with archive.open(member) as stream:
                    arrays[name] = _read_array(f"{path}, array '{name}'", stream, member.file_size, None)
        return arrays


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape and values that an array in a file must have.

    shape: for each axis a number, or a name of a size that several arrays have in common.
    kind: "f" for numbers, "F" for finite numbers, "i" for whole numbers, "b" for true or false.
    below: name of a size that all values must be below, or one such name per column; values are then indices of at
        least 0. Empty for no limit.
    least: smallest number of rows.
    """

    shape: tuple[int | str, ...]
    kind: str = "F"
    below: tuple[str, ...] = ()
    least: int = 0


_KINDS = {"f": "biuf", "F": "biuf", "i": "iu", "b": "b"}


def read_arrays(
    path: Path, layouts: Mapping[str, Layout], *, fix: str = COPY_AGAIN, sizes: Mapping[str, int] | None = None
) -> dict[str, NDArray[np.generic]]:
    """Read arrays that stadia wrote to an .npz archive, and check their shapes and values; return them by name.

    path: the archive.
    layouts: the layout of each required array, by name.
    fix: the fix for a wrong file that an error message names.
    sizes: known sizes by name. Other named sizes must be equal in all arrays.

    Raises DataError if an array is missing or does not have its layout.
    """
    import numpy as np

    arrays: dict[str, Any] = read_npz(path, only=layouts)
    sizes = dict(sizes or {})
    for name, layout in layouts.items():
        array = arrays.get(name)
        if array is None:
            raise DataError(path, found=f"no array '{name}'", expected=f"the arrays {', '.join(layouts)}", fix=fix)
        if len(array.shape) == len(layout.shape):
            for known, size in zip(layout.shape, array.shape, strict=True):
                sizes.setdefault(str(known), size)
        shape = tuple(sizes.get(str(size), size) for size in layout.shape)
        problem = f"shape {array.shape}, not {shape}" if array.shape != shape else ""
        if array.dtype.kind not in _KINDS[layout.kind]:
            problem = problem or f"values of type {array.dtype}"
        if layout.least and not problem and len(array) < layout.least:
            problem = f"{len(array)} values"
        if layout.kind == "F" and not problem and not np.isfinite(array).all():
            problem = "values that are not finite"
        if layout.below and not problem and array.size:
            limits = np.array([sizes[size] for size in layout.below])
            problem = "" if (array >= 0).all() and (array < limits).all() else f"indices outside 0 to {limits - 1}"
        if problem:
            raise DataError(path, found=f"array '{name}' with {problem}", expected="what stadia wrote", fix=fix)
    return arrays


@contextmanager
def _open_npz(path: Path, max_bytes: int) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    expected = "an .npz archive of arrays of numbers"
    with (
        open_input(path, expected=expected, max_bytes=max_bytes + (1 << 16)) as stream,
        name_parser_errors(path, expected=expected),
    ):
        _check_zip_directory(stream)
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            for member in members:
                if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"'{member.filename}' is encrypted, or compressed by another method than deflate")
            if len(members) > MAX_ARRAYS:
                raise ValueError(f"{len(members)} arrays; the limit is {MAX_ARRAYS}")
            if (unpacked := sum(member.file_size for member in members)) > max_bytes:
                raise make_size_error(path, f"{unpacked} bytes unpacked", max_bytes)
            yield archive, {member.filename.removesuffix(".npy"): member for member in members}


def _check_zip_directory(stream: BinaryIO) -> None:
    """Raise ValueError if the archive's list of members is larger than a megabyte; zipfile would read it whole."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(size - (1 << 16) - 22, 0))
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise ValueError("no zip archive, or a truncated one")
    if tail[max(at - 20, 0) : at].startswith(b"PK\x06\x07"):
        raise ValueError("a zip64 archive")
    (directory_bytes,) = struct.unpack_from("<I", tail, at + 12)
    if directory_bytes > _DIRECTORY_BYTES:
        raise ValueError(f"a list of members of {directory_bytes} bytes; the limit is {_DIRECTORY_BYTES}")
    stream.seek(0)


_KEYED_ROW = re.compile(r"\s*[A-Za-z_]\w*\s*:")


class FileEntry(BaseModel):
    """An entry of a file that other programs write. Unknown keys are allowed."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


def validate_content(path: object, content: Any, kind: Any, *, expected: str, fix: str) -> Any:
    """Convert the parsed content of a file to a type.

    path: the file, for messages.
    content: its content, such as parsed JSON.
    kind: the type, such as a pydantic model.
    expected: description of a valid file, for messages.
    fix: what the user can do, for messages.

    Raises DataError, with the file and the first wrong key, if the content does not fit.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))[:100] or "the file"
        raise DataError(path, found=f"{key}: {problem['msg']}", expected=expected, fix=fix) from error


def read_typed_json(path: Path, kind: Any, *, expected: str, fix: str, max_bytes: int = MAX_TEXT_BYTES) -> Any:
    """Read a JSON file and convert its content to a type, such as a pydantic model.

    Takes the same arguments and raises the same exceptions as `validate_content`.
    """
    return validate_content(path, read_json(path, max_bytes=max_bytes), kind, expected=expected, fix=fix)


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


TIME_UNITS = ((1e18, "nanoseconds"), (1e17, "intervals of 100 ns"), (1e14, "microseconds"), (1e11, "milliseconds"))
"""Smallest first time that means each unit, for clocks that count from 1970 (Windows: from 1601, in 100 ns). Seconds
have 10 digits.
"""

UNITS_IN_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "intervals of 100 ns": 10**7,
                   "nanoseconds": 10**9}  # fmt: skip
MIN_STEP_OF_NANOSECONDS = 5e5  # median interval of whole numbers above which times from 0 are nanoseconds: 2 kHz
MIN_STEP_OF_MICROSECONDS = 2e3  # the same for microseconds: 500 Hz; PX4 counts them from its start
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.0*)?|-?[0-8][0-9]{18}(?:\.0*)?")


def find_time_unit(times: NDArray[np.float64]) -> str:
    """Return the unit of times (N,), a key of UNITS_IN_SECOND, by their size."""
    for smallest, unit in TIME_UNITS:
        if abs(times[0]) >= smallest:
            return unit
    is_whole = (times == np.rint(times)).all()
    step = float(np.median(np.diff(times))) if is_whole and len(times) > 1 else 0.0
    if step < MIN_STEP_OF_MICROSECONDS:
        return "seconds"
    return "nanoseconds" if step >= MIN_STEP_OF_NANOSECONDS else "microseconds"


def convert_times(words: Sequence[str], unit: str | None = None) -> tuple[NDArray[np.float64], str]:
    """Convert N times as texts to seconds (N,); return them and their unit.

    Whole numbers are converted as integers, since a float cannot represent nanoseconds since 1970. If whole numbers
    rise by less than a float in seconds can represent, the times still rise.

    words: finite numbers as texts.
    unit: unit of the times, a key of UNITS_IN_SECOND; None finds it by their size.

    Examples:
        >>> convert_times(["1403636579763555584", "1403636580763555584"])
        (array([1.40363658e+09, 1.40363658e+09]), 'nanoseconds')
    """
    values = np.array([float(word) for word in words])
    unit = unit or find_time_unit(values)
    per_second = UNITS_IN_SECOND[unit]
    if per_second == 1 or not all(map(_WHOLE_NUMBER.fullmatch, words)):
        return values / per_second, unit
    whole = np.array([int(word.partition(".")[0]) for word in words], np.int64)
    seconds = whole // per_second + whole % per_second / per_second
    rises = np.diff(whole) > 0
    if (rises & (np.diff(seconds) <= 0)).any():
        for row in np.flatnonzero(rises) + 1:
            seconds[row] = max(seconds[row], np.nextafter(seconds[row - 1], np.inf))
    return seconds, unit


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


Array = NDArray[np.float64]

OPENGL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])  # T_opengl_camera: y up and z backward; its own inverse
LLFF_AXES = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])  # T_llff_camera: down, right, back
MAX_POSES = 400_000
MAX_POSE_FILES = 100_000
UNIT_TOLERANCE = 1e-2
ROTATION_TOLERANCE = 1e-2  # files have at least 6 digits
MIN_ROWS = 3  # number of rows from which lengths of 1 are no coincidence
_POSE_SUFFIXES = (".txt", ".pose", ".npy", ".mat")
_CHECK = "check the file"


@dataclass(frozen=True)
class PoseList:
    """Camera poses that were read from a file.

    matrices: (N, 4, 4) T_world_camera with OpenCV's camera axes; NaN for an image without a pose.
    names: names of the images; None if pose k belongs to video frame k.
    note: sentence for the user about what was converted.
    times_s: (N,) times in seconds; None without times.
    """

    matrices: Array
    names: list[str] | None
    note: str
    times_s: Array | None = None


def make_matrices(R: Array, t: Array) -> Array:
    """Return rigid motions (N, 4, 4) with rotations R (N, 3, 3) and translations t (N, 3)."""
    T = np.tile(np.eye(4), (len(t), 1, 1))
    T[:, :3, :3], T[:, :3, 3] = R, t
    return T


def find_nearest_rotation(what: str, R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation nearest to a matrix R (3, 3) that is nearly one.

    what: the owner of R that an error message names.
    R: the matrix.

    Raises DataError if R differs from a rotation by more than ROTATION_TOLERANCE.
    """
    off = float(np.abs(R @ R.T - np.eye(3)).max())
    if off > ROTATION_TOLERANCE or np.linalg.det(R) < 0:
        fix = "check the order of the columns: R and t row by row"
        found = f"a 3x3 block with determinant {np.linalg.det(R):.3f}, {off:.2g} off orthonormal"
        raise DataError(what, found=found, expected="a rotation", fix=fix)
    U, _, Vt = np.linalg.svd(R)
    return U @ Vt


def invert_poses(T: Array) -> Array:
    """Return the inverses of poses (N, 4, 4)."""
    return np.asarray(np.linalg.inv(T), np.float64)


def _numbers(path: Path, what: str, values: Any, shape: tuple[int, ...]) -> Array:
    """Return finite numbers in this shape, whose first side may be -1. Raises DataError."""
    try:
        numbers = np.array(values, dtype=np.float64).reshape(shape)
    except (TypeError, ValueError):
        numbers = np.full((1,), np.nan)
    if not numbers.size or len(numbers) > MAX_POSES or not np.isfinite(numbers).all():
        expected = f"numbers of shape {shape}".replace("-1", "N")
        raise DataError(path, found=f"no numbers in {what}", expected=expected, fix=_CHECK)
    return numbers


def check_unit_quaternions(path: object, quaternions: Array) -> None:
    """Raise DataError if a quaternion of rows (N, 4) does not have length 1.

    path: the file, for messages.
    quaternions: the rows.
    """
    lengths = np.linalg.norm(quaternions, axis=1)
    if (np.abs(lengths - 1) > UNIT_TOLERANCE).any():
        row = int(np.argmax(np.abs(lengths - 1)))
        found = f"a quaternion of length {lengths[row]:.4g} in pose {row}"
        raise DataError(path, found=found, expected="length 1", fix="check the order of the numbers")


# -- g2o


def is_g2o(lines: Sequence[str]) -> bool:
    """Return whether the lines of a text file are a pose graph in the format g2o."""
    return any(line.startswith(("VERTEX_SE3", "VERTEX_SE2", "EDGE_SE3", "EDGE_SE2")) for line in lines[:50])


def read_g2o(path: Path, lines: Sequence[str]) -> PoseList:
    """Return the poses of a g2o pose graph in the order of their numbers: lines VERTEX_SE3:QUAT id x y z qx qy qz qw.

    path: the file, for messages.
    lines: its lines.

    Raises DataError if such a line is missing or a number is wrong.
    """
    from scipy.spatial.transform import Rotation  # slow to import: `stadia check` does not need it

    rows = [line.split() for line in lines if line.startswith("VERTEX_SE3:QUAT")]
    if not rows:
        found, expected = "no VERTEX_SE3:QUAT", "poses in three dimensions"
        raise DataError(path, found=found, expected=expected, fix="save the graph of SE3 vertices")
    values = _numbers(path, "VERTEX_SE3:QUAT", [row[1:9] for row in rows], (-1, 8))
    values = values[np.argsort(values[:, 0], kind="stable")]
    check_unit_quaternions(path, values[:, 4:])
    T = make_matrices(Rotation.from_quat(values[:, 4:]).as_matrix(), values[:, 1:4])
    return PoseList(T, None, f"{len(T)} vertices of {path.name} are read in the order of their numbers")


# -- arrays


def read_npy_poses(path: Path) -> PoseList:
    """Read the poses of an .npy file.

    Each pose is a matrix (3, 4) or (4, 4), its 12 or 16 numbers, x y z qx qy qz qw, a time and these, or 17 numbers of
    LLFF's poses_bounds.npy.

    Raises DataError for an array of a different shape.
    """
    stored = np.asarray(read_npy(path), np.float64)
    shape = stored.shape
    known = {(3, 4): 12, (4, 4): 16}
    rows = stored.reshape(len(stored), -1) if stored.ndim == 3 and shape[1:] in known else stored
    if rows.ndim != 2 or rows.shape[1] not in (7, 8, 12, 16, 17) or not 0 < len(rows) <= MAX_POSES:
        expected = "(N, 4, 4), (N, 3, 4), (N, 12), (N, 7) with x y z qx qy qz qw, (N, 8) with t first, (N, 17) of LLFF"
        fix = "save the poses as numpy.save(FILE, T) with T of shape (N, 4, 4)"
        raise DataError(path, found=f"an array of shape {shape}", expected=expected, fix=fix)
    if rows.shape[1] == 7:
        return PoseList(*_from_seven(path, rows))
    if rows.shape[1] == 8:
        times, _ = convert_times([repr(time) for time in rows[:, 0].tolist()])
        return PoseList(*_from_seven(path, rows[:, 1:]), times)
    if rows.shape[1] == 17:
        T = np.tile(np.eye(4), (len(rows), 1, 1))
        T[:, :3] = rows[:, :15].reshape(-1, 3, 5)[:, :, :4]
        return PoseList(T @ LLFF_AXES, None, f"poses of {path.name} are converted from LLFF's axes (down, right, back)")
    T = np.tile(np.eye(4), (len(rows), 1, 1))
    T[:, :3] = rows[:, :12].reshape(-1, 3, 4)
    return PoseList(T, None, f"{len(T)} camera-to-world matrices are read from {path.name}")


def _from_seven(path: Path, rows: Array) -> tuple[Array, None, str]:
    """Return poses of rows of seven numbers; the quaternion is where four numbers have length 1 in each row."""
    from scipy.spatial.transform import Rotation  # slow to import

    lost = np.isnan(rows.sum(axis=1)) | np.isinf(rows.sum(axis=1))
    starts = [start for start in (3, 0) if are_units(rows[~lost][:, start : start + 4])]
    if not starts or lost.all():
        raise DataError(path, found="no quaternion of length 1 in 7 numbers", expected="x y z qx qy qz qw", fix=_CHECK)
    start = starts[0]
    steps = np.diff(rows[~lost][:, 0])
    if start == 3 and (steps > 0).all() and steps.std() < 1e-3 * steps.mean():
        fix = "write all coordinates of the position: t x y z qx qy qz qw"
        raise DataError(path, found="7 columns that begin with a time", expected="8 columns", fix=fix)
    rows = np.where(lost[:, None], 0.5, rows)
    T = make_matrices(Rotation.from_quat(rows[:, start : start + 4]).as_matrix(), rows[:, 3 - start : 6 - start]
                      if start == 3 else rows[:, 4:])  # fmt: skip
    T[lost] = np.nan
    order = "x y z qx qy qz qw" if start == 3 else "qx qy qz qw x y z"
    return T, None, f"rows of {path.name} are read as {order}: their quaternions have length 1"


def are_units(quaternions: Array) -> bool:
    """Return whether at least MIN_ROWS rows (N, 4) all have length 1."""
    return len(quaternions) >= MIN_ROWS and bool(
        (np.abs(np.linalg.norm(quaternions, axis=1) - 1) < UNIT_TOLERANCE).all()
    )


def read_seven_columns(path: Path, values: Array) -> PoseList | None:
    """Return the poses of text rows with seven numbers; None if they are not poses.

    A row contains a quaternion and a position, or a world-to-camera pose of ARKitScenes.

    path: the file, for messages.
    values: (N, 7) numbers.
    """
    from scipy.spatial.transform import Rotation  # slow to import

    if are_units(values[:, 3:]) or are_units(values[:, :4]):
        return PoseList(*_from_seven(path, values))
    if path.suffix.lower() != ".traj":
        return None
    T = make_matrices(Rotation.from_rotvec(values[:, 1:4]).as_matrix(), values[:, 4:])
    note = (
        f"poses of {path.name} are inverted: ARKitScenes writes time, rotation vector and translation, world-to-camera"
    )
    return PoseList(invert_poses(T), None, note, values[:, 0])


# -- folders


def list_pose_files(folder: Path, skip: Collection[str] = ()) -> list[Path]:
    """Return the files of a folder that may contain one pose each, in natural order.

    folder: the folder.
    skip: names of files that contain no pose.
    """
    files = [file for file in folder.iterdir() if file.suffix.lower() in _POSE_SUFFIXES and file.is_file()]
    files = [file for file in files if file.name not in skip]
    return sorted(files, key=natural_sort_key)[: MAX_POSE_FILES + 1]


def read_pose_folder(folder: Path, expected: str, skip: Collection[str] = ()) -> PoseList | None:
    """Read the poses of a folder with one 4x4 or 3x4 matrix per file; None if the first file contains no matrix.

    folder: the folder.
    expected: description of a valid folder, for messages.
    skip: names of files that contain no pose.

    Raises DataError if a later file contains no matrix.
    """
    files = list_pose_files(folder, skip)
    if not files or len(files) > MAX_POSE_FILES or _read_matrix(files[0]) is None:
        return None
    T, is_inverted = np.full((len(files), 4, 4), np.nan), False
    for index, file in enumerate(files):
        found = _read_matrix(file)
        if found is None:
            raise DataError(file, found="no 4x4 matrix", expected=expected, fix="move other files to another folder")
        T[index], is_inverted = found
    note = f"{len(files)} poses are read from the files of {folder.name}, camera-to-world"
    if is_inverted:
        T, note = invert_poses(T), f"{len(files)} poses of {folder.name} are inverted: MVSNet writes world-to-camera"
    lost = int((~np.isfinite(T)).any(axis=(1, 2)).sum())
    note += f"; {lost} files hold inf or NaN, and no pose" if lost else ""
    return PoseList(T, [file.name for file in files], note)


def _read_matrix(file: Path) -> tuple[Array, bool] | None:
    """Return the matrix of a file, and whether it is the extrinsic of MVSNet's cam.txt; None for another content."""
    if file.suffix.lower() == ".npy":
        stored = np.asarray(read_npy(file), np.float64)
        return (_complete(stored), False) if stored.shape in ((4, 4), (3, 4)) else None
    text = read_text(file, expected="a 4x4 matrix", max_bytes=1 << 20)
    lines = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    is_inverted = bool(lines) and lines[0][0].lower() == "extrinsic"
    try:
        rows = [[float(word) for word in words] for words in lines[is_inverted : 4 + is_inverted]]
    except ValueError:
        return None
    if not is_inverted and len(lines) > 4:
        return None
    if len(rows) == 1 and len(rows[0]) in (12, 16):
        rows = np.reshape(rows[0], (-1, 4)).tolist()
    if [len(row) for row in rows] not in ([4] * 4, [4] * 3):
        return None
    return _complete(np.array(rows)), is_inverted


def _complete(matrix: Array) -> Array:
    """Return (4, 4), NaN if a number is not finite."""
    if not np.isfinite(matrix).all():
        return np.full((4, 4), np.nan)
    return matrix if len(matrix) == 4 else np.vstack([matrix, [0, 0, 0, 1]])
