"""Recognize a video or a folder of images by its content, under any name."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from stadia.datasets.image_files import count_image_bytes, encode_name, list_images
from stadia.datasets.video.video_decoding import MAX_VIDEO_BYTES
from stadia.files.input_files import open_input

_SAMPLED_BYTES = 1 << 20


def hash_video(path: Path) -> str:
    """Return a hash of the file's size and of its start, middle and end."""
    with open_input(path, expected="a video", max_bytes=MAX_VIDEO_BYTES) as stream:
        size = stream.seek(0, os.SEEK_END)
        digest = hashlib.blake2b(str(size).encode(), digest_size=16)
        for start in (0, size // 2, max(0, size - _SAMPLED_BYTES)):
            stream.seek(start)
            digest.update(stream.read(_SAMPLED_BYTES))
    return digest.hexdigest()


def hash_source(source: Path) -> str:
    """Return `hash_video` of a video file; of a folder a hash of the names and sizes of its images.

    It is computed once for each time of change.
    """
    return _hash_source(source, source.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _hash_source(source: Path, _: int) -> str:
    if not source.is_dir():
        return hash_video(source)
    digest = hashlib.blake2b(digest_size=16)
    for path in list_images(source):
        digest.update(encode_name(f"{path.name}:{count_image_bytes(path)}\n"))
    return digest.hexdigest()
