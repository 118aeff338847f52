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
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.io.input_files import COPY_AGAIN, make_size_error, name_parser_errors, open_input

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
