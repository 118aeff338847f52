"""Read files that others wrote: regular files of limited size, with one-line errors that name the file.

Every reader uses these functions. `docs/explanation/security.md` lists what they guarantee.
"""

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
LFS_POINTER, MAX_POINTER_BYTES = b"version https://git-lfs", 1024

PARSER_ERRORS = (
    ValueError,  # includes UnicodeError and json.JSONDecodeError
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,  # includes RecursionError and NotImplementedError
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    csv.Error,
    SyntaxError,  # largest header of an .npy file
    tokenize.TokenError,
)
"""Errors that parsers raise for damaged content."""

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
    """Return the size of a regular file in bytes. Raises DataError if it is missing, special, or too large.

    expected: description of a valid file, for messages.
    max_bytes: largest accepted size.
    fix: what the user can do.
    """
    with _name_os_errors(path, expected, fix):
        status = os.stat(path)  # noqa: PTH116 - Python keeps the names of each Path in memory
        size = _check_status(path, status, expected, max_bytes, fix)
        if len(LFS_POINTER) < size < MAX_POINTER_BYTES:
            with open(path, "rb", opener=_open_without_waiting) as stream:
                if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                    found, fetch = "a pointer of Git LFS instead of the file", "fetch the file: git lfs pull"
                    raise DataError(path, found=found, expected=expected, fix=fetch)
        return size


@contextmanager
def open_input(path: Path, *, expected: str, max_bytes: int, fix: str | None = "check the path") -> Iterator[BinaryIO]:
    """Open a regular file for reading. Raises DataError as `check_input_file` does."""
    check_input_file(path, expected=expected, max_bytes=max_bytes, fix=fix)
    with _name_os_errors(path, expected, fix), open(path, "rb", opener=_open_without_waiting) as stream:
        _check_status(path, os.fstat(stream.fileno()), expected, max_bytes, fix)  # it may have changed
        yield stream


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_status(path: Path, status: os.stat_result, expected: str, max_bytes: int | None, fix: str | None) -> int:
    if not stat.S_ISREG(status.st_mode):
        found = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "a special file")
        raise DataError(path, found=found, expected=f"{expected} in a regular file", fix=fix)
    if max_bytes is not None and status.st_size > max_bytes:
        raise make_size_error(path, f"{status.st_size} bytes", max_bytes)
    return status.st_size


def make_size_error(path: Path, found: str, max_bytes: int) -> DataError:
    """Return the error for a file that is too large."""
    return DataError(path, found=found, expected=f"at most {max_bytes} bytes", fix="check that this is the right file")


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
    """Convert errors that a parser raises for damaged content to DataError."""
    try:
        yield
    except StadiaError:
        raise
    except PARSER_ERRORS as error:
        found = f"a damaged file ({summarize_exception(error)})"
        raise DataError(path, found=found, expected=expected, fix=fix) from error


def read_bytes(path: Path, *, expected: str, max_bytes: int, fix: str | None = "check the path") -> bytes:
    """Return the bytes of a regular file. Reading stops at `max_bytes`."""
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
    """Return the text of a UTF-8 file without its byte order mark."""
    data = read_bytes(path, expected=expected, max_bytes=max_bytes, fix=fix)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fix = "check that this is the right file"
        raise DataError(path, found="bytes that are not text", expected=expected, fix=fix) from error


def read_lines(path: Path, *, expected: str, max_bytes: int = MAX_TEXT_BYTES) -> list[str]:
    """Return the lines of a text file that are not blank."""
    return [line for line in read_text(path, expected=expected, max_bytes=max_bytes).splitlines() if line.strip()]


def read_csv(path: Path, *, expected: str, max_bytes: int = MAX_TEXT_BYTES) -> list[dict[str, str]]:
    """Return the rows of a CSV file, each by column. Raises DataError for incomplete rows."""
    return parse_csv(path, read_text(path, expected=expected, max_bytes=max_bytes), expected)


def parse_csv(path: object, text: str, expected: str) -> list[dict[str, str]]:
    r"""Return the rows of CSV text, as `read_csv` does. `path` is used in messages.

    Examples:
        >>> parse_csv("rows.csv", "step,loss\n1,0.5\n", "a table")
        [{'step': '1', 'loss': '0.5'}]
    """
    rows = list(_iterate_rows(path, text, expected, strict=True))
    for number, row in enumerate(rows, start=2):
        if _is_damaged(row):
            found = f"row {number}, which is shorter or longer than the header"
            raise DataError(path, found=found, expected=expected, fix="write the file again")
    return rows


def iterate_csv(path: Path, *, expected: str, max_bytes: int = MAX_TEXT_BYTES) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file, each by column. Damaged rows are left out."""
    text = read_text(path, expected=expected, max_bytes=max_bytes)
    return (row for row in _iterate_rows(path, text, expected, strict=False) if not _is_damaged(row))


def _iterate_rows(path: object, text: str, expected: str, *, strict: bool) -> Iterator[dict[str, str]]:
    cells = 0
    with name_parser_errors(path, expected=expected):
        for row in csv.DictReader(io.StringIO(text, newline=""), strict=strict):
            cells += 4 + len(row)  # an empty row takes the memory of four cells
            if cells > MAX_CSV_CELLS:
                raise ValueError(f"more than {MAX_CSV_CELLS} cells")
            yield row


def _is_damaged(row: dict[str, str]) -> bool:
    return None in row or None in row.values()


MAX_INTEGER_DIGITS = 308
"""A longer integer cannot be converted to float."""

LONG_INTEGER = f"a whole number of more than {MAX_INTEGER_DIGITS} digits"


def parse_integer(text: str, *, most: int) -> int | None:
    """Return the number that ASCII digits give, from 0 to `most`; None for any other text, such as '²'."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) and int(text) <= most else None
