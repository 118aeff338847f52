"""Resize images and depth to the network's size, and keep resized images in a file. This module does not import torch.

A store is a file of raw planar (channel by channel) uint8 images. Its name contains a hash of the images' content, so
it is never outdated. One process writes it, atomically.
"""

import hashlib
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.core.types import LEFT, Recording
from stadia.data.config import CacheConfig
from stadia.data.ignored_regions import IgnoringRecording
from stadia.data.recordings import CalibratedRecording
from stadia.io.atomic_files import atomic_write, open_atomic
from stadia.io.image_files import check_image_size
from stadia.io.input_files import find_cache_folder, make_closed_folder, open_input

ItemT = TypeVar("ItemT")
STORE_VERSION = 1
ReportProgress = Callable[[str, int, int | None], None]  # activity, finished frames, their total or None
_DECODED = "the images that stadia decoded"
_REWRITE = "delete the file; it will be written again"
_MAX_BYTES = 1 << 50
_SUM = struct.Struct("<I")
_CHUNK = 32  # images decoded at a time


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize an image (h, w, 3) to (height, width, 3): by area averages if it shrinks, bilinearly if it grows.

    With the scale factor s along an axis, pixel x moves to (x + 0.5) s - 0.5, like the principal point in
    `geometry.cameras.resize_camera`.

    image: (h, w, 3) uint8 image.
    height, width: the new size in pixels.

    Examples:
        >>> resize_image(np.full((4, 4, 3), 7, np.uint8), 2, 2)[0, 0].tolist()
        [7, 7, 7]
    """
    if image.shape[:2] == (height, width):
        return image
    # OpenCV's area mode averages only if both axes shrink.
    smaller = min(width, image.shape[1]), min(height, image.shape[0])
    averaged = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(averaged, (width, height), interpolation=cv2.INTER_LINEAR)


def resize_depth(depth_m: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize a depth map without mixing near and far depths: each pixel takes the depth of the nearest pixel.

    depth_m: (h, w) depth map in metres.
    height, width: the new size in pixels.
    """
    return cv2.resize(depth_m, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def resize_sparse_depth(depth_m: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize a sparse depth map, such as projected LiDAR, without losing points: each depth moves to its new pixel.

    If several depths fall on one pixel, the nearest is kept, because it occludes the others. `resize_depth` would drop
    most depths.

    depth_m: (h, w) depth map in metres; 0 means no depth.
    height, width: the new size in pixels.

    Examples:
        >>> depth_m = np.array([[0.0, 5.0], [0.0, 9.0]], np.float32)
        >>> resize_sparse_depth(depth_m, 1, 1).tolist()
        [[5.0]]
    """
    rows, columns = np.nonzero(depth_m > 0)
    h, w = depth_m.shape
    nearest = np.full((height, width), np.inf, np.float32)
    # Pixel x covers [x - 0.5, x + 0.5); its center goes to (x + 0.5) s - 0.5, which is in pixel floor((x + 0.5) s).
    pixels = (2 * rows + 1) * height // (2 * h), (2 * columns + 1) * width // (2 * w)
    np.minimum.at(nearest, pixels, depth_m[rows, columns])
    nearest[np.isinf(nearest)] = 0
    return nearest


def read_resized_frame(recording: Recording, index: int, side: str, height: int, width: int) -> NDArray[np.uint8]:
    """Read an image of a recording and resize it to (height, width, 3) RGB.

    recording: the recording.
    index: index of the video frame in the recording.
    side: "left" or "right".
    height, width: the new size in pixels.

    Raises DataError if the image and its camera differ in size.
    """
    image, camera = recording.image(index, side), recording.camera(index, side)
    what = recording.file(index, side) or f"{recording.name}, frame {index}, {side}"
    fix = "give the camera of this image (geometry.cameras.resize_camera and crop_camera convert it)"
    check_image_size(what, image, camera.height, camera.width, like=", the size of its camera", fix=fix)
    return resize_image(image, height, width)


def name_sums(path: Path) -> Path:
    """Return the path of the file next to a store that contains the CRC-32 checksum of each image."""
    return path.with_suffix(".sums")


class FrameStore:
    """N images (3, H, W) uint8 RGB in one file. Each process reads the file itself, so the object is cheap to pickle.

    The file is not memory-mapped, because a process is killed if its mapped file is truncated. The first time that an
    image is read, it is compared with its checksum.

    path: the file.
    height, width: size H and W of the images.
    """

    def __init__(self, path: Path, height: int, width: int) -> None:
        self.path, self.height, self.width = path, height, width
        self._frame_bytes = 3 * height * width
        size = path.stat().st_size
        if size == 0 or size % self._frame_bytes:
            expected = f"a multiple of {self._frame_bytes} bytes"
            raise DataError(path, found=f"{size} bytes", expected=expected, fix=_REWRITE)
        self._frames = size // self._frame_bytes
        self._sums: dict[int, int] | None = None  # checksums of the frames that were not read yet

    def __len__(self) -> int:
        return self._frames

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_sums": None}

    def planar(self, index: int) -> NDArray[np.uint8]:
        """Return an image (3, H, W) uint8 RGB, read-only.

        index: index of the image in the store.

        Raises DataError if the file has changed.
        """
        index = range(self._frames)[index]
        with open_input(self.path, expected=_DECODED, fix=_REWRITE, max_bytes=_MAX_BYTES) as stream:
            stream.seek(index * self._frame_bytes)
            frame = stream.read(self._frame_bytes)
        if self._sums is None:
            self._sums = dict(enumerate(_read_sums(self.path)))
        expected = self._sums.pop(index, None)
        if len(frame) != self._frame_bytes or (expected is not None and zlib.crc32(frame) != expected):
            found = f"frame {index} {'damaged' if len(frame) == self._frame_bytes else 'cut off'}"
            raise DataError(self.path, found=found, expected=_DECODED, fix=_REWRITE)
        return np.frombuffer(frame, np.uint8).reshape(3, self.height, self.width)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return an image (H, W, 3) uint8 RGB. Raises DataError if the file has changed."""
        return np.ascontiguousarray(self.planar(index).transpose(1, 2, 0))


def _read_sums(path: Path) -> list[int]:
    sums = name_sums(path)
    if not sums.is_file():
        return []
    with open_input(sums, expected="sums of decoded images", fix=_REWRITE, max_bytes=_MAX_BYTES) as stream:
        text = stream.read()
    whole = text[: len(text) // _SUM.size * _SUM.size]
    return [sum_of_frame for (sum_of_frame,) in _SUM.iter_unpack(whole)]


@dataclass(kw_only=True, eq=False, repr=False)
class StoredRecording(CalibratedRecording):
    """A recording whose images exist only in a store, such as the frames of a decoded video.

    store: the store.
    content: hash that identifies the source of the images.
    """

    store: FrameStore
    content: str

    def __len__(self) -> int:
        return len(self.store)

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return the image (H, W, 3) uint8 RGB with this index."""
        return self.store.image(index)

    @property
    def video_hash(self) -> str:
        return self.content

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(f"{self.content} {self.store.path.stem} {self.numbers}".encode(), digest_size=16)
        digest.update(self.intrinsics[LEFT].K.tobytes())
        return digest.hexdigest()


def to_planar_bytes(image: NDArray[np.uint8]) -> bytes:
    """Convert an image (H, W, 3) uint8 to the bytes of (3, H, W), as a store contains them."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes()


def report_each(items: Iterable[ItemT], what: str, total: int, progress: ReportProgress | None) -> Iterator[ItemT]:
    """Yield the items unchanged, and report each as done when the next one is requested.

    items: the items.
    what: description of the activity.
    total: number of items.
    progress: function that is called with the description, the number of items done and their total; or None.
    """
    for number, item in enumerate(items, start=1):
        yield item
        if progress is not None:
            progress(what, number, total)


def _resize_frames(recording: Recording, side: str, height: int, width: int) -> Iterator[bytes]:
    def load(index: int) -> bytes:
        return to_planar_bytes(read_resized_frame(recording, index, side, height, width))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(recording), _CHUNK):
            yield from threads.map(load, range(start, min(start + _CHUNK, len(recording))))


def write_frame_store(path: Path, frames: Iterable[bytes], most_bytes: int) -> None:
    """Write a store of images atomically.

    path: file of the store.
    frames: bytes of each image, as `to_planar_bytes` returns them.
    most_bytes: largest possible size of the store.

    Raises StadiaError at once if the disk has too little space.
    """
    free = shutil.disk_usage(path.parent).free
    if free < most_bytes:
        expected = f"{_format_bytes(most_bytes)} for the decoded images"
        fix = "free some disk space, or set data.cache.folder to a larger disk"
        raise StadiaError(path.parent, found=f"{_format_bytes(free)} free", expected=expected, fix=fix)
    sums = bytearray()
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        for frame in frames:
            stream.write(frame)
            sums += _SUM.pack(zlib.crc32(frame))
    with open_atomic(name_sums(path)) as stream:  # last: a store without sums is written again
        stream.write(sums)


def lock_beside(path: Path) -> FileLock:
    """Return a lock whose file is next to the given file, so that one process at a time writes it.

    Raises StadiaError if the folder cannot be created.
    """
    try:
        if path.parent == Path(platformdirs.user_cache_dir("stadia")):
            make_closed_folder(path.parent)  # it also holds private folders
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"a folder that cannot be created ({error.strerror})"
        fix = "set STADIA_CACHE or data.cache.folder to a writable folder"
        raise StadiaError(path.parent, found=found, expected="a place for decoded images", fix=fix) from error
    return FileLock(path.with_suffix(".lock"))


def make_store_stem(name: str, *key: object) -> str:
    """Return a file name without suffix for a cached result: readable, and unique for a name and a key.

    name: name of the recording.
    key: everything that the cached result depends on.
    """
    digest = hashlib.blake2b("|".join(map(str, (STORE_VERSION, *key))).encode(), digest_size=10).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', name)[-60:].strip('-')}-{digest}"


def _format_bytes(count: int) -> str:
    for size, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 2**10:.1f} KiB"


def open_frame_store(
    recording: Recording,
    height: int,
    width: int,
    *,
    side: str = LEFT,
    config: CacheConfig | None = None,
    progress: ReportProgress | None = None,
) -> FrameStore:
    """Open the store of resized images of a recording. If it is missing, it is written first.

    recording: the recording.
    height, width: size of the resized images.
    side: "left" or "right".
    config: folder of the cache; None takes the default.
    progress: called while images are resized.
    """
    while isinstance(recording, IgnoringRecording):  # its images are unchanged
        recording = recording.recording
    if isinstance(recording, StoredRecording) and (recording.store.height, recording.store.width) == (height, width):
        return recording.store
    folder = find_cache_folder(config.folder if config else None)
    stem = make_store_stem(f"{recording.name}-{side}-{width}x{height}", recording.fingerprint(), side, height, width)
    resized = _resize_frames(recording, side, height, width)
    frames = report_each(resized, f"{recording.name} {side}", len(recording), progress)
    return fill_frame_store(folder / f"{stem}.rgb", height, width, len(recording), frames)


def fill_frame_store(path: Path, height: int, width: int, count: int, frames: Iterable[bytes]) -> FrameStore:
    """Open a store of `count` images (height, width). If it is missing or incomplete, one process writes it first.

    frames: bytes of each image, which are computed only if the store must be written.
    """
    needed = count * 3 * height * width
    with lock_beside(path):
        if not path.exists() or path.stat().st_size != needed or not name_sums(path).is_file():
            write_frame_store(path, frames, needed)
    return FrameStore(path, height, width)
