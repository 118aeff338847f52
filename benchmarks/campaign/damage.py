"""Ways to damage a file: each takes the sound bytes and a generator, and returns other bytes, or replaces the file."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

Bytes = Callable[[bytes, np.random.Generator], bytes]


def _flip(count: int) -> Bytes:
    def flip(data: bytes, random: np.random.Generator) -> bytes:
        changed = np.frombuffer(data, np.uint8).copy()
        if changed.size:
            at = random.integers(0, changed.size, count)
            changed[at] ^= (1 << random.integers(0, 8, count)).astype(np.uint8)
        return changed.tobytes()

    return flip


def _insert(piece: bytes) -> Bytes:
    def insert(data: bytes, random: np.random.Generator) -> bytes:
        at = int(random.integers(0, len(data) + 1))
        return data[:at] + piece + data[at:]

    return insert


def _replace_number(word: bytes) -> Bytes:
    """Replace one number of a text by a word."""

    def replace(data: bytes, random: np.random.Generator) -> bytes:
        import re

        numbers = list(re.finditer(rb"(?<![\w.])-?\d+(\.\d+)?(e-?\d+)?", data[:200_000]))
        if not numbers:
            return data + word
        number = numbers[int(random.integers(0, len(numbers)))]
        return data[: number.start()] + word + data[number.end() :]

    return replace


ANY: dict[str, Bytes] = {
    "empty": lambda data, random: b"",
    "nul": lambda data, random: bytes(len(data) or 10),
    "noise": lambda data, random: random.bytes(max(len(data), 100)),
    "cut-10": lambda data, random: data[: len(data) // 10],
    "cut-90": lambda data, random: data[: len(data) * 9 // 10],
    "cut-1": lambda data, random: data[:-1],
    "head-gone": lambda data, random: data[7:],
    "flip-1": _flip(1),
    "flip-20": _flip(20),
    "twice": lambda data, random: data + data,
    "text": lambda data, random: b"this is no such file\n",
    "html": lambda data, random: b"<!doctype html><title>404</title>\n",
}
TEXT: dict[str, Bytes] = {
    "latin-1": _insert("é".encode("latin-1")),
    "bom": lambda data, random: b"\xef\xbb\xbf" + data,
    "utf-16": lambda data, random: data.decode("utf-8", "replace").encode("utf-16"),
    "crlf": lambda data, random: data.replace(b"\n", b"\r\n"),
    "long-line": _insert(b"x" * 1_000_000),
    "deep": lambda data, random: b"[" * 100_000,
    "deep-map": lambda data, random: b'{"a":' * 100_000,
    "nan": _replace_number(b"NaN"),
    "infinity": _replace_number(b"-Infinity"),
    "inf": _replace_number(b"inf"),
    "1e308": _replace_number(b"1e308"),
    "1e400": _replace_number(b"1e400"),
    "digits": _replace_number(b"9" * 5000),
    "400-digits": _replace_number(b"9" * 400),
    "2**63": _replace_number(b"9223372036854775808"),
    "negative": _replace_number(b"-1"),
    "zero": _replace_number(b"0"),
    "string": _replace_number(b'"abc"'),
    "list": _replace_number(b"[1, 2]"),
    "null": _replace_number(b"null"),
    "map": _replace_number(b'{"a": 1}'),
    "markup": _replace_number(b'"[/r] <script>alert(1)</script> \\u001b[31m"'),
    "up": _replace_number(b'"../../../../etc/passwd"'),
    "nul-name": _replace_number(b'"a\\u0000b"'),
    "surrogate": _replace_number(b'"\\ud800"'),
    "scalar": lambda data, random: b"3\n",
    "list-only": lambda data, random: b"[]\n",
    "map-only": lambda data, random: b"{}\n",
    "quote": lambda data, random: b'"',
}


def _link_to(target: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        path.symlink_to(target)

    return link


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(20 << 30)


KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
    "zero": _link_to("/dev/zero"),
    "null": _link_to("/dev/null"),
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": _link_to("nowhere"),
    "sparse-20-GiB": _sparse,
    "proc": _link_to("/proc/self/maps"),
}
"""What stands in the place of the file."""


def remove(path: Path) -> None:
    """Remove a file, so that what is written in its place does not change a hard link to it."""
    path.unlink(missing_ok=True)


def damage_bytes(path: Path, change: Bytes, seed: int) -> None:
    """Replace a file by what `change` makes of its bytes."""
    data = path.read_bytes()
    remove(path)
    path.write_bytes(change(data, np.random.default_rng(seed)))


def damage_kind(path: Path, make: Callable[[Path], None]) -> None:
    """Replace a file by something else of its name."""
    remove(path)
    make(path)
