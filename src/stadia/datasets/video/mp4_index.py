"""Limit the index of an mp4 or mov before FFmpeg reads it.

An index states its samples in a few bytes, "80 million of one byte each", and FFmpeg lists each of them: a file of 1.6
kB filled 2.9 GB. An edit list may repeat all of them thousands of times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from stadia.core.errors import DataError
from stadia.files.input_files import open_input

MAX_SAMPLES = 10_000_000
"""Of all tracks, times the edits of the longest list: 40 hours of video with sound. 38 bytes each in memory."""

_MAX_INDEX_BYTES = 1 << 28
_MAX_BOXES = 1_000_000  # a fragment of a second has two
_KNOWN = frozenset({b"ftyp", b"moov", b"moof", b"mdat", b"wide", b"pnot", b"styp", b"sidx"})
_WITHOUT_INDEX = frozenset({b"mdat", b"free", b"skip", b"wide", b"uuid", b"inst"})
"""Boxes that FFmpeg does not search for other boxes. Cameras write gigabytes of their own data into the last two."""

_COUNT_AT = {b"stsz": 12, b"stz2": 12, b"trun": 8, b"elst": 8}
"""Where the number of samples or edits stands behind the start of a box's name."""

_COUNTED = re.compile(b"|".join(_COUNT_AT))
_OF_SOUND = frozenset({b"soun", b"url ", b"alis"})  # handlers of sound, and of where its data are
_MANY, _MAX_TRACKS = 100_000, 40  # a track of fewer samples, or a later one, is not searched for its kind
_SHARED_SAMPLES = 160  # at least so many of uncompressed sound are listed as one


def check_mp4_index(path: Path, max_bytes: int) -> None:
    """Raise DataError for an mp4 or mov whose index lists more than MAX_SAMPLES. Other files are not searched."""
    samples, edits, lists, searched, is_mp4, found = 0, 1, 0, 0, False, ""
    for kind, content in _read_boxes(path, max_bytes):
        is_mp4 = is_mp4 or kind in _KNOWN
        searched += len(content)
        if is_mp4 and (b"cmov" in content or searched > _MAX_INDEX_BYTES):
            found = "a compressed index" if b"cmov" in content else f"an index of more than {_MAX_INDEX_BYTES} bytes"
            break
        for name in islice(_COUNTED.finditer(content), _MAX_BOXES + 1):
            lists += 1
            at = name.start() + _COUNT_AT[name[0]]
            count = int.from_bytes(content[at : at + 4], "big")
            if name[0] == b"elst":
                edits = max(edits, count)
            elif count > _MANY and lists < _MAX_TRACKS and _is_uncompressed_sound(content, name.start()):
                samples += count // _SHARED_SAMPLES
            else:
                samples += count
    if is_mp4 and not found and lists > _MAX_BOXES:
        found = f"more than {_MAX_BOXES} lists of samples"
    if is_mp4 and not found and samples * edits > MAX_SAMPLES:
        found = f"{samples} samples" + (f", repeated by {edits} edits" if edits > 1 else "")
    if found:
        expected = f"at most {MAX_SAMPLES} samples in the index of a video"
        raise DataError(path, found=found, expected=expected, fix="convert it: ffmpeg -i IN out.mkv")


def _read_boxes(path: Path, max_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each box of a file, without content where it holds no index."""
    with open_input(path, expected="a video", max_bytes=max_bytes) as stream:
        end = stream.seek(0, 2)
        start = 0
        for _ in range(_MAX_BOXES):
            stream.seek(start)
            header = stream.read(16)
            size, kind = int.from_bytes(header[:4], "big"), header[4:8]
            head = 16 if size == 1 else 8
            size = int.from_bytes(header[8:16], "big") if size == 1 else size or end - start
            if len(header) < 8 or size < head:
                return
            stream.seek(start + head)
            length = 0 if kind in _WITHOUT_INDEX else min(size - head, end - start - head, _MAX_INDEX_BYTES + 1)
            yield kind, stream.read(max(length, 0))
            start += size
            if start >= end:
                return


def _is_uncompressed_sound(content: bytes, at: int) -> bool:
    """Return whether the box at a place is of a track of sound with one sample an instant, which is listed by chunks.

    A track with two lists of times, or with a handler of something else, is not: FFmpeg may take either.
    """
    start = content.rfind(b"trak", 0, at)
    if start < 4:
        return False
    track = content[start : start - 4 + int.from_bytes(content[start - 4 : start], "big")]
    times = track.find(b"stts")
    is_each = track[times + 8 : times + 12] + track[times + 16 : times + 20] == b"\0\0\0\1" * 2
    handlers = {track[one.start() + 12 : one.start() + 16] for one in re.finditer(b"hdlr", track)}
    return is_each and track.count(b"stts") == 1 and handlers <= _OF_SOUND and b"soun" in handlers
