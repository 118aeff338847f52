"""Open a sharded dataset from a folder or a URL. Frames of its recordings are read from cached shards."""

import hashlib
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.core.types import LEFT, Recording
from stadia.data import shard_index
from stadia.data.config import CacheConfig, SourceOptions
from stadia.data.frame_store import ReportProgress, lock_beside
from stadia.data.open_dataset import DatasetFormat, select_recordings
from stadia.data.recordings import CalibratedRecording
from stadia.geometry.cameras import Intrinsics, check_K
from stadia.io.atomic_files import open_atomic
from stadia.io.image_files import check_depth_map
from stadia.io.input_files import find_cache_folder, is_url, open_input
from stadia.io.remote_store import RemoteStore

MIN_SHARDS = 2  # a sample at the end of a shard reads its neighbor from the next one


class DamagedShardError(DataError):
    """Raised if a shard is missing, or differs from its index. `data.damaged=skip` leaves out its samples."""


class ShardReader:
    """Reads images and depth from shards, which it copies from a URL to this machine when needed.

    It is cheap to pickle, and processes on one machine share the copies. A new copy is compared with its hash in the
    index, and each piece that is read with its CRC-32. A damaged copy is downloaded once more. The least recently used
    copies are removed first.

    store: folder or URL of the dataset.
    index: its index.
    cache: where copies are kept, and how many.
    files: shards in a local folder, by number; empty for a URL.
    """

    def __init__(self, store: RemoteStore, index: shard_index.ShardIndex, cache: CacheConfig) -> None:
        self.store, self.shards = store, index.shards
        self.is_local = not is_url(store.url)
        self.max_bytes = int(cache.shard_gb * 1e9)
        content = hashlib.sha256("".join(shard.sha256 for shard in index.shards).encode()).hexdigest()[:24]
        self._copies = str(find_cache_folder(cache.folder) / "shards" / content)
        self.files = [Path(store.url) / shard.name for shard in index.shards] if self.is_local else []
        self.damaged: dict[int, str] = {}

    @property
    def folder(self) -> Path:
        """Return the folder on this machine that contains the copies of shards."""
        return Path(self._copies)

    def read(self, shard: int, offset: int, length: int, crc: int) -> bytes:
        """Return `length` bytes of a shard from an offset on.

        shard: number of the shard.
        offset, length: position and number of bytes.
        crc: expected CRC-32 of these bytes.

        Raises DamagedShardError if the shard is missing or damaged.
        """
        name = self.store.join(self.shards[shard].name)
        if shard in self.damaged:
            raise DamagedShardError(
                name, found=self.damaged[shard], expected="the shard of the index", fix=shard_index.FIX
            )
        for attempt in (1, 2):
            part = self._read_part(shard, offset, length)
            if len(part) == length and zlib.crc32(part) == crc:
                return part
            if self.is_local or attempt == 2:
                break
            with suppress(OSError):
                self._path(shard).unlink()
        found = f"{length} damaged bytes at {offset}" if len(part) == length else "a truncated shard"
        raise self._note_damage(shard, found)

    def prefetch(self, shard: int) -> None:
        """Copy a shard from a URL to this machine before its first image is read.

        Errors are not raised here but when the image is read.
        """
        if not self.is_local and shard not in self.damaged:
            with suppress(StadiaError):
                self._fetch(shard)

    def _note_damage(self, shard: int, found: str) -> DamagedShardError:
        self.damaged[shard] = found
        name = self.store.join(self.shards[shard].name)
        return DamagedShardError(name, found=found, expected="the shard of the index", fix=shard_index.FIX)

    def _path(self, shard: int) -> Path:
        if self.is_local:
            return self.files[shard]
        return self.folder / Path(self.shards[shard].name).name

    def _read_part(self, shard: int, offset: int, length: int) -> bytes:
        if self.is_local:
            whole, file = self.shards[shard].bytes, self._path(shard)
            size = file.stat().st_size if file.is_file() else None
            if size != whole:
                raise self._note_damage(shard, "no such file" if size is None else f"{size} of {whole} bytes")
        while True:
            path = self._path(shard) if self.is_local else self._fetch(shard)
            try:
                with open_input(path, expected="a shard", max_bytes=1 << 34) as stream:
                    stream.seek(offset)
                    return stream.read(length)
            except DataError:
                if self.is_local or path.exists():  # another process may have removed it
                    raise

    def _fetch(self, shard: int) -> Path:
        path = self._path(shard)
        if not path.exists():
            with lock_beside(path):
                if not path.exists():
                    self._copy(shard, path)
        with suppress(OSError):
            os.utime(path)
        return path

    def _copy(self, shard: int, path: Path) -> None:
        entry = self.shards[shard]
        for _ in range(2):
            try:
                data = self.store.fetch(entry.name, max_bytes=entry.bytes)
            except DataError as error:
                if error.found == "no such file":
                    raise self._note_damage(shard, error.found) from error
                raise
            is_whole = len(data) == entry.bytes
            if is_whole and hashlib.sha256(data).hexdigest() == entry.sha256:
                break
        else:
            found = "content with another SHA-256" if is_whole else f"{len(data)} of {entry.bytes} bytes"
            raise self._note_damage(shard, found)
        self._make_room(entry.bytes)
        with open_atomic(path) as stream:
            stream.write(data)

    def _make_room(self, wanted: int) -> None:
        copies = list[tuple[float, int, Path]]()
        for path in self.folder.glob("*.bin"):
            with suppress(OSError):
                status = path.stat()
                copies.append((status.st_mtime, status.st_size, path))
        copies.sort()
        total = sum(size for _, size, _ in copies) + wanted
        while total > self.max_bytes and len(copies) >= MIN_SHARDS:
            _, size, path = copies.pop(0)
            with suppress(OSError):
                path.unlink()
            total -= size


Places = NDArray[np.int64]  # (N, 4) shard, offset, length and CRC-32 of each frame; length 0 without data


class ShardedDataset(DatasetFormat):
    """The reader of shards that `stadia data shard` wrote to a folder or URL."""

    layout = "shards.json of `stadia data shard`, or the URL of its folder"
    options = frozenset({"damaged"})

    def recognizes(self, path: Path) -> bool:
        return is_url(path) or (path / shard_index.INDEX).is_file()

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        store = RemoteStore(path)
        index = shard_index.read_index(store)
        reader = ShardReader(store, index, options.cache)
        chosen = set(select_recordings([entry.name for entry in index.recordings], options, path))
        recordings = list[Recording]()
        for entry in index.recordings:
            if entry.name in chosen:
                table = shard_index.read_frames(store, index, entry)
                recordings.append(_open_recording(entry, table, reader, index.encoding))
        return recordings

    def splits(self, path: Path) -> dict[str, list[str]]:
        return shard_index.read_index(RemoteStore(path)).splits if self.recognizes(path) else {}


@dataclass(kw_only=True, eq=False, repr=False)
class ShardRecording(CalibratedRecording):
    """A recording whose images and depth are in shards.

    reader: reads the shards.
    encoding: encoding of the images.
    places, depth_places: by side, (N, 4) shard, offset, length and CRC-32 of each frame's data; length 0 without data.
    content: hash of the table of its frames.
    """

    reader: ShardReader
    encoding: shard_index.Encoding
    places: Mapping[str, Places]
    depth_places: Mapping[str, Places]
    content: str
    is_streamed: bool = True

    def __len__(self) -> int:
        return len(self.places[LEFT])

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return the image (H, W, 3) RGB with this index."""
        size = self.intrinsics[side]
        what = f"{self.name}, frame {index}, {side}"
        data = self.reader.read(*map(int, self.places[side][index]))
        return shard_index.decode_frame(what, data, self.encoding, size.height, size.width)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the depth (H, W) in metres of the image with this index, 0 where unknown; None without depth."""
        places = self.depth_places.get(side)
        if places is None or not places[index, 2]:
            return None
        size, what = self.intrinsics[side], f"{self.name}, depth {index}, {side}"
        depth_m = shard_index.decode_depth(what, self.reader.read(*map(int, places[index])), size.height, size.width)
        return check_depth_map(Path(what), depth_m, size.height, size.width)

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        return ()

    def shard_of(self, index: int) -> int:
        return int(self.places[LEFT][index, 0])

    def prefetch(self, index: int) -> None:
        self.reader.prefetch(self.shard_of(index))

    def fingerprint(self) -> str:
        return self.content


def _open_recording(
    entry: shard_index.RecordingEntry,
    table: shard_index.FrameTable,
    reader: ShardReader,
    encoding: shard_index.Encoding,
) -> ShardRecording:
    intrinsics = {}
    for side, camera in entry.cameras.items():
        matrices = np.array(camera.K, np.float64).reshape(-1, 3, 3)
        for number, K in enumerate(matrices):
            check_K(f"{entry.name}, camera {side} {number}", K)
        intrinsics[str(side)] = Intrinsics(matrices if len(matrices) > 1 else matrices[0], camera.height, camera.width)
    recording = ShardRecording(
        name=entry.name,
        intrinsics=intrinsics,
        T_right_left=None if entry.T_right_left is None else np.array(entry.T_right_left).reshape(4, 4),
        numbers=table.numbers,
        poses=_read_poses(table),
        times_s=None if table.times_s is None else np.array(table.times_s, np.float64),
        place=entry.place,
        reader=reader,
        encoding=encoding,
        places={side: _to_places(table.images[side]) for side in intrinsics},
        depth_places={side: _to_places(rows) for side, rows in table.depth.items()},
        content=entry.sha256,
    )
    recording.mount, recording.has_metric_depth = entry.mount, entry.has_metric_depth
    return recording


def _to_places(rows: Any) -> Places:
    return np.array([row or (0, 0, 0, 0) for row in rows], np.int64).reshape(-1, 4)


def _read_poses(table: shard_index.FrameTable) -> NDArray[np.float64] | None:
    if table.poses is None:
        return None
    poses = np.tile(np.eye(4), (len(table.poses), 1, 1))
    for index, row in enumerate(table.poses):
        poses[index, :3] = np.nan if row is None else np.array(row).reshape(3, 4)
    return poses
