"""Read JSON that others wrote: as a whole, line by line, or entry by entry for files larger than memory."""

import codecs
import json
import math
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from stadia.core.errors import DataError
from stadia.io.input_files import (
    CHUNK_BYTES,
    COPY_AGAIN,
    LONG_INTEGER,
    MAX_INTEGER_DIGITS,
    MAX_TEXT_BYTES,
    open_input,
    read_lines,
    read_text,
)

EntryT = TypeVar("EntryT")

MAX_JSON_VALUES = 5_000_000
MAX_JSON_ENTRY = 8 << 20
"""Largest number of characters of a streamed value. Parsing takes 27 times the memory of the text."""

_JSON, _NO_SPACE = json.JSONDecoder(), re.compile(r"[^ \t\n\r]")
_LONG_NUMBER = re.compile(rf"(?<![0-9])[0-9]{{{MAX_INTEGER_DIGITS + 1}}}")


def read_json(
    path: Path, *, expected: str = "a JSON file", fix: str = "check the path", max_bytes: int = MAX_TEXT_BYTES
) -> Any:
    """Return the content of a JSON file. Raises DataError with the name of the file."""
    return parse_json(path, read_text(path, expected=expected, fix=fix, max_bytes=max_bytes), expected)


def parse_json(path: object, text: str, expected: str, *, fix: str = COPY_AGAIN) -> Any:
    """Return the value of JSON text. Raises DataError for invalid text; `path` is used in its message."""
    check_json_values(path, text)
    return _parse_json(path, text, expected, fix)


def parse_json_lines(path: object, text: str, expected: str, *, fix: str = COPY_AGAIN) -> Iterator[Any | DataError]:
    """Yield the value of each line of JSON text, or its DataError. Raises DataError if there are too many values."""
    check_json_values(path, text)
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        try:
            yield _parse_json(f"{path}:{number}", line, expected, fix)
        except DataError as error:
            yield error


def read_json_objects(path: Path, *, expected: str, fix: str) -> list[dict[str, Any]]:
    """Return the objects in the lines of a JSON lines file. Raises DataError for an invalid line."""
    text = "\n".join(read_lines(path, expected=expected))
    rows = list[dict[str, Any]]()
    for number, row in enumerate(parse_json_lines(path, text, expected, fix=fix), start=1):
        if isinstance(row, DataError):
            raise row
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}", found=f"a {type(row).__name__}", expected=expected, fix=fix)
        rows.append(row)
    return rows


def replace_nan(value: Any) -> Any:
    """Return the value with None instead of numbers that are not finite, also in nested values.

    Examples:
        >>> replace_nan({"rmse": [1.5, float("nan")]})
        {'rmse': [1.5, None]}
    """
    if isinstance(value, dict):
        return {key: replace_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_json_values(path: object, text: str) -> None:
    """Raise DataError if JSON text has too many values."""
    if (values := sum(map(text.count, "[{,"))) > MAX_JSON_VALUES:
        found, fix = f"about {values} values", "check that this is the right file"
        raise DataError(path, found=found, expected=f"at most {MAX_JSON_VALUES}", fix=fix)


def load_json(text: str, **hooks: Any) -> Any:
    """Return the result of `json.loads`. Raises ValueError for integers that are too long."""
    if _LONG_NUMBER.search(text):  # the hook doubles the time, so it is used only for long digits
        hooks["parse_int"] = _parse_integer
    return json.loads(text, **hooks)


def _parse_integer(text: str) -> int:
    if len(text.removeprefix("-")) > MAX_INTEGER_DIGITS:
        raise ValueError(LONG_INTEGER)
    return int(text)


def _parse_json(path: object, text: str, expected: str, fix: str) -> Any:
    try:
        return load_json(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise DataError(path, found=f"invalid JSON ({error})", expected=expected, fix=fix) from error


class _JsonWindow:
    """A part of a JSON file with values to parse one by one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._decoder = stream, codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._is_end = "", 0, False

    def _read_on(self) -> None:
        left = len(self._text) - self._at
        if left > MAX_JSON_ENTRY:
            raise ValueError(f"a value of more than {MAX_JSON_ENTRY} characters, or a damaged one")
        data = self._stream.read(max(CHUNK_BYTES, left))  # doubling, so that a long value is parsed few times
        self._is_end = not data
        self._text, self._at = self._text[self._at :] + self._decoder.decode(data, self._is_end), 0

    def peek(self) -> str:
        """Return the next character that is not a space; "" at the end."""
        while True:
            found = _NO_SPACE.search(self._text, self._at)
            self._at = found.start() if found else len(self._text)
            if found or self._is_end:
                return found[0] if found else ""
            self._read_on()

    def take(self, expected: str) -> str:
        """Consume and return the next character. Raises ValueError if it is not in `expected`."""
        found = self.peek()
        if not found or found not in expected:
            raise ValueError(f"'{found}' instead of one of '{expected}'")
        self._at += 1
        return found

    def take_value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = _JSON.raw_decode(self._text, self._at)
            except ValueError:
                if self._is_end:
                    raise
            else:
                if end < len(self._text) or self._is_end:
                    if _LONG_NUMBER.search(self._text, self._at, end):
                        load_json(self._text[self._at : end])
                    self._at = end
                    return value
            self._read_on()  # the value may be cut off


def stream_json_lists(
    path: Path, names: Collection[str], *, expected: str, max_bytes: int, fix: str = COPY_AGAIN
) -> Iterator[tuple[str, Any]]:
    """Yield (name, entry) of the named lists of a JSON object, one entry at a time.

    Raises DataError if a list is missing.
    """
    with open_input(path, expected=expected, max_bytes=max_bytes) as stream:
        yield from _name_json_errors(path, _parse_json_lists(_JsonWindow(stream), names), expected, fix)


def stream_json_rows(path: Path, *, expected: str, max_bytes: int, fix: str = COPY_AGAIN) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON list, one at a time. Raises DataError for damaged content."""
    with open_input(path, expected=expected, max_bytes=max_bytes) as stream:
        yield from _name_json_errors(path, _parse_json_rows(_JsonWindow(stream)), expected, fix)


def _name_json_errors(path: Path, entries: Iterator[EntryT], expected: str, fix: str) -> Iterator[EntryT]:
    while True:
        try:
            entry = next(entries, None)
        except (ValueError, RecursionError, MemoryError) as error:
            raise DataError(path, found=f"invalid JSON ({error})", expected=expected, fix=fix) from error
        if entry is None:
            return
        yield entry


def _parse_json_rows(window: _JsonWindow) -> Iterator[dict[str, Any]]:
    for row in _parse_list(window):
        if not isinstance(row, dict):
            raise ValueError(f"a {type(row).__name__} instead of an object")
        yield row
    if window.peek():
        raise ValueError("text after its end")


def _parse_list(window: _JsonWindow) -> Iterator[Any]:
    window.take("[")
    is_open = window.peek() != "]" or not window.take("]")
    while is_open:
        yield window.take_value()
        is_open = window.take(",]") == ","


def _parse_json_lists(window: _JsonWindow, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    missing = set(names)
    window.take("{")
    is_open = window.peek() != "}" or not window.take("}")
    while is_open:
        name = window.take_value()
        window.take(":")
        if name in missing:
            missing.remove(name)
            yield from ((name, entry) for entry in _parse_list(window))
        else:
            window.take_value()
        is_open = window.take(",}") == ","
    if window.peek():
        raise ValueError("text after its end")
    if missing:
        raise ValueError(f"no list '{min(missing)}'")
