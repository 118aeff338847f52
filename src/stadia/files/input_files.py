"""Read files from outside: regular files of a bounded size, and one-line errors that name the file.

Every reader of stadia uses these functions, and those of `json_files`, `yaml_files` and `array_files`, which use them;
`tests/files/test_input_boundary.py` finds a reader that does not. A file is hostile until it is parsed: it may be a
pipe that never ends, claim more data than it has, unpack to terabytes, or make a parser recurse.
`docs/explanation/security.md` lists what is promised.
"""

from __future__ import annotations

import csv
import io
import os
import re
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stadia.core.errors import DataError, StadiaError, summarize_exception

MAX_TEXT_BYTES = 64 << 20
MAX_CSV_CELLS = 5_000_000
CHUNK_BYTES = 1 << 20
COPY_AGAIN = "write or copy the file again"
"""The cure of a damaged file."""

PARSER_ERRORS = (
    ValueError,  # also UnicodeError and json.JSONDecodeError
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,  # also RecursionError, and NotImplementedError of zipfile
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    csv.Error,
    SyntaxError,  # of the header of an .npy
    tokenize.TokenError,
)
"""What parsers raise for damaged content."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_input_file(
    path: Path, *, expected: str, max_bytes: int | None = None, fix: str | None = "check the path"
) -> int:
    """Return the size of a regular file in bytes, for libraries that open a path themselves.

    Raises DataError where it is missing, a folder, a pipe, a device, larger than `max_bytes`, or cannot be reached.
    """
    with _name_os_errors(path, expected, fix):
        status = os.stat(path)  # noqa: PTH116 - a Path of a Path keeps its name in a table
        return _check_status(path, status, expected, max_bytes, fix)


@contextmanager
def open_input(path: Path, *, expected: str, max_bytes: int, fix: str | None = "check the path") -> Iterator[BinaryIO]:
    """Open a regular file for reading; errors as those of `check_input_file`. A pipe or device is never opened."""
    check_input_file(path, expected=expected, max_bytes=max_bytes, fix=fix)
    with _name_os_errors(path, expected, fix), open(path, "rb", opener=_open_without_waiting) as stream:
        _check_status(path, os.fstat(stream.fileno()), expected, max_bytes, fix)  # it may have been replaced
        yield stream


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that has replaced it since it was checked does not block."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_status(path: Path, status: os.stat_result, expected: str, max_bytes: int | None, fix: str | None) -> int:
    if not stat.S_ISREG(status.st_mode):
        found = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "no regular file")
        raise DataError(path, found=found, expected=f"{expected} in a regular file", fix=fix)
    if max_bytes is not None and status.st_size > max_bytes:
        raise make_size_error(path, f"{status.st_size} bytes", max_bytes)
    return status.st_size


def make_size_error(path: Path, found: str, max_bytes: int) -> DataError:
    """Return the error of a file that holds more than `max_bytes`."""
    return DataError(path, found=found, expected=f"at most {max_bytes}", fix="check that this is the right file")


@contextmanager
def _name_os_errors(path: Path, expected: str, fix: str | None) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(path, found="no such file", expected=expected, fix=fix) from error
    except OSError as error:
        found = error.strerror or summarize_exception(error)
        raise DataError(path, found=f"a file that cannot be read ({found})", expected=expected, fix=fix) from error
    except ValueError as error:
        if "null byte" not in str(error) and not isinstance(error, UnicodeEncodeError):
            raise
        raise DataError(repr(str(path)), found="a name that no file can have", expected=expected, fix=fix) from error


@contextmanager
def name_parser_errors(path: object, *, expected: str, fix: str = COPY_AGAIN) -> Iterator[None]:
    """Turn what a parser raises for damaged content, exhausted memory and recursion included, into DataError."""
    try:
        yield
    except StadiaError:
        raise
    except PARSER_ERRORS as error:
        found = f"a damaged file ({summarize_exception(error)})"
        raise DataError(path, found=found, expected=expected, fix=fix) from error


def read_bytes(path: Path, *, expected: str, max_bytes: int, fix: str | None = "check the path") -> bytes:
    """Return the bytes of a regular file. Reading stops at `max_bytes`, whatever size the file system reports."""
    with open_input(path, expected=expected, max_bytes=max_bytes, fix=fix) as stream:
        chunks = [stream.read(os.fstat(stream.fileno()).st_size + 1)]
        size = len(chunks[0])
        while size <= max_bytes and (chunk := stream.read(CHUNK_BYTES)):
            chunks.append(chunk)
            size += len(chunk)
    if size > max_bytes:
        raise make_size_error(path, f"more than {max_bytes} bytes", max_bytes)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def read_text(
    path: Path, *, expected: str, fix: str | None = "check the path or the download", max_bytes: int = MAX_TEXT_BYTES
) -> str:
    """Return the text of a UTF-8 file, without a byte order mark."""
    data = read_bytes(path, expected=expected, max_bytes=max_bytes, fix=fix)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fix = "check that this is the right file"
        raise DataError(path, found="bytes that are not text", expected=expected, fix=fix) from error


def read_lines(path: Path, *, expected: str, max_bytes: int = MAX_TEXT_BYTES) -> list[str]:
    """Return the nonblank lines of a text file."""
    return [line for line in read_text(path, expected=expected, max_bytes=max_bytes).splitlines() if line.strip()]


def read_csv(path: Path, *, expected: str, max_bytes: int = MAX_TEXT_BYTES) -> list[dict[str, str]]:
    """Return the rows of a CSV file by column. Raises DataError for a row with other columns than the header."""
    return parse_csv(path, read_text(path, expected=expected, max_bytes=max_bytes), expected)


def parse_csv(path: object, text: str, expected: str) -> list[dict[str, str]]:
    r"""Return the rows of CSV text as `read_csv` does; `path` is its place, for messages.

    Examples:
        >>> parse_csv("rows.csv", "step,loss\n1,0.5\n", "a table")
        [{'step': '1', 'loss': '0.5'}]
    """
    rows = list(_iterate_rows(path, text, expected, strict=True))
    for number, row in enumerate(rows, start=2):
        if _is_damaged(row):
            found = f"a row of another length than the header, row {number}"
            raise DataError(path, found=found, expected=expected, fix="write the file again")
    return rows


def iterate_csv(path: Path, *, expected: str, max_bytes: int = MAX_TEXT_BYTES) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file by column, without those of another length: a log may end in one that was cut off.

    Only the text and one row are in memory at a time.
    """
    text = read_text(path, expected=expected, max_bytes=max_bytes)
    return (row for row in _iterate_rows(path, text, expected, strict=False) if not _is_damaged(row))


def _iterate_rows(path: object, text: str, expected: str, *, strict: bool) -> Iterator[dict[str, str]]:
    cells = 0
    with name_parser_errors(path, expected=expected):
        for row in csv.DictReader(io.StringIO(text, newline=""), strict=strict):
            cells += 4 + len(row)  # a row of one cell takes as much memory as four cells
            if cells > MAX_CSV_CELLS:
                raise ValueError(f"more than {MAX_CSV_CELLS} cells")
            yield row


def _is_damaged(row: dict[str, str]) -> bool:
    return None in row or None in row.values()


MAX_INTEGER_DIGITS = 308
"""Of a whole number in JSON or YAML: each one is a float too, where longer ones may fail wherever they are used."""

LONG_INTEGER = f"a whole number of more than {MAX_INTEGER_DIGITS} digits"


def parse_integer(text: str, *, most: int) -> int | None:
    """Return a whole number of ASCII digits from 0 to `most`, else None: `str.isdigit` also allows '²'.

    Examples:
        >>> parse_integer("12", most=100), parse_integer("-1", most=100), parse_integer("²", most=100)
        (12, None, None)
    """
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) and int(text) <= most else None
