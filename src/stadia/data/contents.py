"""What an image's file holds, in a few digits: a copy of it is known again under any name, in any dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stadia.core.errors import DataError
from stadia.core.recording import LEFT, Recording

DIGITS = 12
_PIECE = 4096  # bytes
_THREADS = 16  # a disk answers many small questions at once


def content_of(file: Path) -> str:
    """DIGITS hexadecimal digits of a file's size, middle and end: a copy has the same, another frame others.

    Two frames of a camera differ everywhere, by its noise, and a PNG ends in a checksum besides. That any of 44 000
    trained images shares its digits with any of 697 others by chance has a probability of 1e-7. Raises DataError where
    there is no file.
    """
    if not file.is_file():
        raise DataError(file, found="no such file", expected="an image", fix="copy it again or remove its frame")
    size = file.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=DIGITS // 2)
    with file.open("rb") as stream:
        for start in (size // 2, max(size - _PIECE, 0)):
            stream.seek(start)
            digest.update(stream.read(_PIECE))
    return digest.hexdigest()


def contents(recording: Recording, indices: Sequence[int], side: str = LEFT) -> dict[int, str]:
    """Of these frames, by index; without those that have no file (of a video)."""
    return contents_of({index: file for index in indices if (file := recording.file(index, side)) is not None})


def contents_of(files: Mapping[int, Path]) -> dict[int, str]:
    """Of files, by index."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(zip(files, threads.map(content_of, files.values()), strict=True))


def joined(digits: Sequence[str]) -> str:
    """Many as one string: a run's record of 44 000 images is then one line of half a megabyte."""
    return "".join(digits)


def split(digits: str) -> list[str]:
    """The reverse of `joined`."""
    return [digits[start : start + DIGITS] for start in range(0, len(digits), DIGITS)]
