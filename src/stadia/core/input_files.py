"""Read files from outside: regular files of a bounded size, and one-line errors that name the file.

Every reader of stadia uses these functions; `tests/core/test_input_boundary.py` finds a reader that does not. A file is
hostile until it is parsed: it may be a pipe that never ends, claim more data than it has, unpack to terabytes, or make
a parser recurse. `docs/security.md` lists what is promised.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import os
import re
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import yaml

from stadia.core.errors import DataError, StadiaError, summarize_exception

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TEXT_BYTES = 64 << 20
MAX_YAML_BYTES = 1 << 20
MAX_YAML_NODES = 100_000
MAX_JSON_VALUES = 5_000_000
MAX_JSON_ENTRY = 8 << 20
"""Characters of one value where a file is read value by value: `[[],[],...` takes 27 times as much in memory."""

MAX_CSV_CELLS = 5_000_000
MAX_ARRAY_BYTES = 1 << 30
MAX_ARRAYS = 1000
"""Of one .npz archive."""

_CHUNK_BYTES = 1 << 20
_DIRECTORY_BYTES = 1 << 20  # of a zip archive's list of members
_NPY_HEADER_BYTES = 10_000
_MAX_DIGITS = 400  # of a number in YAML: base 60 takes quadratic time, and a float has up to 309
_YAML_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")
_JSON, _NO_SPACE = json.JSONDecoder(), re.compile(r"[^ \t\n\r]")
_COPY = "write or copy the file again"
_PARSER_ERRORS = (
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
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_input_file(path: Path, *, expected: str, max_bytes: int | None = None, fix: str = "check the path") -> int:
    """Return the size of a regular file in bytes, for libraries that open a path themselves.

    Raises DataError where it is missing, a folder, a pipe, a device, larger than `max_bytes`, or cannot be reached.
    """
    with _name_os_errors(path, expected, fix):
        return _check_status(path, Path(path).stat(), expected, max_bytes, fix)


@contextmanager
def open_input(path: Path, *, expected: str, max_bytes: int, fix: str = "check the path") -> Iterator[BinaryIO]:
    """Open a regular file for reading; errors as those of `check_input_file`. A pipe or device is never opened."""
    check_input_file(path, expected=expected, max_bytes=max_bytes, fix=fix)
    with _name_os_errors(path, expected, fix), open(path, "rb", opener=_open_without_waiting) as stream:
        _check_status(path, os.fstat(stream.fileno()), expected, max_bytes, fix)  # it may have been replaced
        yield stream


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that has replaced it since it was checked does not block."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_status(path: Path, status: os.stat_result, expected: str, max_bytes: int | None, fix: str) -> int:
    if not stat.S_ISREG(status.st_mode):
        found = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "no regular file")
        raise DataError(path, found=found, expected=f"{expected} in a regular file", fix=fix)
    if max_bytes is not None and status.st_size > max_bytes:
        raise _make_size_error(path, f"{status.st_size} bytes", max_bytes)
    return status.st_size


def _make_size_error(path: Path, found: str, max_bytes: int) -> DataError:
    return DataError(path, found=found, expected=f"at most {max_bytes}", fix="check that this is the right file")


@contextmanager
def _name_os_errors(path: Path, expected: str, fix: str) -> Iterator[None]:
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
def name_parser_errors(path: object, *, expected: str, fix: str = _COPY) -> Iterator[None]:
    """Turn what a parser raises for damaged content, exhausted memory and recursion included, into DataError."""
    try:
        yield
    except StadiaError:
        raise
    except _PARSER_ERRORS as error:
        found = f"a damaged file ({summarize_exception(error)})"
        raise DataError(path, found=found, expected=expected, fix=fix) from error


def read_bytes(path: Path, *, expected: str, max_bytes: int, fix: str = "check the path") -> bytes:
    """Return the bytes of a regular file. Reading stops at `max_bytes`, whatever size the file system reports."""
    with open_input(path, expected=expected, max_bytes=max_bytes, fix=fix) as stream:
        chunks = [stream.read(os.fstat(stream.fileno()).st_size + 1)]
        size = len(chunks[0])
        while size <= max_bytes and (chunk := stream.read(_CHUNK_BYTES)):
            chunks.append(chunk)
            size += len(chunk)
    if size > max_bytes:
        raise _make_size_error(path, f"more than {max_bytes} bytes", max_bytes)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def read_text(
    path: Path, *, expected: str, fix: str = "check the path or the download", max_bytes: int = MAX_TEXT_BYTES
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


def read_json(
    path: Path, *, expected: str = "a JSON file", fix: str = "check the path", max_bytes: int = MAX_TEXT_BYTES
) -> Any:
    """Return the content of a JSON file. Raises DataError that names the file."""
    return parse_json(path, read_text(path, expected=expected, fix=fix, max_bytes=max_bytes), expected)


def parse_json(path: object, text: str, expected: str, *, fix: str = _COPY) -> Any:
    """Return the value of JSON text as `read_json` does; `path` is its place, for messages."""
    check_json_values(path, text)
    return _parse_json(path, text, expected, fix)


def parse_json_lines(path: object, text: str, expected: str, *, fix: str = _COPY) -> Iterator[Any | DataError]:
    """Yield the value of each line of JSON text, or the DataError of a damaged line, which it names.

    Raises DataError where all lines together have too many values. `path` is the place of the text, for messages.
    """
    check_json_values(path, text)
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        try:
            yield _parse_json(f"{path}:{number}", line, expected, fix)
        except DataError as error:
            yield error


def read_json_objects(path: Path, *, expected: str, fix: str) -> list[dict[str, Any]]:
    """Return the object of each line of a file of JSON lines. Raises DataError for a line that is none."""
    text = "\n".join(read_lines(path, expected=expected))
    rows = list[dict[str, Any]]()
    for number, row in enumerate(parse_json_lines(path, text, expected, fix=fix), start=1):
        if isinstance(row, DataError):
            raise row
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}", found=f"a {type(row).__name__}", expected=expected, fix=fix)
        rows.append(row)
    return rows


def check_json_values(path: object, text: str) -> None:
    """Raise DataError for JSON text of more than MAX_JSON_VALUES values; `path` is its place, for messages."""
    if (values := sum(map(text.count, "[{,"))) > MAX_JSON_VALUES:  # `[],` of 3 bytes takes 80 in memory
        found, fix = f"about {values} values", "check that this is the right file"
        raise DataError(path, found=found, expected=f"at most {MAX_JSON_VALUES}", fix=fix)


def _parse_json(path: object, text: str, expected: str, fix: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:  # no JSON, a number of 5000 digits, nested 5000 deep
        raise DataError(path, found=f"invalid JSON ({error})", expected=expected, fix=fix) from error


class _JsonWindow:
    """The part of a JSON file that is being parsed; its values are parsed one by one, with Python's own parser."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._decoder = stream, codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._is_end = "", 0, False

    def _read_on(self) -> None:
        left = len(self._text) - self._at
        if left > MAX_JSON_ENTRY:
            raise ValueError(f"a value of more than {MAX_JSON_ENTRY} characters, or a damaged one")
        data = self._stream.read(max(_CHUNK_BYTES, left))  # doubling: a long value is not parsed again and again
        self._is_end = not data
        self._text, self._at = self._text[self._at :] + self._decoder.decode(data, self._is_end), 0

    def peek(self) -> str:
        """Return the next character that is no space; empty at the end."""
        while True:
            found = _NO_SPACE.search(self._text, self._at)
            self._at = found.start() if found else len(self._text)
            if found or self._is_end:
                return found[0] if found else ""
            self._read_on()

    def take(self, expected: str) -> str:
        """Return the next character, one of `expected`, and go on behind it. Raises ValueError."""
        found = self.peek()
        if not found or found not in expected:
            raise ValueError(f"'{found}' where one of '{expected}' is expected")
        self._at += 1
        return found

    def take_value(self) -> Any:
        """Return the next value, and go on behind it. Raises ValueError."""
        self.peek()
        while True:
            try:
                value, end = _JSON.raw_decode(self._text, self._at)
            except ValueError:
                if self._is_end:
                    raise
            else:
                if end < len(self._text) or self._is_end:
                    self._at = end
                    return value
            self._read_on()  # the value was cut off, or may be


def stream_json_lists(
    path: Path, names: Collection[str], *, expected: str, max_bytes: int, fix: str = _COPY
) -> Iterator[tuple[str, Any]]:
    """Yield name and entry for each entry of the lists `names` of a JSON object, in the order of the file.

    One entry of at most MAX_JSON_ENTRY characters is in memory. Raises DataError where a list is missing.
    """
    with open_input(path, expected=expected, max_bytes=max_bytes) as stream:
        entries = _parse_json_lists(_JsonWindow(stream), names)
        while True:
            try:
                entry = next(entries, None)
            except (ValueError, RecursionError, MemoryError) as error:
                raise DataError(path, found=f"invalid JSON ({error})", expected=expected, fix=fix) from error
            if entry is None:
                return
            yield entry


def _parse_json_lists(window: _JsonWindow, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    missing = set(names)
    window.take("{")
    is_open = window.peek() != "}" or not window.take("}")
    while is_open:
        name = window.take_value()
        window.take(":")
        if name in missing:
            missing.remove(name)
            window.take("[")
            is_list_open = window.peek() != "]" or not window.take("]")
            while is_list_open:
                yield name, window.take_value()
                is_list_open = window.take(",]") == ","
        else:
            window.take_value()
        is_open = window.take(",}") == ","
    if window.peek():
        raise ValueError("text behind its end")
    if missing:
        raise ValueError(f"no list '{min(missing)}'")


class _StrictLoader(yaml.SafeLoader):
    """YAML of numbers, strings, lists and maps: dates stay text, and a repeated key is an error."""

    count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.count += 1
        if self.count > MAX_YAML_NODES:
            raise yaml.composer.ComposerError(problem=f"more than {MAX_YAML_NODES} values")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(problem=f"the key '{key.value}' stands twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        self._check_length(node)
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        self._check_length(node)
        return super().construct_yaml_float(node)

    def construct_yaml_str(self, node: yaml.ScalarNode) -> str:
        text = super().construct_yaml_str(node)
        text.encode()  # half of a surrogate pair raises UnicodeError
        return text

    def _check_length(self, node: yaml.ScalarNode) -> None:
        if len(node.value) > _MAX_DIGITS:
            raise yaml.constructor.ConstructorError(problem=f"a number of {len(node.value)} characters")


_StrictLoader.yaml_constructors = {
    **{f"tag:yaml.org,2002:{kind}": getattr(_StrictLoader, f"construct_yaml_{kind}") for kind in _YAML_KINDS},
    None: yaml.SafeLoader.construct_undefined,
}
_StrictLoader.yaml_implicit_resolvers = {
    first: [entry for entry in resolvers if entry[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path, *, expected: str, fix: str = "correct the file", max_bytes: int = MAX_YAML_BYTES) -> Any:
    """Return the content of a YAML file.

    Dates stay text. Raises DataError for a repeated key, an anchor inside itself, and aliases that expand to more
    than MAX_YAML_NODES values.
    """
    return parse_yaml(path, read_text(path, expected=expected, fix=fix, max_bytes=max_bytes), expected, fix=fix)


def parse_yaml(path: object, text: str, expected: str, *, fix: str = "correct the file") -> Any:
    """Return the content of YAML text as `read_yaml` does; `path` is its place, for messages."""
    loader = None
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _count_yaml_nodes(node, {}) > MAX_YAML_NODES:
            found = f"aliases that expand to more than {MAX_YAML_NODES} values"
            raise DataError(path, found=found, expected=expected, fix=fix)
        return loader.construct_document(node)
    except (yaml.YAMLError, *_PARSER_ERRORS) as error:
        problem = getattr(error, "problem", None) or (
            "nested too deep" if isinstance(error, RecursionError) else summarize_exception(error)
        )
        mark = getattr(error, "problem_mark", None)
        found = f"invalid YAML ({problem}{f', line {mark.line + 1}' if mark else ''})"
        raise DataError(path, found=found, expected=expected, fix=fix) from error
    finally:
        if loader is not None:
            loader.dispose()


def _count_yaml_nodes(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """Return the number of values with every alias expanded. Raises ValueError for an anchor inside itself."""
    if id(node) in counts:
        known = counts[id(node)]
        if known is None:
            raise ValueError("an anchor that contains itself")
        return known
    counts[id(node)] = None
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    total = 1 + sum(_count_yaml_nodes(child, counts) for child in children)
    counts[id(node)] = total
    return total


def read_csv(
    path: Path, *, expected: str, max_bytes: int = MAX_TEXT_BYTES, skip_damaged: bool = False
) -> list[dict[str, str]]:
    """Return the rows of a CSV file by column. Raises DataError for a row with other columns than the header.

    skip_damaged: leave such a row out instead: a log may end in one that was cut off.
    """
    text = read_text(path, expected=expected, max_bytes=max_bytes)
    return parse_csv(path, text, expected, skip_damaged=skip_damaged)


def parse_csv(path: object, text: str, expected: str, *, skip_damaged: bool = False) -> list[dict[str, str]]:
    """Return the rows of CSV text as `read_csv` does; `path` is its place, for messages."""
    rows, cells = list[dict[str, str]](), 0
    with name_parser_errors(path, expected=expected):
        for row in csv.DictReader(io.StringIO(text, newline=""), strict=not skip_damaged):
            rows.append(row)
            cells += 4 + len(row)  # a row of one cell takes as much memory as four cells
            if cells > MAX_CSV_CELLS:
                raise ValueError(f"more than {MAX_CSV_CELLS} cells")
    if skip_damaged:
        return [row for row in rows if None not in row and None not in row.values()]
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            found = f"a row of another length than the header, row {number}"
            raise DataError(path, found=found, expected=expected, fix="write the file again")
    return rows


def read_npy(
    path: Path, *, shape: tuple[int, ...] | None = None, max_bytes: int = MAX_ARRAY_BYTES
) -> NDArray[np.generic]:
    """Return the array of an .npy file: booleans, integers or real numbers.

    Its header is compared with `shape`, with the file's size and with `max_bytes` before data are read.
    """
    expected = "an .npy array of numbers"
    with open_input(path, expected=expected, max_bytes=max_bytes + (1 << 16)) as stream:
        size = os.fstat(stream.fileno()).st_size
        with name_parser_errors(path, expected=expected):
            return _read_array(path, stream, size, shape)


def _read_array(path: object, stream: Any, size: int, shape: tuple[int, ...] | None) -> NDArray[np.generic]:
    """Read an .npy stream of `size` bytes, its header first."""
    import numpy as np  # reading JSON and text stays light

    found, is_fortran, dtype = _read_array_header(stream)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        fix = "store numbers, as float32, float64 or integers"
        raise DataError(path, found=f"values of type {dtype}", expected="booleans, integers or floats", fix=fix)
    if shape is not None and found != shape:
        fix = "one value for each pixel of the image"
        raise DataError(path, found=f"shape {found}", expected=f"shape {shape}", fix=fix)
    count, left = math.prod(found), size - stream.tell()
    if min(found, default=0) < 0 or count * dtype.itemsize > left:
        claimed = f"a header that claims shape {found}, {count * dtype.itemsize} bytes, before {left} bytes of data"
        raise DataError(path, found=claimed, expected="a whole file", fix=_COPY)
    buffer = np.empty(count * dtype.itemsize, np.uint8)
    at = 0
    while at < len(buffer) and (chunk := stream.read(min(_CHUNK_BYTES, len(buffer) - at))):
        buffer[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
        at += len(chunk)
    if at < len(buffer):
        raise ValueError(f"cut off after {at} of {len(buffer)} bytes of data")
    values = buffer != 0 if dtype.kind == "b" else buffer.view(dtype)  # a byte of 2 is no bool, to numpy's loops
    return values.reshape(found, order="F" if is_fortran else "C")


def _read_array_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and type of an .npy stream. Its length is checked before the header is read."""
    import numpy as np

    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the format")
    length = stream.read(2 if version == (1, 0) else 4)
    size = int.from_bytes(length, "little")
    header = stream.read(min(size, _NPY_HEADER_BYTES + 1))
    if size > _NPY_HEADER_BYTES or len(header) < size or b"\\" in header:
        raise ValueError(f"a header of {size} bytes, cut off, too long, or with a backslash")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read_header(io.BytesIO(length + header), max_header_size=_NPY_HEADER_BYTES)


def list_npz_arrays(path: Path, *, max_bytes: int = MAX_ARRAY_BYTES) -> tuple[str, ...]:
    """Return the names of the arrays of an .npz archive."""
    with _open_npz(path, max_bytes) as (_, members):
        return tuple(members)


def read_npz(
    path: Path, *, only: Collection[str] | None = None, max_bytes: int = MAX_ARRAY_BYTES
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an .npz archive by name: all, or those of `only` that it holds.

    Raises DataError where members are encrypted, compressed by another method than deflate, unpack to more than
    `max_bytes`, or hold anything but numbers.
    """
    with _open_npz(path, max_bytes) as (archive, members):
        arrays = {}
        for name, member in members.items():
            if only is None or name in only:
                with archive.open(member) as stream:
                    arrays[name] = _read_array(f"{path}, array '{name}'", stream, member.file_size, None)
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
                raise ValueError(f"{len(members)} arrays, where {MAX_ARRAYS} are read")
            if (unpacked := sum(member.file_size for member in members)) > max_bytes:
                raise _make_size_error(path, f"{unpacked} bytes unpacked", max_bytes)
            yield archive, {member.filename.removesuffix(".npy"): member for member in members}


def _check_zip_directory(stream: BinaryIO) -> None:
    """Raise ValueError before zipfile reads a list of members of more than a megabyte."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(size - (1 << 16) - 22, 0))
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise ValueError("no zip archive, or one that was cut off")
    if tail[max(at - 20, 0) : at].startswith(b"PK\x06\x07"):
        raise ValueError("a zip64 archive, which is for more than 4 GiB")
    (directory_bytes,) = struct.unpack_from("<I", tail, at + 12)
    if directory_bytes > _DIRECTORY_BYTES:
        raise ValueError(f"a list of members of {directory_bytes} bytes, where {_DIRECTORY_BYTES} are read")
    stream.seek(0)


def parse_integer(text: str, *, most: int) -> int | None:
    """Return a whole number of ASCII digits from 0 to `most`, else None: `str.isdigit` also allows '²'."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) and int(text) <= most else None
