"""Store images decoded and resized once, and read them through a memory map: raw planar uint8, one file for each side.

A store's name holds a hash of the recording's content, the side, the size and `VERSION`. So a store is never stale:
changed content has another name. A store is written atomically, and other processes wait for the first writer.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.core.files import replacing
from stadia.core.recording import LEFT, Recording
from stadia.data.config import CacheConfig
from stadia.data.frames import resized_frame
from stadia.data.recordings import CalibratedRecording

VERSION = 1
Progress = Callable[[str, int, int | None], None]
"""Called with the current activity, the number of finished frames, and their total (None: unknown)."""

_CHUNK = 32  # images decoded at a time: bounds the memory for recordings of any length


def cache_folder(config: CacheConfig) -> Path:
    """Return the configured folder, else $STADIA_CACHE, else the user's cache folder."""
    return Path(config.folder or os.environ.get("STADIA_CACHE") or platformdirs.user_cache_dir("stadia")).expanduser()


class FrameStore:
    """Frames (N, 3, H, W) uint8 RGB in one file. Cheap to pickle: every process maps the file itself.

    Raises DataError where the file size is not a multiple of the frame size.
    """

    def __init__(self, path: Path, height: int, width: int) -> None:
        self.path, self.height, self.width = path, height, width
        frame_bytes = 3 * height * width
        size = path.stat().st_size
        if size == 0 or size % frame_bytes:
            raise DataError(path, found=f"{size} bytes", expected=f"a multiple of {frame_bytes}", fix="delete the file")
        self._frames = size // frame_bytes
        self._map: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return self._frames

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}

    def planar(self, index: int) -> NDArray[np.uint8]:
        """Return (3, H, W), a read-only view of the file."""
        if self._map is None:
            self._map = np.memmap(self.path, np.uint8, "r", shape=(self._frames, 3, self.height, self.width))
        return self._map[index]

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return (H, W, 3), a copy."""
        return np.ascontiguousarray(self.planar(index).transpose(1, 2, 0))


@dataclass(kw_only=True, eq=False, repr=False)
class StoredRecording(CalibratedRecording):
    """A one-sided recording whose frames are only in a store.

    content: identifies the source that the frames were decoded from.
    """

    store: FrameStore
    content: str

    def __len__(self) -> int:
        return len(self.store)

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB from the store."""
        return self.store.image(index)

    def fingerprint(self) -> str:
        """Return a hash of the source, of the chosen frames and of the camera."""
        digest = hashlib.blake2b(f"{self.content} {self.store.path.stem} {self.numbers}".encode(), digest_size=16)
        digest.update(self.intrinsics[LEFT].K.tobytes())
        return digest.hexdigest()


def planar_bytes(image: NDArray[np.uint8]) -> bytes:
    """Convert (H, W, 3) to the bytes of a store."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes()


def _resize_frames(recording: Recording, side: str, height: int, width: int) -> Iterator[bytes]:
    """Yield every frame in order. OpenCV decodes outside Python's lock, so threads use all cores."""

    def load(index: int) -> bytes:
        return planar_bytes(resized_frame(recording, index, side, height, width))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(recording), _CHUNK):
            yield from threads.map(load, range(start, min(start + _CHUNK, len(recording))))


def write_store(path: Path, frames: Iterable[bytes], most_bytes: int) -> None:
    """Write a store frame by frame, atomically. It is not mapped, so a full disk raises an error instead of a crash.

    Raises StadiaError before the first frame is read where the disk cannot hold `most_bytes`.
    """
    check_room(path.parent, most_bytes)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        for frame in frames:
            stream.write(frame)


def exclusively(path: Path) -> FileLock:
    """Return a lock beside the file. The system releases it if its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_suffix(".lock"))


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of a process that was killed while it wrote `path`. The caller holds the lock."""
    for leftover in path.parent.glob(f".{path.stem}-*{path.suffix}"):
        leftover.unlink(missing_ok=True)


def store_name(name: str, *key: object) -> str:
    """Return a readable and unique file stem: the recording's name, then a hash of the key."""
    digest = hashlib.blake2b("|".join(map(str, (VERSION, *key))).encode(), digest_size=10).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', name)[-60:].strip('-')}-{digest}"


def check_room(folder: Path, needed_bytes: int) -> None:
    """Raise StadiaError where the disk has less free space than needed."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        expected = f"{_format_bytes(needed_bytes)} for the decoded images"
        fix = "free some, or set data.cache.folder to a larger disk"
        raise StadiaError(folder, found=f"{_format_bytes(free)} free", expected=expected, fix=fix)


def _format_bytes(count: int) -> str:
    size, unit = next(
        ((size, unit) for size, unit in ((2**30, "GiB"), (2**20, "MiB")) if count >= size), (2**10, "KiB")
    )
    return f"{count / size:.1f} {unit}"


def frame_store(
    recording: Recording,
    height: int,
    width: int,
    *,
    side: str = LEFT,
    config: CacheConfig | None = None,
    progress: Progress | None = None,
) -> FrameStore:
    """Open the store of one side of a recording at one size; write it first if it is missing."""
    if isinstance(recording, StoredRecording) and (recording.store.height, recording.store.width) == (height, width):
        return recording.store
    folder = cache_folder(config or CacheConfig())
    stem = store_name(f"{recording.name}-{side}-{width}x{height}", recording.fingerprint(), side, height, width)
    path = folder / f"{stem}.rgb"
    with exclusively(path):
        needed = len(recording) * 3 * height * width
        if not path.exists() or path.stat().st_size != needed:
            remove_leftovers(path)
            frames = _resize_frames(recording, side, height, width)
            write_store(path, _report_progress(frames, f"{recording.name} {side}", len(recording), progress), needed)
    return FrameStore(path, height, width)


def _report_progress(
    frames: Iterable[bytes], what: str, total: int | None, progress: Progress | None
) -> Iterator[bytes]:
    for done, frame in enumerate(frames, start=1):
        yield frame
        if progress is not None:
            progress(what, done, total)
